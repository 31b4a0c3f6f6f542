// Package poddisruptionbudget is what is true of a PodDisruptionBudget.
//
// In Kubernetes: pkg/apis/policy/validation.
package poddisruptionbudget

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Validate checks a budget on its own.
func Validate(pdb *policyv1.PodDisruptionBudget) field.ErrorList {
	spec, path := &pdb.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if spec.MinAvailable != nil && spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	for name, n := range map[string]*intstr.IntOrString{"minAvailable": spec.MinAvailable, "maxUnavailable": spec.MaxUnavailable} {
		if n != nil {
			errs = append(errs, rule.IntOrPercent(*n, path.Child(name))...)
			errs = append(errs, rule.NotMoreThan100Percent(*n, path.Child(name))...)
		}
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if p := spec.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, rule.Supported(*p, path.Child("unhealthyPodEvictionPolicy"), policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
	}
	return errs
}

// ValidateStatusUpdate checks the numbers its controller reports.
func ValidateStatusUpdate(pdb, old *policyv1.PodDisruptionBudget) field.ErrorList {
	path := field.NewPath("status")
	errs := metav1validation.ValidateConditions(pdb.Status.Conditions, path.Child("conditions"))
	for name, n := range map[string]int32{
		"disruptionsAllowed": pdb.Status.DisruptionsAllowed, "currentHealthy": pdb.Status.CurrentHealthy,
		"desiredHealthy": pdb.Status.DesiredHealthy, "expectedPods": pdb.Status.ExpectedPods,
	} {
		errs = append(errs, rule.NonNegative(int64(n), path.Child(name))...)
	}
	return errs
}
