package controllers

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	discoveryclient "k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	corev1 "k8s.io/api/core/v1"

	"hyperkube/client"
	"hyperkube/client/informers"
	"hyperkube/component"
	"hyperkube/reconcile"
)

// term is what the controllers of one term share. It ends with the leadership.
type term struct {
	config    Config
	client    kubernetes.Interface
	metadata  metadata.Interface
	informers informers.SharedInformerFactory
	events    *client.EventBroadcaster
	// served is what the apiserver knows. The kinds of issues to come are missing, and
	// so may any be of an apiserver that is not ours.
	served map[schema.GroupVersionResource]bool
}

func newTerm(ctx context.Context, config Config, metadataClient metadata.Interface) *term {
	t := &term{
		config: config, client: config.Client, metadata: metadataClient,
		informers: informers.NewSharedInformerFactoryWithOptions(config.Client, 0, informers.WithTransform(stripManagedFields)),
		events:    client.NewEventBroadcaster(record.WithContext(component.Outliving(ctx))), // end ends it, after the last who may record
	}
	t.events.StartRecording(config.Client)
	return t
}

// askServed fills served.
func (t *term) askServed(client discoveryclient.DiscoveryInterface) error {
	_, lists, err := client.ServerGroupsAndResources()
	if err != nil && !discoveryclient.IsGroupDiscoveryFailedError(err) {
		return err
	}
	t.served = map[schema.GroupVersionResource]bool{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // not one that we would ask for
		}
		for _, r := range list.APIResources {
			t.served[gv.WithResource(r.Name)] = true
		}
	}
	return nil
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

// sharedInformers are those of the kinds that controllers hold whole anyway, for
// the garbage collector to use instead of holding the same objects twice.
func (t *term) sharedInformers() map[schema.GroupVersionResource]cache.SharedIndexInformer {
	core, apps, batch := t.informers.Core().V1(), t.informers.Apps().V1(), t.informers.Batch().V1()
	all := map[schema.GroupVersionResource]cache.SharedIndexInformer{}
	for gvr, informer := range map[schema.GroupVersionResource]func() cache.SharedIndexInformer{
		coreGroup.WithResource("pods"):                            core.Pods().Informer,
		coreGroup.WithResource("nodes"):                           core.Nodes().Informer,
		coreGroup.WithResource("namespaces"):                      core.Namespaces().Informer,
		coreGroup.WithResource("services"):                        core.Services().Informer,
		coreGroup.WithResource("endpoints"):                       core.Endpoints().Informer,
		coreGroup.WithResource("configmaps"):                      core.ConfigMaps().Informer,
		coreGroup.WithResource("serviceaccounts"):                 core.ServiceAccounts().Informer,
		coreGroup.WithResource("replicationcontrollers"):          core.ReplicationControllers().Informer,
		appsGroup.WithResource("deployments"):                     apps.Deployments().Informer,
		appsGroup.WithResource("replicasets"):                     apps.ReplicaSets().Informer,
		appsGroup.WithResource("daemonsets"):                      apps.DaemonSets().Informer,
		appsGroup.WithResource("statefulsets"):                    apps.StatefulSets().Informer,
		appsGroup.WithResource("controllerrevisions"):             apps.ControllerRevisions().Informer,
		batchGroup.WithResource("jobs"):                           batch.Jobs().Informer,
		autoscalingGroup.WithResource("horizontalpodautoscalers"): t.informers.Autoscaling().V2().HorizontalPodAutoscalers().Informer,
		batchGroup.WithResource("cronjobs"):                       batch.CronJobs().Informer,
		policyGroup.WithResource("poddisruptionbudgets"):          t.informers.Policy().V1().PodDisruptionBudgets().Informer,
		discoveryGroup.WithResource("endpointslices"):             t.informers.Discovery().V1().EndpointSlices().Informer,
		coordinationGroup.WithResource("leases"):                  t.informers.Coordination().V1().Leases().Informer,
		rbacGroup.WithResource("clusterroles"):                    t.informers.Rbac().V1().ClusterRoles().Informer,
	} {
		if t.served[gvr] {
			all[gvr] = informer()
		}
	}
	return all
}

// stripManagedFields keeps the caches small: no controller reads them, and they
// are often half of an object. An update without them leaves the stored ones alone.
func stripManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil && accessor.GetManagedFields() != nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}
