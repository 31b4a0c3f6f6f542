package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/pki"
)

// allOptions is the command line of `hyperkube all`.
type allOptions struct {
	shared
	Disable []string
	Ports   string
	// RuntimeEndpoint is a CRI runtime of somebody else's, instead of our own.
	RuntimeEndpoint string
	Name            string
	Runtime         string
	Pods            string
	Service         string
	FlowBuffer      string
	TracingEndpoint string
	// Nodes is how many real nodes there are; 0: as before, or 1.
	Nodes       int
	NodeNetwork string
	// FakeNodes is how many nodes there are that are only bookkeeping.
	FakeNodes int
	// Args go to the components as they are.
	Args componentArgs
	// dropped are nodes of an earlier run with more of them.
	dropped []string
}

func newAllOptions() *allOptions {
	defaults := pki.DefaultCluster()
	return &allOptions{shared: newShared(), Ports: "default", Name: defaults.Name, Runtime: "embedded",
		Pods: defaults.PodCIDR, Service: defaults.ServiceCIDR, FlowBuffer: defaultFlowBuffer, NodeNetwork: defaults.NodeCIDR, Args: componentArgs{}}
}

func (o *allOptions) AddFlags(flags *pflag.FlagSet) {
	o.shared.AddFlags(flags)
	flags.StringSliceVar(&o.Disable, "disable", o.Disable, "components not to start, to run them by hand or not at all: scheduler,proxy")
	flags.StringVar(&o.Ports, "ports", o.Ports, "default (6443, 2379, 10250) or auto: left to the kernel, for a second cluster")
	flags.StringVar(&o.Name, "name", o.Name, "name of the cluster; a second one beside the first needs a name, a data directory, ports and address ranges of its own")
	flags.StringVar(&o.Runtime, "container-runtime", o.Runtime, "embedded, or simulated: pods that are only bookkeeping, without root")
	flags.StringVar(&o.RuntimeEndpoint, "container-runtime-endpoint", o.RuntimeEndpoint, "CRI socket of another runtime, unix:///run/containerd/containerd.sock, instead of ours; further nodes (--nodes) keep ours: two kubelets on one runtime would end each other's pods")
	flags.StringVar(&o.Pods, "cluster-cidr", o.Pods, "address range of pods, or two, of IPv4 and of IPv6, with a comma between: 10.244.0.0/16,fd00:10:244::/56; counts when the data directory is new")
	flags.StringVar(&o.Service, "service-cluster-ip-range", o.Service, "address range of Services, or two: 10.96.0.0/16,fd00:10:96::/112; counts when the data directory is new")
	flags.IntVar(&o.Nodes, "nodes", o.Nodes, "how many real nodes: this machine, and further ones in network namespaces of their own (default: as before, or 1)")
	flags.IntVar(&o.FakeNodes, "fake-nodes", o.FakeNodes, "how many nodes that are only bookkeeping, beside the real ones; their sizes, zones, labels and taints: --fakenodes-arg=cpu=16, and so on (hyperkube fakenodes --help)")
	flags.StringVar(&o.NodeNetwork, "node-network", o.NodeNetwork, "address range of several nodes, or two, as for pods (fd00:172:30:254::/64 if the second is left out); counts when the data directory is new")
	flags.StringVar(&o.FlowBuffer, "flow-buffer", o.FlowBuffer, "memory for the record that hyperkube trace reads, at the most; 0: none")
	flags.StringVar(&o.TracingEndpoint, "tracing-endpoint", o.TracingEndpoint, tracingEndpointUsage)
	o.Args.addFlags(flags)
}

// Complete opens the data directory, which makes the cluster's description on the first start.
func (o *allOptions) Complete(context.Context) error {
	if o.Logs.Level == "" {
		// The steps printed are what people want to see; the log says what goes wrong.
		o.Logs.Level = "warn"
	}
	if err := component.SetUpLogging(o.Logs); err != nil {
		return err
	}
	defaults := pki.DefaultCluster()
	defaults.Name = o.Name
	defaults.NodeCIDR, defaults.SecondaryNodeCIDR, _ = strings.Cut(o.NodeNetwork, ",")
	defaults.PodCIDR, defaults.SecondaryPodCIDR, _ = strings.Cut(o.Pods, ",")
	defaults.ServiceCIDR, defaults.SecondaryServiceCIDR, _ = strings.Cut(o.Service, ",")
	if o.Ports == "auto" {
		defaults.AutoPorts, defaults.APIServerPort, defaults.EtcdPort = true, 0, 0
	}
	if err := o.open(defaults); err != nil {
		return err
	}
	if o.Nodes == 0 {
		o.Nodes = max(1, o.dir.Cluster.Nodes)
	}
	return nil
}

