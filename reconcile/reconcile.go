package reconcile

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// Func brings the object of one key from what is to what should be. It reads
// from listers, writes through the API, and must be safe to repeat: a key says
// only "look again", never what happened. ctx carries the logger of this run and
// its causes (CausesFrom). A returned error means: again, later and later.
type Func func(ctx context.Context, key string) (Result, error)

// Result says what becomes of a key whose sync ended without error. The zero
// Result is Done: nothing until the next event.
type Result struct {
	// After asks for another run this much later, whatever else happens. Zero: no.
	After time.Duration
	// Retry asks for another run with backoff, as an error would, but without one
	// being reported: what was waited for is simply not there yet.
	Retry bool
}

// Done is the Result of a sync that only the next event needs to follow.
var Done = Result{}

// Options are the parts of a loop that its surroundings choose, not its author.
// The zero value works.
type Options struct {
	// Workers is the number of keys synced at the same time; default 1. One key is
	// never synced by two workers at once.
	Workers int
	// Clock drives delays; default the real one.
	Clock clock.WithTicker
	// Metrics takes the loop's metrics; default none. Loops may share it.
	Metrics prometheus.Registerer
	// Gate holds keys; default none.
	Gate Gate
	// MinBackoff and MaxBackoff bound the delay after failures of a key, which
	// doubles each time; default 5 ms and 1 minute.
	MinBackoff, MaxBackoff time.Duration
}

// WithDefaults returns the options with every unset one at its default.
func (o Options) WithDefaults() Options {
	if o.Workers <= 0 {
		o.Workers = 1
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.MinBackoff <= 0 {
		o.MinBackoff = 5 * time.Millisecond
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = time.Minute
	}
	return o
}

// Loop is one controller's loop. It lives once: New, Watch for each informer, Run.
type Loop struct {
	name    string
	sync    Func
	options Options
	metrics *metrics

	// queue holds keys only. It never holds one twice, and never gives out a key that
	// is being worked on: it comes back when the worker says Done.
	queue workqueue.TypedRateLimitingInterface[string]

	// watches and watchErr are written by Watch, before Run.
	watches  []watch
	watchErr error

	causes causes
	status statusBoard
}

type watch struct {
	informer cache.SharedInformer
	handle   cache.ResourceEventHandlerRegistration
}

// New makes a loop that calls sync for each key. name is the controller's, as in
// metrics, logs and the status table: "deployment".
func New(name string, sync Func, options Options) *Loop {
	options = options.WithDefaults()
	l := &Loop{name: name, sync: sync, options: options, metrics: newMetrics(options.Metrics)}
	l.queue = workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](options.MinBackoff, options.MaxBackoff),
		workqueue.TypedRateLimitingQueueConfig[string]{Clock: options.Clock})
	return l
}

// Run waits for the informers' first lists and then syncs keys until ctx ends. It
// returns after the last sync has returned. Whoever owns the informers starts
// them.
//
//  1. Wait until every watched informer has delivered its first list.
//  2. Run the workers.
//  3. When ctx ends, close the queue, wait for the workers, and take the
//     handlers off the informers.
func (l *Loop) Run(ctx context.Context) error {
	if l.watchErr != nil {
		return fmt.Errorf("controller %s: watching: %w", l.name, l.watchErr)
	}
	logger := klog.LoggerWithName(klog.FromContext(ctx), l.name)
	ctx = klog.NewContext(ctx, logger)

	// Step 1: wait until every watched informer has delivered its first list.
	// Otherwise a sync would take what it has not heard of yet for absent, and
	// create it again.
	if !l.waitForSync(ctx) {
		l.close()
		return nil
	}
	l.status.setSynced()

	// Step 2: run the workers.
	if l.options.Gate != nil {
		defer l.options.Gate.Runs(l.name)()
	}
	var workers sync.WaitGroup
	for range l.options.Workers {
		workers.Go(func() {
			for l.processNextWorkItem(ctx) {
			}
		})
	}
	logger.V(2).Info("Started", "workers", l.options.Workers)

	// Step 3: close the queue, wait for the workers, take the handlers off.
	<-ctx.Done()
	l.close()
	workers.Wait()
	logger.V(2).Info("Stopped")
	return nil
}

