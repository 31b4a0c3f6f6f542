// Package lease is what is true of a Lease.
//
// In Kubernetes: pkg/apis/coordination/validation.
package lease

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Validate checks a lease on its own.
func Validate(l *coordinationv1.Lease) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if n := l.Spec.LeaseDurationSeconds; n != nil && *n <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), *n, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("leaseTransitions"))...)
	}
	if l.Spec.Strategy == nil && l.Spec.PreferredHolder != nil && *l.Spec.PreferredHolder != "" {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "may only be specified when `strategy` is defined"))
	}
	return errs
}
