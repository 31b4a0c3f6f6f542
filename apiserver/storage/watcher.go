package storage

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// bookmarkInterval is how often a watcher learns how far it is, when it asked for that.
	bookmarkInterval = time.Minute
	// lastBookmark is how long before the end of a watch it gets a bookmark, so that
	// the next one need not repeat anything.
	lastBookmark = 2 * time.Second
	// restPerWatcher and maxRest are how long a watcher rests after it has sent something, where there are manyWatchers; see rest.
	restPerWatcher, maxRest, manyWatchers = 200 * time.Microsecond, 20 * time.Millisecond, 10
)

// event is one change of one object, shared by history and all watchers.
type event struct {
	revision int64
	time     time.Time
	object   *Object // after the change; of a deletion, the last state at the deletion's revision
	previous *Object // before the change; nil: there was none
	deleted  bool

	once sync.Once
	last *Object
}

// gone is the state before the change, under the revision of the change: what a
// watcher sees DELETED when an object was deleted or left its selection.
func (e *event) gone() *Object {
	e.once.Do(func() { e.last = shallowGone(e.previous, e.revision) })
	return e.last
}

// seenBy turns a change into what a watcher with this predicate sees of it;
// false: nothing.
func (e *event) seenBy(p Predicate) (Event, bool) {
	is := !e.deleted && p.Matches(e.object)
	was := e.previous != nil && p.Matches(e.previous)
	switch {
	case is && was:
		return Event{Type: watch.Modified, Object: e.object, ResourceVersion: e.revision}, true
	case is:
		return Event{Type: watch.Added, Object: e.object, ResourceVersion: e.revision}, true
	case was:
		return Event{Type: watch.Deleted, Object: e.gone(), ResourceVersion: e.revision}, true
	}
	return Event{}, false
}

// watcher is one open watch. The cache puts events into its queue, and never
// waits; its own goroutine filters them and hands them to the client.
//
// Invariant: every event after from that its bucket gets is either in the queue,
// or was taken from it, or the watcher has been cut.
type watcher struct {
	cache     *cache
	prefix    string
	predicate Predicate
	bucket    string
	from      int64 // events up to this revision are not for this watcher
	bookmarks bool
	cancel    context.CancelFunc
	events    chan Event

	mu     sync.Mutex
	queue  []*event
	bytes  int            // of the values in queue
	status *metav1.Status // ends the watch when the queue is empty
	wake   chan struct{}  // has one element when queue or status has news
}

// Events implements Watcher.
func (w *watcher) Events() <-chan Event { return w.events }

// Stop implements Watcher.
func (w *watcher) Stop() { w.cancel() }

// Watch implements Interface. Once its options are understood, errors come as
// ERROR events: that is where clients look for 410 Expired.
func (r *resource) Watch(ctx context.Context, prefix string, opts WatchOptions) (Watcher, error) {
	revision, err := parseResourceVersion(opts.ResourceVersion)
	if err != nil {
		if invalid := (*InvalidVersionError)(nil); errors.As(err, &invalid) {
			invalid.Watch = true
		}
		return nil, err
	}
	// Step 1: wait until the cache has what the watch starts with.
	initial := revision == 0
	if opts.SendInitialEvents != nil {
		initial = *opts.SendInitialEvents
	}
	switch {
	case revision > 0 && !initial: // whatever the cache has: events up to revision are skipped
		err = r.waitFor(ctx, "0")
	default:
		err = r.waitFor(ctx, opts.ResourceVersion)
	}
	if err != nil {
		return failedWatcher(err), nil
	}
	// Step 2: join the cache and its past.
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{
		cache: r.cache, prefix: prefix, predicate: opts.Predicate, bucket: r.cache.bucket(opts.Predicate),
		from: revision, bookmarks: opts.AllowWatchBookmarks, cancel: cancel,
		events: make(chan Event, 32), wake: make(chan struct{}, 1),
	}
	past, err := r.cache.join(w, initial)
	if err != nil {
		cancel()
		return failedWatcher(err), nil
	}
	past.started = opts.Started
	past.bookmark = opts.AllowWatchBookmarks && opts.SendInitialEvents != nil && *opts.SendInitialEvents
	// Step 3: run.
	go w.run(ctx, past)
	return w, nil
}

// past is what a watcher sees before the first event of its queue.
type past struct {
	objects  []*Object
	events   []*event
	revision int64
	bookmark bool // ends it
	started  func()
}

// join adds a watcher, in one step with reading what happened before it came.
func (c *cache) join(w *watcher, initial bool) (past, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := past{revision: c.revision()}
	switch {
	case c.closed || !c.isLoaded():
		return p, errEmptied
	case initial:
		p.objects = c.choose(w.prefix, w.predicate)
		w.from = 0
	case w.from == 0: // from now on
	case w.from < c.oldest:
		return p, &TooOldError{fmt.Sprintf("too old resource version: %d (%d)", w.from, c.oldest)}
	default:
		first := sort.Search(len(c.history), func(i int) bool { return c.history[i].revision > w.from })
		p.events = append(p.events, c.history[first:]...)
	}
	if c.watchers[w.bucket] == nil {
		c.watchers[w.bucket] = map[*watcher]struct{}{}
	}
	c.watchers[w.bucket][w] = struct{}{}
	c.watching.Add(1)
	return p, nil
}

// leave removes a watcher that has ended.
func (c *cache) leave(w *watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removeWatcher(w)
}

