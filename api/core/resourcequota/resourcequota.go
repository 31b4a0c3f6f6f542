// Package resourcequota is what is true of a ResourceQuota.
//
// In Kubernetes: ValidateResourceQuota*.
package resourcequota

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// Validate checks limits and scopes.
func Validate(q *v1.ResourceQuota) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateList(q.Spec.Hard, path.Child("hard"))
	seen := sets.New[v1.ResourceQuotaScope]()
	for i, scope := range q.Spec.Scopes {
		errs = append(errs, rule.Supported(scope, path.Child("scopes").Index(i), v1.ResourceQuotaScopeTerminating, v1.ResourceQuotaScopeNotTerminating,
			v1.ResourceQuotaScopeBestEffort, v1.ResourceQuotaScopeNotBestEffort, v1.ResourceQuotaScopePriorityClass, v1.ResourceQuotaScopeCrossNamespacePodAffinity)...)
		seen.Insert(scope)
	}
	if seen.HasAll(v1.ResourceQuotaScopeBestEffort, v1.ResourceQuotaScopeNotBestEffort) || seen.HasAll(v1.ResourceQuotaScopeTerminating, v1.ResourceQuotaScopeNotTerminating) {
		errs = append(errs, field.Invalid(path.Child("scopes"), q.Spec.Scopes, "conflicting scopes"))
	}
	return errs
}

// ValidateUpdate: what a quota counts is chosen once.
func ValidateUpdate(q, old *v1.ResourceQuota) field.ErrorList {
	errs := Validate(q)
	if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return errs
}

// ValidateStatusUpdate checks the quantities a controller reports.
func ValidateStatusUpdate(q, old *v1.ResourceQuota) field.ErrorList {
	path := field.NewPath("status")
	return append(validateList(q.Status.Hard, path.Child("hard")), validateList(q.Status.Used, path.Child("used"))...)
}

func validateList(list v1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, quantity := range list {
		errs = append(errs, pod.ValidateResourceName(name, path.Key(string(name)))...)
		errs = append(errs, pod.ValidateResourceQuantityValue(name, quantity, path.Key(string(name)))...)
	}
	return errs
}
