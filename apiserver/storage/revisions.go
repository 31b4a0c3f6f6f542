package storage

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// revisions knows which of etcd's revisions the caches have reached, and lets
// readers wait for one.
type revisions struct {
	// fetch asks etcd for its newest revision.
	fetch func(context.Context) (int64, error)
	// stalled is called when a reader has waited for stallTime.
	stalled func()

	current atomic.Int64

	mu      sync.Mutex
	waiters []waiter // of revisions above current
	next    *revisionFetch
	busy    bool // a fetch is under way
}

// waiter is one reader or writer who waits. Each has a channel of its own: with
// one for all, every write would wake the writers of all others too.
type waiter struct {
	revision int64
	reached  chan struct{}
}

// revisionFetch is one question to etcd, shared by all readers who came before
// it was asked.
type revisionFetch struct {
	done     chan struct{}
	revision int64
	err      error
}

// stallTime is how long a change takes to arrive on the watch at most, normally.
const stallTime = 50 * time.Millisecond

func (r *revisions) now() int64 { return r.current.Load() }

// publish says that the caches have all changes up to revision.
func (r *revisions) publish(revision int64) {
	if revision > r.current.Load() {
		r.reset(revision)
	}
}

// reset is publish, backwards too.
func (r *revisions) reset(revision int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current.Store(revision)
	waiting := r.waiters[:0]
	for _, w := range r.waiters {
		if w.revision <= revision {
			close(w.reached)
		} else {
			waiting = append(waiting, w)
		}
	}
	clear(r.waiters[len(waiting):])
	r.waiters = waiting
}

// join adds a waiter, or returns nil when there is nothing to wait for.
func (r *revisions) join(revision int64) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current.Load() >= revision {
		return nil
	}
	reached := make(chan struct{})
	r.waiters = append(r.waiters, waiter{revision, reached})
	return reached
}

// leave removes a waiter who has given up.
func (r *revisions) leave(reached chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiters = slices.DeleteFunc(r.waiters, func(w waiter) bool { return w.reached == reached })
}

// wait returns when the caches have reached revision, or ctx or limit ends it.
func (r *revisions) wait(ctx context.Context, revision int64, limit <-chan time.Time) error {
	if r.current.Load() >= revision {
		return nil
	}
	reached := r.join(revision)
	if reached == nil {
		return nil
	}
	stall := time.NewTimer(stallTime)
	defer stall.Stop()
	for {
		select {
		case <-reached:
			return nil
		case <-stall.C:
			// The last write was not below our prefix, so that no change will come.
			r.stalled()
			stall.Reset(stallTime)
		case <-limit:
			r.leave(reached)
			return &FutureRevisionError{Requested: revision, Current: r.current.Load()}
		case <-ctx.Done():
			r.leave(reached)
			return ctx.Err()
		}
	}
}

// newest asks etcd for its newest revision. Readers share a question only if it
// was asked after each of them came: an answer that was already under way may
// be older than a write the reader knows of.
func (r *revisions) newest(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err // however quick etcd is
	}
	r.mu.Lock()
	if r.next == nil {
		r.next = &revisionFetch{done: make(chan struct{})}
	}
	mine := r.next
	if !r.busy {
		r.busy = true
		go r.fetchAll()
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.revision, mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// fetchAll asks until nobody waits for an answer.
func (r *revisions) fetchAll() {
	for {
		r.mu.Lock()
		f := r.next
		r.next = nil
		r.busy = f != nil
		r.mu.Unlock()
		if f == nil {
			return
		}
		f.revision, f.err = r.fetch(context.Background())
		close(f.done)
	}
}
