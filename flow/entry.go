package flow

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Detail is all that is known of one entry: what Arrow leaves out.
type Detail struct {
	// Node is the entry itself, with its diff; its children are what it caused at once.
	Node *Node `json:"node"`
	// Fields are all that an object was made with, a line a field, when the entry made it.
	Fields []string `json:"fields,omitempty"`
	// Chain is what led to it, from the beginning.
	Chain []*Node `json:"chain,omitempty"`
}

// maxFields bounds Detail.Fields.
const maxFields = 80

func entryID(number int64, write int) string { return fmt.Sprintf("%d.%d", number, write) }

// Entry returns what is known of the entry that an Arrow names; false when it is no longer kept.
func (r *Record) Entry(id string) (Detail, bool) {
	var number int64
	var index int
	if n, err := fmt.Sscanf(id, "%d.%d", &number, &index); r == nil || err != nil || n != 2 || number < 0 {
		return Detail{}, false
	}
	wanted := r.entryAt(number)
	if wanted == nil {
		return Detail{}, false
	}
	b := newBuilder(r, "")
	for _, s := range b.steps {
		b.hang(s, Target{})
	}
	s := b.find(wanted, id)
	if s == nil {
		q, ok := wanted.(*Request)
		if !ok || len(q.Writes()) > 0 {
			return Detail{}, false
		}
		return Detail{Node: q.node(nil)}, true // it wrote nothing, and so is part of no story
	}
	b.receipts = r.watches.deliveries(func(revision int64) bool { return revision == s.revision() })
	s.chosen = true
	for _, child := range s.children {
		child.chosen = true // and not what these caused
	}
	detail := Detail{Node: b.node(s)}
	if s.write != nil && s.write.Old == nil && !s.write.Deleted {
		detail.Fields = s.write.fields()
	}
	for up := s.parent; up != nil; up = up.parent {
		n := b.node(up)
		n.Children = nil
		detail.Chain = append(detail.Chain, n)
	}
	slices.Reverse(detail.Chain)
	return detail, true
}

// entryAt is the entry of a number; nil: it has been dropped, or is yet to come.
func (r *Record) entryAt(number int64) entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number < r.dropped || number >= r.dropped+int64(r.count) {
		return nil
	}
	return r.ring[(r.first+int(number-r.dropped))%len(r.ring)]
}

// find is the step of an entry's write; of an effect or a refused request it is the only one.
func (b *builder) find(wanted entry, id string) *step {
	_, index, _ := strings.Cut(id, ".")
	of := 0
	for _, s := range b.steps {
		switch e := wanted.(type) {
		case *Effect:
			if s.effect == e {
				return s
			}
		case *Request:
			if s.request != e {
				continue
			}
			if fmt.Sprint(of) == index {
				return s
			}
			of++ // steps of one request keep their order: those of one time are sorted stably
		}
	}
	return nil
}

// fields says with what an object was made, a line a field: `spec.replicas: 3`.
func (w *Write) fields() []string {
	value, err := decodeValue(w.New)
	if err != nil {
		return nil
	}
	d := differ{secret: isConfidential(w.Kind.Kind)}
	d.flatten("", value)
	if more := len(d.lines) - maxFields; more > 0 {
		d.lines = append(d.lines[:maxFields], fmt.Sprintf("and %d more", more))
	}
	return d.lines
}

// flatten goes down to what compare would show.
func (d *differ) flatten(path string, value any) {
	if ignored[path] {
		return
	}
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			below := key
			if strings.ContainsAny(key, "./") {
				below = "[" + key + "]"
			}
			d.flatten(strings.TrimPrefix(path+"."+below, "."), value[key])
		}
		if len(value) > 0 {
			return
		}
	case []any:
		for i, item := range value {
			d.flatten(fmt.Sprintf("%s[%d]", path, i), item)
		}
		if len(value) > 0 {
			return
		}
	}
	d.lines = append(d.lines, path+": "+d.show(path, value))
}