func (o *allOptions) Validate() error {
	if o.Ports != "default" && o.Ports != "auto" {
		return fmt.Errorf("--ports=%s: must be default or auto", o.Ports)
	}
	if o.Runtime != "embedded" && o.Runtime != "simulated" {
		return fmt.Errorf("--container-runtime=%s: must be embedded or simulated", o.Runtime)
	}
	if err := validateFlow(o.FlowBuffer, o.TracingEndpoint); err != nil {
		return err
	}
	if room := nodeNetwork(o.dir).Room(); o.Nodes < 1 || o.Nodes > room {
		return fmt.Errorf("--nodes=%d: must be from 1 to %d, for which there are addresses in %s (--node-network)", o.Nodes, room, o.dir.Cluster.NodeCIDR)
	}
	if o.Nodes > 1 && (o.simulated() || runtime.GOOS != "linux") {
		return fmt.Errorf("--nodes=%d: several real nodes need real containers on Linux; for simulated ones: --fake-nodes=%d", o.Nodes, o.Nodes)
	}
	if o.FakeNodes < 0 {
		return fmt.Errorf("--fake-nodes=%d: must not be negative", o.FakeNodes)
	}
	for _, name := range o.Disable {
		if c := find(name); c == nil || c.options == nil {
			return fmt.Errorf("--disable=%s: no such component; components are %s", name, strings.Join(componentNames(), ", "))
		}
	}
	if err := o.Args.validate(); err != nil {
		return err
	}
	if err := checkHost(o.simulated(), !slices.Contains(o.Disable, "proxy")); err != nil {
		return err
	}
	return o.examineHost()
}

// examineHost makes those of doctor's checks after whose failure no cluster can come up (R02).
func (o *allOptions) examineHost() error {
	if o.simulated() {
		return nil
	}
	h, err := thisHost(o.DataDir)
	if err != nil {
		return err
	}
	h.otherRuntime = o.RuntimeEndpoint != ""
	ignore := []string{"ports"} // who finds a port taken says so at once, with the same words
	if slices.Contains(o.Disable, "proxy") {
		ignore = append(ignore, "iptables", "iptables-chains")
	}
	if slices.Contains(o.Disable, "kubelet") {
		ignore = append(ignore, "cgroups", "hostname")
	}
	return h.hopeless(ignore)
}

func (o *allOptions) simulated() bool { return o.Runtime == "simulated" }

func componentNames() []string {
	var names []string
	for _, c := range commands() {
		if c.options != nil {
			names = append(names, c.name)
		}
	}
	return names
}

// runAll is `hyperkube all`: options → complete → validate → run, like every component.
func runAll(ctx context.Context, args []string) error {
	o := newAllOptions()
	if err := component.Parse("all", o, args, os.Stdout); err != nil {
		return err
	}
	if err := o.Complete(ctx); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	return o.Run(ctx)
}

// Run starts the cluster, tells when each part is ready, and stops it in order:
//
//  1. claim the data directory, so that no second instance runs on it;
//  2. start every component; each waits for what it needs;
//  3. serve the control socket, for status, stop and start;
//  4. print a line a component as it becomes ready, then how to use the cluster;
//  5. wait for Ctrl-C or for a component that fails;
//  6. stop in order: pods first, the store last.
func (o *allOptions) Run(ctx context.Context) error {
	began := time.Now()
	// Step 1: claim the data directory.
	release, err := o.dir.Claim("all")
	if err != nil {
		return err
	}
	defer release()
	if o.dir.Cluster.AutoPorts {
		// Ports of an earlier run may be taken by now.
		if err := o.dir.Update(func(c *pki.Cluster) { c.APIServerPort, c.EtcdPort = 0, 0 }); err != nil {
			return err
		}
	}
	nodes, err := o.settleNodes(ctx)
	if err != nil {
		return err
	}
	// Step 2: start every component.
	s := newSupervisor(append(o.parts(), nodes...))
	s.startAll()
	// Step 3: serve the control socket.
	stopControl, err := serveControl(o.DataDir, "all", s)
	if err != nil {
		return errors.Join(err, s.stopAll(component.ErrLeaving, func(string, time.Duration) {}))
	}
	defer stopControl()
	// Step 4: print a line a component, then how to use the cluster.
	err = o.announce(ctx, s, began)
	// Step 5: wait for Ctrl-C or for a component that fails.
	if err == nil {
		err = s.wait(ctx)
	}
	// Step 6: stop in order.
	stopping := time.Now()
	stopErr := s.stopAll(component.ErrLeaving, func(name string, took time.Duration) {
		fmt.Printf("  stopped %-19s %5.2fs\n", name, took.Seconds())
	})
	fmt.Printf("  done in %.2fs\n", time.Since(stopping).Seconds())
	return errors.Join(err, stopErr)
}

