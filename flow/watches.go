package flow

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// deliveryChunk is how many deliveries the ring grows by: an idle cluster should
// not pay for a busy one.
const deliveryChunk = 4096

// delivery is one watch event sent to one client. It is small because there are
// many: a pod's update goes to some ten watches.
type delivery struct {
	revision int64
	nanos    int64 // Unix time
	watch    uint32
}

// Watch is one client's open (or ended) watch.
type Watch struct {
	// ID is its number in this process, from 1.
	ID uint32 `json:"id"`
	// User and UserAgent say who listens.
	User      string `json:"user"`
	UserAgent string `json:"userAgent"`
	// Protocol is the HTTP version, Format the media type of the events.
	Protocol string `json:"protocol,omitempty"`
	// Resource, Namespace and the selectors say to what.
	Resource      string `json:"resource"`
	Namespace     string `json:"namespace,omitempty"`
	LabelSelector string `json:"labelSelector,omitempty"`
	FieldSelector string `json:"fieldSelector,omitempty"`
	// ResourceVersion is where the client asked to begin.
	ResourceVersion string    `json:"resourceVersion,omitempty"`
	Remote          string    `json:"remote,omitempty"`
	Since           time.Time `json:"since"`
	// Events counts those sent, LastRevision is that of the last.
	Events       int64 `json:"events"`
	LastRevision int64 `json:"lastRevision"`

	record   *Record
	events   atomic.Int64
	revision atomic.Int64
	batch    []delivery // of the one goroutine that sends
	closed   time.Time  // zero: it is open; guarded by watches.mu
}

// watches are the open watches, the last ended ones, and what was delivered to them.
type watches struct {
	mu      sync.Mutex
	byID    map[uint32]*Watch
	ended   []uint32 // oldest first
	last    uint32
	limit   int        // of ring
	ring    []delivery // a circle once it has limit elements; next is then the oldest
	next    int
	dropped int64
}

// maxEnded bounds the watches remembered after their end: deliveries name them.
const maxEnded = 1024

// Watching adds an open watch; w holds what the client asked for.
func (r *Record) Watching(w *Watch) *Watch {
	if r == nil {
		return nil
	}
	w.record = r
	s := &r.watches
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	w.ID = s.last
	if s.byID == nil {
		s.byID = map[uint32]*Watch{}
	}
	s.byID[w.ID] = w
	return w
}

// Sent notes an event that was written; Flushed says that it is on its way. Both
// are called by the one goroutine that sends.
func (w *Watch) Sent(revision int64) {
	if w == nil || revision == 0 {
		return
	}
	w.batch = append(w.batch, delivery{revision: revision, watch: w.ID})
}

// Flushed records all events since the last call, under one lock.
func (w *Watch) Flushed() {
	if w == nil || len(w.batch) == 0 {
		return
	}
	now := time.Now().UnixNano()
	w.events.Add(int64(len(w.batch)))
	w.revision.Store(w.batch[len(w.batch)-1].revision)
	s := &w.record.watches
	s.mu.Lock()
	for i := range w.batch {
		w.batch[i].nanos = now
		s.push(w.batch[i])
	}
	s.mu.Unlock()
	w.batch = w.batch[:0]
	w.record.changed.ring()
}

func (s *watches) push(d delivery) {
	if len(s.ring) < s.limit {
		if len(s.ring) == cap(s.ring) {
			s.ring = slices.Grow(s.ring, min(deliveryChunk, s.limit-len(s.ring)))
		}
		s.ring = append(s.ring, d)
		return
	}
	s.ring[s.next] = d
	s.next = (s.next + 1) % len(s.ring)
	s.dropped++
}

// Ended says that the watch has ended.
func (w *Watch) Ended() {
	if w == nil {
		return
	}
	s := &w.record.watches
	s.mu.Lock()
	defer s.mu.Unlock()
	w.closed = time.Now()
	if s.ended = append(s.ended, w.ID); len(s.ended) > maxEnded {
		delete(s.byID, s.ended[0])
		s.ended = s.ended[1:]
	}
}

func (s *watches) counts() (kept int, dropped int64, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ring), s.dropped, len(s.byID) - len(s.ended)
}

// Open returns the open watches, by resource and client.
func (r *Record) Open() []*Watch {
	open := []*Watch{}
	if r == nil {
		return open
	}
	s := &r.watches
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := uint32(1); id <= s.last; id++ {
		w := s.byID[id]
		if w == nil || !w.closed.IsZero() {
			continue
		}
		open = append(open, &Watch{ID: w.ID, User: w.User, UserAgent: w.UserAgent, Protocol: w.Protocol, Resource: w.Resource,
			Namespace: w.Namespace, LabelSelector: w.LabelSelector, FieldSelector: w.FieldSelector, ResourceVersion: w.ResourceVersion,
			Remote: w.Remote, Since: w.Since, Events: w.events.Load(), LastRevision: w.revision.Load()})
	}
	return open
}

// deliveries returns who got which revision, and when, of those wanted.
func (s *watches) deliveries(wanted func(revision int64) bool) map[int64][]receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[int64][]receipt{}
	for i := range s.ring {
		d := s.ring[(s.next+i)%len(s.ring)]
		if w := s.byID[d.watch]; w != nil && wanted(d.revision) {
			found[d.revision] = append(found[d.revision], receipt{watch: w, at: time.Unix(0, d.nanos), ended: w.closed})
		}
	}
	return found
}

// receipt is a delivery as the reader of a trace sees it.
type receipt struct {
	watch *Watch
	at    time.Time
	ended time.Time // of the watch; zero: it is open
}
