package reconcile

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Gate holds a key between the queue and its sync, so that a controller can be
// watched one step at a time.
type Gate interface {
	// Runs says that there is such a controller; the function it returns, that it has ended.
	Runs(controller string) (ended func())
	// Hold returns when the key may go on; its error is ctx's. look tells more about
	// the key while it waits.
	Hold(ctx context.Context, controller, key string, look func() Glance) error
}

// Glance is what can be seen of a key that is held.
type Glance struct {
	// Causes are the reasons for its run so far. They stay where they are: those that
	// arrive while the key is held belong to the same run.
	Causes Causes
	// Queued is how many keys wait behind it, in the queue.
	Queued int
}

// Turnstile is a Gate for the controllers of a process: Set says which are held, and
// which of their keys may pass.
//
// Invariants: before the first Set every key waits: a process that starts anew must not
// run past a gate that it has not yet heard of. After it a key of a controller that is
// not held does not wait. Keys are held in
// the order in which they came from the queues, under numbers that rise; what is let
// through is named by its number, so that to say so twice lets nothing else through.
type Turnstile struct {
	mu      sync.Mutex
	running map[string]int // how many of this name: two, while one term ends and the next begins
	held    map[string]bool
	keys    []*heldKey // oldest first
	last    int64
	changed chan struct{}
	told    chan struct{} // closed by the first Set
	isTold  sync.Once
}

// heldKey is a key that waits.
type heldKey struct {
	id              int64
	controller, key string
	look            func() Glance
	pass            chan struct{} // closed when it may go on
}

// HeldKey is a key that waits, as it is shown. ID names it for Set.
type HeldKey struct {
	ID              int64
	Controller, Key string
	Glance
}

// NewTurnstile makes one. Somebody must Set it: client.FollowGates does.
func NewTurnstile() *Turnstile {
	return &Turnstile{running: map[string]int{}, changed: make(chan struct{}, 1), told: make(chan struct{})}
}

// Runs implements Gate.
func (t *Turnstile) Runs(controller string) (ended func()) {
	t.count(controller, 1)
	return func() { t.count(controller, -1) }
}

func (t *Turnstile) count(controller string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[controller] += n; t.running[controller] == 0 {
		delete(t.running, controller)
	}
	t.tell()
}

// Hold implements Gate.
func (t *Turnstile) Hold(ctx context.Context, controller, key string, look func() Glance) error {
	select {
	case <-t.told:
	case <-ctx.Done():
		return ctx.Err()
	}
	k := t.enter(controller, key, look)
	if k == nil {
		return nil
	}
	select {
	case <-k.pass:
		return nil
	case <-ctx.Done():
		t.leave(k)
		return ctx.Err()
	}
}

// enter returns nil if the controller is not held.
func (t *Turnstile) enter(controller, key string, look func() Glance) *heldKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.held[controller] {
		return nil
	}
	t.last++
	k := &heldKey{id: t.last, controller: controller, key: key, look: look, pass: make(chan struct{})}
	t.keys = append(t.keys, k)
	t.tell()
	return k
}

func (t *Turnstile) leave(k *heldKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = slices.DeleteFunc(t.keys, func(other *heldKey) bool { return other == k })
	t.tell()
}

// Set holds these controllers and no others, and lets these keys through. One that is
// not held (any more) is left out.
func (t *Turnstile) Set(controllers []string, pass []int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = map[string]bool{}
	for _, name := range controllers {
		t.held[name] = true
	}
	t.keys = slices.DeleteFunc(t.keys, func(k *heldKey) bool {
		if t.held[k.controller] && !slices.Contains(pass, k.id) {
			return false
		}
		close(k.pass)
		return true
	})
	t.isTold.Do(func() { close(t.told) })
	t.tell()
}

// Look returns the controllers that run, by name, and the keys that wait, oldest first.
func (t *Turnstile) Look() (controllers []string, held []HeldKey) {
	t.mu.Lock()
	controllers = slices.Sorted(maps.Keys(t.running))
	keys := slices.Clone(t.keys)
	t.mu.Unlock()
	for _, k := range keys { // look asks the loop: not under our lock
		held = append(held, HeldKey{k.id, k.controller, k.key, k.look()})
	}
	return controllers, held
}

// Changed has an element when Look has news.
func (t *Turnstile) Changed() <-chan struct{} { return t.changed }

func (t *Turnstile) tell() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}
