package flow

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Client is who reads, as gates tell clients apart.
type Client struct{ User, UserAgent, Resource string }

// name is the component that runs as this user; anybody else is called by their program.
func (c Client) name() string {
	program := ProgramOf(c.UserAgent)
	if !isComponent(c.User) {
		return program
	}
	if strings.HasPrefix(c.User, "system:node:") {
		program = "kubelet" // whatever else uses its credentials
	}
	return ComponentOf(c.User, program)
}

// neverHeld are the resources that a gate of a whole component lets pass: without Leases
// and Nodes, what is stepped through would lose its leadership, or take nodes for dead.
var neverHeld = []string{"leases", "nodes"}

// readNothing are the components that read nothing through the API.
var readNothing = []string{"apiserver", "etcd", "cri"}

// GateError is why a gate cannot be closed, stepped or opened; Code is that of HTTP.
type GateError struct {
	Code    int
	Message string
}

func (e *GateError) Error() string { return e.Message }

func gateErrorf(code int, format string, args ...any) error {
	return &GateError{code, fmt.Sprintf(format, args...)}
}

// GateStatus is a closed gate as it is shown.
type GateStatus struct {
	Component string `json:"component"`
	// Resource: only its events are held; "": all but Leases and Nodes. Controller: no
	// events are held, but this controller's keys.
	Resource   string    `json:"resource"`
	Controller string    `json:"controller"`
	Since      time.Time `json:"since"`
	// Revision is the one at which the component stands; 0 for a controller.
	Revision int64 `json:"revision,omitempty"`
	// Connected: the component has a watch open that this gate holds, or runs the controller.
	Connected bool `json:"connected"`
	// Held is how many steps wait, Passed how many were made; Waiting are the next ones.
	Held    int         `json:"held"`
	Passed  int64       `json:"passed"`
	Next    *GateEvent  `json:"next"`
	Waiting []GateEvent `json:"waiting"`
	Note    string      `json:"note"`
}

// Name is how the command line calls it.
func (s *GateStatus) Name() string { return GateName{s.Component, s.Resource, s.Controller}.String() }

// GateName names a gate.
type GateName struct{ Component, Resource, Controller string }

func (n GateName) String() string {
	switch {
	case n.Controller != "":
		return n.Component + "/" + n.Controller
	case n.Resource != "":
		return n.Component + " --resource " + n.Resource
	}
	return n.Component
}

// covers: every client that other is about is held by n.
func (n GateName) covers(other GateName) bool {
	return n.names(other.Component) && n.Controller == other.Controller && (n.Resource == "" || n.Resource == other.Resource)
}

// names: "kubelet" are the kubelets of all nodes, "proxy" their proxies.
func (n GateName) names(component string) bool {
	return n.Component == component || (n.Component == "kubelet" || n.Component == "proxy") && strings.HasPrefix(component, n.Component+"-")
}

func (n GateName) holds(c Client) bool {
	if n.Controller != "" || !n.names(c.name()) {
		return false
	}
	return n.Resource == c.Resource || n.Resource == "" && !slices.Contains(neverHeld, c.Resource)
}

// gate is a closed gate: events for a component, or keys for a controller.
type gate struct {
	GateName
	since  time.Time
	events *watchGate // nil for a controller
	passed int64      // of a controller
	reads  int        // objects read past the gate, and the last of them
	read   string
	news   chan struct{} // closed when something arrives, and made anew
}

// Gates are the closed gates of an apiserver. They are its memory, and open with its
// end. A nil *Gates has none, and never will.
type Gates struct {
	// MaxWaiting bounds the events that wait at one gate; 0: 10,000. It is set before any is closed.
	MaxWaiting int

	record *Record
	// newest asks for the store's newest revision; known tells resources from typos.
	newest func(context.Context) (int64, error)
	known  func(resource string) bool

	closed atomic.Int32 // how many hold events: all that a watch asks when there is none
	oldest atomic.Int64 // the least line of all gates

	mu    sync.Mutex
	gates []*gate // in the order of their closing
	links []*GateLink
	last  int64 // the newest link's ID
}

// Gates are the record's; nil without one.
func (r *Record) Gates() *Gates {
	if r == nil {
		return nil
	}
	return &r.gates
}

// Attach tells the gates what they have to know of the store. It is called once, before
// any other method.
func (s *Gates) Attach(newest func(context.Context) (int64, error), known func(resource string) bool) {
	if s != nil {
		s.newest, s.known = newest, known
	}
}

