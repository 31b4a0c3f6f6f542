package flowcontrol

import (
	"context"
	"sync"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/utils/clock"
)

// estimate is what a request is thought to take while it runs: afterwards what it took is known.
const estimate = 5 * time.Millisecond

// Reasons of a refusal, as the metric has them.
const (
	reasonConcurrencyLimit = "concurrency-limit"
	reasonQueueFull        = "queue-full"
	reasonTimeOut          = "time-out"
)

// queueSet is the seats and queues of one priority level.
type queueSet struct {
	clock clock.PassiveClock

	mu sync.Mutex
	// seats is how many requests may run at once, executing how many do.
	seats, executing int
	// queuing is nil for a level that refuses instead of queueing.
	queuing *flowcontrolv1.QueuingConfiguration
	// queues only grows: one that is dealt no more is emptied still.
	queues []*queue
	turns  int
}

// queue holds requests of the flows whose hand it is in.
type queue struct {
	waiting   []*waiter
	executing int
	// served is the time that its requests took so far.
	served time.Duration
	// turn is when it was seated last, counted in seats given: between queues served alike, who waits longer goes first.
	turn int
}

type waiter struct {
	// seated is closed when the request may run.
	seated chan struct{}
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

// wait returns when the request of a flow has a seat, which done gives back; or, after limit at the latest, why it gets none.
func (s *queueSet) wait(ctx context.Context, flow uint64, limit time.Duration) (done func(), refused string) {
	s.mu.Lock()
	if s.queuing == nil || len(s.queues) == 0 {
		defer s.mu.Unlock()
		if s.executing >= s.seats {
			return nil, reasonConcurrencyLimit
		}
		s.executing++
		return func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.executing--
		}, ""
	}
	q := s.choose(flow)
	if len(q.waiting) >= int(s.queuing.QueueLengthLimit) {
		s.mu.Unlock()
		return nil, reasonQueueFull
	}
	if len(q.waiting) == 0 && q.executing == 0 {
		// Who was away does not come back with a claim on all the time since.
		q.served = max(q.served, s.leastServed())
	}
	w := &waiter{seated: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	s.dispatch()
	s.mu.Unlock()

	select {
	case <-w.seated: // as nearly always: no timer is needed
	default:
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		select {
		case <-w.seated:
		case <-ctx.Done():
			if s.leave(q, w) {
				return nil, reasonTimeOut
			}
		}
	}
	begun := s.clock.Now()
	return func() { s.finish(q, s.clock.Since(begun)) }, ""
}

// choose returns the shortest queue of the flow's hand.
func (s *queueSet) choose(flow uint64) *queue {
	var best *queue
	for _, card := range deal(flow, int(s.queuing.Queues), int(s.queuing.HandSize)) {
		q := s.queues[card]
		if best == nil || len(q.waiting)+q.executing < len(best.waiting)+best.executing {
			best = q
		}
	}
	return best
}

// deal returns hand different cards of a deck, always the same for the same hash.
func deal(hash uint64, deck, hand int) []int {
	hand = min(hand, deck)
	cards, taken := make([]int, 0, hand), make(map[int]bool, hand)
	for i := range hand {
		left := uint64(deck - i)
		nth := int(hash % left)
		hash /= left
		// The nth of the cards that are still in the deck.
		for card := 0; ; card++ {
			if taken[card] {
				continue
			}
			if nth == 0 {
				taken[card] = true
				cards = append(cards, card)
				break
			}
			nth--
		}
	}
	return cards
}

// leastServed is the least time of a queue that has work, without what its running requests are thought to take.
func (s *queueSet) leastServed() time.Duration {
	least, found := time.Duration(0), false
	for _, q := range s.queues {
		known := q.served - time.Duration(q.executing)*estimate
		if (len(q.waiting) > 0 || q.executing > 0) && (!found || known < least) {
			least, found = known, true
		}
	}
	return least
}

// dispatch seats waiting requests while there are seats: of the queue that was served least, the first.
func (s *queueSet) dispatch() {
	for s.executing < s.seats {
		var next *queue
		for _, q := range s.queues {
			if len(q.waiting) > 0 && (next == nil || q.served < next.served || q.served == next.served && q.turn < next.turn) {
				next = q
			}
		}
		if next == nil {
			return
		}
		first := next.waiting[0]
		next.waiting = next.waiting[1:]
		s.turns++
		next.turn = s.turns
		next.executing++
		next.served += estimate
		s.executing++
		close(first.seated)
	}
}

// finish gives a seat back.
func (s *queueSet) finish(q *queue, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.executing--
	q.served += took - estimate
	s.executing--
	s.dispatch()
}

// leave takes a request out of its queue; false if it was seated meanwhile.
func (s *queueSet) leave(q *queue, w *waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
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

// limit is how many requests may run at once.
func (s *queueSet) limit() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seats
}
