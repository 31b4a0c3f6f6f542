package flow

import (
	"encoding/json"
	"math/bits"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Plugin is an admission plugin as the record knows it.
type Plugin struct {
	Name string
	// Sets are the fields of the object that it may change: "spec.containers.resources". Given is a
	// field without which it changes nothing; "" if there is none.
	Sets  []string
	Given string
}

// Admission is what admission did with the object of a write. Its plugins are numbered in
// their order, so that to note one costs a bit. Nothing is copied or compared while the request
// waits: what a plugin changed is found by who reads the trace, from what the client sent and what
// became of it.
type Admission struct {
	// Plugins is the chain; shared, 64 at most.
	Plugins []Plugin
	// Bit i: Plugins[i] was asked, has refused the object.
	Asked, Refused uint64
	// Object is what admission made of it, kept while it is not stored: then it is the write's.
	// nil if no plugin sets a field of its kind.
	Object runtime.Object
	// Took is how long all of it took.
	Took time.Duration
}

// Reader decodes the body of a request once more, as it was before admission: with defaults, in the
// version that is stored.
type Reader interface {
	Reread(media string, body []byte) (runtime.Object, error)
}

// AdmissionStep is a plugin that was asked about the object of a write.
type AdmissionStep struct {
	Plugin string `json:"plugin"`
	// Changed says that the plugin changed the object, Diff in what, a line a field.
	Changed bool     `json:"changed,omitempty"`
	Diff    []string `json:"diff,omitempty"`
	// Refused: it said no, and so the request failed.
	Refused bool `json:"refused,omitempty"`
}

// Came notes the body of a request that creates or replaces an object, and who can read it.
func (q *Request) Came(media string, body []byte, reader Reader) {
	if q != nil {
		q.came.media, q.came.body, q.came.reader = media, body, reader
	}
}

// Admitted notes what admission did before the validation of the object. Of a request
// that tries again, or is about many objects, the last is kept.
func (q *Request) Admitted(a Admission) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admission = a
}

// Judged notes the plugins that were asked after the validation, and for how long.
func (q *Request) Judged(plugins []Plugin, asked, refused uint64, took time.Duration) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admission.Plugins = plugins
	q.admission.Asked |= asked
	q.admission.Refused |= refused
	q.admission.Took += took
}

// settle drops what no reader will need: the body of an object that no plugin may change, and the
// object that has been stored.
func (q *Request) settle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.admission.Object == nil {
		q.came.body, q.came.reader = nil, nil
	}
	if q.writes > 0 {
		q.admission.Object = nil
	}
}

// names are the plugins that were asked, in order.
func (a *Admission) names() []string {
	var names []string
	for asked := a.Asked; asked != 0; asked &= asked - 1 {
		names = append(names, a.Plugins[bits.TrailingZeros64(asked)].Name)
	}
	return names
}

// admissionSteps says of each plugin what it did: of the fields that it may set, those which are not
// as the client sent them. w is what was stored, or nil.
func (q *Request) admissionSteps(w *Write) []AdmissionStep {
	a := &q.admission
	before, after := q.sentAndAdmitted(w)
	var steps []AdmissionStep
	for asked := a.Asked; asked != 0; asked &= asked - 1 {
		i := bits.TrailingZeros64(asked)
		step, plugin := AdmissionStep{Plugin: a.Plugins[i].Name, Refused: a.Refused>>i&1 != 0}, &a.Plugins[i]
		if before != nil && after != nil && len(plugin.Sets) > 0 && (plugin.Given == "" || has(after, plugin.Given)) {
			d := differ{secret: q.isConfidential(w), only: plugin.Sets}
			d.compare("", before, after)
			step.Diff = d.short()
			step.Changed = len(step.Diff) > 0
		}
		steps = append(steps, step)
	}
	return steps
}

// sentAndAdmitted are the object as the client sent it and as admission left it; nil where that is not known.
func (q *Request) sentAndAdmitted(w *Write) (before, after any) {
	if q.came.reader == nil {
		return nil, nil
	}
	sent, err := q.came.reader.Reread(q.came.media, q.came.body)
	if err != nil {
		return nil, nil
	}
	before = valueOf(sent)
	switch {
	case w != nil && w.New != nil:
		if after, err = decodeValue(w.New); err != nil {
			return nil, nil
		}
	case w == nil && q.admission.Object != nil:
		after = valueOf(q.admission.Object)
	}
	return before, after
}

// valueOf is an object as JSON's types.
func valueOf(object runtime.Object) any {
	data, err := json.Marshal(object)
	if err != nil {
		return nil
	}
	value, err := decodeValue(data)
	if err != nil {
		return nil
	}
	return value
}

// has says whether an object has a field.
func has(value any, path string) bool {
	for _, name := range strings.Split(path, ".") {
		fields, _ := value.(map[string]any)
		if value = fields[name]; value == nil {
			return false
		}
	}
	return true
}

// item is which one of a list, in the path of a diff.
var item = regexp.MustCompile(`\[[^\]]*\]`)

// within says whether a path of a diff is one of fields or below one.
func within(path string, fields []string) bool {
	path = item.ReplaceAllString(path, "")
	return slices.ContainsFunc(fields, func(field string) bool {
		rest, found := strings.CutPrefix(path, field)
		return found && (rest == "" || rest[0] == '.')
	})
}

// confidential are the kinds whose fields are not shown but for metadata: data of Secrets, and the
// questions and answers that bear tokens.
var confidential = []string{"Secret", "TokenReview", "TokenRequest"}

func isConfidential(kind string) bool { return slices.Contains(confidential, kind) }
