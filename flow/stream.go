package flow

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The kinds of Arrow.
const (
	ArrowWrite    = "write"    // a request changed the store
	ArrowRefused  = "refused"  // a request wanted to
	ArrowRequest  = "request"  // a request that goes through to a container: exec, log, proxy
	ArrowEffect   = "effect"   // a component did something that is no request
	ArrowDelivery = "delivery" // a version was sent to those who watch
	ArrowMissed   = "missed"   // the reader was too slow, or asked for what is no longer kept
	ArrowAlive    = "alive"    // nothing happens; the stream is not dead
)

// Arrow is one thing that happened between two parts of the cluster, or in one of
// them, as somebody sees it who watches. What it costs to find out (what changed,
// what it caused) is not in it: Record.Entry tells.
type Arrow struct {
	Kind string `json:"kind"`
	// ID names the entry for Record.Entry.
	ID   string        `json:"id,omitempty"`
	Time time.Time     `json:"time,omitzero"`
	Took time.Duration `json:"took,omitempty"`
	// From is the program; with a loop, the controller: "controller-manager/deployment".
	From string `json:"from,omitempty"`
	User string `json:"user,omitempty"`
	// What is the verb of a request, or the name of an effect; Detail is more of it.
	What   string `json:"what,omitempty"`
	Detail string `json:"detail,omitempty"`
	Error  string `json:"error,omitempty"`
	// Group and Object ("Kind namespace/name") say to what.
	Group    string `json:"group,omitempty"`
	Object   string `json:"object,omitempty"`
	Revision int64  `json:"revision,omitempty"`
	Code     int    `json:"code,omitempty"`
	// Causes are the versions that made it happen, as its component says, or a client
	// that is none claims.
	Causes []string `json:"causes,omitempty"`
	Link   Link     `json:"link,omitempty"`
	Source Source   `json:"source,omitzero"`
	// To are those who got a delivery.
	To []Told `json:"to,omitempty"`
	// Missed is how many entries the reader did not get.
	Missed int64 `json:"missed,omitempty"`
	// Next is where to go on after this arrow; the last of several that belong together has it.
	Next string `json:"next,omitempty"`
}

// Told is one receiver of a delivery.
type Told struct {
	Component string    `json:"component"`
	Resource  string    `json:"resource"`
	At        time.Time `json:"at"`
}

// Place is where a reader of the stream stands: how many entries and how many
// deliveries have come before.
type Place struct{ entries, deliveries int64 }

func (p Place) String() string { return fmt.Sprintf("%d,%d", p.entries, p.deliveries) }

// ParsePlace reads what Arrow.Next said; "" is the oldest that is kept.
func ParsePlace(text string) (p Place, err error) {
	if text == "" {
		return p, nil
	}
	entries, deliveries, _ := strings.Cut(text, ",")
	p.entries, err = strconv.ParseInt(entries, 10, 64)
	if err == nil {
		p.deliveries, err = strconv.ParseInt(deliveries, 10, 64)
	}
	if err != nil || p.entries < 0 || p.deliveries < 0 {
		return p, fmt.Errorf("%q is no place in the stream: give one that an arrow's next said", text)
	}
	return p, nil
}

// Now is the place after all that has been recorded.
func (r *Record) Now() (p Place) {
	if r == nil {
		return p
	}
	r.mu.Lock()
	p.entries = r.dropped + int64(r.count)
	r.mu.Unlock()
	s := &r.watches
	s.mu.Lock()
	p.deliveries = s.dropped + int64(len(s.ring))
	s.mu.Unlock()
	return p
}

const (
	// gatherTime is how long arrows gather before they are sent together.
	gatherTime = 40 * time.Millisecond
	// maxTurn entries are sent in one turn at most: who is further behind misses the rest.
	maxTurn = 2000
	// aliveTime is how often a stream without arrows says that it lives.
	aliveTime = 15 * time.Second
)

// Follow sends what is recorded from a place on, until ctx ends or send fails. The ring
// itself is the queue: nothing is kept for a reader, and one that is slow is told how
// many entries it has missed.
func (r *Record) Follow(ctx context.Context, from Place, send func([]Arrow) error) error {
	if r == nil {
		return send([]Arrow{{Kind: ArrowAlive, Next: from.String()}})
	}
	alive := time.NewTicker(aliveTime)
	defer alive.Stop()
	for {
		changed := r.changed.listen() // before reading: otherwise what comes in between would wait for the next
		arrows, next := r.arrowsFrom(from)
		if next != from || len(arrows) > 0 {
			from = next
			if len(arrows) == 0 {
				arrows = []Arrow{{Kind: ArrowAlive}}
			}
			arrows[len(arrows)-1].Next = from.String()
			if err := send(arrows); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-alive.C:
			if err := send([]Arrow{{Kind: ArrowAlive, Next: from.String()}}); err != nil {
				return err
			}
		case <-changed:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(gatherTime):
			}
		}
	}
}

// arrowsFrom makes arrows of what is recorded from a place on.
func (r *Record) arrowsFrom(from Place) ([]Arrow, Place) {
	entries, first, next := r.entriesFrom(from.entries)
	var arrows []Arrow
	if missed := first - from.entries; missed != 0 {
		arrows = append(arrows, Arrow{Kind: ArrowMissed, Missed: max(missed, 0)})
	}
	for i, e := range entries {
		arrows = append(arrows, arrowsOf(e, first+int64(i))...)
	}
	deliveries, nextDelivery := r.watches.from(from.deliveries)
	return append(arrows, deliveries...), Place{entries: next, deliveries: nextDelivery}
}

