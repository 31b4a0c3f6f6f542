package podcontrol

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
)

// expectationsTimeout is when a controller stops waiting for what it asked for.
const expectationsTimeout = 5 * time.Minute

// Expectations remembers, for each controller key, how many creations and which
// deletions the cache has yet to show. It bridges the time between a write and
// its event: in it, counting the cache's pods would give the wrong number.
type Expectations struct {
	clock clock.PassiveClock
	mu    sync.Mutex
	byKey map[string]*expectation
}

type expectation struct {
	// adds counts creations that were asked for and not seen. It never goes below
	// zero: pods of other origin are seen too.
	adds int
	// deletes holds the UID-carrying keys of pods whose deletion was asked for.
	// Keys and not a count, because a deletion may be seen twice: once when the
	// pod gets its deletion timestamp and once when it goes.
	deletes sets.Set[string]
	set     time.Time
}

// NewExpectations makes an empty set.
func NewExpectations(clock clock.PassiveClock) *Expectations {
	return &Expectations{clock: clock, byKey: map[string]*expectation{}}
}

// SatisfiedExpectations reports whether key may count its pods and act: all it
// asked for has been seen, or too much time has passed.
func (e *Expectations) SatisfiedExpectations(key string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, ok := e.byKey[key]
	if !ok {
		return true // a new controller, or one that never wrote
	}
	return x.adds == 0 && x.deletes.Len() == 0 || e.clock.Since(x.set) > expectationsTimeout
}

// ExpectCreations notes, before they are asked for, that n creations will be seen.
func (e *Expectations) ExpectCreations(key string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byKey[key] = &expectation{adds: n, deletes: sets.New[string](), set: e.clock.Now()}
}

// ExpectDeletions notes, before they are asked for, which pods will be seen to go.
func (e *Expectations) ExpectDeletions(key string, pods []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byKey[key] = &expectation{deletes: sets.New(pods...), set: e.clock.Now()}
}

// ExpectCreationsAndDeletions notes both, for a controller that asks for both in one turn.
func (e *Expectations) ExpectCreationsAndDeletions(key string, n int, pods []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byKey[key] = &expectation{adds: n, deletes: sets.New(pods...), set: e.clock.Now()}
}

// CreationObserved is called when a pod of key appeared, or when asking for it failed.
func (e *Expectations) CreationObserved(key string) { e.lowerAdds(key, 1) }

// CreationsSkipped takes back n creations that were never asked for.
func (e *Expectations) CreationsSkipped(key string, n int) { e.lowerAdds(key, n) }

func (e *Expectations) lowerAdds(key string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, ok := e.byKey[key]; ok {
		x.adds = max(0, x.adds-n)
	}
}

// DeletionObserved is called when that pod of key is going, or when asking for it failed.
func (e *Expectations) DeletionObserved(key, pod string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x, ok := e.byKey[key]; ok {
		x.deletes.Delete(pod)
	}
}

// DeleteExpectations forgets key, whose object is gone.
func (e *Expectations) DeleteExpectations(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.byKey, key)
}
