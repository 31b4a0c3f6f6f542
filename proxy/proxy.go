package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/client/informers"
	"hyperkube/component"
	"hyperkube/flow"
	"hyperkube/proxy/iptables"
	"hyperkube/proxy/tracker"
	"hyperkube/reconcile"
)

// Config is what a proxy is made from.
type Config struct {
	// Client talks to the apiserver. Required.
	Client kubernetes.Interface
	// NodeName decides which endpoints are local. Required.
	NodeName string
	// NodeIP is an address by which others reach this node, besides those on its
	// interfaces (as behind NAT); UDP flows to its NodePorts are cleaned too. Default "".
	NodeIP string
	// ClusterCIDR is the range of pod addresses; what comes from elsewhere to a cluster
	// IP is masqueraded, and FORWARD lets pods through. Default "": all are alike. Two
	// with a comma between, of IPv4 and of IPv6: Services are made in both families.
	ClusterCIDR string
	// Mode is how Services are made. Only "iptables", the default.
	Mode string
	// IptablesMode is auto (the default), nft or legacy.
	IptablesMode string
	// MasqueradeAll rewrites the source of all traffic to cluster IPs. Default false.
	MasqueradeAll bool
	// PlainBridge: the pods of this node share a bridge whose ports are not isolated,
	// as many network plugins make it. The embedded runtime's are. Then replies of
	// Services between them pass iptables only with the module br_netfilter, which is
	// switched on; without the module their traffic is masqueraded. Default false.
	PlainBridge bool
	// TCPEstablishedTimeout and TCPCloseWaitTimeout are how long the kernel remembers an idle connection, and one that
	// only one side has closed: its own minute is too short for what waits for an answer behind a Service. Default 0: as
	// the host has it.
	TCPEstablishedTimeout, TCPCloseWaitTimeout time.Duration
	// MinSyncPeriod is the least time between two syncs. Default 200 ms.
	MinSyncPeriod time.Duration
	// SyncPeriod is the longest, after which flushed rules are written again. Default 30 s.
	SyncPeriod time.Duration
	// StateFile remembers the sysctls that were changed, so that they can be set back
	// after a crash. Default "": only in memory.
	StateFile string
	// RulesChanged is told of each sync that wrote rules. May be nil.
	RulesChanged func(iptables.SyncReport)
	// Clock drives the sync periods. Default: the real one.
	Clock clock.Clock
	// HealthzBindAddress is HOST:PORT of /healthz and /livez, for load balancers, MetricsBindAddress that of /metrics and
	// /proxyMode. Default "": not served.
	HealthzBindAddress, MetricsBindAddress string
	// Metrics receives the kubeproxy_* metrics. Default: none are kept.
	Metrics prometheus.Registerer
	// Health gets the check "iptables-sync". May be nil.
	Health *component.Health

	// Runner runs the iptables programs, SysctlRoot is where the kernel's settings are. Default: the
	// host's. Tests replace them.
	Runner     iptables.Runner
	SysctlRoot string
}

func (c *Config) validate() error {
	if c.Client == nil {
		return errors.New("proxy: Config.Client is required")
	}
	if c.NodeName == "" {
		return errors.New("proxy: Config.NodeName is required")
	}
	if c.Mode != "" && c.Mode != "iptables" {
		return fmt.Errorf("proxy: mode %q is not known: want iptables", c.Mode)
	}
	_, err := newFamilies(c)
	return err
}

