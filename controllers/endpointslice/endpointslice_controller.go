package endpointslice

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"hyperkube/client/informers"
	"hyperkube/controllers/servicepods"
	"hyperkube/reconcile"
)

const (
	// MaxEndpointsPerSlice bounds a slice, and with it the size of an update.
	MaxEndpointsPerSlice = 100
	// controllerName marks our slices (label managed-by).
	controllerName = "endpointslice-controller.k8s.io"
)

// Controller is the loop over Services.
type Controller struct {
	*reconcile.Loop
	writer        writer
	recorder      record.EventRecorder
	serviceLister corelisters.ServiceLister
	podLister     corelisters.PodLister
	nodeLister    corelisters.NodeLister
	sliceLister   discoverylisters.EndpointSliceLister
	// zones is where the nodes and their CPUs are, for Services that ask for hints by it.
	zones *zones
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *Controller {
	core, endpointSlices := factory.Core().V1(), factory.Discovery().V1().EndpointSlices()
	c := &Controller{
		writer: writer{client, newTracker()}, recorder: recorder, zones: newZones(),
		serviceLister: core.Services().Lister(), podLister: core.Pods().Lister(),
		nodeLister: core.Nodes().Lister(), sliceLister: endpointSlices.Lister(),
	}
	c.Loop = reconcile.New("endpointslice", c.syncService, options)
	c.Watch(core.Services().Informer(), reconcile.Self)
	c.Watch(core.Pods().Informer(), servicepods.Keys(c.serviceLister))
	c.Watch(endpointSlices.Informer(), c.writer.tracker.keysOf(controllerName))
	c.Watch(core.Nodes().Informer(), c.nodeKeys)
	return c
}

// nodeKeys: the Services whose hints follow from the CPUs of the zones, when these changed.
// An endpoint's own zone is read when its pod changes: it does not move while pods run there.
func (c *Controller) nodeKeys(e reconcile.Event) []string {
	old, okOld := e.Old.(*corev1.Node)
	node, ok := e.New.(*corev1.Node)
	if okOld && ok && zoneShare(old) == zoneShare(node) {
		return nil
	}
	return c.zones.services()
}

// syncService is one turn for one Service:
//
//  1. read its pods and slices,
//  2. wait if the cache lags behind our own writes,
//  3. plan, one address family after the other,
//  4. carry the plan out.
func (c *Controller) syncService(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	service, err := c.serviceLister.Services(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		c.writer.tracker.forget(key)
		c.zones.forget(key)
		return reconcile.Done, nil // its slices are the garbage collector's
	}
	if err != nil {
		return reconcile.Done, err
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName || service.Spec.Selector == nil || service.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}

	// Step 1: read its pods and slices.
	pods, err := c.podLister.Pods(service.Namespace).List(labels.Set(service.Spec.Selector).AsSelectorPreValidated())
	if err != nil {
		return reconcile.Done, err
	}
	existing, err := c.sliceLister.EndpointSlices(service.Namespace).List(labels.Set{
		discovery.LabelServiceName: service.Name, discovery.LabelManagedBy: controllerName,
	}.AsSelectorPreValidated())
	if err != nil {
		return reconcile.Done, err
	}
	// Step 2: wait if the cache lags behind our own writes.
	if c.writer.tracker.stale(key, existing) {
		return reconcile.Result{Retry: true}, nil
	}
	existing = slices.DeleteFunc(existing, func(s *discovery.EndpointSlice) bool { return s.DeletionTimestamp != nil })

	// Step 3: plan.
	hinted, ended, err := c.hints(key, service)
	if err != nil {
		return reconcile.Done, err
	}
	p := planService(service, pods, existing, surroundings{c.zoneOf, hinted})
	for _, note := range append(ended, c.zones.noted(key, service, p.notes)...) {
		c.recorder.Event(service, note.kind, note.reason, note.message)
	}

	// Step 4: carry the plan out.
	if err := c.writer.execute(ctx, key, service.Namespace, p); err != nil {
		c.recorder.Eventf(service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", service.Namespace, service.Name, err)
		return reconcile.Done, err
	}
	return reconcile.Done, nil
}

// hints is how the Service's endpoints get their hints; ended tells of those by CPU that
// they had and are not to have any more.
func (c *Controller) hints(key string, service *corev1.Service) (hinted hinter, ended []note, err error) {
	if !wantsHintsByCPU(service) {
		return hintsOf(service), c.zones.end(key), nil
	}
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return nil, nil, err
	}
	return byCPU(cpuRatios(nodes)), nil, nil
}

// zoneOf is the zone of a node, empty where it is not known.
func (c *Controller) zoneOf(node string) string {
	n, err := c.nodeLister.Get(node)
	if err != nil {
		return ""
	}
	return n.Labels[corev1.LabelTopologyZone]
}
