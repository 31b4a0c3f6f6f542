package flow

import (
	"cmp"
	"fmt"
	"slices"
)

// GateEvent is what waits at a gate: a watch event, or the key of a controller.
type GateEvent struct {
	// Type is ADDED, MODIFIED or DELETED; of a key, SYNC.
	Type      string `json:"type"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Revision is that of the write; of a key, of the newest version that makes it run (0: a timer).
	Revision int64 `json:"revision"`
	// By says who wrote this revision, or what makes the key run; "" when the record does not know.
	By string `json:"by,omitempty"`
}

func (e GateEvent) String() string {
	text := e.Type
	if e.Kind != "" {
		text += " " + e.Kind
	}
	text += " " + keyOf(e.Namespace, e.Name)
	if e.Revision != 0 {
		text += fmt.Sprintf(" @%d", e.Revision)
	}
	if e.By != "" {
		text += " (" + e.By + ")"
	}
	return text
}

// maxWaiting is the default of Gates.MaxWaiting.
const maxWaiting = 10_000

// watchGate decides which of a client's watch events it may have. It has neither lock
// nor clock, and sends nothing: Gates drives it, and a watch asks it what to send.
//
//	watch of pods     ──► queue ──┐
//	watch of services ──► queue ──┼─ revision ≤ line ──► the client
//	                              │
//	one: line = the least revision that waits
//
// The line is the revision at which the client stands: it has been told of everything
// up to it, and of nothing after. All its watches share it, so that they are let
// through in the order of revisions, and a step is one revision to all of them.
//
// Invariants: the line never goes back. A queue is in the order of revisions. waiting
// is the sum of the queues' lengths, and at most limit.
type watchGate struct {
	line    int64
	limit   int
	queues  map[*gateQueue]struct{}
	waiting int
	passed  int64
	opened  bool
	note    string
}

// gateQueue holds the events of one watch.
type gateQueue struct {
	events []queuedEvent
	// cut: there were more than the gate holds. What came after is not here, so that
	// the watch ends when these have been let through.
	cut bool
	// wake has one element when take may have something for the watch.
	wake chan struct{}
}

type queuedEvent struct {
	GateEvent
	bookmark bool
	payload  any
}

func newWatchGate(line int64, limit int) *watchGate {
	return &watchGate{line: line, limit: limit, queues: map[*gateQueue]struct{}{}}
}

// arrive puts an event into the queue of its watch.
//
//   - A bookmark beyond the line, or behind what waits, is left out: from there the
//     client would resume, past what it has not been told. There will be others.
//   - Of what no longer fits nothing is kept, and the queue is cut.
func (g *watchGate) arrive(q *gateQueue, e queuedEvent) {
	behind := !g.opened && (e.Revision > g.line || len(q.events) > 0)
	switch {
	case q.cut, e.bookmark && behind:
		return
	case behind && g.waiting >= g.limit:
		q.cut = true
		g.note = fmt.Sprintf("%d events wait, which is the limit: later ones are not kept one by one; when those before them "+
			"have been let through, the watch ends with 410 Expired, and the client lists anew", g.limit)
		return
	}
	q.events = append(q.events, e)
	g.waiting++
}

// gateVerdict is how a watch goes on after it has sent what it took.
type gateVerdict string

const (
	gateWaits gateVerdict = "waits"   // for the next step
	gateOpen  gateVerdict = "open"    // as if there had been no gate
	gateCut   gateVerdict = "expired" // it ends, with 410
)

// take removes from a queue what may pass now.
func (g *watchGate) take(q *gateQueue) ([]queuedEvent, gateVerdict) {
	n := 0
	for n < len(q.events) && (g.opened || q.events[n].Revision <= g.line) {
		n++
	}
	passing := q.events[:n:n]
	q.events = q.events[n:]
	g.waiting -= n
	switch {
	case q.cut && len(q.events) == 0:
		return passing, gateCut
	case g.opened:
		return passing, gateOpen
	}
	return passing, gateWaits
}

// leave forgets the queue of a watch that has ended.
func (g *watchGate) leave(q *gateQueue) {
	g.waiting -= len(q.events)
	q.events = nil
	delete(g.queues, q)
}

// one moves the line to the least revision that waits, and returns its event; false:
// nothing waits.
func (g *watchGate) one() (GateEvent, bool) {
	var first *queuedEvent
	for q := range g.queues {
		for i := range q.events { // what lies behind the line has passed, though nobody may have taken it yet
			if e := &q.events[i]; e.Revision > g.line {
				if first == nil || e.Revision < first.Revision {
					first = e
				}
				break
			}
		}
	}
	if first == nil {
		return GateEvent{}, false
	}
	g.line = first.Revision
	g.passed++
	return first.GateEvent, true
}

// lost moves the line to a revision because what was before it can no longer be read.
func (g *watchGate) lost(revision int64) {
	if revision <= g.line {
		return
	}
	g.note = fmt.Sprintf("what happened between revisions %d and %d is no longer known one by one: the client has listed anew at %d", g.line, revision, revision)
	g.line = revision
}

// steps returns the first of what waits, a line a revision, and how many there are.
func (g *watchGate) steps(most int) (first []GateEvent, count int) {
	byRevision := map[int64]GateEvent{}
	for q := range g.queues {
		for _, e := range q.events {
			if _, known := byRevision[e.Revision]; !known && e.Revision > g.line {
				byRevision[e.Revision] = e.GateEvent
			}
		}
	}
	first = make([]GateEvent, 0, len(byRevision))
	for _, e := range byRevision {
		first = append(first, e)
	}
	slices.SortFunc(first, func(a, b GateEvent) int { return cmp.Compare(a.Revision, b.Revision) })
	return first[:min(most, len(first))], len(first)
}