func (c *Config) complete() {
	if c.MinSyncPeriod == 0 {
		c.MinSyncPeriod = 200 * time.Millisecond
	}
	if c.SyncPeriod == 0 {
		c.SyncPeriod = 30 * time.Second
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Runner == nil {
		c.Runner = iptables.Exec
	}
	if c.SysctlRoot == "" {
		c.SysctlRoot = "/proc/sys"
	}
}

// Proxy makes Services work on one node.
type Proxy struct {
	cfg      Config
	families []*family // the first is the pods' main one
	sysctls  *sysctls
	runner   *boundedFrequencyRunner
	causes   reconcile.Gatherer // what the next sync is for
	metrics  *proxyMetrics
	health   *syncHealth
	// healthPorts are the Services' health check ports.
	healthPorts *serviceHealthServer

	// mu guards zone, leaving, and the families' trackers: informers write, the sync reads.
	mu   sync.Mutex
	zone string
	// leaving: the node is going to be taken away.
	leaving bool

	// masqueradeLocal and localhostNodePorts are what prepareHost found possible.
	masqueradeLocal, localhostNodePorts bool
}

// New checks the configuration and makes a proxy. It changes nothing on the host.
func New(cfg Config) (*Proxy, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.complete()
	families, err := newFamilies(&cfg)
	if err != nil {
		return nil, err
	}
	return &Proxy{
		cfg: cfg, families: families,
		sysctls: &sysctls{root: cfg.SysctlRoot, stateFile: cfg.StateFile},
		runner:  newBoundedFrequencyRunner(cfg.Clock, cfg.MinSyncPeriod, cfg.SyncPeriod, min(cfg.SyncPeriod, 5*time.Second)),
		metrics: newProxyMetrics(cfg.Metrics), health: &syncHealth{}, healthPorts: newServiceHealthServer(),
	}, nil
}

// Run keeps the rules right until ctx is done, in these steps. It leaves the rules
// in place: connections must survive a restart. CleanUp removes them.
//
//	1: find the iptables programs, prepare the host
//	2: start the informers, and wait until all Services and endpoints are known;
//	   rules made from a part of them would cut off the rest
//	3: sync, whenever something changes
func (p *Proxy) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	logger := klog.FromContext(ctx)

	// Step 1: find the iptables programs, prepare the host
	if err := p.findProxier(ctx); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.prepareHost(logger)
	p.cfg.Health.Add("iptables-sync", p.health.check)
	defer p.healthPorts.close()
	defer p.serve(logger)()

	// Step 2: start the informers, and wait until all Services and endpoints are known
	synced, stop, err := p.startInformers(ctx)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	defer stop()
	defer cancel() // before stop, which waits for the informers to end
	logger.Info("Waiting for Services and EndpointSlices")
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // ctx ended first: an orderly stop
	}

	// Step 3: sync, whenever something changes
	p.runner.Run()
	p.runner.Loop(ctx, func() error { return p.syncProxyRules(ctx) })
	return nil
}

// syncProxyRules is one turn of the loop: it takes what the trackers know, has the
// rules of each family written, and cleans up after flows that lead to nobody.
func (p *Proxy) syncProxyRules(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	why := p.causes.Take()
	var all iptables.SyncReport
	var inputs []iptables.Input
	var errs []error
	for _, f := range p.families {
		in := p.input(f)
		report, err := f.proxier.SyncProxyRules(ctx, in)
		if ctx.Err() != nil {
			return nil // stopping; a killed iptables-restore is no failure
		}
		p.tell(reconcile.WithCauses(ctx, why), f.proxier.Backend().Program, report, err)
		if err == nil && report.Written && p.cfg.RulesChanged != nil {
			p.cfg.RulesChanged(report)
		}
		inputs, errs = append(inputs, in), append(errs, err)
		all.FilterRules, all.NatRules, all.Duration = all.FilterRules+report.FilterRules, all.NatRules+report.NatRules, all.Duration+report.Duration
		all.Written = all.Written || report.Written
	}
	err := errors.Join(errs...)
	p.metrics.noteSync(p.cfg.Clock.Now(), all, err)
	p.health.note(p.cfg.Clock.Now(), err)
	if err != nil {
		p.causes.Back(why)
		logger.Error(err, "Writing the rules failed, will try again")
		return err
	}
	p.healthPorts.sync(logger, inputs)
	for i, f := range p.families {
		f.cleanConntrack(logger, inputs[i], p.cfg.NodeIP)
	}
	return nil
}

// input is what the rules of a family are made from now.
func (p *Proxy) input(f *family) iptables.Input {
	p.mu.Lock()
	defer p.mu.Unlock()
	return iptables.Input{
		Services: f.services.Ports(), Endpoints: f.endpoints.Endpoints(), Zone: p.zone, ClusterCIDR: f.clusterCIDR, IPv6: f.six(),
		MasqueradeAll: p.cfg.MasqueradeAll, MasqueradeLocal: p.masqueradeLocal, LocalhostNodePorts: p.localhostNodePorts,
	}
}