func (c *cache) removeWatcher(w *watcher) {
	if _, joined := c.watchers[w.bucket][w]; !joined {
		return // it was cut, or all were ended
	}
	c.watching.Add(-1)
	delete(c.watchers[w.bucket], w)
	if len(c.watchers[w.bucket]) == 0 {
		delete(c.watchers, w.bucket)
	}
}

// endWatchers ends all watches with status, after what is queued.
func (c *cache) endWatchers(status *metav1.Status) {
	for _, bucket := range c.watchers {
		for w := range bucket {
			w.mu.Lock()
			w.status = status
			w.mu.Unlock()
			w.signal()
		}
	}
	c.watchers = map[string]map[*watcher]struct{}{}
	c.watching.Store(0)
}

// idleRevision returns how far w is, and whether its queue is empty.
func (c *cache) idleRevision(w *watcher) (int64, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.revision(), len(w.queue) == 0
}

// pending is how much lies in a watcher's queue at most.
type pending struct{ events, bytes int }

// enqueue adds an event, and cuts the watcher if it is too far behind: waiting
// for one client would hold up all.
func (w *watcher) enqueue(e *event, limit pending) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= limit.events || len(w.queue) > 0 && w.bytes >= limit.bytes {
		w.queue, w.bytes = nil, 0
		w.cancel()
		return false
	}
	w.queue = append(w.queue, e)
	w.bytes += len(e.object.Stored())
	if len(w.queue) == 1 {
		w.signal()
	}
	return true
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take empties the queue. status is not nil when the watch ends after it.
func (w *watcher) take() (queue []*event, status *metav1.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue, w.queue, w.bytes = w.queue, nil, 0
	return queue, w.status
}

// run sends the past, then events as they come, and bookmarks when it is time.
func (w *watcher) run(ctx context.Context, p past) {
	defer close(w.events)
	defer w.cache.leave(w)
	defer w.cancel()
	if !w.sendPast(ctx, p) {
		return
	}
	if p.started != nil {
		p.started()
	}
	clock := w.cache.resource.hub.config.Clock
	timer := clock.NewTimer(w.untilBookmark(ctx))
	defer timer.Stop()
	for due := false; ; {
		queue, status := w.take()
		if !w.sendEvents(ctx, queue) {
			return
		}
		if len(queue) > 0 {
			w.rest(ctx)
		}
		if status != nil {
			w.send(ctx, Event{Type: watch.Error, Status: status})
			return
		}
		if due {
			// Only an empty queue says that the client has seen all of a revision.
			if revision, idle := w.cache.idleRevision(w); idle {
				due = false
				if w.bookmarks && revision >= w.from && !w.send(ctx, Event{Type: watch.Bookmark, ResourceVersion: revision}) {
					return
				}
				timer.Reset(w.untilBookmark(ctx))
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C():
			due = true
		}
	}
}

// rest lets events gather before the next are sent, where many watch. To wake a
// client's goroutines and to write a TLS record costs ten times what an event in it
// costs, and the clients of a busy resource are woken for nearly every event: by an
// event a turn, 100 watchers cost all of a machine at 500 writes a second. The event
// after a silence goes at once, so that the few watchers of a small cluster, and
// clients that wait for one object, wait for nothing.
func (w *watcher) rest(ctx context.Context) {
	watching := w.cache.watching.Load()
	if watching < manyWatchers {
		return
	}
	timer := time.NewTimer(min(time.Duration(watching)*restPerWatcher, maxRest))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// untilBookmark is the time to the next bookmark.
func (w *watcher) untilBookmark(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		if last := time.Until(deadline) - lastBookmark; last > 0 && last < bookmarkInterval {
			return last
		}
	}
	return bookmarkInterval
}

func (w *watcher) sendPast(ctx context.Context, p past) bool {
	for _, o := range p.objects {
		if w.predicate.Matches(o) && !w.send(ctx, Event{Type: watch.Added, Object: o, ResourceVersion: o.ResourceVersion}) {
			return false
		}
	}
	if p.bookmark && !w.send(ctx, Event{Type: watch.Bookmark, ResourceVersion: p.revision, InitialEventsEnd: true}) {
		return false
	}
	return w.sendEvents(ctx, p.events)
}

func (w *watcher) sendEvents(ctx context.Context, events []*event) bool {
	for _, e := range events {
		if e.revision <= w.from || !strings.HasPrefix(e.object.Key, w.prefix) {
			continue
		}
		if seen, ok := e.seenBy(w.predicate); ok && !w.send(ctx, seen) {
			return false
		}
	}
	return true
}

// send hands one event to the client; false when the watch has ended.
func (w *watcher) send(ctx context.Context, e Event) bool {
	select {
	case w.events <- e: // by itself this is much cheaper than with ctx beside it
		return true
	default:
	}
	select {
	case w.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// failedWatcher is a watch that only says why there is none.
func failedWatcher(err error) Watcher {
	w := &watcher{events: make(chan Event, 1), cancel: func() {}}
	w.events <- Event{Type: watch.Error, Status: watchStatus(err)}
	close(w.events)
	return w
}

// watchStatus is the status of an ERROR event.
func watchStatus(err error) *metav1.Status {
	var status apierrors.APIStatus
	if errors.As(StatusError(err, schema.GroupResource{}, ""), &status) {
		s := status.Status()
		return &s
	}
	s := apierrors.NewInternalError(err).Status()
	return &s
}

// expired is the status that makes a client list anew.
func expired(why string) *metav1.Status {
	s := apierrors.NewResourceExpired(why).Status()
	return &s
}
