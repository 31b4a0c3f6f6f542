package controllers

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	corev1 "k8s.io/api/core/v1"

	"hyperkube/reconcile"
)

// term is what the controllers of one term share. It ends with the leadership.
type term struct {
	config    Config
	client    kubernetes.Interface
	metadata  metadata.Interface
	informers informers.SharedInformerFactory
	events    record.EventBroadcaster
}

func newTerm(ctx context.Context, config Config, metadataClient metadata.Interface) *term {
	t := &term{
		config: config, client: config.Client, metadata: metadataClient,
		informers: informers.NewSharedInformerFactoryWithOptions(config.Client, 0, informers.WithTransform(stripManagedFields)),
		events:    record.NewBroadcaster(record.WithContext(ctx)),
	}
	t.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: config.Client.CoreV1().Events("")})
	return t
}

// end stops the events. What is still under way is dropped: an event that tells
// of a stop is of no use to anyone.
func (t *term) end() { t.events.Shutdown() }

// recorder makes events in the name of the component, as upstream calls it.
func (t *term) recorder(component string) record.EventRecorder {
	return t.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component})
}

func (t *term) options(workers int) reconcile.Options {
	return reconcile.Options{Workers: workers, Clock: t.config.Clock, Metrics: t.config.Metrics, Gate: t.config.Gate}
}

// sharedInformers are those that other controllers hold anyway, for the garbage
// collector to use instead of holding the same objects twice.
func (t *term) sharedInformers() map[schema.GroupVersionResource]cache.SharedIndexInformer {
	core := func(resource string) schema.GroupVersionResource {
		return corev1.SchemeGroupVersion.WithResource(resource)
	}
	apps := schema.GroupVersion{Group: "apps", Version: "v1"}
	discovery := schema.GroupVersion{Group: "discovery.k8s.io", Version: "v1"}
	coordination := schema.GroupVersion{Group: "coordination.k8s.io", Version: "v1"}
	f := t.informers
	return map[schema.GroupVersionResource]cache.SharedIndexInformer{
		core("pods"):                             f.Core().V1().Pods().Informer(),
		core("nodes"):                            f.Core().V1().Nodes().Informer(),
		core("namespaces"):                       f.Core().V1().Namespaces().Informer(),
		core("services"):                         f.Core().V1().Services().Informer(),
		core("endpoints"):                        f.Core().V1().Endpoints().Informer(),
		core("configmaps"):                       f.Core().V1().ConfigMaps().Informer(),
		core("serviceaccounts"):                  f.Core().V1().ServiceAccounts().Informer(),
		core("replicationcontrollers"):           f.Core().V1().ReplicationControllers().Informer(),
		apps.WithResource("deployments"):         f.Apps().V1().Deployments().Informer(),
		apps.WithResource("replicasets"):         f.Apps().V1().ReplicaSets().Informer(),
		discovery.WithResource("endpointslices"): f.Discovery().V1().EndpointSlices().Informer(),
		coordination.WithResource("leases"):      f.Coordination().V1().Leases().Informer(),
	}
}

// stripManagedFields keeps the caches small: no controller reads them, and they
// are often half of an object. An update without them leaves the stored ones alone.
func stripManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil && accessor.GetManagedFields() != nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}
