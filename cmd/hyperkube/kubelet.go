package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"hyperkube/component"
	"hyperkube/kubelet"
	"hyperkube/pki"
)

// kubeletPort is upstream's port for logs, exec, attach and port-forward.
const kubeletPort = 10250

// podsStop is how long pods may take to end when the whole cluster leaves the host:
// less than their usual 30 s, since someone has pressed Ctrl-C and waits.
const podsStop = 10 * time.Second

// kubeletOptions is the command line of `hyperkube kubelet`.
type kubeletOptions struct {
	apiClient
	NodeName        string
	NodeIP          string
	Port            int
	Runtime         string
	RuntimeEndpoint string
	ManifestPath    string
	ManifestURL     string
	MaxPods         int
	PodPids         int64
	StatusFrequency time.Duration
	ResolvConf      string
	NodeLabels      map[string]string
	Taints          []string
	UnsafeSysctls   []string
	Room            roomOptions
	Shutdown        shutdownOptions
	Tuning          tuningOptions
	File            fileOptions
	Standalone      bool
	// RotateClient and RotateServer renew the node's certificates while it runs.
	RotateClient, RotateServer bool
	cert                       pki.Pair
	bringsUpItsOwn             bool
}

func newKubeletOptions() component.Options {
	return &kubeletOptions{apiClient: newAPIClient("kubelet", ""), Port: -1, Runtime: "remote", RotateClient: true, RotateServer: true}
}

func (o *kubeletOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	flags.StringVar(&o.NodeName, "hostname-override", o.NodeName, "the node's name (default: the host's, in small letters)")
	flags.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "the node's address, or two, of IPv4 and of IPv6, with a comma between (default: found on the host)")
	flags.IntVar(&o.Port, "port", o.Port, "port for logs, exec and port-forward; 0: a free one (default 10250)")
	flags.StringVar(&o.Runtime, "container-runtime", o.Runtime, "remote: a CRI runtime; simulated: pods are only bookkeeping, without root")
	flags.StringVar(&o.RuntimeEndpoint, "container-runtime-endpoint", o.RuntimeEndpoint, "CRI socket, unix:///… (default: an embedded runtime, brought up if none runs for this node)")
	flags.StringVar(&o.ManifestPath, "pod-manifest-path", o.ManifestPath, "file or directory of static pods (default: nodes/<name>/manifests in --data-dir)")
	flags.StringVar(&o.ManifestURL, "manifest-url", o.ManifestURL, "URL of static pods")
	flags.IntVar(&o.MaxPods, "max-pods", 110, "how many pods the node takes")
	flags.Int64Var(&o.PodPids, "pod-max-pids", -1, "how many processes and threads a pod may have; -1: any number")
	flags.DurationVar(&o.StatusFrequency, "node-status-update-frequency", 10*time.Second, "how often the node's state is looked at; unchanged, it is reported every five minutes")
	flags.StringVar(&o.ResolvConf, "resolv-conf", o.ResolvConf, "file with the resolvers for pods that do not use cluster DNS (default: the host's)")
	flags.StringToStringVar(&o.NodeLabels, "node-labels", o.NodeLabels, "labels of a new node: key=value,…")
	flags.StringSliceVar(&o.Taints, "register-with-taints", o.Taints, "taints of a new node: key=value:NoSchedule,…")
	flags.StringSliceVar(&o.UnsafeSysctls, "allowed-unsafe-sysctls", o.UnsafeSysctls, "sysctls that pods may set besides the safe ones: kernel.msg*,net.core.somaxconn")
	o.Room.AddFlags(flags)
	o.Shutdown.AddFlags(flags)
	o.Tuning.AddFlags(flags)
	o.File.AddFlags(flags)
	flags.BoolVar(&o.RotateClient, "rotate-certificates", o.RotateClient, "ask the apiserver for a new client certificate when the old one nears its end")
	flags.BoolVar(&o.RotateServer, "rotate-server-certificates", o.RotateServer, "ask for a new serving certificate too; a person approves it: kubectl certificate approve")
	flags.BoolVar(&o.Standalone, "standalone", o.Standalone, "without an apiserver: run static pods only")
}

// Complete reads the configuration file, and finds the node's name, address, folder and certificate.
func (o *kubeletOptions) Complete(ctx context.Context) (err error) {
	if err := o.File.apply(); err != nil {
		return err
	}
	if err := o.apiClient.Complete(ctx); err != nil {
		return err
	}
	if o.NodeName == "" {
		if o.NodeName, err = nodeName(); err != nil {
			return err
		}
	}
	o.name, o.user, o.groups = "kubelet-"+o.NodeName, "system:node:"+o.NodeName, []string{"system:nodes"}
	if o.NodeIP == "" {
		if o.NodeIP, err = nodeAddress(ctx, o.dir.Cluster.ServiceCIDR); err != nil {
			return err
		}
		if second := secondAddress(o.NodeIP); second != "" && o.dir.Cluster.DualStack() {
			o.NodeIP += "," + second
		}
	}
	if o.Port < 0 {
		o.Port = kubeletPort
		if o.dir.Cluster.AutoPorts {
			o.Port = 0
		}
	}
	if o.ManifestPath == "" {
		o.ManifestPath = filepath.Join(o.nodeDir(), "manifests")
	}
	if o.Runtime == "remote" && o.RuntimeEndpoint == "" {
		o.RuntimeEndpoint, o.bringsUpItsOwn = criEndpoint(o.dir, o.NodeName), true
	}
	o.cert, err = o.dir.ServingCert("kubelet-"+o.NodeName+"-serving", append(o.nodeIPs(), o.NodeName, "localhost", "127.0.0.1")...)
	return err
}

