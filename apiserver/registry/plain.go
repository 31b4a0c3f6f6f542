package registry

import (
	"context"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Plain is the Strategy of a resource without rules of its own: names are DNS
// subdomains, anything may change, deletion is immediate. Embed it and override
// what differs.
type Plain struct{}

var _ Strategy = Plain{}

func (Plain) PrepareForCreate(ctx context.Context, obj runtime.Object)      {}
func (Plain) PrepareForUpdate(ctx context.Context, obj, old runtime.Object) {}

func (Plain) Validate(ctx context.Context, obj runtime.Object) field.ErrorList { return nil }
func (Plain) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return nil
}

func (Plain) WarningsOnCreate(ctx context.Context, obj runtime.Object) []string      { return nil }
func (Plain) WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string { return nil }

func (Plain) AllowCreateOnUpdate() bool      { return false }
func (Plain) AllowUnconditionalUpdate() bool { return true }

func (Plain) CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) int64 {
	return 0
}

func (Plain) ValidateName(name string, prefix bool) []string {
	return apivalidation.NameIsDNSSubdomain(name, prefix)
}

func (Plain) MetaRules(ctx context.Context) MetaRules { return MetaRules{} }
