package flowcontrol

import (
	"context"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/request"
)

// estimate is what a request is thought to take while it runs: afterwards what it took is known.
const estimate = 5 * time.Millisecond

// Reasons of a refusal, as the metric has them.
const (
	reasonConcurrencyLimit = "concurrency-limit"
	reasonQueueFull        = "queue-full"
	reasonTimeOut          = "time-out"
	reasonCancelled        = "cancelled"
)

// asked is one request, as the queues see it.
type asked struct {
	work
	flow          uint64
	limit         time.Duration // how long it may wait
	schema        string
	distinguisher string
	user          *request.User
	info          *request.Info
	figures       *figures // may be nil
}

// queueSet is the seats and queues of one priority level.
type queueSet struct {
	clock clock.PassiveClock
	// later runs a function after a time; nil: time.AfterFunc.
	later func(time.Duration, func())

	mu sync.Mutex
	// exempt: nobody waits, the seats taken are counted only.
	exempt bool
	// seats is how many may be taken at once now, inUse how many are, by how many requests.
	seats, inUse, executing int
	// wanted is how many seats those who wait would take.
	wanted int
	// demand is inUse and wanted over time: what borrowing goes by.
	demand integrator
	// queuing is nil for a level that refuses instead of queueing.
	queuing *flowcontrolv1.QueuingConfiguration
	// queues only grows: one that is dealt no more is emptied still.
	queues []*queue
	turns  int
	totals totals
}

// totals are counted since the start, for the dump.
type totals struct{ dispatched, rejected, timedOut, cancelled int }

// queue holds requests of the flows whose hand it is in.
type queue struct {
	waiting          []*waiter
	executing, inUse int
	// served is the seat-seconds that its requests took so far.
	served time.Duration
	// turn is when it was seated last, counted in seats given: between queues served alike, who waits longer goes first.
	turn int
}

type waiter struct {
	asked
	arrived time.Time
	seated  bool
	ready   chan struct{} // closed when it is seated; nil if that was at once
}

// configure gives the level its seats and queues.
func (s *queueSet) configure(seats int, queuing *flowcontrolv1.QueuingConfiguration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seats, s.queuing = seats, queuing
	if queuing != nil {
		for len(s.queues) < int(queuing.Queues) {
			s.queues = append(s.queues, &queue{})
		}
	}
	s.dispatch()
}

// letAll makes the level one in which nobody waits, or one in which some may.
func (s *queueSet) letAll(exempt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exempt = exempt
}

// wait returns when the request has its seats, which done gives back; or, after its time at the latest, why it gets none.
func (s *queueSet) wait(ctx context.Context, a asked) (done func(), refused string) {
	s.mu.Lock()
	if s.exempt || s.queuing == nil || len(s.queues) == 0 {
		defer s.mu.Unlock()
		if !s.fits(a.most()) {
			s.totals.rejected++
			return nil, reasonConcurrencyLimit
		}
		s.seat(a)
		return func() { s.leave(nil, a, 0) }, ""
	}
	q := s.choose(a.flow)
	if len(q.waiting) >= int(s.queuing.QueueLengthLimit) {
		s.totals.rejected++
		s.mu.Unlock()
		return nil, reasonQueueFull
	}
	now := s.clock.Now()
	if len(q.waiting) == 0 && q.executing == 0 {
		// Who was away does not come back with a claim on all the time since.
		q.served = max(q.served, s.leastServed())
	}
	w := &waiter{asked: a, arrived: now}
	s.enqueue(q, w)
	s.dispatch()
	if !w.seated {
		w.ready = make(chan struct{})
	}
	s.mu.Unlock()
	if w.ready != nil { // mostly there is a seat at once, and no timer is needed
		if refused := s.await(ctx, q, w); refused != "" {
			return nil, refused
		}
		now = s.clock.Now()
	}
	return func() { s.leave(q, a, s.clock.Since(now)) }, ""
}

// await waits for the seats of w.
func (s *queueSet) await(ctx context.Context, q *queue, w *waiter) (refused string) {
	limited, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	select {
	case <-w.ready:
		return ""
	case <-limited.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.seated {
		return ""
	}
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
		}
	}
	s.wanted -= w.most()
	w.figures.queued(-1)
	s.note()
	s.dispatch() // who stood behind it may fit where it did not
	if ctx.Err() == context.Canceled {
		s.totals.cancelled++
		return reasonCancelled
	}
	s.totals.timedOut++
	return reasonTimeOut
}

