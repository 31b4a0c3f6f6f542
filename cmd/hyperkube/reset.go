package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"hyperkube/component"
	"hyperkube/cri"
	"hyperkube/pki"
	"hyperkube/proxy"
)

// resetOptions is the command line of `hyperkube reset`.
type resetOptions struct {
	DataDir  string
	DryRun   bool
	KeepData bool
}

func (o *resetOptions) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.DataDir, "data-dir", defaultDataDir(), "the cluster's data directory")
	flags.BoolVar(&o.DryRun, "dry-run", false, "only say what would be removed")
	flags.BoolVar(&o.KeepData, "keep-data", false, "remove pods, links, rules and cgroups from the host, and keep the data directory")
}

// contents are the entries of a data directory that are ours. Nothing else in it is touched.
var contents = []string{"nodes", "run", "etcd", "kubeconfig", "pki", "admin.kubeconfig", "cluster.yaml", ".lock", ".all.lock"}

// runReset removes what a cluster has left on the host: after a kill -9, or after
// components that ran one by one. It may be run again after a failure (R72).
func runReset(ctx context.Context, args []string) error {
	o := &resetOptions{}
	if err := component.Parse("reset", o, args, os.Stdout); err != nil {
		return err
	}
	cluster, err := pki.ReadCluster(o.DataDir)
	if errors.Is(err, os.ErrNotExist) {
		fmt.Printf("nothing of ours in %s\n", o.DataDir)
		return nil
	}
	if err != nil {
		return err
	}
	running, err := component.Registrations(o.DataDir)
	if err != nil {
		return err
	}
	for _, r := range running {
		if r.PID != os.Getpid() {
			return fmt.Errorf("%s still runs (pid %d): stop it first", r.Component, r.PID)
		}
	}
	dir, err := pki.Open(o.DataDir, *cluster)
	if err != nil {
		return err
	}
	ctx = klog.NewContext(ctx, component.Logger("reset"))
	var errs []error
	for _, step := range o.steps(dir) {
		fmt.Println(step.what)
		if o.DryRun {
			continue
		}
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

// resetStep is one thing to remove.
type resetStep struct {
	what string
	do   func(context.Context) error
}

func (o *resetOptions) steps(dir *pki.Dir) []resetStep {
	var steps []resetStep
	entries, err := os.ReadDir(filepath.Join(dir.Path(), "nodes"))
	if err != nil {
		entries = nil // no node has ever run here
	}
	for _, entry := range entries {
		node := entry.Name()
		if number := furtherNumber(dir, node); number > 0 {
			steps = append(steps,
				resetStep{"pods, mounts and cgroups of node " + node, func(ctx context.Context) error { return cleanUpPods(ctx, dir, node) }},
				resetStep{"network namespace and link of node " + node, func(context.Context) error { return nodeNetwork(dir).Remove(node, number) }})
			continue
		}
		steps = append(steps,
			resetStep{"pods, links, mounts and cgroups of node " + node, func(ctx context.Context) error {
				return cri.CleanUp(ctx, criConfig(dir, node))
			}},
			resetStep{"volumes mounted for pods of node " + node, func(context.Context) error {
				return unmountBelow(dir.NodeDir(node))
			}},
			resetStep{"iptables rules of node " + node, func(ctx context.Context) error {
				release, err := claimChains(dir.Path())
				if err != nil {
					return nil // they are the other cluster's, which would write them again
				}
				defer release()
				return proxy.CleanUp(ctx, proxy.Config{StateFile: proxyState(dir, node)})
			}})
	}
	if dir.Cluster.Nodes > 1 {
		steps = append(steps, resetStep{"bridge, routes and rules between the nodes", func(ctx context.Context) error { return nodeNetwork(dir).CleanUp(ctx) }})
	}
	steps = append(steps, resetStep{"the stand-in address", func(context.Context) error { return removeStandIn() }})
	if o.KeepData {
		return steps
	}
	for _, name := range contents {
		path := filepath.Join(dir.Path(), name)
		if _, err := os.Lstat(path); err == nil {
			steps = append(steps, resetStep{path, func(context.Context) error { return os.RemoveAll(path) }})
		}
	}
	return steps
}

// unmountBelow unmounts everything below dir, innermost first. Otherwise removing dir
// would remove what is mounted there.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mounts")
	if errors.Is(err, os.ErrNotExist) {
		return nil // no Linux, no mounts of ours
	}
	if err != nil {
		return err
	}
	var targets []string
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(unescapeMount(fields[1]), dir+"/") {
			targets = append(targets, unescapeMount(fields[1]))
		}
	}
	slices.Reverse(targets)
	var errs []error
	for _, target := range targets {
		if err := unmount(target); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", target, err))
		}
	}
	return errors.Join(errs...)
}

// unescapeMount undoes the kernel's octal escapes in mount paths.
func unescapeMount(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
