package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	clientcache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/client"
	"hyperkube/client/informers"
	"hyperkube/component"
	"hyperkube/scheduler/cache"
	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
	"hyperkube/scheduler/plugins"
	"hyperkube/scheduler/queue"
)

// DefaultSchedulerName is the spec.schedulerName that pods get when they name none.
const DefaultSchedulerName = "default-scheduler"

// Config is what a scheduler is made from.
type Config struct {
	// Client talks to the apiserver. Its rate limit bounds the pods placed a second
	// (two writes a pod); the scheduler needs none. Required.
	Client kubernetes.Interface
	// Profiles pick the pods by spec.schedulerName, and the plugins for them. Default: one,
	// "default-scheduler", with all plugins.
	Profiles []runtime.Profile
	// Extenders are programs that are asked after the plugins, in this order.
	Extenders []*extender.Extender
	// PodInitialBackoff and PodMaxBackoff bound the wait of a pod after a refusal. Default 1 s and 10 s.
	PodInitialBackoff, PodMaxBackoff time.Duration
	// LeaderElect makes it schedule only while it holds its Lease. Default false: it is alone.
	LeaderElect bool
	// LeaseNamespace and LeaseName name the Lease. Default kube-system/kube-scheduler, upstream's, so that an upstream
	// kube-scheduler beside this one stands by, and takes over when this one ends. A second scheduler with
	// other profiles needs a Lease of its own.
	LeaseNamespace, LeaseName string
	// Identity names this process in the Lease. Default: host name and a random part.
	Identity string
	// LeaseDuration is how long the Lease holds after its renewal, RenewDeadline how
	// long renewing is tried before the loop stops, RetryPeriod how often. Default 15 s,
	// 10 s, 2 s: upstream's, so that an upstream kube-scheduler beside this one stands by.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	// PercentageOfNodesToScore: once this share of the nodes (at least 100) fits, the
	// search ends. Percent; default 0: between 50 and 5, falling with the number of nodes.
	PercentageOfNodesToScore int32
	// Plugins is the table of plugins. Default plugins.NewInTreeRegistry().
	Plugins []runtime.Registration
	// ExplainAttempts is how many attempts are kept for Explain. Default 512.
	ExplainAttempts int
	// Clock drives backoffs and expiries. Default: the real one.
	Clock clock.WithTicker
	// Metrics receives the scheduler_* metrics. Default: none are kept.
	Metrics prometheus.Registerer
	// Health gets the checks "informers-sync" and "leader-election". May be nil.
	Health *component.Health
}

func (c *Config) validate() error {
	if c.Client == nil {
		return errors.New("scheduler: Config.Client is required")
	}
	if c.PercentageOfNodesToScore < 0 || c.PercentageOfNodesToScore > 100 {
		return fmt.Errorf("scheduler: Config.PercentageOfNodesToScore is %d, must be 0 to 100", c.PercentageOfNodesToScore)
	}
	return nil
}

