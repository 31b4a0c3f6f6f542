// Package lease is what is true of a Lease.
//
// In Kubernetes: pkg/apis/coordination/validation.
package lease

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// DropDisabled takes out what coordinated leader election would need, a feature that v1.37 has off, unless the lease has it
// already; old is nil at a create.
func DropDisabled(l, old *coordinationv1.Lease) {
	if old == nil || old.Spec.Strategy == nil {
		l.Spec.Strategy = nil
	}
	if old == nil || old.Spec.PreferredHolder == nil {
		l.Spec.PreferredHolder = nil
	}
}

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
	strategy := ptr.Deref(l.Spec.Strategy, "")
	if l.Spec.Strategy != nil {
		errs = append(errs, validateStrategy(strategy, path.Child("strategy"))...)
	}
	if ptr.Deref(l.Spec.PreferredHolder, "") != "" && strategy == "" {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}

// validateStrategy: a name without a domain is Kubernetes' own. The path says strategy twice, as upstream's does.
func validateStrategy(strategy coordinationv1.CoordinatedLeaseStrategy, path *field.Path) field.ErrorList {
	if strings.Contains(string(strategy), "/") {
		return rule.QualifiedName(string(strategy), path.Child("strategy"))
	}
	return rule.OneOf(strategy, path.Child("strategy"), coordinationv1.OldestEmulationVersion)
}
