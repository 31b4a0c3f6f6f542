package pod

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidateSelectorAndTemplate checks what every workload has: a selector that is
// not empty, and a template whose pods it selects and which are to run for ever.
// what names the workload in messages ("deployment").
func ValidateSelectorAndTemplate(selector *metav1.LabelSelector, template *v1.PodTemplateSpec, what string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("selector")
	if selector == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, at)...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, selector, "empty selector is invalid for "+what))
		}
	}
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(at, selector, "invalid label selector"))
	}
	return append(errs, ValidateLongRunningTemplate(template, compiled, path.Child("template"))...)
}

// ValidateLongRunningTemplate is the template's half of ValidateSelectorAndTemplate.
func ValidateLongRunningTemplate(template *v1.PodTemplateSpec, selector labels.Selector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if !selector.Empty() && !selector.Matches(labels.Set(template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, ValidatePodTemplateSpec(template, path)...)
	if policy := template.Spec.RestartPolicy; policy != v1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), policy, []v1.RestartPolicy{v1.RestartPolicyAlways}))
	}
	if template.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported"))
	}
	return errs
}

// ValidateReplicas checks the numbers every replicated workload has.
func ValidateReplicas(replicas *int32, minReadySeconds int32, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if replicas != nil {
		errs = append(errs, rule.NonNegative(int64(*replicas), path.Child("replicas"))...)
	}
	return append(errs, rule.NonNegative(int64(minReadySeconds), path.Child("minReadySeconds"))...)
}
