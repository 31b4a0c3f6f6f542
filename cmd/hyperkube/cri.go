package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"hyperkube/component"
	"hyperkube/cri"
	"hyperkube/pki"
)

// criOptions is the command line of `hyperkube cri`.
type criOptions struct {
	shared
	NodeName   string
	Socket     string
	CNIConfDir string
	CNIBinDir  string
	PodCIDR    string
	Registries string
	Mirrors    []string
}

func newCRIOptions() component.Options { return &criOptions{shared: newShared()} }

func (o *criOptions) AddFlags(flags *pflag.FlagSet) {
	o.shared.AddFlags(flags)
	flags.StringVar(&o.NodeName, "hostname-override", o.NodeName, "the node's name (default: the host's, in small letters)")
	flags.StringVar(&o.Socket, "listen", o.Socket, "path of the CRI socket (default: nodes/<name>/cri.sock in --data-dir)")
	flags.StringVar(&o.CNIConfDir, "cni-conf-dir", o.CNIConfDir, "directory with network configurations (default: one with ours)")
	flags.StringVar(&o.PodCIDR, "pod-cidr", o.PodCIDR, "the pods' addresses on this node, one range or two (default: the kubelet tells it)")
	flags.StringVar(&o.Registries, "registries", o.Registries, "file with mirrors, CAs and logins of registries, in the shape of k3s' registries.yaml (default: registries.yaml in --data-dir)")
	flags.StringArrayVar(&o.Mirrors, "registry-mirror", o.Mirrors, "a mirror of a registry: docker.io=https://mirror:5000; may be repeated")
	flags.StringVar(&o.CNIBinDir, "cni-bin-dir", o.CNIBinDir, "directory with CNI plugins (default: one with ours)")
}

func (o *criOptions) Complete(ctx context.Context) (err error) {
	if err := o.shared.Complete(ctx); err != nil {
		return err
	}
	if o.NodeName == "" {
		o.NodeName, err = nodeName()
	}
	return err
}

func (o *criOptions) config(env *component.Env) cri.Config {
	config := criConfig(o.dir, o.NodeName)
	config.CNIConfDir, config.CNIBinDir = o.CNIConfDir, o.CNIBinDir
	config.RegistryMirrors, config.PodCIDR = o.Mirrors, o.PodCIDR
	if o.Registries != "" {
		config.Registries = o.Registries
	}
	if o.Socket != "" {
		config.Socket = o.Socket
	}
	if env != nil {
		config.Metrics, config.Health = env.Metrics, env.Health
	}
	return config
}

// criConfig is the embedded runtime of a node.
func criConfig(dir *pki.Dir, node string) cri.Config {
	return cri.Config{
		Root: filepath.Join(dir.NodeDir(node), "cri"), Socket: strings.TrimPrefix(criEndpoint(dir, node), "unix://"), NodeName: node,
		ClusterCIDR: dir.Cluster.PodCIDRs(), CgroupRoot: cgroupRoot(dir, node), ImagesDir: filepath.Join(dir.Path(), "images"),
		Registries: filepath.Join(dir.Path(), "registries.yaml"),
	}
}

// bridgesOf are the pods' bridges that the nodes of a data directory have on this host.
func bridgesOf(dataDir string) []string {
	entries, err := os.ReadDir(filepath.Join(dataDir, "nodes"))
	if err != nil {
		return nil // no node has ever run here
	}
	dataDir, err = filepath.Abs(dataDir)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		config := cri.Config{Root: filepath.Join(dataDir, "nodes", entry.Name(), "cri")}
		names = append(names, config.BridgeName())
	}
	return names
}

// Run serves CRI. When the whole cluster leaves the host, it takes its bridge, rules and cgroups along.
func (o *criOptions) Run(ctx context.Context, env *component.Env) error {
	config := o.config(env)
	runtime, err := cri.New(config)
	if err != nil {
		return err
	}
	err = o.serveAndRun(ctx, env, "unix://"+config.Socket, runtime.Run)
	if component.Leaving(ctx) {
		err = errors.Join(err, cri.CleanUp(env.Context(context.Background()), o.config(nil)), removeStandIn())
	}
	return err
}