func (c *Config) complete() {
	if len(c.Profiles) == 0 {
		c.Profiles = []runtime.Profile{{SchedulerName: DefaultSchedulerName}}
	}
	if c.LeaseNamespace == "" {
		c.LeaseNamespace = "kube-system"
	}
	if c.LeaseName == "" {
		c.LeaseName = "kube-scheduler"
	}
	if c.Identity == "" {
		host, _ := os.Hostname()
		c.Identity = host + "_" + string(uuid.NewUUID())
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Plugins == nil {
		c.Plugins = plugins.NewInTreeRegistry()
	}
	if c.LeaseDuration == 0 {
		c.LeaseDuration, c.RenewDeadline, c.RetryPeriod = 15*time.Second, 10*time.Second, 2*time.Second
	}
	if c.ExplainAttempts == 0 {
		c.ExplainAttempts = 512
	}
}

// Scheduler places pods. nodeInfoSnapshot and nextStartNodeIndex belong to the
// goroutine that runs ScheduleOne; everything else may be used by all.
type Scheduler struct {
	cfg   Config
	Cache *cache.Cache
	// SchedulingQueue and frameworks (by scheduler name) are made in Run, which has the
	// logger; others may read them once built is true.
	SchedulingQueue *queue.PriorityQueue
	frameworks      map[string]*runtime.Framework
	built           atomic.Bool

	client    kubernetes.Interface
	informers informers.SharedInformerFactory
	podLister corelisters.PodLister

	// nominator knows the pods for which preemption makes room.
	nominator queue.Nominator
	// nodeInfoSnapshot is what the running cycle sees.
	nodeInfoSnapshot *cache.Snapshot
	// nextStartNodeIndex is where the next search begins, so that with sampling each
	// node gets its turn.
	nextStartNodeIndex int
	// intn breaks ties between equal scores; replaced in tests.
	intn func(n int) int

	metrics      *schedulerMetrics
	explanations *explanations
	leading      leaderState
	// bindings are the binding cycles under way.
	bindings sync.WaitGroup
}

// New checks the configuration and makes a scheduler. It starts nothing.
func New(cfg Config) (*Scheduler, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.complete()
	sched := &Scheduler{
		cfg: cfg, client: cfg.Client,
		Cache:            cache.New(),
		nodeInfoSnapshot: cache.NewSnapshot(),
		informers:        newInformerFactory(cfg.Client),
		intn:             rand.IntN,
		explanations:     newExplanations(cfg.ExplainAttempts),
	}
	sched.podLister = sched.informers.Core().V1().Pods().Lister()
	sched.metrics = newSchedulerMetrics(cfg.Metrics, sched)
	return sched, nil
}

// Run schedules until ctx is done, in these steps; it may be called once.
//
//	1: make the plugins and the queue
//	2: start the informers and wait until the cache has seen what is there
//	3: start the timers of the queue
//	4: schedule, while leading
//	5: stop the timers, then the informers
func (sched *Scheduler) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	logger := klog.FromContext(ctx)
	broadcaster := client.NewEventsBroadcaster(sched.client)
	defer broadcaster.Shutdown()
	recorder := func(name string) events.EventRecorder { return broadcaster.NewRecorder(scheme.Scheme, name) }

	// Step 1: make the plugins and the queue
	if err := sched.buildFrameworks(ctx, recorder); err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}

	// Step 2: start the informers and wait until the cache has seen what is there
	handlersSynced, err := sched.addAllEventHandlers(ctx)
	if err != nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return fmt.Errorf("scheduler: starting the event recorder: %w", err)
	}
	sched.informers.StartWithContext(ctx)
	defer sched.informers.Shutdown()
	defer cancel() // before Shutdown, which waits for the informers to end
	sched.addHealthChecks(handlersSynced)
	logger.Info("Waiting for the caches to sync with the apiserver")
	if !clientcache.WaitForCacheSync(ctx.Done(), handlersSynced...) {
		return nil // ctx ended first: an orderly stop
	}

	// Step 3: start the timers of the queue
	var timers sync.WaitGroup
	timers.Go(func() { sched.SchedulingQueue.Run(ctx) })

	// Step 4: schedule, while leading
	logger.Info("Starting to schedule", "schedulers", slices.Sorted(maps.Keys(sched.frameworks)))
	sched.runWhileLeading(ctx)

	// Step 5: stop the timers, then the informers
	timers.Wait()
	return nil
}

// loop is the scheduler's work while it leads. It returns after the last binding cycle:
// a Binding that comes later could fill the gap that the next leader has given away.
func (sched *Scheduler) loop(ctx context.Context) {
	for ctx.Err() == nil {
		sched.ScheduleOne(ctx)
	}
	sched.bindings.Wait()
}

