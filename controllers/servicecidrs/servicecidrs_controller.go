// Package servicecidrs says which ServiceCIDRs are ready to give out addresses, and holds one that is being deleted until no
// Service needs an address of it any more.
//
//	ServiceCIDR, IPAddress ─► syncServiceCIDR ─► new: finalizer and condition Ready
//	                                           deleted: addresses of it alone? stay; else, after a while, let it go
//
// Invariant: an address that is held is in a range that exists.
//
// # In Kubernetes
//
// pkg/controller/servicecidrs (Controller.sync, canDeleteCIDR). Without the pause before the finalizer goes, an apiserver that has not
// yet heard of the deletion could give out an address of a range that is gone.
package servicecidrs

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Finalizer is what holds a range.
const Finalizer = "networking.k8s.io/service-cidr-finalizer"

// deletionGracePeriod is how long a range without addresses is still held, for apiservers to hear that it gives out no more.
const deletionGracePeriod = 10 * time.Second

// Controller is the loop over ServiceCIDRs.
type Controller struct {
	*reconcile.Loop
	client    kubernetes.Interface
	ranges    networkinglisters.ServiceCIDRLister
	addresses networkinglisters.IPAddressLister
	recorder  record.EventRecorder
	clock     clock.PassiveClock
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *Controller {
	options = options.WithDefaults()
	ranges, addresses := factory.Networking().V1().ServiceCIDRs(), factory.Networking().V1().IPAddresses()
	c := &Controller{client: client, ranges: ranges.Lister(), addresses: addresses.Lister(), recorder: recorder, clock: options.Clock}
	c.Loop = reconcile.New("servicecidrs", c.syncServiceCIDR, options)
	// A range that comes or changes may take over the addresses of one that goes.
	c.Watch(ranges.Informer(), func(e reconcile.Event) []string { return append(c.deleting(), reconcile.Self(e)...) })
	c.Watch(addresses.Informer(), func(e reconcile.Event) []string {
		if !e.Deleted() {
			return nil
		}
		return c.deleting()
	})
	return c
}

// deleting are the keys of the ranges that wait for their addresses to go.
func (c *Controller) deleting() []string {
	list, err := c.ranges.List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []string
	for _, cidr := range list {
		if cidr.DeletionTimestamp != nil {
			keys = append(keys, cidr.Name)
		}
	}
	return keys
}

// syncServiceCIDR is one turn for one range.
func (c *Controller) syncServiceCIDR(ctx context.Context, name string) (reconcile.Result, error) {
	cidr, err := c.ranges.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if cidr.DeletionTimestamp == nil {
		return reconcile.Done, c.admit(ctx, cidr)
	}
	if !slices.Contains(cidr.Finalizers, Finalizer) {
		return reconcile.Done, nil
	}
	free, err := c.canDeleteCIDR(cidr)
	if err != nil {
		return reconcile.Done, err
	}
	if !free {
		// The deletion of an address brings it back here.
		return reconcile.Done, c.setReady(ctx, cidr, metav1.ConditionFalse, networkingv1.ServiceCIDRReasonTerminating,
			"There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR")
	}
	if left := cidr.DeletionTimestamp.Add(deletionGracePeriod).Sub(c.clock.Now()); left > 0 {
		return reconcile.Result{After: left}, nil
	}
	return reconcile.Done, c.setFinalizers(ctx, cidr, slices.DeleteFunc(slices.Clone(cidr.Finalizers), func(f string) bool { return f == Finalizer }))
}

// admit holds a new range, and then lets addresses be taken from it.
func (c *Controller) admit(ctx context.Context, cidr *networkingv1.ServiceCIDR) error {
	if !slices.Contains(cidr.Finalizers, Finalizer) {
		if err := c.setFinalizers(ctx, cidr, append(slices.Clone(cidr.Finalizers), Finalizer)); err != nil {
			return err
		}
	}
	err := c.setReady(ctx, cidr, metav1.ConditionTrue, "", "Kubernetes Service CIDR is ready")
	if err != nil {
		c.recorder.Event(cidr, corev1.EventTypeWarning, "KubernetesServiceCIDRError", "The ServiceCIDR Status can not be set to Ready=True")
	}
	return err
}

func (c *Controller) setFinalizers(ctx context.Context, cidr *networkingv1.ServiceCIDR, finalizers []string) error {
	fresh, err := c.client.NetworkingV1().ServiceCIDRs().Get(ctx, cidr.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && fresh.UID != cidr.UID) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading ServiceCIDR %s: %w", cidr.Name, err)
	}
	fresh.Finalizers = finalizers
	if _, err = c.client.NetworkingV1().ServiceCIDRs().Update(ctx, fresh, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("changing the finalizers of ServiceCIDR %s: %w", cidr.Name, err)
	}
	return nil
}

func (c *Controller) setReady(ctx context.Context, cidr *networkingv1.ServiceCIDR, status metav1.ConditionStatus, reason, message string) error {
	if meta.IsStatusConditionPresentAndEqual(cidr.Status.Conditions, networkingv1.ServiceCIDRConditionReady, status) {
		return nil
	}
	fresh, err := c.client.NetworkingV1().ServiceCIDRs().Get(ctx, cidr.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading ServiceCIDR %s: %w", cidr.Name, err)
	}
	meta.SetStatusCondition(&fresh.Status.Conditions, metav1.Condition{Type: networkingv1.ServiceCIDRConditionReady, Status: status,
		Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(c.clock.Now())})
	if _, err := c.client.NetworkingV1().ServiceCIDRs().UpdateStatus(ctx, fresh, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing the status of ServiceCIDR %s: %w", cidr.Name, err)
	}
	return nil
}

// canDeleteCIDR: each address that somebody holds must be in another range that stays.
func (c *Controller) canDeleteCIDR(cidr *networkingv1.ServiceCIDR) (bool, error) {
	all, err := c.ranges.List(labels.Everything())
	if err != nil {
		return false, err
	}
	var others []netip.Prefix
	for _, other := range all {
		if other.Name != cidr.Name && other.DeletionTimestamp == nil {
			others = append(others, prefixes(other)...)
		}
	}
	held, err := c.addresses.List(labels.Everything())
	if err != nil {
		return false, err
	}
	own := prefixes(cidr)
	for _, address := range held {
		ip, err := netip.ParseAddr(address.Name)
		contains := func(p netip.Prefix) bool { return p.Contains(ip) }
		if err == nil && slices.ContainsFunc(own, contains) && !slices.ContainsFunc(others, contains) {
			return false, nil
		}
	}
	return true, nil
}

func prefixes(cidr *networkingv1.ServiceCIDR) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range cidr.Spec.CIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			list = append(list, prefix)
		}
	}
	return list
}
