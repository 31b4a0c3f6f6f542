package flow

import (
	"slices"
	"strconv"
	"strings"

	"hyperkube/reconcile"
)

// A controller is held where its keys leave the queue, in its own process. The apiserver
// keeps the wish, and the process a link to it:
//
//	hyperkube step ──POST gates──► Gates ──Wish──► link ──► reconcile.Turnstile ── key
//	                                 ▲                           │
//	                                 └───────── KeyReport ───────┘

// Wish is what the apiserver asks of a process: complete each time, so that one that has
// been missed is of no account.
type Wish struct {
	// Link is the number under which the process reports.
	Link int64 `json:"link"`
	// Hold are the controllers to be held; Pass are the held keys to be let through.
	Hold []string `json:"hold"`
	Pass []int64  `json:"pass"`
}

// KeyReport is what a process tells: all of it each time.
type KeyReport struct {
	Link        int64     `json:"link"`
	Controllers []string  `json:"controllers"`
	Held        []HeldKey `json:"held"`
}

// HeldKey is a key that waits. ID is unique in its process, and rises.
type HeldKey struct {
	ID         int64     `json:"id"`
	Controller string    `json:"controller"`
	Key        GateEvent `json:"key"`
	// Queued is how many keys wait behind it, in the controller's queue.
	Queued int `json:"queued"`
}

// KeyEvent is a controller's key as a gate shows it, and what makes it run.
func KeyEvent(key string, why reconcile.Causes) GateEvent {
	e := GateEvent{Type: "SYNC", Name: key, By: why.String()}
	if namespace, name, namespaced := strings.Cut(key, "/"); namespaced {
		e.Namespace, e.Name = namespace, name
	}
	for _, cause := range why.List {
		revision, err := strconv.ParseInt(cause.ResourceVersion, 10, 64)
		if err == nil && revision > e.Revision {
			e.Revision = revision
		}
		if cause.Namespace == e.Namespace && cause.Name == e.Name {
			e.Kind = cause.Kind
		}
	}
	if e.By != "" {
		e.By = "because of " + e.By
	}
	return e
}

// GateLink is a process that can hold its controllers.
type GateLink struct {
	gates     *Gates
	id        int64
	component string
	report    KeyReport
	pass      []int64 // let through, and still reported as held
	wake      chan struct{}
}

// Link adds the process of a client.
func (s *Gates) Link(c Client) *GateLink {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	l := &GateLink{gates: s, id: s.last, component: c.name(), wake: make(chan struct{}, 1)}
	s.links = append(s.links, l)
	return l
}

// Close forgets the process, which has gone.
func (l *GateLink) Close() {
	l.gates.mu.Lock()
	defer l.gates.mu.Unlock()
	l.gates.links = slices.DeleteFunc(l.gates.links, func(other *GateLink) bool { return other == l })
}

// Wish is what is asked of the process now; Wake says that it may have changed.
func (l *GateLink) Wish() Wish {
	l.gates.mu.Lock()
	defer l.gates.mu.Unlock()
	wish := Wish{Link: l.id, Hold: []string{}, Pass: slices.Clone(l.pass)}
	for _, g := range l.gates.gates {
		if g.Controller != "" && g.Component == l.component {
			wish.Hold = append(wish.Hold, g.Controller)
		}
	}
	return wish
}

// Wake is the channel of Wish.
func (l *GateLink) Wake() <-chan struct{} { return l.wake }

// Report takes what a process tells; c must be who opened the link. False: there is no such link.
func (s *Gates) Report(c Client, report KeyReport) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.links, func(l *GateLink) bool { return l.id == report.Link && l.component == c.name() })
	if i < 0 {
		return false
	}
	l := s.links[i]
	l.report = report
	l.pass = slices.DeleteFunc(l.pass, func(id int64) bool {
		return !slices.ContainsFunc(report.Held, func(k HeldKey) bool { return k.ID == id })
	})
	for _, g := range s.gates {
		if g.Controller != "" && g.Component == l.component {
			g.arrived()
		}
	}
	return true
}

// waits: the key is held, and has not been let through.
func (l *GateLink) waits(k HeldKey, controller string) bool {
	return k.Controller == controller && !slices.Contains(l.pass, k.ID)
}

// keysOf lists what a controller's gate holds: the keys at the gate, oldest first, and how
// many there are with those behind them.
func (s *Gates) keysOf(g *gate) (first []GateEvent, count int, connected bool) {
	first = []GateEvent{}
	for _, l := range s.links {
		if l.component != g.Component {
			continue
		}
		connected = connected || slices.Contains(l.report.Controllers, g.Controller)
		queued := 0
		for _, k := range l.report.Held {
			if l.waits(k, g.Controller) {
				first = append(first, k.Key)
				queued = k.Queued
			}
		}
		count += queued
	}
	count += len(first)
	return first[:min(len(first), shownWaiting)], count, connected
}

// passKey lets the oldest key of a controller through.
func (s *Gates) passKey(g *gate) *GateEvent {
	for _, l := range s.links {
		if l.component != g.Component {
			continue
		}
		for _, k := range l.report.Held {
			if l.waits(k, g.Controller) {
				l.pass = append(l.pass, k.ID)
				g.passed++
				wake(l.wake)
				return &k.Key
			}
		}
	}
	return nil
}

// controllersOf lists the controllers that a component runs, as it says.
func (s *Gates) controllersOf(component string) []string {
	var names []string
	for _, l := range s.links {
		if l.component == component {
			names = append(names, l.report.Controllers...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// writerOf says who wrote a revision: "controller-manager/replicaset create pods"; "" when
// the record does not know.
func (r *Record) writerOf(revision int64) string {
	if r == nil {
		return ""
	}
	entries := r.snapshot()
	for _, e := range slices.Backward(entries) {
		q, ok := e.(*Request)
		if !ok {
			continue
		}
		for _, w := range q.Writes() {
			if w.Revision == revision {
				return q.writer()
			}
		}
	}
	return ""
}

func (q *Request) writer() string {
	source := parseSource(q.Source)
	text := withLoop(ProgramOf(q.UserAgent), source) + ": " + q.Verb + " " + q.Resource
	if q.Subresource != "" {
		text += "/" + q.Subresource
	}
	if source.File != "" {
		text += ", " + source.String()
	}
	return text
}
