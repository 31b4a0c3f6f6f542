package storage

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/btree"
	"k8s.io/utils/clock"
)

const (
	// historyTime is how long events are kept for watches that resume; upstream's eventFreshDuration.
	historyTime = 75 * time.Second
	// minHistory events are kept whatever their age, at most maxHistory however fresh.
	minHistory, maxHistory = 100, 100_000
	// snapshotTime is how long a list read in pages may pause between two, and
	// maxSnapshots how many such lists a resource remembers. Beyond, pages come from etcd.
	snapshotTime, maxSnapshots = 5 * time.Minute, 32
)

// cache holds the objects of one resource at one revision, the latest changes
// that led there, and the watchers to tell of the next. It is upstream's
// watchCache and Cacher in one.
//
// Invariants:
//   - objects is the state at revision(), under the same hold of mu.
//   - history has every event after oldest; a watch from before is refused.
//   - An event is in history and in the queues of its watchers before mu is released.
type cache struct {
	resource   *resource
	clock      clock.PassiveClock
	revisions  *revisions
	maxPending pending

	mu      sync.RWMutex
	loaded  chan struct{} // closed while the cache is filled
	closed  bool          // the resource was removed
	objects *btree.BTreeG[*Object]
	index   map[string]map[string]*Object // by value of the indexed field, by key
	last    int64                         // revision of the last change, or of the list
	// early are changes that came while the cache was being filled.
	early []revisionChanges

	history []*event
	oldest  int64

	detector  *mutationDetector
	snapshots []*snapshot
	watchers  map[string]map[*watcher]struct{} // by bucket
	watching  atomic.Int64                     // how many they are
}

// errEmptied: the watch on etcd was lost between a reader's wait and its read.
var errEmptied = fmt.Errorf("%w: the watch on etcd was interrupted", ErrNotReady)

// change is one key's new state; object is nil when it was deleted.
type change struct {
	key    string
	object *Object
}

type revisionChanges struct {
	revision int64
	changes  []change
}

// snapshot is the state of a resource between two of its changes.
type snapshot struct {
	from, to int64 // holds for every revision of [from, to]
	objects  *btree.BTreeG[*Object]
	used     time.Time
}

func newCache(r *resource, h *Hub) *cache {
	return &cache{
		resource: r, clock: h.config.Clock, revisions: &h.revisions, maxPending: pending{h.config.MaxPending, h.config.MaxPendingBytes},
		loaded: make(chan struct{}), objects: newTree(), watchers: map[string]map[*watcher]struct{}{},
		detector: newMutationDetector(),
	}
}

func newTree() *btree.BTreeG[*Object] {
	return btree.NewG(16, func(a, b *Object) bool { return a.Key < b.Key })
}

// startLoading makes readers wait, and changes too, until load.
func (c *cache) startLoading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isLoaded() {
		c.loaded = make(chan struct{})
	}
	c.early = nil
}

func (c *cache) isLoaded() bool {
	select {
	case <-c.loaded:
		return true
	default:
		return false
	}
}

// load fills the cache with the state at revision. Watchers from before are
// told that they missed something: what happened in between is unknown.
func (c *cache) load(objects []*Object, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.endWatchers(expired("the watch on etcd was interrupted"))
	c.objects.Ascend(func(o *Object) bool {
		c.detector.removed(o)
		return true
	})
	c.objects, c.index, c.history, c.snapshots = newTree(), nil, nil, nil
	for _, o := range objects {
		c.objects.ReplaceOrInsert(o)
		c.indexObject(o)
		c.detector.added(o)
	}
	c.last, c.oldest = revision, revision
	early := c.early
	c.early = nil
	close(c.loaded)
	for _, e := range early {
		if e.revision > revision {
			c.applyLocked(e.revision, e.changes)
		}
	}
}

// size is how many objects there are; false while the cache is being filled.
func (c *cache) size() (int, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	select {
	case <-c.loaded:
		return c.objects.Len(), true
	default:
		return 0, false
	}
}

// close ends the resource: its watchers are told, and readers find nothing.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.endWatchers(expired("the resource is no longer served"))
	c.objects, c.index, c.history, c.snapshots = newTree(), nil, nil, nil
	if !c.isLoaded() {
		close(c.loaded)
	}
}

// waitLoaded waits until the cache is filled, or ctx or limit ends it.
func (c *cache) waitLoaded(ctx context.Context, limit <-chan time.Time) error {
	c.mu.RLock()
	loaded := c.loaded
	c.mu.RUnlock()
	var cause error
	select {
	case <-loaded:
		return nil
	case <-ctx.Done():
		cause = ctx.Err()
	case <-limit:
		cause = ErrNotReady
	}
	return fmt.Errorf("%s: %w: waiting for etcd at %s", c.resource.config.Prefix, cause, strings.Join(c.resource.hub.config.Endpoints, ","))
}