// tell lets the record of the cluster know which rules were written, and why.
func (p *Proxy) tell(ctx context.Context, program string, report iptables.SyncReport, err error) {
	if flow.SinkFrom(ctx) == nil || !report.Written && err == nil {
		return
	}
	what := "iptables-restore"
	if strings.HasPrefix(program, "ip6tables") {
		what = "ip6tables-restore"
	}
	effect := flow.Effect{What: what, Took: report.Duration, Depth: 1,
		Detail: fmt.Sprintf("%d rules added, %d removed", len(report.Added), len(report.Removed))}
	for _, rule := range report.Added {
		effect.Lines = append(effect.Lines, "+ "+rule)
	}
	for _, rule := range report.Removed {
		effect.Lines = append(effect.Lines, "- "+rule)
	}
	if err != nil {
		effect.Error = err.Error()
	}
	flow.Report(ctx, effect)
}

func (p *Proxy) findProxier(ctx context.Context) error {
	backend, err := iptables.DetectBackend(ctx, iptables.Mode(p.cfg.IptablesMode), p.cfg.Runner)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Using iptables", "program", backend.Program, "because", backend.Reason)
	for _, f := range p.families {
		own := backend
		if f.six() {
			if own, err = backend.IPv6(ctx); err != nil {
				return err
			}
		}
		f.proxier = iptables.NewProxier(own)
	}
	return nil
}

// prepareHost sets what Services need of the kernel. Nothing here is fatal: each
// failure names what will not work (R53).
func (p *Proxy) prepareHost(logger klog.Logger) {
	if err := p.sysctls.load(); err != nil {
		logger.Error(err, "Reading the record of changed sysctls")
	}
	set := func(name, value, without string) bool {
		err := p.sysctls.ensure(name, value, without)
		if err != nil {
			logger.Error(err, "Preparing the host")
		}
		return err == nil
	}
	try := func(name, without string) bool { return set(name, "1", without) }
	try("net/ipv4/ip_forward", "pods reach no Service and nothing outside the node")
	if slices.ContainsFunc(p.families, (*family).six) {
		try("net/ipv6/conf/all/forwarding", "pods reach no Service and nothing outside the node by IPv6")
	}
	p.localhostNodePorts = try("net/ipv4/conf/all/route_localnet", "NodePorts are not reachable at 127.0.0.1")
	if p.cfg.PlainBridge {
		p.masqueradeLocal = !try("net/bridge/bridge-nf-call-iptables",
			"(module br_netfilter) Services see the node's address instead of the pod's for clients on the same node")
	}
	for name, timeout := range map[string]time.Duration{"established": p.cfg.TCPEstablishedTimeout, "close_wait": p.cfg.TCPCloseWaitTimeout} {
		if timeout > 0 {
			set("net/netfilter/nf_conntrack_tcp_timeout_"+name, strconv.Itoa(int(timeout.Seconds())), "connections of Services are forgotten at another time")
		}
	}
	for _, change := range p.sysctls.list() {
		logger.Info("Changed a sysctl", "name", change.Name, "from", change.From, "to", change.To)
	}
}

// ChangedSysctls lists what was changed and is to be set back by CleanUp.
func (p *Proxy) ChangedSysctls() []SysctlChange { return p.sysctls.list() }

// CleanUp removes every rule and chain of ours and sets the sysctls back: for the
// ordered stop of a cluster, after Run has returned.
func (p *Proxy) CleanUp(ctx context.Context) error {
	return cleanUp(ctx, p.cfg.Runner, p.sysctls)
}

// CleanUp is the same without a Proxy, for `hyperkube reset` (R70). Of the Config only
// StateFile counts: without it, sysctls are left as they are. It succeeds when there
// is nothing to do, and where there is no iptables.
func CleanUp(ctx context.Context, cfg Config) error {
	cfg.complete()
	return cleanUp(ctx, cfg.Runner, &sysctls{root: cfg.SysctlRoot, stateFile: cfg.StateFile})
}