func (s *queueSet) enqueue(q *queue, w *waiter) {
	q.waiting = append(q.waiting, w)
	s.wanted += w.most()
	w.figures.queued(1)
	w.figures.length(len(q.waiting))
	s.note()
}

// fits says whether so many seats are free. A request wider than the level has seats runs alone.
func (s *queueSet) fits(seats int) bool {
	return s.exempt || s.inUse+seats <= s.seats || s.inUse == 0 && seats > s.seats
}

// seat lets a request run.
func (s *queueSet) seat(a asked) {
	s.executing++
	s.inUse += a.most()
	s.totals.dispatched++
	a.figures.executes(1, a.most())
	s.note()
}

// note writes down how many seats are wanted from now on.
func (s *queueSet) note() { s.demand.set(s.clock.Now(), float64(s.inUse+s.wanted)) }

// choose returns the queue of the flow's hand in which there is the least to do.
func (s *queueSet) choose(flow uint64) *queue {
	var room [16]int
	var best *queue
	for _, card := range deal(room[:0], flow, int(s.queuing.Queues), int(s.queuing.HandSize)) {
		q := s.queues[card]
		if best == nil || q.load() < best.load() {
			best = q
		}
	}
	return best
}

func (q *queue) load() int { return len(q.waiting) + q.inUse }

// deal appends a hand of different cards of a deck, always the same for the same hash, in their order.
func deal(cards []int, hash uint64, deck, hand int) []int {
	for i := range min(hand, deck) {
		left := uint64(deck - i)
		card := int(hash % left) // the n-th of those still in the deck
		hash /= left
		at := 0
		for ; at < len(cards) && cards[at] <= card; at++ {
			card++
		}
		cards = append(cards, 0)
		copy(cards[at+1:], cards[at:])
		cards[at] = card
	}
	return cards
}

// leastServed is the least time of a queue that has work, without what its running requests are thought to take.
func (s *queueSet) leastServed() time.Duration {
	least, found := time.Duration(0), false
	for _, q := range s.queues {
		known := q.served - time.Duration(q.inUse)*estimate
		if (len(q.waiting) > 0 || q.executing > 0) && (!found || known < least) {
			least, found = known, true
		}
	}
	return least
}

// dispatch seats waiting requests while there are seats: of the queue that was served least, the first. Where that one is wider
// than what is free, all wait: narrow requests would else keep a wide one out for ever.
func (s *queueSet) dispatch() {
	for s.wanted > 0 {
		var next *queue
		for _, q := range s.queues {
			if len(q.waiting) > 0 && (next == nil || q.served < next.served || q.served == next.served && q.turn < next.turn) {
				next = q
			}
		}
		if next == nil || !s.fits(next.waiting[0].most()) {
			return
		}
		first := next.waiting[0]
		next.waiting[0] = nil
		next.waiting = next.waiting[1:]
		if len(next.waiting) == 0 {
			next.waiting = nil // or the array would be walked through for ever
		}
		s.turns++
		next.turn = s.turns
		next.executing++
		next.inUse += first.most()
		next.served += estimate * time.Duration(first.most())
		s.wanted -= first.most()
		first.figures.queued(-1)
		s.seat(first.asked)
		first.seated = true
		if first.ready != nil {
			close(first.ready)
		}
	}
}

// leave ends a request: its seats are free at once or, of one that makes work for watchers, when they are thought to be served.
func (s *queueSet) leave(q *queue, a asked, took time.Duration) {
	if a.after > 0 {
		later := s.later
		if later == nil {
			later = func(d time.Duration, f func()) { time.AfterFunc(d, f) }
		}
		later(a.after, func() { s.finish(q, a, took) })
		return
	}
	s.finish(q, a, took)
}

func (s *queueSet) finish(q *queue, a asked, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q != nil {
		q.executing--
		q.inUse -= a.most()
		q.served += took*time.Duration(a.seats) + a.after*time.Duration(a.final) - estimate*time.Duration(a.most())
	}
	s.executing--
	s.inUse -= a.most()
	a.figures.executes(-1, -a.most())
	s.note()
	s.dispatch()
}

// load is how many requests run and wait.
func (s *queueSet) load() (executing, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		waiting += len(q.waiting)
	}
	return s.executing, waiting
}

// limit is how many seats may be taken at once.
func (s *queueSet) limit() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seats
}

// lend changes how many seats there are.
func (s *queueSet) lend(seats int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seats = seats
	s.dispatch()
}

// period ends a period of demand and says what it was.
func (s *queueSet) period() demand {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.demand.reset(s.clock.Now())
}