// isReady reports whether the cache is filled.
func (c *cache) isReady() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.isLoaded()
}

// apply makes all changes of one revision at once, and tells the watchers.
func (c *cache) apply(revision int64, changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isLoaded() {
		c.early = append(c.early, revisionChanges{revision, changes})
		return
	}
	if !c.closed {
		c.applyLocked(revision, changes)
	}
}

func (c *cache) applyLocked(revision int64, changes []change) {
	for _, change := range changes {
		e := c.change(revision, change)
		if e == nil {
			continue
		}
		c.history = append(c.history, e)
		for _, bucket := range c.bucketsOf(e) {
			for w := range c.watchers[bucket] {
				if strings.HasPrefix(e.object.Key, w.prefix) && !w.enqueue(e, c.maxPending) {
					of := c.resource.config.Resource
					c.resource.hub.metrics.cut.WithLabelValues(of.Group, of.Resource).Inc()
					c.removeWatcher(w)
				}
			}
		}
	}
	c.last = revision
	c.trimHistory()
}

// change brings one object up to date and returns the event it makes; nil when
// a deleted key was unknown.
func (c *cache) change(revision int64, change change) *event {
	e := &event{revision: revision, time: c.clock.Now(), object: change.object}
	if change.object != nil {
		e.previous, _ = c.objects.ReplaceOrInsert(change.object)
		c.detector.removed(e.previous)
		c.detector.added(change.object)
		c.unindexObject(e.previous)
		c.indexObject(change.object)
		return e
	}
	previous, found := c.objects.Delete(&Object{Key: change.key})
	if !found {
		return nil
	}
	c.detector.removed(previous)
	c.unindexObject(previous)
	e.previous, e.deleted = previous, true
	e.object = e.gone()
	return e
}

// trimHistory drops what is too old or too much.
func (c *cache) trimHistory() {
	now, n := c.clock.Now(), 0
	isOld := func(e *event) bool {
		if now.Sub(e.time) <= historyTime {
			return false
		}
		held := c.resource.hub.config.Oldest()
		return held == 0 || e.revision <= held
	}
	for len(c.history)-n > minHistory && (len(c.history)-n > maxHistory || isOld(c.history[n])) {
		c.oldest = c.history[n].revision
		c.history[n] = nil // append copies the rest one day; until then do not hold the object
		n++
	}
	c.history = c.history[n:]
}

// revision is what the objects are the state of. mu is held, or else the
// revision and the objects read beside it may not belong together.
func (c *cache) revision() int64 {
	// The hub publishes a revision after every cache has it: what is published
	// is here for sure, and what is here may be ahead of what is published.
	return max(c.last, c.revisions.now())
}

// get returns an object, nil if there is none.
func (c *cache) get(key string) (*Object, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.isLoaded() {
		return nil, errEmptied
	}
	o, _ := c.objects.Get(&Object{Key: key})
	return o, nil
}

// hint returns an object that may be outdated; nil if there is none.
func (c *cache) hint(key string) *Object {
	c.mu.RLock()
	defer c.mu.RUnlock()
	o, _ := c.objects.Get(&Object{Key: key})
	return o
}

// list returns the objects that prefix and predicate may choose, in key order,
// and the revision they are the state of. Where an index helps, it leaves out
// objects that the predicate does not match; the caller still filters.
func (c *cache) list(prefix string, p Predicate) ([]*Object, int64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.isLoaded() {
		return nil, 0, errEmptied
	}
	return c.choose(prefix, p), c.revision(), nil
}

// choose is list with mu held.
func (c *cache) choose(prefix string, p Predicate) []*Object {
	if p.Field != nil {
		if name, ok := p.Field.RequiresExactMatch("metadata.name"); ok {
			if o, found := c.objects.Get(&Object{Key: prefix + name}); found {
				return []*Object{o}
			}
		}
	}
	value, ok := c.indexedValue(p)
	if !ok {
		return below(c.objects, prefix)
	}
	var found []*Object
	for key, o := range c.index[value] {
		if strings.HasPrefix(key, prefix) {
			found = append(found, o)
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Key < found[j].Key })
	return found
}

