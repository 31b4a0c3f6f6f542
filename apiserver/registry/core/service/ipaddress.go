package service

import (
	"context"
	"net/netip"
	"time"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/registry"
)

// Each cluster address that a service holds is an IPAddress object of that name: people can see who has which, and of two
// apiservers on one etcd only one can create it.

var ipAddresses = schema.GroupResource{Group: networkingv1.GroupName, Resource: "ipaddresses"}

// addressTimeout bounds the writes that follow upon a request which is already over.
const addressTimeout = 10 * time.Second

// own creates the IPAddress of ip for s; false when somebody else has it.
func (a *allocation) own(ctx context.Context, s *v1.Service, ip netip.Addr) (bool, error) {
	store := a.env.Store(ipAddresses)
	if store == nil {
		return true, nil
	}
	_, err := store.Create(ctx, "", newIPAddress(s, ip), registry.Own())
	if !errors.IsAlreadyExists(err) {
		return err == nil, err
	}
	present, err := store.GetObject(ctx, "", ip.String())
	if errors.IsNotFound(err) {
		return a.own(ctx, s, ip) // given back between the two looks
	}
	if err != nil {
		return false, err
	}
	ref := present.(*networkingv1.IPAddress).Spec.ParentRef
	return ref != nil && *ref == *parentOf(s), nil
}

// allocatorName marks the objects that are made here.
const allocatorName = "ipallocator.k8s.io"

func newIPAddress(s *v1.Service, ip netip.Addr) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: ip.String(), Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: string(familyOf(ip)), networkingv1.LabelManagedBy: allocatorName,
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: parentOf(s)},
	}
}

func parentOf(s *v1.Service) *networkingv1.ParentReference {
	return &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}
}

// disown deletes the IPAddress of ip.
func (a *allocation) disown(ip netip.Addr) error {
	store := a.env.Store(ipAddresses)
	if store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), addressTimeout)
	defer cancel()
	_, _, err := store.DeleteObject(ctx, "", ip.String(), &metav1.DeleteOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	return err
}

// loadAddresses marks the addresses that services say they have. Objects that are missing are made by the repair, which tells of it.
func (a *allocation) loadAddresses(ctx context.Context, services []*v1.Service) error {
	if _, err := a.ranges.ready(ctx, ""); err != nil {
		return err
	}
	for _, s := range services {
		for _, ip := range addresses(s) {
			a.ranges.take(ip)
		}
	}
	return nil
}
