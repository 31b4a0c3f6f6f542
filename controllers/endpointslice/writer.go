package endpointslice

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// plan is what must be written for one Service. Slices in it are ours to write;
// none belongs to the cache.
type plan struct {
	create, update, delete []*discovery.EndpointSlice
	// notes are what to tell of the hints.
	notes []note
}

func (p *plan) add(other plan) {
	p.create = append(p.create, other.create...)
	p.update = append(p.update, other.update...)
	p.delete = append(p.delete, other.delete...)
	p.notes = append(p.notes, other.notes...)
}

// recycled is the plan with slices that are to go rewritten as those that are to come: one
// write instead of two, and no moment at which a reader sees both.
func (p plan) recycled() plan {
	for len(p.create) > 0 && len(p.delete) > 0 {
		last := len(p.create) - 1
		p.update = append(p.update, rewritten(p.delete[0], p.create[last]))
		p.create, p.delete = p.create[:last], p.delete[1:]
	}
	return p
}

// rewritten is the slice as wanted, under its own name. Both are of one address family, which
// could not be changed.
func rewritten(slice, wanted *discovery.EndpointSlice) *discovery.EndpointSlice {
	slice = slice.DeepCopy()
	slice.Labels, slice.Annotations = wanted.Labels, wanted.Annotations
	slice.Ports, slice.Endpoints = wanted.Ports, wanted.Endpoints
	return slice
}

// writer carries plans out.
type writer struct {
	client  kubernetes.Interface
	tracker *tracker
}

// execute creates, updates and deletes, in that order. What fails does not stop
// the rest: each slice is right or wrong by itself.
func (w writer) execute(ctx context.Context, key, namespace string, p plan) error {
	api := w.client.DiscoveryV1().EndpointSlices(namespace)
	var errs []error
	for _, slice := range p.create {
		created, err := api.Create(ctx, slice, metav1.CreateOptions{})
		if err == nil {
			w.tracker.wrote(key, created)
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
		w.tracker.wrote(key, updated)
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
		w.tracker.removed(key, slice.UID)
	}
	return errors.Join(errs...)
}