// below lists the objects of a tree whose key starts with prefix.
func below(tree *btree.BTreeG[*Object], prefix string) []*Object {
	var found []*Object
	if prefix == "" {
		found = make([]*Object, 0, tree.Len())
	}
	tree.AscendGreaterOrEqual(&Object{Key: prefix}, func(o *Object) bool {
		if !strings.HasPrefix(o.Key, prefix) {
			return false
		}
		found = append(found, o)
		return true
	})
	return found
}

// at lists the objects at an exact revision the cache has reached; false when
// it no longer knows that state.
func (c *cache) at(revision int64, prefix string) ([]*Object, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isLoaded() || revision < c.resource.hub.compacted.Load() {
		return nil, false
	}
	if revision >= c.last && revision <= c.revision() {
		return below(c.objects, prefix), true
	}
	for _, s := range c.snapshots {
		if s.from <= revision && revision <= s.to {
			s.used = c.clock.Now()
			return below(s.objects, prefix), true
		}
	}
	return nil, false
}

// keep remembers the state at revision for the next pages of a list, if it is
// still that of the cache.
func (c *cache) keep(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision < c.last || !c.isLoaded() {
		return // it has changed since the page was read: the next one comes from etcd
	}
	for _, s := range c.snapshots {
		if s.from == c.last {
			s.to, s.used = max(s.to, revision), c.clock.Now()
			return
		}
	}
	if len(c.snapshots) >= maxSnapshots {
		c.snapshots = append(c.snapshots[:0:0], c.snapshots[1:]...)
	}
	// Clone shares all nodes; from now on the cache copies those it changes.
	c.snapshots = append(c.snapshots, &snapshot{from: c.last, to: revision, objects: c.objects.Clone(), used: c.clock.Now()})
}

func (c *cache) forgetSnapshots() {
	c.mu.Lock()
	defer c.mu.Unlock()
	var kept []*snapshot
	for _, s := range c.snapshots {
		if c.clock.Since(s.used) < snapshotTime {
			kept = append(kept, s)
		}
	}
	c.snapshots = kept
}

// indexValue is the object's value of the indexed field; false without an index.
func (c *cache) indexValue(o *Object) (string, bool) {
	if o == nil || c.resource.config.Index == "" {
		return "", false
	}
	// Not o.Fields(), which would keep a map an object for the sake of one value.
	return c.resource.config.Fields(o.Object)[c.resource.config.Index], true
}

func (c *cache) indexObject(o *Object) {
	value, ok := c.indexValue(o)
	if !ok {
		return
	}
	if c.index == nil {
		c.index = map[string]map[string]*Object{}
	}
	if c.index[value] == nil {
		c.index[value] = map[string]*Object{}
	}
	c.index[value][o.Key] = o
}

func (c *cache) unindexObject(o *Object) {
	if value, ok := c.indexValue(o); ok {
		delete(c.index[value], o.Key)
		if len(c.index[value]) == 0 {
			delete(c.index, value)
		}
	}
}

// indexedValue is the one value of the indexed field that p selects.
func (c *cache) indexedValue(p Predicate) (string, bool) {
	if c.resource.config.Index == "" || p.Field == nil {
		return "", false
	}
	return p.Field.RequiresExactMatch(c.resource.config.Index)
}

// bucket names the events a watcher can be interested in, so that a change of
// one pod does not wake the kubelets of all nodes: those of one object name,
// those of one value of the indexed field, or all.
func (c *cache) bucket(p Predicate) string {
	if p.Field != nil {
		if name, ok := p.Field.RequiresExactMatch("metadata.name"); ok {
			return "name/" + name
		}
	}
	if value, ok := c.indexedValue(p); ok {
		return "index/" + value
	}
	return ""
}

// bucketsOf lists the buckets an event belongs to.
func (c *cache) bucketsOf(e *event) []string {
	if len(c.watchers) == 0 {
		return nil
	}
	key := e.object.Key
	buckets := []string{"", "name/" + key[strings.LastIndexByte(key, '/')+1:]}
	value, indexed := c.indexValue(e.object)
	if !indexed {
		return buckets
	}
	buckets = append(buckets, "index/"+value)
	// An object that leaves a value's watchers is DELETED for them.
	if before, ok := c.indexValue(e.previous); ok && before != value {
		buckets = append(buckets, "index/"+before)
	}
	return buckets
}

// shallowGone is the last state of an object under the revision of its end.
func shallowGone(previous *Object, revision int64) *Object {
	obj, err := withResourceVersion(previous.Object, revision)
	if err != nil {
		panic("storage: a cached object without metadata: " + err.Error()) // decode has refused it
	}
	return &Object{Key: previous.Key, ResourceVersion: revision, Object: obj, resource: previous.resource, value: previous.value}
}
