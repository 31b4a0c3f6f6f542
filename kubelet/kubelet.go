package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/component"
	"hyperkube/kubelet/allocation"
	"hyperkube/kubelet/certificate"
	"hyperkube/kubelet/cm"
	"hyperkube/kubelet/config"
	"hyperkube/kubelet/eviction"
	"hyperkube/kubelet/images"
	"hyperkube/kubelet/kuberuntime"
	"hyperkube/kubelet/lifecycle"
	"hyperkube/kubelet/manager"
	"hyperkube/kubelet/nodeshutdown"
	"hyperkube/kubelet/pleg"
	kubepod "hyperkube/kubelet/pod"
	"hyperkube/kubelet/podcertificate"
	"hyperkube/kubelet/prober"
	"hyperkube/kubelet/remote"
	"hyperkube/kubelet/server"
	"hyperkube/kubelet/stats"
	"hyperkube/kubelet/status"
	"hyperkube/kubelet/userns"
	"hyperkube/kubelet/volume"
)

// OnStop says what becomes of the node's pods when the kubelet is stopped in order.
type OnStop string

const (
	// KeepPods leaves them running; the next kubelet finds them again (R71).
	KeepPods OnStop = "KeepPods"
	// StopPods ends them gracefully and removes their sandboxes (R70).
	StopPods OnStop = "StopPods"
)

// Config of a kubelet. Only NodeName and RootDir are needed.
type Config struct {
	// NodeName is the node's name in the API.
	NodeName string
	// NodeIP is the node's address; default: that of the interface with the default route.
	NodeIP string
	// RootDir holds pods' volumes and logs: DIR/nodes/<name>/kubelet.
	RootDir string
	// Client reaches the API; nil: standalone, only static pods run (R15).
	Client kubernetes.Interface
	// ContainerRuntime is "remote" (default: CRI on RuntimeEndpoint) or "simulated"
	// (pods are bookkeeping within this process; no root, any OS).
	ContainerRuntime string
	// RuntimeEndpoint is the CRI socket: unix:///.../cri.sock.
	RuntimeEndpoint string
	// Address and Port are where the kubelet's own TLS server listens; defaults: all
	// addresses, 10250. Port 0 chooses one; -1 serves nothing.
	Address string
	Port    int
	// CertFile and KeyFile are the server's; default: a self-signed pair in memory.
	CertFile, KeyFile string
	// TLSMinVersion and TLSCipherSuites are the server's; default 1.2, and Go's choice.
	TLSMinVersion   uint16
	TLSCipherSuites []uint16
	// ServingCertificate, if given, takes their place and renews itself; ClientCertificate is
	// what Client shows to the apiserver.
	ServingCertificate, ClientCertificate *certificate.Rotation
	// ClientCAFile lets in client certificates signed by it.
	ClientCAFile string
	// AllowAnonymous lets anyone in; for a standalone kubelet on loopback. Access is for callers that are to be told apart.
	AllowAnonymous bool
	Access         server.Access
	// ClusterDNS and ClusterDomain go into pods' resolv.conf; default domain: cluster.local.
	ClusterDNS    []string
	ClusterDomain string
	// ResolvConf is the node's; default /etc/resolv.conf, or systemd-resolved's real
	// one if that only names a loopback address.
	ResolvConf string
	// StaticPodPath is a manifest or a directory of them; StaticPodURL a URL. Empty: none.
	StaticPodPath, StaticPodURL string
	// FileCheckFrequency is the time between two looks at StaticPodPath; default 1 s, URL 20 s.
	FileCheckFrequency time.Duration
	// CgroupRoot is under which the pods' cgroups are made; empty: no pod cgroups.
	CgroupRoot string
	// NodeLabels and RegisterWithTaints are given to a new node.
	NodeLabels         map[string]string
	RegisterWithTaints []v1.Taint
	// Room is what of the node is kept from pods, and what happens when it runs short.
	Room Room
	// Shutdown are the times that pods have to end when the machine shuts down, by priority; none: it is not watched.
	// Logind reaches systemd-logind; default nodeshutdown.ConnectLogind.
	Shutdown []nodeshutdown.GracePeriod
	Logind   func(context.Context) (nodeshutdown.Inhibitor, error)
	// AllowedUnsafeSysctls are those that pods may set besides the safe ones; a name that ends with * is the beginning of one.
	AllowedUnsafeSysctls []string
	// MaxPods is the most pods the node takes; default 110.
	MaxPods int
	// UserNamespaceIDs is how many user numbers a pod with hostUsers: false has, a multiple of 65536; default 65536.
	UserNamespaceIDs uint32
	// PodPidsLimit is the most processes and threads that a pod may have; default -1: no limit but the kernel's.
	PodPidsLimit int64
	// NodeStatusUpdateFrequency is the time between two looks at the node; default 10 s. What is unchanged is
	// reported at NodeStatusReportFrequency; default five minutes.
	NodeStatusUpdateFrequency, NodeStatusReportFrequency time.Duration
	// NodeLeaseDurationSeconds is after what silence the node counts as gone; default 40. It is renewed four times as often.
	NodeLeaseDurationSeconds int32
	// Pulls limit the pulls of images; default: not at all.
	Pulls images.Limits
	// EventClient writes Events, so that it can have limits of its own; default Client. EventQPS and EventBurst are what
	// they are, for /configz.
	EventClient          kubernetes.Interface
	EventQPS, EventBurst int
	// SeccompDefault filters the system calls of containers whose pod says nothing about that.
	SeccompDefault bool
	// SingleProcessOOMKill has the kernel end one process of a container that is out of memory, and not all (cgroup v2; v1 always does).
	SingleProcessOOMKill bool
	// MaxContainerRestartPeriod is the longest CrashLoopBackOff; default five minutes.
	MaxContainerRestartPeriod time.Duration
	// PodCIDR is where the simulated runtime takes addresses from if the node has none of its own.
	PodCIDR string
	// Version is reported as nodeInfo.kubeletVersion; default v1.37.2+hyperkube.
	Version string
	// OnStop is what becomes of pods on an orderly stop; default KeepPods, but for a
	// stop whose cause is component.ErrLeaving, which always ends them. StopTimeout
	// bounds it; default 30 s.
	OnStop      OnStop
	StopTimeout time.Duration
	// Clock is for tests; default the real one.
	Clock clock.WithTicker
	// Metrics and Health take the kubelet's; nil: none.
	Metrics prometheus.Registerer
	Health  *component.Health
}

