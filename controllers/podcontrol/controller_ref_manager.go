package podcontrol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// ControllerRefManager decides which objects belong to one controller object: a
// ReplicaSet's pods, a Deployment's ReplicaSets.
type ControllerRefManager[T metav1.Object] struct {
	// Controller and Kind are the owner; Selector is what it selects.
	Controller metav1.Object
	Kind       schema.GroupVersionKind
	Selector   labels.Selector
	// CanAdopt asks the API, not the cache, whether Controller still exists and is
	// not being deleted. It is asked at most once, and only before an adoption.
	CanAdopt func(ctx context.Context) error
	// Patch sends a strategic merge patch for one of the objects.
	Patch func(ctx context.Context, object T, patch []byte) error

	asked    bool
	askedErr error
}

// ClaimObjects returns those of the candidates that belong to the controller
// and pass all filters:
//
//   - owned by it and selected: kept,
//   - owned by it, no longer selected: released (its owner reference removed),
//   - owned by another: ignored,
//   - owned by none and selected: adopted.
func (m *ControllerRefManager[T]) ClaimObjects(ctx context.Context, candidates []T, filters ...func(T) bool) ([]T, error) {
	var claimed []T
	var errs []error
	match := func(object T) bool {
		if !m.Selector.Matches(labels.Set(object.GetLabels())) {
			return false
		}
		for _, filter := range filters {
			if !filter(object) {
				return false
			}
		}
		return true
	}
	for _, object := range candidates {
		mine, err := m.claimObject(ctx, object, match)
		if err != nil {
			errs = append(errs, err)
		} else if mine {
			claimed = append(claimed, object)
		}
	}
	return claimed, errors.Join(errs...)
}

func (m *ControllerRefManager[T]) claimObject(ctx context.Context, object T, match func(T) bool) (bool, error) {
	if ref := metav1.GetControllerOf(object); ref != nil {
		if ref.UID != m.Controller.GetUID() {
			return false, nil // another's
		}
		if match(object) {
			return true, nil
		}
		if m.Controller.GetDeletionTimestamp() != nil {
			return false, nil // the garbage collector will see to it
		}
		return false, ignoreGone(m.release(ctx, object))
	}
	if m.Controller.GetDeletionTimestamp() != nil || object.GetDeletionTimestamp() != nil || !match(object) {
		return false, nil
	}
	if m.Controller.GetNamespace() != "" && m.Controller.GetNamespace() != object.GetNamespace() {
		return false, nil
	}
	if err := m.adopt(ctx, object); err != nil {
		return false, ignoreGone(err)
	}
	return true, nil
}

// ignoreGone: an object that has gone meanwhile, or was replaced by another of
// its name (Invalid, because of the UID in the patch), needs nothing more.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		return nil
	}
	return err
}

func (m *ControllerRefManager[T]) adopt(ctx context.Context, object T) error {
	if !m.asked {
		m.asked, m.askedErr = true, m.CanAdopt(ctx)
	}
	if m.askedErr != nil {
		return fmt.Errorf("can't adopt %s/%s: %w", object.GetNamespace(), object.GetName(), m.askedErr)
	}
	return m.patch(ctx, object, *metav1.NewControllerRef(m.Controller, m.Kind))
}

func (m *ControllerRefManager[T]) release(ctx context.Context, object T) error {
	return m.patch(ctx, object, map[string]any{"$patch": "delete", "uid": m.Controller.GetUID()})
}

// patch changes one entry of the owner references. The UID makes it fail for
// another object of the same name.
func (m *ControllerRefManager[T]) patch(ctx context.Context, object T, reference any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":             object.GetUID(),
		"ownerReferences": []any{reference},
	}})
	if err != nil {
		return err
	}
	return m.Patch(ctx, object, patch)
}

// RecheckDeletionTimestamp makes a CanAdopt from a function that reads the owner
// afresh.
func RecheckDeletionTimestamp(uid types.UID, get func(ctx context.Context) (metav1.Object, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		fresh, err := get(ctx)
		if err != nil {
			return err
		}
		if fresh.GetUID() != uid {
			return fmt.Errorf("original %s/%s is gone: got uid %v, wanted %v", fresh.GetNamespace(), fresh.GetName(), fresh.GetUID(), uid)
		}
		if fresh.GetDeletionTimestamp() != nil {
			return fmt.Errorf("%s/%s has just been deleted at %v", fresh.GetNamespace(), fresh.GetName(), fresh.GetDeletionTimestamp())
		}
		return nil
	}
}
