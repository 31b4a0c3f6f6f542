package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/pki"
	"hyperkube/proxy"
)

// proxyOptions is the command line of `hyperkube proxy`.
type proxyOptions struct {
	apiClient
	NodeName      string
	Mode          string
	IptablesMode  string
	MasqueradeAll bool
	Healthz       string
	Metrics       string
	Cleanup       bool
	// How long the kernel remembers connections.
	Established, CloseWait time.Duration
}

func newProxyOptions() component.Options {
	return &proxyOptions{apiClient: newAPIClient("proxy", "system:kube-proxy"), Mode: "iptables", IptablesMode: "auto", Healthz: "0.0.0.0:10256", Metrics: "127.0.0.1:10249",
		Established: 24 * time.Hour, CloseWait: time.Hour}
}

func (o *proxyOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	flags.StringVar(&o.NodeName, "hostname-override", o.NodeName, "the node's name (default: the host's, in small letters)")
	flags.StringVar(&o.Mode, "proxy-mode", o.Mode, "iptables")
	flags.StringVar(&o.IptablesMode, "iptables-mode", o.IptablesMode, "nft, legacy, or auto: what the host's own rules use")
	flags.BoolVar(&o.MasqueradeAll, "masquerade-all", o.MasqueradeAll, "masquerade all traffic to ClusterIPs")
	flags.StringVar(&o.Healthz, "healthz-bind-address", o.Healthz, "HOST:PORT of /healthz and /livez, for load balancers; empty: not served")
	flags.StringVar(&o.Metrics, "metrics-bind-address", o.Metrics, "HOST:PORT of /metrics and /proxyMode; empty: not served")
	flags.DurationVar(&o.Established, "conntrack-tcp-timeout-established", o.Established, "how long the kernel remembers a connection on which nothing happens; 0: as the host has it")
	flags.DurationVar(&o.CloseWait, "conntrack-tcp-timeout-close-wait", o.CloseWait, "how long it remembers one that one side has closed; 0: as the host has it")
	flags.BoolVar(&o.Cleanup, "cleanup", o.Cleanup, "remove our rules and exit")
}

func (o *proxyOptions) Complete(ctx context.Context) (err error) {
	if err := o.apiClient.Complete(ctx); err != nil {
		return err
	}
	if o.NodeName == "" {
		o.NodeName, err = nodeName()
	}
	if furtherNumber(o.dir, o.NodeName) > 0 {
		o.name += "-" + o.NodeName // otherwise traces would show two of one name
	}
	return err
}

func (o *proxyOptions) Validate() error {
	return errors.Join(checkHost(false, true), o.apiClient.Validate())
}

// proxyState is where the proxy of a node notes which sysctls it has changed.
func proxyState(dir *pki.Dir, node string) string {
	return filepath.Join(dir.NodeDir(node), "proxy-sysctls.json")
}

// Run waits for the apiserver, then keeps the rules. They stay when the proxy is
// stopped alone, as kube-proxy's do, and go when the whole cluster leaves the host.
func (o *proxyOptions) Run(ctx context.Context, env *component.Env) error {
	state := proxyState(o.dir, o.NodeName)
	if o.Cleanup {
		return proxy.CleanUp(ctx, proxy.Config{StateFile: state})
	}
	if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
		return err
	}
	release, err := claimChains(o.dir.Path())
	if err != nil {
		return err
	}
	defer release()
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	proxier, err := proxy.New(proxy.Config{
		Client: set, NodeName: o.NodeName, ClusterCIDR: o.dir.Cluster.PodCIDRs(), Mode: o.Mode, IptablesMode: o.IptablesMode,
		MasqueradeAll: o.MasqueradeAll, TCPEstablishedTimeout: o.Established, TCPCloseWaitTimeout: o.CloseWait, StateFile: state, HealthzBindAddress: o.Healthz, MetricsBindAddress: o.Metrics, Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	env.Handlers = map[string]http.Handler{explainPath: proxier.ExplainHandler()}
	err = o.serveAndRun(ctx, env, "", proxier.Run)
	if component.Leaving(ctx) {
		err = errors.Join(err, proxier.CleanUp(env.Context(context.Background())))
	}
	return err
}

// chainsSocket is a name, no file: the kernel keeps one set of such names a network namespace, as it does iptables' chains, and frees it
// with the process that holds it.
const chainsSocket = "@hyperkube/KUBE-chains"

// claimChains makes sure that one proxy alone writes the KUBE-* chains of this network namespace. Otherwise two clusters would
// each take the other's rules for leftovers and remove them (R79).
func claimChains(dataDir string) (release func(), err error) {
	if runtime.GOOS != "linux" {
		return func() {}, nil
	}
	listener, err := net.Listen("unix", chainsSocket)
	if err != nil {
		return nil, fmt.Errorf("proxy: %s already writes the KUBE-* chains of this network namespace, and two would undo each other's rules: "+
			"start this cluster with --disable=proxy, or in a network namespace of its own (ip netns add NAME; ip netns exec NAME …)", holderOfChains())
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // released
			}
			fmt.Fprintf(conn, "the cluster in %s (pid %d)", dataDir, os.Getpid())
			conn.Close()
		}
	}()
	return func() { listener.Close() }, nil
}

// holderOfChains asks who holds them.
func holderOfChains() string {
	conn, err := net.DialTimeout("unix", chainsSocket, time.Second)
	if err != nil {
		return "another cluster"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	holder, err := io.ReadAll(conn)
	if err != nil || len(holder) == 0 {
		return "another cluster"
	}
	return string(holder)
}
