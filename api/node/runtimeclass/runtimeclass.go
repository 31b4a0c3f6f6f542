// Package runtimeclass is what is true of a RuntimeClass.
//
// In Kubernetes: pkg/apis/node/validation and GetWarningsForRuntimeClass of pkg/api/node.
package runtimeclass

import (
	v1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/nodelabel"
	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// Validate checks a new class.
func Validate(c *nodev1.RuntimeClass) field.ErrorList {
	path := field.NewPath("handler")
	if c.Handler == "" {
		return append(validate(c), rule.Declared(rule.NonEmpty(c.Handler, path))...)
	}
	return append(validate(c), rule.Declared(rule.All(content.IsDNS1123Label(c.Handler), path, c.Handler))...)
}

// validate leaves the handler out.
func validate(c *nodev1.RuntimeClass) field.ErrorList {
	var errs field.ErrorList
	if c.Overhead != nil {
		// What a pod needs beside its containers is limited as if it were one more.
		errs = append(errs, pod.ValidateResourceRequirements(&v1.ResourceRequirements{Limits: c.Overhead.PodFixed}, field.NewPath("overhead"), pod.ValidateContainerResourceName)...)
	}
	if s := c.Scheduling; s != nil {
		path := field.NewPath("scheduling")
		if s.NodeSelector != nil {
			errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, path.Child("nodeSelector"))...)
		}
		errs = append(errs, validateTolerations(s.Tolerations, path.Child("tolerations"))...)
	}
	return errs
}

func validateTolerations(tolerations []v1.Toleration, path *field.Path) field.ErrorList {
	errs := pod.ValidateTolerations(tolerations, path)
	seen := sets.New[v1.Toleration]()
	for i, t := range tolerations {
		key := v1.Toleration{Key: t.Key, Operator: t.Operator, Value: t.Value, Effect: t.Effect}
		if seen.Has(key) {
			errs = append(errs, field.Duplicate(path.Index(i), rule.Untagged(t)))
		}
		seen.Insert(key)
	}
	return errs
}

// ValidateUpdate: pods that run know the handler by the class's name.
func ValidateUpdate(c, old *nodev1.RuntimeClass) field.ErrorList {
	path := field.NewPath("handler")
	var errs field.ErrorList
	if c.Handler != "" { // the format is declared, but not looked at once the handler is another
		errs = append(errs, rule.DNSLabel(c.Handler, path)...)
	}
	errs = append(errs, validate(c)...)
	errs = append(errs, rule.Fixed(c.Handler, old.Handler, path)...)
	return append(errs, rule.Declared(rule.NonEmpty(c.Handler, path))...)
}

// Warnings tell of labels that nodes will not have any more.
func Warnings(c *nodev1.RuntimeClass) []string {
	if c.Scheduling == nil {
		return nil
	}
	return nodelabel.WarnMap(c.Scheduling.NodeSelector, func(string) *field.Path { return field.NewPath("scheduling", "nodeSelector") })
}