// processNextWorkItem is one turn: it takes a key, syncs it, and decides what
// becomes of it. It returns false when the queue is closed.
func (l *Loop) processNextWorkItem(ctx context.Context) bool {
	key, quit := l.queue.Get()
	if quit {
		return false
	}
	defer l.queue.Done(key)
	l.metrics.depth(l.name, l.queue.Len())

	if l.options.Gate != nil {
		l.status.hold(key)
		err := l.options.Gate.Hold(ctx, l.name, key, func() Glance { return Glance{l.causes.peek(key), l.queue.Len()} })
		l.status.release(key)
		if err != nil {
			return true // ctx has ended; the next Get says so
		}
	}

	// The causes are taken after the gate: what arrived while the key was held is
	// part of what this run will see.
	why := l.causes.takeForRun(key)
	run := WithRun(WithCauses(klog.NewContext(ctx, klog.LoggerWithValues(klog.FromContext(ctx), "key", key)), why), Run{l.name, key})
	logger := klog.FromContext(run)
	started := l.options.Clock.Now()
	l.status.begin(key)
	result, err := l.syncSafely(run, key)
	elapsed := l.options.Clock.Since(started)
	l.status.end(key, started, elapsed, err)
	l.handleResult(ctx, logger, key, outcome{result, err, elapsed, why})
	return true
}

// outcome is what one run of a key gave, and why it ran.
type outcome struct {
	Result
	err     error
	elapsed time.Duration
	why     Causes
}

// handleResult decides what becomes of a key. This is the only place where a
// controller's error is reported.
func (l *Loop) handleResult(ctx context.Context, logger klog.Logger, key string, o outcome) {
	verdict := "done"
	switch {
	case o.err != nil && ctx.Err() != nil:
		verdict = "stopped" // the error is the stop's: no report, no retry
	case o.err != nil:
		// Again, later each time, and still for the same reason.
		verdict = "error"
		l.causes.putBack(key, o.why)
		l.queue.AddRateLimited(key)
		if apierrors.IsConflict(o.err) || (apierrors.IsAlreadyExists(o.err) || apierrors.IsNotFound(o.err)) && l.queue.NumRequeues(key) < 3 {
			// Someone else wrote first, or our own write has not come back yet. The
			// informer will bring it; to report this would be noise.
			verdict = "conflict"
			logger.V(3).Info("Conflict, will retry", "err", o.err)
		} else {
			logger.Error(o.err, "Sync failed, will retry", "controller", l.name, "failures", l.queue.NumRequeues(key))
		}
	case o.Retry:
		verdict = "retry"
		l.causes.putBack(key, o.why)
		l.queue.AddRateLimited(key)
	default:
		l.queue.Forget(key)
		if o.After > 0 {
			verdict = "later"
			l.causes.forget(key)
			l.queue.AddAfter(key, o.After)
		}
	}
	l.metrics.reconciled(l.name, verdict, o.elapsed)
	logger.V(4).Info("Synced", "result", verdict, "took", o.elapsed, "causes", o.why)
}

// syncSafely turns a panic of one key's sync into that key's error, so that one
// malformed object cannot end all controllers of the process.
func (l *Loop) syncSafely(ctx context.Context, key string) (result Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return l.sync(ctx, key)
}

// Watch lets every event of the informer enqueue the keys that keys names. It is
// called before Run. An event handler must be quick and decide nothing: what to
// do is sync's business, which sees the newest state.
func (l *Loop) Watch(informer cache.SharedInformer, keys Keys) {
	registration, err := informer.AddEventHandler(HandlerOf(func(e Event) { l.Notify(e, keys(e)...) }))
	if err != nil {
		l.watchErr = errors.Join(l.watchErr, err)
		return
	}
	l.watches = append(l.watches, watch{informer, registration})
}

// Notify is what Watch does with an event: the keys run, because of e. It serves
// informers that come and go while the loop runs, as the garbage collector's.
func (l *Loop) Notify(e Event, keys ...string) {
	for _, key := range keys {
		l.causes.add(key, e)
		l.Enqueue(key)
	}
}

// Enqueue asks for a run of key now.
func (l *Loop) Enqueue(key string) {
	l.queue.Add(key)
	l.metrics.depth(l.name, l.queue.Len())
}

// EnqueueAfter asks for a run of key after d.
func (l *Loop) EnqueueAfter(key string, d time.Duration) {
	l.causes.forget(key)
	l.queue.AddAfter(key, d)
}

// Name is the controller's name.
func (l *Loop) Name() string { return l.name }

// waitForSync reports false when ctx ended first.
func (l *Loop) waitForSync(ctx context.Context) bool {
	for _, w := range l.watches {
		select {
		case <-w.handle.HasSyncedChecker().Done():
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

func (l *Loop) close() {
	l.queue.ShutDown()
	for _, w := range l.watches {
		// It fails only for a handle of another informer.
		_ = w.informer.RemoveEventHandler(w.handle)
	}
}
