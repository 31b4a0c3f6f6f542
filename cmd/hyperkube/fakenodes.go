package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"hyperkube/client"
	"hyperkube/component"
	"hyperkube/kubelet/fakenodes"
	"hyperkube/pki"
)

// fakenodesOptions is the command line of `hyperkube fakenodes`.
type fakenodesOptions struct {
	apiClient
	Group  fakenodes.Group
	Taints []string
	File   string
	NodeIP string
	cert   pki.Pair
}

func newFakenodesOptions() component.Options {
	return &fakenodesOptions{apiClient: newAPIClient("fakenodes", "system:hyperkube-fakenodes"),
		Group: fakenodes.Group{Name: "fake", Zones: []string{"zone-a", "zone-b", "zone-c"}, CPU: "8", Memory: "32Gi", Pods: 110}}
}

func (o *fakenodesOptions) AddFlags(flags *pflag.FlagSet) {
	o.apiClient.AddFlags(flags)
	flags.IntVar(&o.Group.Count, "count", o.Group.Count, "how many nodes")
	flags.StringVar(&o.Group.Name, "name", o.Group.Name, "what their names begin with")
	flags.StringSliceVar(&o.Group.Zones, "zones", o.Group.Zones, "zones that the nodes are in, in turn")
	flags.StringVar(&o.Group.CPU, "cpu", o.Group.CPU, "CPUs of each")
	flags.StringVar(&o.Group.Memory, "memory", o.Group.Memory, "memory of each")
	flags.Int64Var(&o.Group.Pods, "max-pods", o.Group.Pods, "how many pods each takes")
	flags.StringToStringVar(&o.Group.Labels, "node-labels", nil, "labels of each: key=value,…")
	flags.StringSliceVar(&o.Taints, "register-with-taints", nil, "taints of each: key=value:NoSchedule,…")
	flags.StringVar(&o.File, "nodes-file", o.File, "YAML list of groups of nodes, besides those of --count: [{name: gpu, count: 4, zones: [zone-a], cpu: 64, memory: 256Gi, pods: 110, labels: {…}, taints: [{key: gpu, effect: NoSchedule}]}]")
	flags.StringVar(&o.NodeIP, "node-ip", o.NodeIP, "address that the nodes tell as theirs (default: the host's)")
}

// Complete finds the address, and signs the certificate of the server.
func (o *fakenodesOptions) Complete(ctx context.Context) (err error) {
	if err := o.apiClient.Complete(ctx); err != nil {
		return err
	}
	if o.NodeIP == "" {
		if o.NodeIP, err = nodeAddress(ctx, o.dir.Cluster.ServiceCIDR); err != nil {
			return err
		}
	}
	o.cert, err = o.dir.ServingCert("fakenodes-serving", o.NodeIP, "localhost", "127.0.0.1")
	return err
}

// groups are those of the file, and that of the flags.
func (o *fakenodesOptions) groups() ([]fakenodes.Group, error) {
	var groups []fakenodes.Group
	if o.File != "" {
		data, err := os.ReadFile(o.File)
		if err != nil {
			return nil, fmt.Errorf("--nodes-file: %w", err)
		}
		if err := yaml.UnmarshalStrict(data, &groups); err != nil {
			return nil, fmt.Errorf("--nodes-file=%s: %w", o.File, err)
		}
	}
	group := o.Group
	var err error
	if group.Taints, err = parseTaints(o.Taints); err != nil {
		return nil, err
	}
	return append(groups, group), nil
}

func (o *fakenodesOptions) Validate() error {
	_, err := o.groups()
	if o.Group.Count < 0 {
		err = errors.Join(err, fmt.Errorf("--count=%d: must not be negative", o.Group.Count))
	}
	return errors.Join(err, o.apiClient.Validate())
}

// Run waits for the apiserver, then keeps the nodes.
func (o *fakenodesOptions) Run(ctx context.Context, env *component.Env) error {
	_, set, err := o.connect(ctx)
	if err != nil {
		return nil // stopped while waiting
	}
	groups, err := o.groups()
	if err != nil {
		return err
	}
	nodes, err := fakenodes.New(fakenodes.Config{
		Client: set, Groups: groups, Address: o.NodeIP, CertFile: o.cert.CertFile, KeyFile: o.cert.KeyFile, Version: versionString(),
		Gate: o.gate(), Metrics: env.Metrics, Health: env.Health,
	})
	if err != nil {
		return err
	}
	return o.serveAndRun(ctx, env, "", nodes.Run)
}

// stopFakeNode makes a fake node silent, or lets it speak again; done is false if there is none of that name.
func stopFakeNode(ctx context.Context, dataDir, verb, name string) (done bool, err error) {
	config, err := client.Load(filepath.Join(dataDir, "admin.kubeconfig"), "hyperkube", "")
	if err != nil {
		return false, nil // no cluster here
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return false, err
	}
	node, err := set.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil || node.Labels[fakenodes.Label] == "" {
		return false, ignoreNotFound(err)
	}
	value := "null"
	if verb == "stop" {
		value = `"true"`
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, fakenodes.Stopped, value)
	var patched *v1.Node
	patched, err = set.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return patched != nil && err == nil, err
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
