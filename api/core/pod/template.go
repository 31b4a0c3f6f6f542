package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateSelectorAndTemplate checks what Deployments and ReplicaSets have alike: a
// selector that is not empty, and a template whose pods it selects and which are to run
// for ever. The messages call either by the other's name, as upstream's do.
func ValidateSelectorAndTemplate(selector *metav1.LabelSelector, template *v1.PodTemplateSpec, path *field.Path) field.ErrorList {
	errs := ValidateWorkloadSelector(selector, "deployment", path.Child("selector"))
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(path.Child("selector"), selector, "invalid label selector"))
	}
	return append(errs, ValidateLongRunningTemplate(template, compiled, "ReplicaSet", path.Child("template"))...)
}

// ValidateWorkloadSelector asks for a selector that selects something; what names the workload in the message.
func ValidateWorkloadSelector(selector *metav1.LabelSelector, what string, path *field.Path) field.ErrorList {
	if selector == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for "+what))
	}
	return errs
}

// ValidateLongRunningTemplate checks a template of pods that selector is to find and that never end.
func ValidateLongRunningTemplate(template *v1.PodTemplateSpec, selector labels.Selector, what string, path *field.Path) field.ErrorList {
	errs := ValidateTemplateLabels(template, selector, path)
	errs = append(errs, ValidatePodTemplateSpec(template, path)...)
	return append(errs, ValidateNeverEnding(&template.Spec, what, path.Child("spec"))...)
}

// ValidateTemplateLabels asks that the selector finds the template's pods.
func ValidateTemplateLabels(template *v1.PodTemplateSpec, selector labels.Selector, path *field.Path) field.ErrorList {
	if selector.Empty() || selector.Matches(labels.Set(template.Labels)) {
		return nil
	}
	return field.ErrorList{field.Invalid(path.Child("metadata", "labels"), template.Labels, "`selector` does not match template `labels`")}
}

// ValidateNeverEnding asks that the pods of what are always started again.
func ValidateNeverEnding(spec *v1.PodSpec, what string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if policy := spec.RestartPolicy; policy != v1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), policy, []v1.RestartPolicy{v1.RestartPolicyAlways}))
	}
	if spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("activeDeadlineSeconds"), "activeDeadlineSeconds in "+what+" is not Supported"))
	}
	return errs
}

// WarnWorkloadName tells of a name that its pods' host names cannot have.
func WarnWorkloadName(name string) []string {
	if messages := validation.IsDNS1123Label(name); len(messages) > 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: %v", messages)}
	}
	return nil
}
