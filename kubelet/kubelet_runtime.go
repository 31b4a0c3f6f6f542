package kubelet

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"hyperkube/client"
	"hyperkube/client/informers"
	"hyperkube/component"
	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/manager"
	"hyperkube/kubelet/prober"
	"hyperkube/kubelet/remote"
	"hyperkube/kubelet/simulated"
)

// connectRuntime connects to the container runtime and waits until it answers.
func (kl *Kubelet) connectRuntime(ctx, parts context.Context) (err error) {
	logger := klog.FromContext(ctx)
	if kl.ContainerRuntime == "simulated" {
		server, err := simulated.Start(parts, simulated.Config{Clock: kl.Clock, PodCIDR: kl.PodCIDR, Standalone: kl.Client == nil})
		if err != nil {
			return err
		}
		kl.cleanup = append(kl.cleanup, server.Stop)
		kl.runtime, err = remote.ConnectDialer(func(ctx context.Context, _ string) (net.Conn, error) { return server.Dial(ctx) }, logger)
		if err != nil {
			return err
		}
	} else if kl.runtime, err = remote.Connect(kl.RuntimeEndpoint, logger); err != nil {
		return err
	}
	kl.cleanup = append(kl.cleanup, func() { kl.runtime.Close() })
	return component.Wait(ctx, func(cause error) {
		logger.Info("Waiting for the container runtime", "endpoint", kl.RuntimeEndpoint, "cause", cause)
	}, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		version, err := kl.runtime.Version(ctx, &runtimeapi.VersionRequest{Version: "v1"})
		if err != nil {
			return fmt.Errorf("container runtime %s: %w", kl.RuntimeEndpoint, err)
		}
		kl.state.runtimeName, kl.state.runtimeVersion = version.RuntimeName, version.RuntimeVersion
		return nil
	})
}

// runtimeEvents opens the runtime's stream of events, if it has one.
func (kl *Kubelet) runtimeEvents(ctx context.Context) (interface {
	Recv() (*runtimeapi.ContainerEventResponse, error)
}, error) {
	return kl.runtime.GetContainerEvents(ctx, &runtimeapi.GetEventsRequest{})
}

// commandRunner runs commands in containers, for probes and hooks.
type commandRunner struct{ runtime *remote.Runtime }

// RunInContainer returns what the command wrote. A code other than 0 is a *prober.ExitError.
func (c commandRunner) RunInContainer(ctx context.Context, id kubecontainer.ContainerID, command []string, timeout time.Duration) ([]byte, error) {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout+2*time.Second) // the runtime keeps the time; this is for a runtime that does not
		defer cancel()
	}
	response, err := c.runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id.ID, Cmd: command, Timeout: int64(timeout / time.Second)})
	if err != nil {
		return nil, err
	}
	output := append(response.Stdout, response.Stderr...)
	if response.ExitCode != 0 {
		return output, &prober.ExitError{Code: response.ExitCode}
	}
	return output, nil
}

// newRecorder writes events to the API, or to the log alone when there is none.
func (kl *Kubelet) newRecorder(ctx context.Context) record.EventRecorder {
	// It outlives ctx: pods that a stop takes down have their last events then.
	broadcaster := client.NewEventBroadcaster(record.WithContext(component.Outliving(ctx)))
	logger := klog.FromContext(ctx)
	broadcaster.StartEventWatcher(func(e *v1.Event) {
		logger.V(3).Info("Event", "object", klog.KRef(e.InvolvedObject.Namespace, e.InvolvedObject.Name), "fieldPath", e.InvolvedObject.FieldPath, "type", e.Type, "reason", e.Reason, "message", e.Message)
	})
	if kl.EventClient != nil {
		broadcaster.StartRecording(kl.EventClient)
	}
	kl.cleanup = append(kl.cleanup, broadcaster.Shutdown)
	return broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: kl.NodeName})
}

// newObjectManagers make the holders of config maps and secrets.
func (kl *Kubelet) newObjectManagers(ctx context.Context) (configs, secrets *manager.Manager) {
	changed := func(uids []types.UID) {
		select {
		case kl.changed <- uids:
		case <-ctx.Done():
		}
	}
	api := kl.Client
	configs = manager.New(ctx, manager.Source{
		Kind: "configmap", Type: &v1.ConfigMap{}, Client: api,
		Get: func(ctx context.Context, ns, name string) (runtime.Object, error) {
			return api.CoreV1().ConfigMaps(ns).Get(ctx, name, metav1.GetOptions{})
		},
		List: func(ctx context.Context, ns string, o metav1.ListOptions) (runtime.Object, error) {
			return api.CoreV1().ConfigMaps(ns).List(ctx, o)
		},
		Watch: func(ctx context.Context, ns string, o metav1.ListOptions) (watch.Interface, error) {
			return api.CoreV1().ConfigMaps(ns).Watch(ctx, o)
		},
	}, changed)
	secrets = manager.New(ctx, manager.Source{
		Kind: "secret", Type: &v1.Secret{}, Client: api,
		Get: func(ctx context.Context, ns, name string) (runtime.Object, error) {
			return api.CoreV1().Secrets(ns).Get(ctx, name, metav1.GetOptions{})
		},
		List: func(ctx context.Context, ns string, o metav1.ListOptions) (runtime.Object, error) {
			return api.CoreV1().Secrets(ns).List(ctx, o)
		},
		Watch: func(ctx context.Context, ns string, o metav1.ListOptions) (watch.Interface, error) {
			return api.CoreV1().Secrets(ns).Watch(ctx, o)
		},
	}, changed)
	return configs, secrets
}

// startInformers watches services (for environments) and this node (for its
// labels, taints and pod CIDR).
func (kl *Kubelet) startInformers(ctx context.Context) {
	if kl.Client == nil {
		return
	}
	all := informers.NewSharedInformerFactory(kl.Client, 0)
	services := all.Core().V1().Services()
	kl.services = services.Lister()
	kl.hasSynced = append(kl.hasSynced, services.Informer().HasSynced)
	own := informers.NewSharedInformerFactoryWithOptions(kl.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", kl.NodeName).String()
	}))
	node := own.Core().V1().Nodes().Informer()
	_, _ = node.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { kl.nodeChanged(ctx, object.(*v1.Node)) },
		UpdateFunc: func(_, object any) { kl.nodeChanged(ctx, object.(*v1.Node)) },
	})
	all.StartWithContext(ctx)
	own.StartWithContext(ctx)
	kl.cleanup = append(kl.cleanup, all.Shutdown, own.Shutdown)
}

// nodeChanged takes the node as the API has it. A runtime without a pod network
// of its own is told the CIDR once the node has one; if it did not take it, it is told
// again with the next change. What counts is what the runtime was told, not whether
// the CIDR is news: the answer to a status patch may have brought it before.
func (kl *Kubelet) nodeChanged(ctx context.Context, node *v1.Node) {
	kl.state.setNode(node)
	if node.Spec.PodCIDR == "" || node.Spec.PodCIDR == kl.state.toldCIDR {
		return
	}
	cidrs := node.Spec.PodCIDRs
	if len(cidrs) == 0 {
		cidrs = []string{node.Spec.PodCIDR}
	}
	_, err := kl.runtime.UpdateRuntimeConfig(ctx, &runtimeapi.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: strings.Join(cidrs, ",")}},
	})
	if err != nil {
		klog.FromContext(ctx).Error(err, "Telling the runtime the node's pod CIDR", "podCIDR", node.Spec.PodCIDR)
		return
	}
	kl.state.toldCIDR = node.Spec.PodCIDR
	kl.state.pokeStatus()
}