// validate fills in defaults and refuses what cannot work.
func (c *Config) validate() error {
	if c.NodeName == "" {
		return errors.New("kubelet: no node name; pass --hostname-override")
	}
	if c.RootDir == "" {
		return errors.New("kubelet: no root directory; pass --data-dir")
	}
	setDefault(&c.ContainerRuntime, "remote")
	setDefault(&c.ClusterDomain, "cluster.local")
	setDefault(&c.Version, "v1.37.2+hyperkube")
	setDefault(&c.OnStop, KeepPods)
	setDefault(&c.FileCheckFrequency, time.Second)
	setDefault(&c.StopTimeout, 30*time.Second)
	setDefault(&c.MaxPods, 110)
	setDefault(&c.PodPidsLimit, -1)
	setDefault(&c.NodeStatusUpdateFrequency, 10*time.Second)
	setDefault(&c.NodeStatusReportFrequency, 5*time.Minute)
	setDefault(&c.NodeLeaseDurationSeconds, 40)
	setDefault(&c.UserNamespaceIDs, 65536)
	setDefault(&c.MaxContainerRestartPeriod, 5*time.Minute)
	if c.EventClient == nil {
		c.EventClient = c.Client
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if err := lifecycle.ValidateUnsafeSysctls(c.AllowedUnsafeSysctls); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	if c.Logind == nil {
		c.Logind = nodeshutdown.ConnectLogind
	}
	if err := c.Room.validate(); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	switch {
	case c.UserNamespaceIDs%65536 != 0 || uint64(c.UserNamespaceIDs)*uint64(c.MaxPods+1) > math.MaxUint32:
		return fmt.Errorf("kubelet: --user-namespaces-ids-per-pod=%d: must be a multiple of 65536, and there must be enough numbers for %d pods", c.UserNamespaceIDs, c.MaxPods)
	case c.NodeStatusReportFrequency < 0 || c.NodeStatusUpdateFrequency < 0 || c.NodeLeaseDurationSeconds < 0:
		return errors.New("kubelet: --node-status-report-frequency, --node-status-update-frequency, --node-lease-duration-seconds: must not be negative")
	case c.ContainerRuntime != "remote" && c.ContainerRuntime != "simulated":
		return fmt.Errorf("kubelet: --container-runtime=%s: must be remote or simulated", c.ContainerRuntime)
	case c.ContainerRuntime == "remote" && c.RuntimeEndpoint == "":
		return errors.New("kubelet: no container runtime; pass --container-runtime-endpoint=unix:///… or --container-runtime=simulated")
	case c.OnStop != KeepPods && c.OnStop != StopPods:
		return fmt.Errorf("kubelet: OnStop %q: must be %s or %s", c.OnStop, KeepPods, StopPods)
	case c.Client == nil && c.StaticPodPath == "" && c.StaticPodURL == "":
		return errors.New("kubelet: neither an apiserver nor static pods: nothing to do; pass --kubeconfig or --pod-manifest-path")
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Kubelet runs the pods of one node. See the package documentation for how its
// parts work together.
type Kubelet struct {
	Config
	dirs     dirs
	runtime  *remote.Runtime
	cleanup  []func() // in reverse, after everything has stopped
	recorder record.EventRecorder
	mux      *config.Mux
	pods     *kubepod.Manager
	workers  *podWorkers
	queue    *workQueue
	manager  *kuberuntime.Manager
	pleg     *pleg.GenericPLEG
	prober   *prober.Manager
	status   *status.Manager
	volumes  *volume.Manager
	users    *userns.Manager
	configs  *manager.Manager
	secrets  *manager.Manager
	tokens   *manager.TokenManager
	trust    *manager.TrustBundles
	cgroups  cm.PodCgroups
	// podCertificates are the keys that were made for pods.
	podCertificates *podcertificate.Manager
	// allocation is what pods were given of the node.
	allocation *allocation.Manager
	reasons    *reasonCache
	services   corelisters.ServiceLister
	hasSynced  []cache.InformerSynced
	measures   *metrics
	state      nodeState
	// What follows watches over the node's room.
	eviction *eviction.Manager
	shutdown *nodeshutdown.Manager
	imageGC  *images.ImageGCManager
	meter    *stats.Meter
	rate     nodeRate
	started  time.Time
	// changed names pods whose config map or secret changed.
	changed chan []types.UID

	mu   sync.Mutex
	port int
}

// New makes a kubelet. It touches nothing outside its memory; Run does.
func New(cfg Config) (*Kubelet, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	kl := &Kubelet{Config: cfg, dirs: newDirs(cfg.RootDir), pods: kubepod.NewManager(), queue: newWorkQueue(cfg.Clock),
		reasons: newReasonCache(), changed: make(chan []types.UID, 100), measures: newMetrics(cfg.Metrics)}
	var sources []string
	if cfg.Client != nil {
		sources = append(sources, config.ApiserverSource)
	}
	if cfg.StaticPodPath != "" {
		sources = append(sources, config.FileSource)
	}
	if cfg.StaticPodURL != "" {
		sources = append(sources, config.HTTPSource)
	}
	kl.mux = config.NewMux(sources...)
	return kl, nil
}

// Run runs the kubelet until ctx ends:
//
//  1. make the directories, connect to the runtime and wait for it,
//  2. start the parts: status, probes, PLEG, informers, the server, the keepers of the node's room,
//  3. register the node, keep its lease and its certificates,
//  4. start the sources of pods, and loop,
//  5. once ctx has ended: end the pods if that is the policy, then all parts.
func (kl *Kubelet) Run(ctx context.Context) (err error) {
	logger := klog.FromContext(ctx)
	// The parts outlive ctx: ending pods in order needs them.
	parts, stopParts := context.WithCancel(context.WithoutCancel(ctx))
	defer stopParts()
	defer func() {
		for i := len(kl.cleanup) - 1; i >= 0; i-- {
			kl.cleanup[i]()
		}
	}()
	// Step 1: directories and runtime.
	kl.users = userns.NewManager(userns.Config{PodsDir: kl.dirs.pods, IDsPerPod: kl.UserNamespaceIDs, MaxPods: kl.MaxPods, Supported: kl.state.supportsUserNamespaces})
	if err := kl.dirs.make(); err != nil {
		return fmt.Errorf("kubelet: making its directories: %w", err)
	}
	if kl.allocation, err = allocation.NewManager(filepath.Join(kl.dirs.root, allocatedPodsStateFile)); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	if err := kl.connectRuntime(ctx, parts); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("kubelet: %w", err)
	}
	// Step 2: the parts.
	var group sync.WaitGroup
	kl.build(parts)
	if err := kl.startServer(parts, &group); err != nil {
		stopParts()
		return fmt.Errorf("kubelet: %w", err)
	}
	group.Go(func() { kl.status.Run(parts) })
	group.Go(func() { kl.pleg.Run(parts) })
	kl.startRoomKeepers(parts, &group)
	// Step 3: the node. It says that it is ready as soon as it is.
	nodeCtx, stopNode := context.WithCancel(ctx)
	group.Go(func() { kl.runNode(nodeCtx) })
	kl.renewCertificates(nodeCtx, &group)
	// Step 4: sources and loop.
	group.Go(func() { kl.runSources(ctx) })
	logger.Info("Starting kubelet main sync loop", "node", kl.NodeName)
	kl.syncLoop(ctx)
	// Step 5: the end.
	stopNode()
	kl.workers.stop() // otherwise they would start again what is being stopped
	kl.prober.Stop()
	if kl.OnStop == StopPods || component.Leaving(ctx) {
		kl.stopPods(parts)
	}
	stopParts()
	group.Wait()
	kl.configs.Wait()
	kl.secrets.Wait()
	kl.trust.Wait()
	return nil
}

// Times of the loop.
const (
	syncFrequency      = time.Second
	housekeepingPeriod = 2 * time.Second
)

// syncLoop waits for whatever concerns a pod, from any source, until ctx ends.
func (kl *Kubelet) syncLoop(ctx context.Context) {
	syncTicker := kl.Clock.NewTicker(syncFrequency)
	defer syncTicker.Stop()
	housekeeping := kl.Clock.NewTicker(housekeepingPeriod)
	defer housekeeping.Stop()
	sources := loopSources{
		configCh: kl.mux.Updates(), plegCh: kl.pleg.Watch(), syncCh: syncTicker.C(),
		probeCh: kl.prober.Updates(), changeCh: kl.changed, housekeepingCh: housekeeping.C(),
	}
	for kl.syncLoopIteration(ctx, sources, kl) {
	}
}

// loopSources are all that can make the loop turn.
type loopSources struct {
	configCh       <-chan config.PodUpdate       // apiserver watch, file, http: what should run
	plegCh         <-chan pleg.PodLifecycleEvent // the runtime: what began or ended to run
	syncCh         <-chan time.Time              // every second: pods whose time has come
	probeCh        <-chan prober.Update          // liveness, readiness, startup
	changeCh       <-chan []types.UID            // a config map or secret of these pods changed
	housekeepingCh <-chan time.Time              // every 2 s: what nobody wants any more
}

// SyncHandler is what the loop calls; the Kubelet implements it, and a recorder in tests.
type SyncHandler interface {
	HandlePodAdditions(ctx context.Context, pods []*v1.Pod)
	HandlePodUpdates(ctx context.Context, pods []*v1.Pod)
	HandlePodRemoves(ctx context.Context, pods []*v1.Pod)
	HandlePodReconcile(ctx context.Context, pods []*v1.Pod)
	HandlePodSyncs(ctx context.Context, pods []types.UID)
	HandlePodCleanups(ctx context.Context)
	HandleProbe(ctx context.Context, update prober.Update)
}

// syncLoopIteration is one turn: it takes one event, from whichever source has
// one, and hands it to its handler. Handlers only tell the pods' workers; they
// wait for nothing, so no source can hold up another (S0-17).
func (kl *Kubelet) syncLoopIteration(ctx context.Context, from loopSources, handler SyncHandler) bool {
	logger := klog.FromContext(ctx)
	select {
	case <-ctx.Done():
		return false
	case u := <-from.configCh:
		logger.V(1).Info("SyncLoop "+string(u.Op), "source", u.Source, "pods", klog.KObjSlice(u.Pods))
		kl.measures.loop("config:" + u.Source)
		switch u.Op {
		case config.ADD:
			handler.HandlePodAdditions(ctx, u.Pods)
		case config.UPDATE, config.DELETE: // a deletion is an update that sets deletionTimestamp
			handler.HandlePodUpdates(ctx, u.Pods)
		case config.REMOVE:
			handler.HandlePodRemoves(ctx, u.Pods)
		case config.RECONCILE:
			handler.HandlePodReconcile(ctx, u.Pods)
		case config.SET: // the source has spoken for the first time
		}
	case e := <-from.plegCh:
		logger.V(1).Info("SyncLoop PLEG", "source", "runtime", "event", e.Type, "podUID", e.ID, "id", e.ContainerID)
		kl.measures.loop("pleg")
		if e.Type != pleg.ContainerRemoved { // that was the kubelet itself, clearing up
			handler.HandlePodSyncs(ctx, []types.UID{e.ID})
		}
	case <-from.syncCh:
		if due := kl.queue.GetWork(); len(due) > 0 {
			logger.V(1).Info("SyncLoop SYNC", "source", "ticker", "pods", len(due))
			kl.measures.loop("sync")
			handler.HandlePodSyncs(ctx, due)
		}
	case u := <-from.probeCh:
		logger.V(1).Info("SyncLoop PROBE", "source", u.Type, "success", u.Result, "podUID", u.PodUID, "container", u.ContainerID)
		kl.measures.loop("probe")
		handler.HandleProbe(ctx, u)
	case uids := <-from.changeCh:
		logger.V(1).Info("SyncLoop CHANGE", "source", "configmap or secret watch", "pods", len(uids))
		kl.measures.loop("change")
		handler.HandlePodSyncs(ctx, uids)
	case <-from.housekeepingCh:
		// Until every source has spoken, an unknown pod may be one the API has not told of yet.
		if kl.mux.AllReady() {
			logger.V(5).Info("SyncLoop HOUSEKEEPING", "source", "ticker")
			handler.HandlePodCleanups(ctx)
		}
	}
	return true
}

// build makes the parts and wires them.
func (kl *Kubelet) build(ctx context.Context) {
	kl.recorder = kl.newRecorder(ctx)
	commands := commandRunner{kl.runtime}
	kl.status = status.NewManager(kl.Client, kl.pods, kl.Clock)
	if kl.Config.Metrics != nil {
		kl.Config.Metrics.MustRegister(kl.status.Terminations())
	}
	asker := prober.NewProber(commands)
	if kl.ContainerRuntime == "simulated" {
		asker = prober.NewSimulatedProber(commands)
	}
	kl.prober = prober.NewManager(ctx, prober.Config{Status: kl.status.GetPodStatus, Prober: asker, Recorder: kl.recorder, Clock: kl.Clock})
	kl.configs, kl.secrets = kl.newObjectManagers(ctx)
	kl.tokens = manager.NewTokenManager(kl.Client, kl.Clock)
	kl.trust = manager.NewTrustBundles(ctx, kl.Client)
	kl.podCertificates = podcertificate.NewManager(podcertificate.Config{Client: kl.Client, Recorder: kl.recorder, Clock: kl.Clock, Node: kl.node})
	kl.volumes = volume.NewManager(volume.Config{PodsDir: kl.dirs.pods, Host: volumeHost{kl}, Recorder: kl.recorder, NoMounts: kl.ContainerRuntime == "simulated"})
	kl.cgroups = cm.NewPodCgroups(klog.FromContext(ctx), kl.cgroupRoot(), kl.PodPidsLimit)
	kl.manager = kuberuntime.NewKubeGenericRuntimeManager(kuberuntime.Config{
		Runtime: kl.runtime, Images: images.NewImageManager(kl.runtime.Images, kl.recorder, kl.Clock, kl.Pulls), Helper: kl, Probes: kl.prober,
		Hooks: lifecycle.NewHandlerRunner(commands, kl.podIPs, kl.Clock), Recorder: kl.recorder, Clock: kl.Clock,
		Changed: func() { kl.pleg.Poke() }, HugePageSizes: slices.Sorted(maps.Keys(cm.HugePages(cm.SysHugePages))), ContainerCgroup: cm.ContainerCgroup(cm.SysCgroup, kl.SingleProcessOOMKill), SeccompDefault: kl.SeccompDefault, MaxBackOff: kl.MaxContainerRestartPeriod,
	})
	kl.manager.SetRuntimeName(kl.state.runtimeName)
	kl.buildRoomKeepers()
	kl.pleg = pleg.NewGenericPLEG(kl.manager, kl.runtimeEvents, kl.Clock)
	kl.workers = newPodWorkers(ctx, kl, kl.queue, kl.Clock)
	kl.startInformers(ctx)
	if kl.Health != nil {
		kl.Health.Add("pleg", func(context.Context) error { return kl.pleg.Healthy() })
		kl.Health.Add("node-ready", func(context.Context) error { return kl.state.readyError() })
	}
}
