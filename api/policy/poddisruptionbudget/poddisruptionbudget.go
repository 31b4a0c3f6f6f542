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
		errs = append(errs, field.Invalid(path, rule.Untagged(spec), "minAvailable and maxUnavailable cannot be both set"))
	}
	for _, n := range []struct {
		field string
		value *intstr.IntOrString
	}{{"minAvailable", spec.MinAvailable}, {"maxUnavailable", spec.MaxUnavailable}} {
		if n.value != nil {
			errs = append(errs, rule.IntOrPercent(*n.value, path.Child(n.field))...)
			errs = append(errs, rule.NotMoreThan100Percent(*n.value, path.Child(n.field))...)
		}
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	if p := spec.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("unhealthyPodEvictionPolicy"), policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
	}
	return errs
}

// ValidateStatusUpdate checks the numbers its controller reports.
func ValidateStatusUpdate(pdb, old *policyv1.PodDisruptionBudget) field.ErrorList {
	path := field.NewPath("status")
	errs := metav1validation.ValidateConditions(pdb.Status.Conditions, path.Child("conditions"))
	return append(errs, rule.NonNegativeCounts(path, rule.Count{Field: "disruptionsAllowed", N: int64(pdb.Status.DisruptionsAllowed)},
		rule.Count{Field: "currentHealthy", N: int64(pdb.Status.CurrentHealthy)}, rule.Count{Field: "desiredHealthy", N: int64(pdb.Status.DesiredHealthy)},
		rule.Count{Field: "expectedPods", N: int64(pdb.Status.ExpectedPods)})...)
}
