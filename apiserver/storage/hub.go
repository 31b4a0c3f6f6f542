package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// Config says where the objects are kept.
type Config struct {
	// Endpoints of etcd: "https://127.0.0.1:2379", "unix:///run/etcd.sock". Required.
	Endpoints []string
	// CAFile verifies etcd; CertFile and KeyFile are our client certificate. Empty: no TLS.
	CAFile, CertFile, KeyFile string
	// Prefix of every key; default "/registry".
	Prefix string
	// CompactionInterval: history older than this is dropped from etcd, so that
	// its size follows that of the objects. Default 5 min; negative: never.
	CompactionInterval time.Duration
	// MaxPending is how many events a watcher may lag behind before it is cut, MaxPendingBytes how many bytes of their
	// values in etcd. Default 10,000 and 64 MiB.
	MaxPending, MaxPendingBytes int
	// Clock for bookmarks, compaction and history; default the real one.
	Clock clock.WithTicker
	// Local returns a client of the etcd at an endpoint if that runs in this process, else nil: then one over the
	// network is used. nil: there never is one.
	Local func(endpoint string) *EtcdClient
	// Metrics takes this package's metrics; nil: none.
	Metrics prometheus.Registerer
	// OnWrite hears of every write that etcd has committed; it must not block. nil: nobody does.
	OnWrite func(ctx context.Context, w Written)
	// Oldest is the revision from which on history is kept although it is old, for clients that are held there; 0: none
	// is. nil: there are no such clients.
	Oldest func() int64
}

// EtcdClient is etcd's client, for those who may not name it.
type EtcdClient = clientv3.Client

// Written is a write that has been committed: an object of Kind went from Old to New.
type Written struct {
	Kind schema.GroupVersionKind
	// Prefix and Key are the key in etcd; Took is how long etcd took.
	Prefix, Key string
	Revision    int64
	Took        time.Duration
	Deleted     bool
	// Old and New are the values in etcd, shared: read only. Old is nil for a new object, New for a deleted one.
	Old, New []byte
}

func (c *Config) complete() error {
	if len(c.Endpoints) == 0 {
		return errors.New("no etcd endpoint: start `hyperkube etcd` or name one with --etcd-servers")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("etcd client certificate and key: one of the two is missing")
	}
	if c.Prefix == "" {
		c.Prefix = "/registry"
	}
	c.Prefix = "/" + strings.Trim(c.Prefix, "/") + "/"
	if c.CompactionInterval == 0 {
		c.CompactionInterval = 5 * time.Minute
	}
	if c.MaxPending <= 0 {
		c.MaxPending = 10_000
	}
	if c.MaxPendingBytes <= 0 {
		c.MaxPendingBytes = 64 << 20
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Oldest == nil {
		c.Oldest = func() int64 { return 0 }
	}
	return nil
}

// progressInterval is how long the hub lets its watch be silent before it asks
// etcd where it stands. It then resumes from there after a broken connection;
// otherwise an idle cluster would resume from a revision compacted long ago.
const progressInterval = time.Minute

// Hub feeds the caches of all resources from one etcd watch, so that any write
// to any resource moves every cache forward.
//
// Invariants:
//   - Changes reach the caches in the order of etcd's revisions, all changes of
//     one revision to one resource at once.
//   - revisions.current is published after the caches have what it promises.
type Hub struct {
	config    Config
	tls       *tls.Config      // nil: in the clear
	remote    *clientv3.Client // connects when it is first used
	revisions revisions
	leases    leaseManager
	metrics   *metrics
	// compacted is the revision before which etcd has no history. Caches answer for none that is older: a list that is read page
	// by page would otherwise never expire while its pages are asked for.
	compacted atomic.Int64

	mu        sync.RWMutex
	resources map[string]*resource // by prefix
	// session is the watch the caches are fed from; nil before Run and between two.
	session *session
}

// session is the life of one etcd watch. When it is lost (compacted, or etcd's
// store replaced) all caches are filled again under the next one.
type session struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	etcd   *clientv3.Client // whom the watch is of; guarded by Hub.mu
	wg     sync.WaitGroup   // loads under way
}

// New connects to etcd; it does not wait for it. Nothing is read before Run.
// A Hub that is never run is ended by Close.
func New(cfg Config) (*Hub, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	client, config, err := newClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	h := &Hub{config: cfg, remote: client, tls: config, resources: map[string]*resource{}}
	h.metrics = newMetrics(cfg.Metrics, h)
	h.revisions.fetch = h.fetchRevision
	h.revisions.stalled = h.requestProgress
	h.leases = leaseManager{etcd: h.etcd, clock: cfg.Clock}
	return h, nil
}