// parts are the components that `all` runs, with the command line by which each
// would run alone (R18).
func (o *allOptions) parts() []*part {
	var parts []*part
	for _, c := range commands() {
		if c.options == nil || slices.Contains(o.Disable, c.name) || o.simulated() && needsHost(c.name) || o.RuntimeEndpoint != "" && c.name == "cri" ||
			o.Nodes == 1 && c.name == "nodenet" || c.name == "fakenodes" && o.FakeNodes == 0 && len(o.Args.of("fakenodes")) == 0 {
			continue
		}
		parts = append(parts, &part{command: &c, line: c.name, args: slices.Concat([]string{"--data-dir=" + o.DataDir}, o.extraArgs(c.name), o.Args.of(c.name))})
	}
	return parts
}

// extraArgs is what a component's command line needs beside the data directory.
func (o *allOptions) extraArgs(name string) []string {
	switch name {
	case "apiserver":
		// Only who has a Secret with a token in kube-system can join by it; without the flag nobody could.
		args := []string{"--enable-bootstrap-token-auth"}
		if o.FlowBuffer != defaultFlowBuffer {
			args = append(args, "--flow-buffer="+o.FlowBuffer)
		}
		if o.TracingEndpoint != "" {
			args = append(args, "--tracing-endpoint="+o.TracingEndpoint)
		}
		return args
	case "kubelet":
		if o.simulated() {
			return []string{"--container-runtime=simulated"}
		}
		endpoint := o.RuntimeEndpoint
		if endpoint == "" {
			// Named, so that the kubelet waits for `all`'s runtime instead of bringing up its own.
			node, err := nodeName()
			if err != nil {
				return nil // the kubelet says so itself
			}
			endpoint = criEndpoint(o.dir, node)
		}
		return []string{"--container-runtime-endpoint=" + endpoint}
	case "fakenodes":
		return []string{fmt.Sprintf("--count=%d", o.FakeNodes)}
	case "page":
		if o.Ports == "auto" {
			return []string{"--page-port=0"}
		}
	case "scheduler", "controller-manager":
		// The data directory is claimed: nobody else runs this cluster, so who comes back after a
		// kill -9 takes up its own Lease at once. Upstream's period of 2 s would be most of an
		// idle cluster's writes; a component that is stopped gives its Lease back, so nobody waits longer.
		return []string{"--leader-elect-identity=all", "--leader-elect-lease-duration=30s", "--leader-elect-renew-deadline=20s", "--leader-elect-retry-period=10s"}
	}
	return nil
}

// needsHost names the components which a cluster of simulated pods does without.
func needsHost(name string) bool { return name == "cri" || name == "proxy" || name == "dns" }

// announce prints each component when it is ready, then the block that says what
// to do. It returns early when ctx ends or a component fails.
func (o *allOptions) announce(ctx context.Context, s *supervisor, began time.Time) error {
	fmt.Printf("hyperkube %s: cluster %q in %s\n", versionString(), o.dir.Cluster.Name, o.DataDir)
	waiting := slices.Clone(s.parts)
	node := &nodeWatch{options: o}
	say := func(cause error) { fmt.Printf("  waiting for %v\n", cause) }
	err := component.Wait(ctx, say, func(ctx context.Context) error {
		if err := s.failure(); err != nil {
			return nil // told below
		}
		var left []string
		waiting = slices.DeleteFunc(waiting, func(p *part) bool {
			cause := p.health(ctx)
			if cause == nil {
				fmt.Printf("  %5.2fs  %-19s hyperkube %s %s\n", time.Since(began).Seconds(), p.command.name, p.line, strings.Join(p.args, " "))
				return true
			}
			left = append(left, fmt.Sprintf("%s (%v)", p.command.name, cause))
			return false
		})
		if len(left) > 0 {
			return errors.New(strings.Join(left, ", "))
		}
		if s.find("kubelet") == nil {
			return nil // no node is to be expected
		}
		if err := o.dir.Reload(); err != nil {
			return err
		}
		return node.ready(ctx)
	})
	if failed := s.failure(); failed != nil {
		return failed
	}
	if err != nil {
		return nil // ctx ended: an orderly stop
	}
	kubeconfig, err := o.dir.WriteAdminKubeconfig()
	if err != nil {
		return err
	}
	self := os.Args[0]
	if o.DataDir != defaultDataDir() {
		self = "HYPERKUBE_DATA_DIR=" + o.DataDir + " " + self
	}
	fmt.Printf("\nReady after %.2fs.\n\n  API         %s\n  kubeconfig  %s\n", time.Since(began).Seconds(), o.dir.Cluster.APIServerURL(), kubeconfig)
	if s.find("cri") != nil {
		if node, err := nodeName(); err == nil {
			fmt.Printf("  runtime     crictl --runtime-endpoint %s\n", criEndpoint(o.dir, node))
		}
	}
	if url := pageURL(o.DataDir); url != "" {
		fmt.Printf("  live page   %s\n", url)
	}
	fmt.Printf("\nTry, in another terminal:\n\n  %s kubectl get nodes\n  %s kubectl create deployment web --image=hyperkube.local/demo --replicas=3\n"+
		"  %s status\n\nCtrl-C stops everything and cleans up.\n", self, self, self)
	return nil
}
