package endpointslice

import (
	"context"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	client        kubernetes.Interface
	recorder      record.EventRecorder
	serviceLister corelisters.ServiceLister
	podLister     corelisters.PodLister
	nodeLister    corelisters.NodeLister
	sliceLister   discoverylisters.EndpointSliceLister
	tracker       *tracker
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *Controller {
	core, endpointSlices := factory.Core().V1(), factory.Discovery().V1().EndpointSlices()
	c := &Controller{
		client: client, recorder: recorder, tracker: newTracker(),
		serviceLister: core.Services().Lister(), podLister: core.Pods().Lister(),
		nodeLister: core.Nodes().Lister(), sliceLister: endpointSlices.Lister(),
	}
	c.Loop = reconcile.New("endpointslice", c.syncService, options)
	c.Watch(core.Services().Informer(), reconcile.Self)
	c.Watch(core.Pods().Informer(), servicepods.Keys(c.serviceLister))
	c.Watch(endpointSlices.Informer(), c.sliceKeys)
	// Nodes are only read, for their zones; a zone does not change while pods run there.
	c.Watch(core.Nodes().Informer(), func(reconcile.Event) []string { return nil })
	return c
}

// sliceKeys: the Service of a slice of ours, whoever changed it.
func (c *Controller) sliceKeys(e reconcile.Event) []string {
	slice := e.Object().(*discovery.EndpointSlice)
	service, ok := slice.Labels[discovery.LabelServiceName]
	if !ok || slice.Labels[discovery.LabelManagedBy] != controllerName {
		return nil
	}
	key := cache.NewObjectName(slice.Namespace, service).String()
	if e.Deleted() {
		c.tracker.deleted(key, slice.UID)
	}
	return []string{key}
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
		c.tracker.forget(key)
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
	if c.tracker.stale(key, existing) {
		return reconcile.Result{Retry: true}, nil
	}
	existing = slices.DeleteFunc(existing, func(s *discovery.EndpointSlice) bool { return s.DeletionTimestamp != nil })

	// Step 3: plan.
	p := planService(service, pods, existing, c.zoneOf)

	// Step 4: carry the plan out.
	if err := c.execute(ctx, key, service, p); err != nil {
		c.recorder.Eventf(service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
			"Error updating Endpoint Slices for Service %s/%s: %v", service.Namespace, service.Name, err)
		return reconcile.Done, err
	}
	return reconcile.Done, nil
}

// zoneOf is the zone of a node, empty where it is not known.
func (c *Controller) zoneOf(node string) string {
	n, err := c.nodeLister.Get(node)
	if err != nil {
		return ""
	}
	return n.Labels[corev1.LabelTopologyZone]
}

// execute creates, updates and deletes, in that order. What fails does not stop
// the rest: each slice is right or wrong by itself.
func (c *Controller) execute(ctx context.Context, key string, service *corev1.Service, p plan) error {
	api := c.client.DiscoveryV1().EndpointSlices(service.Namespace)
	var errs []error
	for _, slice := range p.create {
		created, err := api.Create(ctx, slice, metav1.CreateOptions{})
		if err == nil {
			c.tracker.wrote(key, created)
		} else if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			errs = append(errs, err)
		}
	}
	for _, slice := range p.update {
		updated, err := api.Update(ctx, slice, metav1.UpdateOptions{})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.tracker.wrote(key, updated)
	}
	if len(errs) > 0 {
		// What was to move from a deleted slice into another may not have arrived.
		return errors.Join(errs...)
	}
	for _, slice := range p.delete {
		err := api.Delete(ctx, slice.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		c.tracker.removed(key, slice.UID)
	}
	return errors.Join(errs...)
}