// cleanUp looks through both kernel interfaces: the host's choice may have changed
// since the rules were written.
func cleanUp(ctx context.Context, run iptables.Runner, s *sysctls) error {
	var errs []error
	for _, mode := range []iptables.Mode{iptables.ModeNFT, iptables.ModeLegacy, iptables.ModeAuto} {
		if backend, err := iptables.DetectBackend(ctx, mode, run); err == nil {
			errs = append(errs, iptables.CleanUp(ctx, backend))
			if six, err := backend.IPv6(ctx); err == nil {
				errs = append(errs, iptables.CleanUp(ctx, six))
			}
		}
	}
	if len(s.list()) == 0 {
		errs = append(errs, s.load())
	}
	errs = append(errs, s.restore())
	return errors.Join(errs...)
}

// startInformers feeds the trackers. Handlers only note what changed and ask for a
// sync.
func (p *Proxy) startInformers(ctx context.Context) (synced []cache.InformerSynced, stop func(), err error) {
	others := informers.NewSharedInformerFactoryWithOptions(p.cfg.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.LabelSelector = "!" + tracker.LabelServiceProxyName + ",!" + v1.IsHeadlessService
	}))
	node := informers.NewSharedInformerFactoryWithOptions(p.cfg.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, p.cfg.NodeName).String()
	}))
	for _, watched := range []struct {
		informer cache.SharedIndexInformer
		handle   func(old, obj any) bool
	}{
		{others.Core().V1().Services().Informer(), p.serviceChanged},
		{others.Discovery().V1().EndpointSlices().Informer(), p.endpointSliceChanged},
		{node.Core().V1().Nodes().Informer(), p.nodeChanged},
	} {
		registration, err := watched.informer.AddEventHandler(p.handler(watched.handle))
		if err != nil {
			return nil, nil, err
		}
		synced = append(synced, registration.HasSynced)
	}
	others.StartWithContext(ctx)
	node.StartWithContext(ctx)
	return synced, func() { others.Shutdown(); node.Shutdown() }, nil
}

// handler asks for a sync when a change matters.
func (p *Proxy) handler(changed func(old, obj any) bool) cache.ResourceEventHandler {
	handle := func(old, obj any) {
		p.mu.Lock()
		matters := changed(old, obj)
		p.mu.Unlock()
		if matters {
			p.causes.Add(eventOf(old, obj))
			p.metrics.noteChange(p.cfg.Clock.Now())
			p.runner.Run()
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { handle(nil, obj) },
		UpdateFunc: handle,
		DeleteFunc: func(obj any) {
			if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = tombstone.Obj
			}
			handle(obj, nil)
		},
	}
}

// eventOf is a change as causes have it.
func eventOf(old, obj any) reconcile.Event {
	var e reconcile.Event
	e.Old, _ = old.(metav1.Object)
	e.New, _ = obj.(metav1.Object)
	return e
}

func (p *Proxy) serviceChanged(old, obj any) bool {
	previous, _ := old.(*v1.Service)
	current, _ := obj.(*v1.Service)
	changed := false
	for _, f := range p.families {
		changed = f.services.Update(previous, current) || changed
	}
	return changed
}

func (p *Proxy) endpointSliceChanged(old, obj any) bool {
	slice, is := obj.(*discovery.EndpointSlice)
	if !is {
		if slice, is = old.(*discovery.EndpointSlice); !is {
			return false
		}
		obj = nil
	}
	changed := false
	for _, f := range p.families {
		changed = f.endpoints.EndpointSliceUpdate(slice, obj == nil) || changed
	}
	return changed
}

// nodeChanged takes the zone; a node that is gone for a moment keeps it.
func (p *Proxy) nodeChanged(_, obj any) bool {
	node, ok := obj.(*v1.Node)
	if !ok || node.Name != p.cfg.NodeName {
		return false
	}
	p.leaving = !eligible(node)
	if node.Labels[v1.LabelTopologyZone] == p.zone {
		return false
	}
	p.zone = node.Labels[v1.LabelTopologyZone]
	return true
}