// entriesFrom returns the entries after the first `from` ones, the newest maxTurn of
// them; first is the number of the first, next that of the one to come.
func (r *Record) entriesFrom(from int64) (entries []entry, first, next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next = r.dropped + int64(r.count)
	if from > next {
		from = 0 // the reader knows a record of an earlier life
	}
	first = max(from, r.dropped, next-maxTurn)
	for n := first; n < next; n++ {
		entries = append(entries, r.ring[(r.first+int(n-r.dropped))%len(r.ring)])
	}
	return entries, first, next
}

// arrowsOf are those of an entry: none of a read, one a write.
func arrowsOf(e entry, number int64) []Arrow {
	if effect, ok := e.(*Effect); ok {
		a := Arrow{Kind: ArrowEffect, ID: entryID(number, 0), Time: effect.Time, Took: effect.Took, From: effect.Component, What: effect.What,
			Detail: effect.Detail, Error: effect.Error, Causes: causeTexts(effect.Cause), Source: parseSource(effect.Source)}
		if effect.Kind != "" {
			a.Object = effect.Kind + " " + keyOf(effect.Namespace, effect.Name)
		}
		a.From, a.Link = withLoop(a.From, a.Source), linkOf(a.Causes, true)
		return []Arrow{a}
	}
	q, ok := e.(*Request)
	if !ok {
		return nil
	}
	a := Arrow{ID: entryID(number, 0), Time: q.Start, Took: q.Took, From: ProgramOf(q.UserAgent), User: q.User, What: q.Verb, Code: q.Code,
		Group: q.Group, Object: q.Resource + " " + keyOf(q.Namespace, q.Name), Causes: causeTexts(q.Cause), Source: parseSource(q.Source)}
	a.From, a.Link = withLoop(a.From, a.Source), linkOf(a.Causes, isComponent(q.User))
	if q.Subresource != "" {
		a.What += " " + q.Subresource
	}
	writes := q.Writes()
	switch {
	case len(writes) > 0:
	case passesThrough(q.Subresource):
		a.Kind = ArrowRequest
		return []Arrow{a}
	case q.Code >= http.StatusBadRequest && isWriteVerb(q.Verb):
		a.Kind = ArrowRefused
		return []Arrow{a}
	}
	var arrows []Arrow
	for i := range writes {
		w := &writes[i]
		a.Kind, a.ID, a.Group, a.Object, a.Revision = ArrowWrite, entryID(number, i), w.Kind.Group, w.Kind.Kind+" "+w.Key, w.Revision
		if w.Deleted {
			a.Detail = "gone"
		}
		arrows = append(arrows, a)
	}
	return arrows
}

func linkOf(causes []string, component bool) Link {
	switch {
	case len(causes) == 0:
		return ""
	case component:
		return Observed
	}
	return Claimed
}

// passesThrough tells the subresources whose answer comes from a container.
func passesThrough(subresource string) bool {
	switch subresource {
	case "exec", "attach", "portforward", "proxy", "log":
		return true
	}
	return false
}

// from returns the deliveries after the first `from` ones, an arrow a version.
func (s *watches) from(from int64) (arrows []Arrow, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = s.dropped + int64(len(s.ring))
	if from > next {
		from = 0
	}
	place := map[int64]int{} // of a version, in arrows
	for n := max(from, s.dropped, next-maxTurn); n < next; n++ {
		d := s.ring[(s.next+int(n-s.dropped))%len(s.ring)]
		w := s.byID[d.watch]
		if w == nil {
			continue
		}
		i, known := place[d.revision]
		if !known {
			i = len(arrows)
			place[d.revision] = i
			arrows = append(arrows, Arrow{Kind: ArrowDelivery, Time: time.Unix(0, d.nanos), Revision: d.revision})
		}
		arrows[i].To = append(arrows[i].To, Told{Component: ProgramOf(w.UserAgent), Resource: w.Resource, At: time.Unix(0, d.nanos)})
	}
	return arrows, next
}

// bell wakes those who wait for something new. Nobody who rings it waits, and while
// nobody listens ringing it costs a look at a pointer.
type bell struct{ waiting atomic.Pointer[chan struct{}] }

// listen returns a channel that is closed at the next ring.
func (b *bell) listen() <-chan struct{} {
	for {
		if c := b.waiting.Load(); c != nil {
			return *c
		}
		c := make(chan struct{})
		if b.waiting.CompareAndSwap(nil, &c) {
			return c
		}
	}
}

func (b *bell) ring() {
	if b.waiting.Load() == nil {
		return
	}
	if c := b.waiting.Swap(nil); c != nil {
		close(*c)
	}
}

// About is what the effect of an arrow is about.
func (a *Arrow) About() About {
	kind, key, _ := strings.Cut(a.Object, " ")
	namespace, name, namespaced := strings.Cut(key, "/")
	if !namespaced {
		namespace, name = "", key
	}
	return About{Kind: kind, Namespace: namespace, Name: name}
}

// Hide is Effect.Hide for an arrow.
func (a *Arrow) Hide() {
	if a.Kind == ArrowEffect {
		a.Detail = hidden
		if a.Error != "" {
			a.Error = hidden
		}
	}
}
