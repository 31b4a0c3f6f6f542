// Package scale makes the /scale subresource of a workload: one number to read
// and to write, the same for every kind, so that autoscalers and `kubectl scale`
// need to know none of them.
//
// In Kubernetes: ScaleREST in pkg/registry/apps/deployment/storage and its copies.
package scale

import (
	"context"
	"sync"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"hyperkube/api/rule"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
)

var kind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

var table = &registry.Table{
	Columns: []metav1.TableColumnDefinition{
		name(),
		column.Number("Desired", autoscalingv1.ScaleSpec{}.SwaggerDoc()["replicas"]),
		column.Number("Available", autoscalingv1.ScaleStatus{}.SwaggerDoc()["replicas"]),
		column.Age(),
	},
	Cells: func(obj runtime.Object) []any {
		s := obj.(*autoscalingv1.Scale)
		return []any{s.Name, int64(s.Spec.Replicas), int64(s.Status.Replicas), column.Since(s.CreationTimestamp)}
	},
}

// name is the column without the format that says it is a name: upstream's has none here.
func name() metav1.TableColumnDefinition {
	c := column.Name()
	c.Format = ""
	return c
}

// Of tells how a workload of type T keeps its scale.
type Of[T runtime.Object] struct {
	Resource schema.GroupResource
	// Read returns what is wanted, what is there, and the selector of its pods.
	Read func(obj T) (wanted, present int32, selector string)
	Set  func(obj T, replicas int32)
}

// Selector is the text of a label selector, as status.selector has it.
func Selector(selector *metav1.LabelSelector) string {
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return ""
	}
	return compiled.String()
}

// Subresource is the line "scale" of the workload.
func (o Of[T]) Subresource(env *registry.Env) registry.Subresource {
	return registry.Subresource{
		Kind:  kind,
		New:   func() runtime.Object { return &autoscalingv1.Scale{} },
		Table: table,
		Get: func(ctx context.Context, namespace, name string) (runtime.Object, error) {
			obj, err := env.Store(o.Resource).GetObject(ctx, namespace, name)
			if err != nil {
				return nil, err
			}
			return o.scale(obj)
		},
		Update: func(ctx context.Context, namespace, name string, change func(runtime.Object) (runtime.Object, error), opts *metav1.UpdateOptions) (runtime.Object, error) {
			obj, err := env.Store(o.Resource).UpdateObject(ctx, namespace, name, func(current runtime.Object) (runtime.Object, error) {
				return o.change(current, name, change, conflict(ctx, env.Store(o.Resource), opts))
			}, opts)
			if err != nil {
				return nil, err
			}
			return o.scale(obj)
		},
		Fields: sync.OnceValues(func() (*managedfields.FieldManager, error) {
			return managedfields.NewDefaultFieldManager(env.TypeConverter, scheme.Scheme, scheme.Scheme, scheme.Scheme, kind, kind.GroupVersion(), "scale", nil)
		}),
		Apply: func(ctx context.Context, namespace, name string, change func(runtime.Object) (runtime.Object, error), opts *metav1.UpdateOptions) (runtime.Object, error) {
			store := env.Store(o.Resource)
			obj, err := store.ApplyObject(ctx, namespace, name, func(current runtime.Object) (runtime.Object, error) {
				return o.applied(current, name, store.Kind.GroupVersion(), change, conflict(ctx, store, opts))
			}, opts)
			if err != nil {
				return nil, err
			}
			return o.scale(obj)
		},
	}
}

// applied is change for server-side apply: who owns the workload's number owns the Scale's, and the other way round.
func (o Of[T]) applied(current runtime.Object, name string, version schema.GroupVersion, change func(runtime.Object) (runtime.Object, error), other uidConflict) (runtime.Object, error) {
	accessor, err := meta.Accessor(current)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	owners := managedfields.NewScaleHandler(accessor.GetManagedFields(), version,
		managedfields.ResourcePathMappings{version.String(): fieldpath.MakePathOrDie("spec", "replicas")})
	return o.change(current, name, func(before runtime.Object) (runtime.Object, error) {
		shown := before.(*autoscalingv1.Scale)
		if shown.ManagedFields, err = owners.ToSubresource(); err != nil {
			return nil, err
		}
		after, err := change(shown)
		if err != nil {
			return nil, err
		}
		changed, err := meta.Accessor(after)
		if err != nil {
			return nil, errors.NewInternalError(err)
		}
		entries, err := owners.ToParent(changed.GetManagedFields())
		if err != nil {
			return nil, err
		}
		accessor.SetManagedFields(entries)
		return after, nil
	}, other)
}

// uidConflict is the answer to a Scale of an object that current is not any more.
type uidConflict func(current metav1.Object, wanted types.UID) error

func conflict(ctx context.Context, store *registry.Store, opts *metav1.UpdateOptions) uidConflict {
	return func(current metav1.Object, wanted types.UID) error {
		return store.UIDConflict(ctx, current.GetNamespace()+"/"+current.GetName(), wanted, current.GetUID(), len(opts.DryRun) > 0)
	}
}

// change shows current as a Scale, lets it be changed, and takes the number back.
func (o Of[T]) change(current runtime.Object, name string, change func(runtime.Object) (runtime.Object, error), other uidConflict) (runtime.Object, error) {
	before, err := o.scale(current)
	if err != nil {
		return nil, err
	}
	changed, err := change(before)
	if err != nil {
		return nil, err
	}
	wanted, ok := changed.(*autoscalingv1.Scale)
	if !ok {
		return nil, errors.NewBadRequest("a Scale was expected")
	}
	accessor, err := meta.Accessor(current)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	if wanted.UID != "" && wanted.UID != accessor.GetUID() {
		return nil, other(accessor, wanted.UID)
	}
	if errs := rule.NonNegative(int64(wanted.Spec.Replicas), field.NewPath("spec", "replicas")); len(errs) > 0 {
		return nil, errors.NewInvalid(kind.GroupKind(), name, errs)
	}
	if wanted.ResourceVersion != "" {
		// The store compares it with the present one.
		accessor.SetResourceVersion(wanted.ResourceVersion)
	}
	o.Set(current.(T), wanted.Spec.Replicas)
	return current, nil
}

func (o Of[T]) scale(obj runtime.Object) (*autoscalingv1.Scale, error) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		return nil, errors.NewInternalError(err)
	}
	wanted, present, selector := o.Read(obj.(T))
	return &autoscalingv1.Scale{
		TypeMeta: metav1.TypeMeta{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind},
		ObjectMeta: metav1.ObjectMeta{
			Name: accessor.GetName(), Namespace: accessor.GetNamespace(), UID: accessor.GetUID(),
			ResourceVersion: accessor.GetResourceVersion(), CreationTimestamp: accessor.GetCreationTimestamp(),
		},
		Spec:   autoscalingv1.ScaleSpec{Replicas: wanted},
		Status: autoscalingv1.ScaleStatus{Replicas: present, Selector: selector},
	}, nil
}