// nodeIPs are the node's addresses, the main one first.
func (o *kubeletOptions) nodeIPs() []string { return strings.Split(o.NodeIP, ",") }

func (o *kubeletOptions) nodeDir() string { return o.dir.NodeDir(o.NodeName) }

func (o *kubeletOptions) Validate() error {
	for _, ip := range o.nodeIPs() {
		if net.ParseIP(ip) == nil {
			return fmt.Errorf("--node-ip=%s: must be an IP address, or two with a comma between", o.NodeIP)
		}
	}
	if o.RuntimeEndpoint != "" && !strings.HasPrefix(o.RuntimeEndpoint, "unix:///") {
		return fmt.Errorf("--container-runtime-endpoint=%s: must be unix:///PATH", o.RuntimeEndpoint)
	}
	if _, err := parseTaints(o.Taints); err != nil {
		return err
	}
	if _, err := o.Room.room(); err != nil {
		return err
	}
	if _, err := o.Shutdown.gracePeriods(); err != nil {
		return err
	}
	if err := o.Tuning.validate(); err != nil {
		return err
	}
	return o.apiClient.Validate()
}

// Run brings up a runtime if there is none, waits for the apiserver, and runs the node's pods.
func (o *kubeletOptions) Run(ctx context.Context, env *component.Env) error {
	o.File.tell(klog.FromContext(ctx))
	if o.bringsUpItsOwn {
		stop, err := o.bringUpRuntime(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	cluster := o.dir.Cluster
	taints, err := parseTaints(o.Taints)
	if err != nil {
		return err
	}
	room, err := o.Room.room()
	if err != nil {
		return err
	}
	shutdown, err := o.Shutdown.gracePeriods()
	if err != nil {
		return err
	}
	config := kubelet.Config{
		NodeName: o.NodeName, NodeIP: o.NodeIP, RootDir: filepath.Join(o.nodeDir(), "kubelet"),
		ContainerRuntime: o.Runtime, RuntimeEndpoint: o.RuntimeEndpoint, Port: o.Port,
		CertFile: o.cert.CertFile, KeyFile: o.cert.KeyFile, ClientCAFile: o.dir.CAFile(),
		ClusterDNS: []string{cluster.DNSAddress}, ClusterDomain: cluster.ClusterDomain, ResolvConf: o.ResolvConf,
		StaticPodPath: o.ManifestPath, StaticPodURL: o.ManifestURL, CgroupRoot: cgroupRoot(o.dir, o.NodeName), NodeLabels: o.NodeLabels, RegisterWithTaints: taints, Room: room, Shutdown: shutdown, AllowedUnsafeSysctls: o.UnsafeSysctls,
		MaxPods: o.MaxPods, PodPidsLimit: o.PodPids, NodeStatusUpdateFrequency: o.StatusFrequency, PodCIDR: cluster.PodCIDR, Version: versionString(),
		StopTimeout: podsStop, Metrics: env.Metrics, Health: env.Health,
	}
	o.Tuning.tune(&config)
	if !o.Standalone {
		rest, set, err := o.connect(ctx)
		if err != nil {
			return nil // stopped while waiting
		}
		config.Client = set
		if err := o.rotations(&config, rest); err != nil {
			return err
		}
	}
	node, err := kubelet.New(config)
	if err != nil {
		return err
	}
	return o.serveAndRun(ctx, env, "https://"+net.JoinHostPort(o.nodeIPs()[0], fmt.Sprint(o.Port)), node.Run)
}

// bringUpRuntime starts the embedded runtime in this process if nobody serves its
// socket: a kubelet that is started alone is a whole node.
func (o *kubeletOptions) bringUpRuntime(ctx context.Context) (stop func(), err error) {
	socket := strings.TrimPrefix(o.RuntimeEndpoint, "unix://")
	if conn, err := net.Dial("unix", socket); err == nil {
		conn.Close()
		return func() {}, nil
	}
	runtime := newCRIOptions().(*criOptions)
	runtime.DataDir, runtime.NodeName = o.DataDir, o.NodeName
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	env := component.NewEnv("cri", []string{"--data-dir=" + o.DataDir, "--hostname-override=" + o.NodeName})
	go func() { done <- component.Execute(ctx, env, runtime) }()
	err = component.Wait(ctx, func(cause error) {
		component.Logger("kubelet").Info("Waiting for the container runtime", "cause", cause)
	},
		func(context.Context) error {
			select {
			case err := <-done:
				done <- err
				cancel(err)
				return err
			default:
			}
			conn, err := net.Dial("unix", socket)
			if err == nil {
				conn.Close()
			}
			return err
		})
	stop = func() {
		cancel(nil)
		<-done
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("container runtime: %w", err)
	}
	return stop, nil
}

// criEndpoint is where the embedded runtime of a node listens.
func criEndpoint(dir *pki.Dir, node string) string {
	return "unix://" + filepath.Join(dir.NodeDir(node), "cri.sock")
}

// cgroupRoot is below which all cgroups of a node's pods are. Cgroups are the
// host's, whatever the network namespace: a cluster in another data directory has
// another root, or the clean-up of one would end the pods of the other.
func cgroupRoot(dir *pki.Dir, node string) string { return clusterID(dir) + "/" + node }

// clusterID begins the names of what a cluster has on the host, other than in its data directory.
func clusterID(dir *pki.Dir) string {
	root := "/hyperkube"
	if name := dir.Cluster.Name; name != pki.DefaultCluster().Name {
		root += "-" + name
	}
	if dir.Path() != standardDataDir {
		root += fmt.Sprintf("-%x", sha256.Sum256([]byte(dir.Path())))[:7]
	}
	return root
}