// Close ends the connection to etcd; Run does so itself.
func (h *Hub) Close() error { return h.remote.Close() }

// etcd is the client to ask now: the etcd at our endpoint may have come to run in this process, or ceased to.
func (h *Hub) etcd() *clientv3.Client {
	if h.config.Local != nil {
		if local := h.config.Local(h.config.Endpoints[0]); local != nil {
			return local
		}
	}
	return h.remote
}

// Run keeps the caches up to date until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	defer h.remote.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	if h.config.CompactionInterval > 0 {
		wg.Go(func() { h.compact(ctx) })
	}
	const firstPause, lastPause = 50 * time.Millisecond, 5 * time.Second
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		started := h.config.Clock.Now()
		err := h.runSession(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if h.config.Clock.Since(started) > lastPause {
			pause = firstPause
		}
		logger.Error(err, "No watch on etcd; with the next one the caches are filled anew", "etcd", h.config.Endpoints, "retryIn", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-h.config.Clock.After(pause):
		}
	}
}

// runSession opens a watch, fills every cache below it, and hands changes on
// until the watch is lost; the error says why.
func (h *Hub) runSession(ctx context.Context) error {
	// Step 1: find out where etcd stands.
	const silence = 2 * time.Second // then Run says what it waits for
	asking, answered := context.WithTimeout(ctx, silence)
	revision, err := h.fetchRevision(asking)
	answered()
	if err != nil {
		return err
	}

	// Step 2: from here on every resource, also those yet to be added, is filled under this session.
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	s := &session{ctx: ctx, cancel: cancel, etcd: h.remote}
	h.mu.Lock()
	h.session = s
	h.revisions.reset(revision)
	for _, r := range h.resources {
		h.startLoad(s, r)
	}
	h.mu.Unlock()
	defer func() {
		cancel(nil)
		h.mu.Lock()
		h.session = nil
		h.mu.Unlock()
		s.wg.Wait()
	}()

	// Step 3: watch. Changes up to revision come with the lists.
	responses := h.watch(s, revision)
	ticker := h.config.Clock.NewTicker(progressInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case response, open := <-responses:
			if err := response.Err(); err != nil {
				return fmt.Errorf("watching %s: %w", h.config.Prefix, err)
			}
			if !open {
				if responses, err = h.rewatch(s); err != nil {
					return err
				}
				continue
			}
			h.dispatch(ctx, response)
		case <-ticker.C():
			h.requestProgress()
			h.forgetSnapshots()
		}
	}
}

// watch opens the session's watch on what comes after revision.
func (h *Hub) watch(s *session, revision int64) clientv3.WatchChan {
	etcd := h.etcd()
	h.mu.Lock()
	s.etcd = etcd
	h.mu.Unlock()
	return etcd.Watch(s.ctx, h.config.Prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithProgressNotify())
}

// rewatch goes on where the watch has ended because the etcd of this process stopped, once there is one again: a watch
// over the network does so itself, and one of those that ended is lost.
func (h *Hub) rewatch(s *session) (clientv3.WatchChan, error) {
	h.mu.RLock()
	lost := s.etcd == h.remote
	h.mu.RUnlock()
	for !lost && s.ctx.Err() == nil {
		asking, answered := context.WithTimeout(s.ctx, time.Second)
		_, err := h.fetchRevision(asking)
		answered()
		if err == nil {
			return h.watch(s, h.revisions.now()), nil
		}
		select {
		case <-s.ctx.Done():
		case <-h.config.Clock.After(50 * time.Millisecond):
		}
	}
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	return nil, fmt.Errorf("watching %s: etcd ended the watch", h.config.Prefix)
}

// dispatch hands the changes of one response to their resources.
func (h *Hub) dispatch(ctx context.Context, response clientv3.WatchResponse) {
	events := response.Events
	for len(events) > 0 {
		revision, n := events[0].Kv.ModRevision, 1
		for n < len(events) && events[n].Kv.ModRevision == revision {
			n++
		}
		h.dispatchRevision(ctx, revision, events[:n])
		events = events[n:]
	}
	if n := len(response.Events); n > 0 {
		h.revisions.publish(response.Events[n-1].Kv.ModRevision)
	} else if response.IsProgressNotify() {
		h.revisions.publish(response.Header.Revision)
	}
}

// dispatchRevision hands on the changes of one revision, each resource's at
// once: a reader must never see half of a revision. More than one key changes
// in a revision when a lease expires.
func (h *Hub) dispatchRevision(ctx context.Context, revision int64, events []*clientv3.Event) {
	var order []*resource
	changes := map[*resource][]change{}
	for _, e := range events {
		r := h.route(string(e.Kv.Key))
		if r == nil {
			continue
		}
		if changes[r] == nil {
			order = append(order, r)
		}
		changes[r] = append(changes[r], r.decodeEvent(ctx, e))
	}
	for _, r := range order {
		of, n := r.config.Resource, float64(len(changes[r]))
		h.metrics.events.WithLabelValues(of.Group, of.Resource).Add(n)
		h.metrics.received.WithLabelValues(of.Group, of.Resource).Add(n)
		r.cache.apply(revision, changes[r])
	}
}

