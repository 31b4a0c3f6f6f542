package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/klog/v2"
)

// errNamespacedOwnerOfClusterScoped: a cluster-scoped object names an owner of a
// kind that lives in namespaces, and there is no telling in which.
var errNamespacedOwnerOfClusterScoped = errors.New("cluster-scoped objects cannot refer to namespaced owners")

// apiFor is the client for the object's kind and place.
func (gc *GarbageCollector) apiFor(id identity) (metadata.ResourceInterface, error) {
	gv, err := schema.ParseGroupVersion(id.apiVersion)
	if err != nil {
		return nil, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: id.kind}}
	}
	mapping, err := gc.monitors.mapping(gv.WithKind(id.kind))
	if err != nil {
		return nil, err
	}
	api := gc.metadata.Resource(mapping.Resource)
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return api, nil
	}
	if id.namespace == "" {
		return nil, errNamespacedOwnerOfClusterScoped
	}
	return api.Namespace(id.namespace), nil
}

func (gc *GarbageCollector) getObject(ctx context.Context, id identity) (*metav1.PartialObjectMetadata, error) {
	api, err := gc.apiFor(id)
	if err != nil {
		return nil, err
	}
	return api.Get(ctx, id.name, metav1.GetOptions{})
}

// deleteObject deletes what was just looked at, and nothing newer: an owner may
// have been added since.
func (gc *GarbageCollector) deleteObject(ctx context.Context, id identity, latest *metav1.PartialObjectMetadata, policy metav1.DeletionPropagation) error {
	api, err := gc.apiFor(id)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).V(2).Info("Deleting item", "kind", id.kind, "namespace", id.namespace, "name", id.name, "propagationPolicy", policy)
	err = api.Delete(ctx, id.name, metav1.DeleteOptions{
		PropagationPolicy: &policy,
		Preconditions:     &metav1.Preconditions{UID: &id.uid, ResourceVersion: &latest.ResourceVersion},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// patchMeta replaces lists in the object's metadata. The resource version refuses
// that when they have changed since latest was read.
func (gc *GarbageCollector) patchMeta(ctx context.Context, id identity, latest *metav1.PartialObjectMetadata, fields map[string]any) error {
	api, err := gc.apiFor(id)
	if err != nil {
		return err
	}
	fields["uid"], fields["resourceVersion"] = latest.UID, latest.ResourceVersion
	patch, err := json.Marshal(map[string]any{"metadata": fields})
	if err != nil {
		return err
	}
	_, err = api.Patch(ctx, id.name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// patchOwners leaves the item with these owners only.
func (gc *GarbageCollector) patchOwners(ctx context.Context, id identity, latest *metav1.PartialObjectMetadata, owners []metav1.OwnerReference) error {
	if owners == nil {
		owners = []metav1.OwnerReference{} // null would mean: as it was
	}
	return gc.patchMeta(ctx, id, latest, map[string]any{"ownerReferences": owners})
}

// unblockOwnerReferences lets all owners go before the item.
func (gc *GarbageCollector) unblockOwnerReferences(ctx context.Context, id identity, latest *metav1.PartialObjectMetadata) error {
	owners, changed := slices.Clone(latest.OwnerReferences), false
	for i := range owners {
		if blocks(owners[i]) {
			no := false
			owners[i].BlockOwnerDeletion, changed = &no, true
		}
	}
	if !changed {
		return nil
	}
	if err := gc.patchOwners(ctx, id, latest, owners); err != nil {
		return err
	}
	fresh, err := gc.getObject(ctx, id)
	if err == nil {
		latest.ResourceVersion = fresh.ResourceVersion
	}
	return err
}

// removeOwner takes one reference off the object.
func (gc *GarbageCollector) removeOwner(ctx context.Context, id identity, owner types.UID) error {
	latest, err := gc.getObject(ctx, id)
	if apierrors.IsNotFound(err) || err == nil && latest.UID != id.uid {
		return nil
	}
	if err != nil {
		return err
	}
	if findOwner(latest.OwnerReferences, owner) == nil {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(latest.OwnerReferences), func(ref metav1.OwnerReference) bool { return ref.UID == owner })
	return gc.patchOwners(ctx, id, latest, others)
}

// removeFinalizer takes the finalizer off the object; if it was the last one, the
// API removes the object.
func (gc *GarbageCollector) removeFinalizer(ctx context.Context, id identity, finalizer string) error {
	latest, err := gc.getObject(ctx, id)
	if apierrors.IsNotFound(err) || err == nil && latest.UID != id.uid {
		return nil
	}
	if err != nil {
		return err
	}
	if !slices.Contains(latest.Finalizers, finalizer) {
		return nil
	}
	others := []string{}
	for _, other := range latest.Finalizers {
		if other != finalizer {
			others = append(others, other)
		}
	}
	return gc.patchMeta(ctx, id, latest, map[string]any{"finalizers": others})
}