// buildFrameworks makes the plugins of each profile, and the queue; recorder makes what a
// profile records its events with.
func (sched *Scheduler) buildFrameworks(ctx context.Context, recorder func(name string) events.EventRecorder) error {
	sched.frameworks = map[string]*runtime.Framework{}
	hints := map[string]map[string][]framework.ClusterEventWithHint{}
	var first *runtime.Framework
	for _, profile := range sched.cfg.Profiles {
		name := profile.SchedulerName
		fw, err := runtime.NewFramework(ctx, sched.cfg.Plugins, profile, runtime.Options{
			Client: sched.client, Recorder: recorder(name), Informers: sched.informers,
			Snapshot: sched.nodeInfoSnapshot, Nominator: &sched.nominator, Clock: sched.cfg.Clock, Extenders: sched.cfg.Extenders,
			Observe: func(point string, code framework.Code, d time.Duration) {
				sched.metrics.observeExtensionPoint(name, point, code, d)
			},
		})
		if err != nil {
			return fmt.Errorf("initializing profiles: creating profile for scheduler name %s: %w", name, err)
		}
		if first == nil {
			first = fw
		} else if one, other := first.ListPlugins()["QueueSort"], fw.ListPlugins()["QueueSort"]; !slices.Equal(one, other) {
			return fmt.Errorf("profile %s: its QueueSort plugin is %v, that of %s is %v: there is one queue, so they must be the same", name, other, first.ProfileName(), one)
		}
		if hints[name], err = fw.EventsToRegister(ctx); err != nil {
			return fmt.Errorf("profile %s: %w", name, err)
		}
		hints[name][waitForNode] = []framework.ClusterEventWithHint{{Event: framework.EventNodeAdd}}
		// Nobody knows what helps a pod that an extender refused: any event may.
		hints[name][extender.Name] = []framework.ClusterEventWithHint{{Event: framework.ClusterEvent{Resource: framework.WildCard, ActionType: framework.All}}}
		sched.frameworks[name] = fw
	}
	sched.SchedulingQueue = queue.NewPriorityQueue(klog.FromContext(ctx), queue.Options{
		Less: first.QueueSortFunc(),
		PreEnqueue: func(ctx context.Context, pod *v1.Pod) *framework.Status {
			return sched.frameworkForPod(pod).RunPreEnqueuePlugins(ctx, pod)
		},
		Hints:     func(pod *v1.Pod) map[string][]framework.ClusterEventWithHint { return hints[pod.Spec.SchedulerName] },
		Nominator: &sched.nominator, InitialBackoff: sched.cfg.PodInitialBackoff, MaxBackoff: sched.cfg.PodMaxBackoff,
		Clock: sched.cfg.Clock, Incoming: sched.metrics.incomingPod,
	})
	sched.built.Store(true)
	return nil
}

// CheckProfiles makes the plugins of each profile and throws them away: what is wrong in a configuration file is known
// before the apiserver answers.
func CheckProfiles(ctx context.Context, cfg Config) error {
	var err error
	if cfg.Client, err = kubernetes.NewForConfig(&rest.Config{}); err != nil { // plugins make informers from it, nothing starts them
		return err
	}
	sched, err := New(cfg)
	if err != nil {
		return err
	}
	return sched.buildFrameworks(klog.NewContext(ctx, logr.Discard()), func(string) events.EventRecorder { return nil })
}

// frameworkForPod is that of the pod's profile. Only pods of a profile come into the
// queue, and a pod's scheduler name never changes.
func (sched *Scheduler) frameworkForPod(pod *v1.Pod) *runtime.Framework {
	return sched.frameworks[pod.Spec.SchedulerName]
}

// recorderFor is what events of the pod are recorded with: they name its scheduler.
func (sched *Scheduler) recorderFor(pod *v1.Pod) events.EventRecorder {
	return sched.frameworkForPod(pod).EventRecorder()
}

// addHealthChecks reports what a stuck scheduler would be stuck on.
func (sched *Scheduler) addHealthChecks(synced []clientcache.InformerSynced) {
	sched.cfg.Health.Add("informers-sync", func(context.Context) error {
		for _, hasSynced := range synced {
			if !hasSynced() {
				return errors.New("informers are not synced yet")
			}
		}
		return nil
	})
	sched.cfg.Health.Add("leader-election", func(context.Context) error { return sched.leading.check() })
}

// ListPlugins names the plugins of each profile per extension point, in calling order
// (S1-11). It is empty before Run.
func (sched *Scheduler) ListPlugins() map[string]map[string][]string {
	if !sched.built.Load() {
		return nil
	}
	plugins := map[string]map[string][]string{}
	for name, fw := range sched.frameworks {
		plugins[name] = fw.ListPlugins()
	}
	return plugins
}

var _ framework.SharedLister = &cache.Snapshot{}