// route finds the resource of an etcd key: the one with the longest prefix.
func (h *Hub) route(key string) *resource {
	key = key[len(h.config.Prefix):]
	h.mu.RLock()
	defer h.mu.RUnlock()
	var found *resource
	for i := 0; i < len(key); i++ {
		if key[i] == '/' {
			if r := h.resources[key[:i]]; r != nil {
				found = r
			}
		}
	}
	return found
}

// Resource starts keeping a resource. Its cache fills as soon as the hub runs;
// until then reads wait.
func (h *Hub) Resource(cfg ResourceConfig) (Interface, error) {
	r, err := newResource(h, cfg)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.resources[r.config.Prefix] != nil {
		return nil, fmt.Errorf("resource %q is kept already", r.config.Prefix)
	}
	h.resources[r.config.Prefix] = r
	if h.session != nil {
		h.startLoad(h.session, r)
	}
	return r, nil
}

// Remove forgets a resource and ends its watches. What is stored stays.
func (h *Hub) Remove(prefix string) {
	h.mu.Lock()
	r := h.resources[prefix]
	delete(h.resources, prefix)
	h.mu.Unlock()
	if r != nil {
		r.cache.close()
	}
}

// startLoad fills a resource's cache in the background, as often as it takes.
// h.mu is held: changes after this are kept for the cache until it is filled.
func (h *Hub) startLoad(s *session, r *resource) {
	r.cache.startLoading()
	s.wg.Go(func() {
		logger := klog.FromContext(s.ctx).WithValues("resource", r.config.Prefix)
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			objects, revision, err := r.listEtcd(s.ctx, "", 0)
			if err == nil {
				r.writes.forgetUpTo(revision)
				r.cache.load(objects, revision)
				return
			}
			if s.ctx.Err() != nil {
				return
			}
			logger.Error(err, "Listing from etcd", "retryIn", pause)
			select {
			case <-s.ctx.Done():
				return
			case <-h.config.Clock.After(pause):
			}
		}
	})
}

// Ready waits until every resource added so far can be read.
func (h *Hub) Ready(ctx context.Context) error {
	h.mu.RLock()
	resources := make([]*resource, 0, len(h.resources))
	for _, r := range h.resources {
		resources = append(resources, r)
	}
	h.mu.RUnlock()
	for _, r := range resources {
		if err := r.cache.waitLoaded(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// Check reports whether etcd answers, for health checks.
func (h *Hub) Check(ctx context.Context) error {
	_, err := h.fetchRevision(ctx)
	return err
}

// Newest is etcd's revision now: whatever is written after the call gets a higher one.
func (h *Hub) Newest(ctx context.Context) (int64, error) { return h.revisions.newest(ctx) }

// fetchRevision asks etcd for its newest revision.
func (h *Hub) fetchRevision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answered := h.metrics.figuresOf("revision", schema.GroupResource{}).ask()
	seen := h.revisions.now()
	response, err := h.etcd().Get(ctx, h.config.Prefix, clientv3.WithCountOnly())
	answered(err)
	if err != nil {
		return 0, fmt.Errorf("asking etcd for its revision: %w", h.withHint(err))
	}
	revision := response.Header.Revision
	if revision < seen && revision < h.revisions.now() {
		// A linearizable read is never behind a watch: the store was replaced
		// by an older one (a restored backup). What the caches hold is void.
		h.restartSession(fmt.Errorf("etcd went back from revision %d to %d", seen, revision))
	}
	return revision, nil
}

func (h *Hub) restartSession(cause error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.session != nil {
		h.session.cancel(cause)
	}
}

// requestProgress asks etcd to say on the watch which revision it has reached.
// Only writes outside our prefix make this necessary.
func (h *Hub) requestProgress() {
	h.mu.RLock()
	s := h.session
	if s == nil {
		h.mu.RUnlock()
		return
	}
	etcd := s.etcd
	h.mu.RUnlock()
	// Without a connection this would wait for one. Its error is that of the
	// watch, which reports it itself.
	ctx, cancel := context.WithTimeout(s.ctx, stallTime)
	defer cancel()
	_ = etcd.RequestProgress(ctx)
}

func (h *Hub) forgetSnapshots() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, r := range h.resources {
		r.cache.forgetSnapshots()
	}
}
