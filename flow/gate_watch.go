package flow

import "fmt"

// HeldWatch is a watch at a closed gate. What it is given comes back when it may be sent.
type HeldWatch struct {
	gates *Gates
	gate  *gate
	queue *gateQueue
}

// Hold returns the side of a watch at the gate that holds c; nil: none does.
func (s *Gates) Hold(c Client) *HeldWatch {
	if s.AllOpen() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.holding(c)
	if g == nil {
		return nil
	}
	q := &gateQueue{wake: make(chan struct{}, 1)}
	g.events.queues[q] = struct{}{}
	return &HeldWatch{gates: s, gate: g, queue: q}
}

// holding is the gate that holds c, or nil. There is one at most: Close refuses a second.
func (s *Gates) holding(c Client) *gate {
	for _, g := range s.gates {
		if g.holds(c) {
			return g
		}
	}
	return nil
}

// Held: a gate holds c.
func (s *Gates) Held(c Client) bool {
	_, held := s.Line(c)
	return held
}

// Line is the revision at which c stands; false: it is not held.
func (s *Gates) Line(c Client) (revision int64, held bool) {
	if s.AllOpen() {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.holding(c); g != nil {
		return g.events.line, true
	}
	return 0, false
}

// Lost says that the revision at which c stands can no longer be read, and that it has
// listed at another.
func (s *Gates) Lost(c Client, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.holding(c); g != nil {
		g.events.lost(revision)
		g.wakeWatches()
		s.changed()
	}
}

// Read notes that c has read an object as it is now: that is shown, not held.
func (s *Gates) Read(c Client, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.holding(c); g != nil {
		g.reads++
		g.read = fmt.Sprintf("%s %s", c.Resource, keyOf(namespace, name))
	}
}

// Add puts an event that has come behind those that wait; payload comes back from Take.
// full: the gate holds no more, and nothing that comes after will be taken.
func (h *HeldWatch) Add(e GateEvent, bookmark bool, payload any) (full bool) {
	h.gates.mu.Lock()
	defer h.gates.mu.Unlock()
	h.gate.events.arrive(h.queue, queuedEvent{e, bookmark, payload})
	if !bookmark {
		h.gate.arrived()
	}
	return h.queue.cut
}

// Take returns the payloads of what may be sent now. opened: the gate is open, and has
// no more. expired: the watch must end with 410 Expired.
func (h *HeldWatch) Take() (payloads []any, opened, expired bool) {
	h.gates.mu.Lock()
	defer h.gates.mu.Unlock()
	passing, verdict := h.gate.events.take(h.queue)
	for _, e := range passing {
		payloads = append(payloads, e.payload)
	}
	return payloads, verdict == gateOpen, verdict == gateCut
}

// Wake says that Take may have something.
func (h *HeldWatch) Wake() <-chan struct{} { return h.queue.wake }

// Leave is called when the watch no longer waits here.
func (h *HeldWatch) Leave() {
	h.gates.mu.Lock()
	defer h.gates.mu.Unlock()
	h.gate.events.leave(h.queue)
}