// AllOpen: nobody's events are held.
func (s *Gates) AllOpen() bool { return s == nil || s.closed.Load() == 0 }

// Oldest is the revision from which on history is needed, for those who are held; 0: none is.
func (s *Gates) Oldest() int64 {
	if s == nil {
		return 0
	}
	return s.oldest.Load()
}

// Close closes a gate; one that is closed already is left as it is. It asks for the
// newest revision first: whatever is written after Close has returned is held.
func (s *Gates) Close(ctx context.Context, name GateName) (GateStatus, error) {
	revision, err := s.newest(ctx)
	if err != nil {
		return GateStatus{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkName(name); err != nil {
		return GateStatus{}, err
	}
	if i := slices.IndexFunc(s.gates, func(g *gate) bool { return g.GateName == name }); i >= 0 {
		return s.status(s.gates[i]), nil
	}
	for _, g := range s.gates {
		if g.covers(name) || name.covers(g.GateName) {
			return GateStatus{}, gateErrorf(http.StatusConflict, "%s is held already, and the two would hold the same events: first `hyperkube continue %s`", g, g.Component)
		}
	}
	g := &gate{GateName: name, since: time.Now(), news: make(chan struct{})}
	if name.Controller == "" {
		g.events = newWatchGate(revision, cmp.Or(s.MaxWaiting, maxWaiting))
	}
	s.gates = append(s.gates, g)
	s.changed()
	return s.status(g), nil
}

// checkName refuses what could never hold anything.
func (s *Gates) checkName(name GateName) error {
	switch {
	case name.Component == "":
		return gateErrorf(http.StatusBadRequest, "no component: say whom to hold, as ?component=scheduler")
	case slices.Contains(readNothing, name.Component):
		return gateErrorf(http.StatusBadRequest, "%s watches nothing through the API: hold one of those that do (see `hyperkube connections`)", name.Component)
	case name.Resource != "" && name.Controller != "":
		return gateErrorf(http.StatusBadRequest, "a controller is held at its queue, whatever the resource: leave out one of the two")
	case name.Resource == "leases":
		return gateErrorf(http.StatusBadRequest, "leases are never held: %s would lose its leadership while you look", name.Component)
	case name.Resource != "" && !s.known(name.Resource):
		return gateErrorf(http.StatusBadRequest, "no resource %q: say its name in the plural, as `hyperkube kubectl api-resources` has it", name.Resource)
	}
	if name.Controller == "" {
		return nil
	}
	controllers := s.controllersOf(name.Component)
	if len(controllers) == 0 {
		return nil // it does not run yet, or stands by
	}
	if !slices.Contains(controllers, name.Controller) {
		return gateErrorf(http.StatusNotFound, "%s runs no controller %q; it runs %s", name.Component, name.Controller, strings.Join(controllers, ", "))
	}
	return nil
}

// changed follows from every change of a line or of the list of gates.
func (s *Gates) changed() {
	closed, oldest := int32(0), int64(0)
	for _, g := range s.gates {
		if g.events != nil {
			closed++
			if oldest == 0 || g.events.line < oldest {
				oldest = g.events.line
			}
		}
	}
	s.closed.Store(closed)
	s.oldest.Store(oldest)
	for _, l := range s.links {
		wake(l.wake)
	}
}

// find returns the one closed gate that name means: its resource may be left out.
func (s *Gates) find(name GateName) (*gate, error) {
	var found []*gate
	var names []string
	for _, g := range s.gates {
		names = append(names, g.String())
		if g.Component == name.Component && g.Controller == name.Controller && (name.Resource == "" || g.Resource == name.Resource) {
			found = append(found, g)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, gateErrorf(http.StatusConflict, "%s has %d gates: say which, with --resource (?resource=)", name, len(found))
	case len(names) == 0:
		return nil, gateErrorf(http.StatusNotFound, "%s is not held, nor is anybody: `hyperkube step %s` holds it (gates open when the apiserver restarts)", name, name)
	}
	return nil, gateErrorf(http.StatusNotFound, "%s is not held; held are: %s", name, strings.Join(names, ", "))
}

// Continue opens the gates that name means, all of them if it names no component, and
// returns what they were.
func (s *Gates) Continue(name GateName) ([]GateStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	opened := []GateStatus{}
	s.gates = slices.DeleteFunc(s.gates, func(g *gate) bool {
		if name.Component != "" && (g.Component != name.Component || g.Controller != name.Controller || name.Resource != "" && g.Resource != name.Resource) {
			return false
		}
		opened = append(opened, s.status(g))
		g.open()
		return true
	})
	s.changed()
	if len(opened) == 0 && name.Component != "" {
		_, err := s.find(name)
		return nil, err
	}
	return opened, nil
}

func (g *gate) open() {
	if g.events != nil {
		g.events.opened = true
		g.wakeWatches()
	}
	g.arrived() // who waits for an event learns that none will come
}

func (g *gate) wakeWatches() {
	for q := range g.events.queues {
		wake(q.wake)
	}
}

func (g *gate) arrived() {
	close(g.news)
	g.news = make(chan struct{})
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// settle is how long a step waits after the first event has come: events of lower
// revisions may be on their way on other watches.
const settle = 10 * time.Millisecond

// One lets the next event (or key) through and returns it, nil if none comes within
// wait; note then says why.
func (s *Gates) One(ctx context.Context, name GateName, wait time.Duration) (*GateEvent, string, error) {
	deadline := time.Now().Add(wait)
	for settled := false; ; {
		s.mu.Lock()
		g, err := s.find(name)
		if err != nil {
			s.mu.Unlock()
			return nil, "", err
		}
		status := s.status(g)
		if status.Next != nil && settled {
			defer s.mu.Unlock()
			return s.pass(g), "", nil
		}
		news, pause := g.news, time.Until(deadline)
		s.mu.Unlock()
		if status.Next != nil {
			news, pause = nil, settle
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, "", ctx.Err()
		case <-news:
			timer.Stop()
		case <-timer.C:
			if status.Next == nil {
				return nil, nothingWaits(&status), nil
			}
			settled = true
		}
	}
}

func nothingWaits(status *GateStatus) string {
	if !status.Connected {
		return "nothing waits: " + status.Note
	}
	return fmt.Sprintf("nothing waits at the gate of %s: nothing that it watches has changed", status.Name())
}

// pass makes one step; the caller has seen that something waits.
func (s *Gates) pass(g *gate) *GateEvent {
	if g.events == nil {
		return s.passKey(g)
	}
	e, waits := g.events.one()
	if !waits {
		return nil
	}
	e.By = s.record.writerOf(e.Revision)
	g.wakeWatches()
	s.changed()
	return &e
}

// Status lists the closed gates.
func (s *Gates) Status() []GateStatus {
	list := []GateStatus{}
	if s == nil {
		return list
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.gates {
		list = append(list, s.status(g))
	}
	return list
}

// shownWaiting is how many of the events that wait are shown.
const shownWaiting = 20

func (s *Gates) status(g *gate) GateStatus {
	status := GateStatus{Component: g.Component, Resource: g.Resource, Controller: g.Controller, Since: g.since, Passed: g.passed}
	if g.events == nil {
		status.Waiting, status.Held, status.Connected = s.keysOf(g)
	} else {
		status.Waiting, status.Held = g.events.steps(shownWaiting)
		status.Passed, status.Revision = g.events.passed, g.events.line
		status.Connected = slices.ContainsFunc(s.record.Open(), func(w *Watch) bool {
			return g.holds(Client{w.User, w.UserAgent, w.Resource})
		})
	}
	if len(status.Waiting) > 0 {
		status.Next = &status.Waiting[0]
	}
	status.Note = s.note(g, status.Connected)
	return status
}

// note says what else there is to know of a gate.
func (s *Gates) note(g *gate, connected bool) string {
	var notes []string
	if !connected && g.Controller != "" {
		notes = append(notes, fmt.Sprintf("no %s that runs %s is connected: the gate waits for it", g.Component, g.Controller))
	} else if !connected {
		notes = append(notes, fmt.Sprintf("no %s is connected: the gate waits for it (connected are: %s)", g.Component, strings.Join(s.connected(), ", ")))
	}
	if g.events != nil && g.events.note != "" {
		notes = append(notes, g.events.note)
	}
	if g.reads > 0 {
		notes = append(notes, fmt.Sprintf("objects it has read by name, as they are now, past the gate: %d, the last was %s", g.reads, g.read))
	}
	return strings.Join(notes, "; ")
}

// connected names the clients that have watches open.
func (s *Gates) connected() []string {
	var names []string
	for _, w := range s.record.Open() {
		if name := (Client{User: w.User, UserAgent: w.UserAgent}).name(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
