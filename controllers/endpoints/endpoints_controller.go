// Package endpoints lists the addresses of a Service's pods in one Endpoints
// object of the Service's name: the older form of EndpointSlices, which some
// clients still read.
//
//	Service ─┐
//	Pod ─────┼─► key of the Service ─► syncService ─► desiredSubsets ─► create | update | delete
//	Endpoints┘
//
// Ready and not ready addresses stand in two lists; a pod that is going stands in
// neither, but where the Service publishes all. At most 1,000 addresses fit; the
// rest is cut, with an annotation that says so: the reason why EndpointSlices exist.
//
// # In Kubernetes
//
// pkg/controller/endpoint/endpoints_controller.go and pkg/api/v1/endpoints/util.go
// (RepackSubsets). Left out: the annotation with the time of the change.
package endpoints

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"hyperkube/client/informers"
	"hyperkube/controllers/servicepods"
	"hyperkube/reconcile"
)

const (
	maxCapacity    = 1000
	labelManagedBy = "endpoints.kubernetes.io/managed-by"
	controllerName = "endpoint-controller"
)

// Controller is the loop over Services.
type Controller struct {
	*reconcile.Loop
	client          kubernetes.Interface
	recorder        record.EventRecorder
	serviceLister   corelisters.ServiceLister
	podLister       corelisters.PodLister
	endpointsLister corelisters.EndpointsLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *Controller {
	core := factory.Core().V1()
	c := &Controller{
		client: client, recorder: recorder, serviceLister: core.Services().Lister(),
		podLister: core.Pods().Lister(), endpointsLister: core.Endpoints().Lister(),
	}
	c.Loop = reconcile.New("endpoints", c.syncService, options)
	c.Watch(core.Services().Informer(), reconcile.Self)
	c.Watch(core.Pods().Informer(), servicepods.Keys(c.serviceLister))
	// Our own object: a deletion by hand is undone, and after a restart those of
	// Services that went meanwhile are found.
	c.Watch(core.Endpoints().Informer(), func(e reconcile.Event) []string {
		if e.Deleted() || e.Added() && e.New.GetLabels()[labelManagedBy] == controllerName {
			return reconcile.Self(e)
		}
		return nil
	})
	return c
}

func (c *Controller) syncService(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	service, err := c.serviceLister.Services(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, c.deleteOurs(ctx, name)
	}
	if err != nil {
		return reconcile.Done, err
	}
	if service.Spec.Type == corev1.ServiceTypeExternalName || service.Spec.Selector == nil || service.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}
	pods, err := c.podLister.Pods(service.Namespace).List(labels.Set(service.Spec.Selector).AsSelectorPreValidated())
	if err != nil {
		return reconcile.Done, err
	}
	current, err := c.endpointsLister.Endpoints(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		current, err = &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name}}, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	desired := desiredEndpoints(current, service, pods)
	if current.ResourceVersion != "" && equality.Semantic.DeepEqual(current, desired) {
		return reconcile.Done, nil
	}
	return reconcile.Done, c.write(ctx, desired)
}

// desiredEndpoints is current as it should be.
func desiredEndpoints(current *corev1.Endpoints, service *corev1.Service, pods []*corev1.Pod) *corev1.Endpoints {
	desired := current.DeepCopy()
	desired.Subsets = desiredSubsets(service, pods)
	desired.Labels = maps.Clone(service.Labels)
	if desired.Labels == nil {
		desired.Labels = map[string]string{}
	}
	desired.Labels[labelManagedBy] = controllerName
	delete(desired.Labels, corev1.IsHeadlessService)
	if servicepods.IsHeadless(service) {
		desired.Labels[corev1.IsHeadlessService] = ""
	}
	if truncateEndpoints(desired) {
		metav1.SetMetaDataAnnotation(&desired.ObjectMeta, corev1.EndpointsOverCapacity, "truncated")
	} else {
		delete(desired.Annotations, corev1.EndpointsOverCapacity)
	}
	return desired
}

func (c *Controller) write(ctx context.Context, desired *corev1.Endpoints) error {
	api := c.client.CoreV1().Endpoints(desired.Namespace)
	if desired.ResourceVersion != "" {
		_, err := api.Update(ctx, desired, metav1.UpdateOptions{})
		return c.report(desired, "FailedToUpdateEndpoint", "Failed to update endpoint", err)
	}
	_, err := api.Create(ctx, desired, metav1.CreateOptions{})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil
	}
	return c.report(desired, "FailedToCreateEndpoint", "Failed to create endpoint for service", err)
}

func (c *Controller) report(desired *corev1.Endpoints, reason, what string, err error) error {
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		c.recorder.Eventf(desired, corev1.EventTypeWarning, reason, "%s %s/%s: %v", what, desired.Namespace, desired.Name, err)
	}
	return err
}

// deleteOurs removes the object of a Service that has gone. One written by hand,
// for a Service without selector, goes too: nothing can refer to it any more.
func (c *Controller) deleteOurs(ctx context.Context, name cache.ObjectName) error {
	current, err := c.endpointsLister.Endpoints(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	err = c.client.CoreV1().Endpoints(name.Namespace).Delete(ctx, name.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &current.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
