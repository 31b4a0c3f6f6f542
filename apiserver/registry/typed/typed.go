// Package typed lets a resource room say its rules in terms of its own type:
// functions of *v1.Pod instead of methods on runtime.Object. What a room leaves
// out is as in registry.Plain.
//
// In Kubernetes every resource has a strategy struct with a dozen methods, most
// of them empty or a type assertion (pkg/registry/<group>/<kind>/strategy.go).
package typed

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/apiserver/registry"
)

// Strategy is a registry.Strategy for objects of type T. All functions may be nil.
type Strategy[T runtime.Object] struct {
	registry.Plain
	// OnCreate clears what a client may not set.
	OnCreate func(obj T)
	// OnUpdate takes from old what this endpoint may not change, and bumps the generation.
	OnUpdate func(obj, old T)
	Check    func(obj T) field.ErrorList
	// CheckUpdate nil: an update is checked as a create is.
	CheckUpdate func(obj, old T) field.ErrorList
	// Warn is asked at a create, and at an update that raised the generation (of kinds that have none: at each).
	Warn func(obj T) []string
	// WarnUpdate nil: as Warn.
	WarnUpdate func(obj, old T) []string
	// Name nil: a DNS subdomain.
	Name func(name string, prefix bool) []string
	// Meta is what the kind asks of metadata beside.
	Meta registry.MetaRules
	// Grace nil: deleted at once.
	Grace          func(obj T, options *metav1.DeleteOptions) int64
	CreateOnUpdate bool
	// Conditional refuses a PUT without a resourceVersion.
	Conditional bool
}

func (s Strategy[T]) PrepareForCreate(ctx context.Context, obj runtime.Object) {
	if s.OnCreate != nil {
		s.OnCreate(obj.(T))
	}
}

func (s Strategy[T]) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {
	if s.OnUpdate != nil {
		s.OnUpdate(obj.(T), old.(T))
	}
}

func (s Strategy[T]) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	if s.Check == nil {
		return nil
	}
	return s.Check(obj.(T))
}

func (s Strategy[T]) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	if s.CheckUpdate == nil {
		return s.Validate(ctx, obj)
	}
	return s.CheckUpdate(obj.(T), old.(T))
}

func (s Strategy[T]) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string {
	if s.Warn == nil {
		return nil
	}
	return s.Warn(obj.(T))
}

func (s Strategy[T]) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string {
	if s.WarnUpdate != nil {
		return s.WarnUpdate(obj.(T), old.(T))
	}
	if s.Warn == nil || seenBefore(obj, old) {
		return nil
	}
	return s.Warn(obj.(T))
}

// WarnIf makes a WarnUpdate that warns as a create does, but only of what is new.
func WarnIf[T runtime.Object](isNew func(obj, old runtime.Object) bool, warn func(T) []string) func(obj, old T) []string {
	return func(obj, old T) []string {
		if !isNew(obj, old) {
			return nil
		}
		return warn(obj)
	}
}

// GenerationRose: something else is wanted than before.
func GenerationRose(obj, old runtime.Object) bool { return !seenBefore(obj, old) }

// seenBefore: what is wanted is what was wanted, so whoever wrote it has been warned.
func seenBefore(obj, old runtime.Object) bool {
	now, err := meta.Accessor(obj)
	before, oldErr := meta.Accessor(old)
	return err == nil && oldErr == nil && now.GetGeneration() != 0 && now.GetGeneration() == before.GetGeneration()
}

func (s Strategy[T]) AllowCreateOnUpdate() bool      { return s.CreateOnUpdate }
func (s Strategy[T]) AllowUnconditionalUpdate() bool { return !s.Conditional }

func (s Strategy[T]) CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) int64 {
	if s.Grace == nil {
		return 0
	}
	return s.Grace(obj.(T), options)
}

func (s Strategy[T]) ValidateName(name string, prefix bool) []string {
	if s.Name == nil {
		return s.Plain.ValidateName(name, prefix)
	}
	return s.Name(name, prefix)
}

func (s Strategy[T]) MetaRules(ctx context.Context) registry.MetaRules { return s.Meta }

// Default adapts the defaults of a kind.
func Default[T runtime.Object](fill func(T)) func(runtime.Object) {
	return func(obj runtime.Object) { fill(obj.(T)) }
}

// Fields adapts the selectable fields of a kind.
func Fields[T runtime.Object](of func(T) fields.Set) func(runtime.Object) fields.Set {
	return func(obj runtime.Object) fields.Set { return of(obj.(T)) }
}

// Table adapts the columns of a kind.
func Table[T runtime.Object](cells func(T) []any, columns ...metav1.TableColumnDefinition) *registry.Table {
	return &registry.Table{Columns: columns, Cells: func(obj runtime.Object) []any { return cells(obj.(T)) }}
}

// First gives a new object its first generation.
func First(obj runtime.Object) {
	if accessor, err := meta.Accessor(obj); err == nil {
		accessor.SetGeneration(1)
	}
}

// Bump raises the generation when what is wanted has changed.
func Bump(obj metav1.Object, spec, oldSpec any) {
	if !equality.Semantic.DeepEqual(spec, oldSpec) {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
}
