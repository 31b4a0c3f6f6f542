// Package replicaset is what is true of a ReplicaSet: defaults and validation.
//
// In Kubernetes: SetDefaults_ReplicaSet and ValidateReplicaSet*.
package replicaset

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer left out.
func SetDefaults(rs *appsv1.ReplicaSet) {
	pod.SetDefaultsPodTemplate(&rs.Spec.Template)
	if rs.Spec.Replicas == nil {
		rs.Spec.Replicas = ptr.To[int32](1)
	}
}

// Validate checks a replica set on its own.
func Validate(rs *appsv1.ReplicaSet) field.ErrorList {
	path := field.NewPath("spec")
	errs := pod.ValidateReplicas(rs.Spec.Replicas, rs.Spec.MinReadySeconds, path)
	return append(errs, pod.ValidateSelectorAndTemplate(rs.Spec.Selector, &rs.Spec.Template, "replicaset", path)...)
}

// ValidateUpdate: a changed selector would disown the pods that run.
func ValidateUpdate(rs, old *appsv1.ReplicaSet) field.ErrorList {
	return append(Validate(rs), rule.Immutable(rs.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(rs, old *appsv1.ReplicaSet) field.ErrorList {
	s, path := &rs.Status, field.NewPath("status")
	errs := rule.NonNegative(int64(s.Replicas), path.Child("replicas"))
	errs = append(errs, rule.NonNegative(int64(s.FullyLabeledReplicas), path.Child("fullyLabeledReplicas"))...)
	errs = append(errs, rule.NonNegative(int64(s.ReadyReplicas), path.Child("readyReplicas"))...)
	errs = append(errs, rule.NonNegative(int64(s.AvailableReplicas), path.Child("availableReplicas"))...)
	errs = append(errs, rule.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	const more = "cannot be greater than status.replicas"
	if s.FullyLabeledReplicas > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("fullyLabeledReplicas"), s.FullyLabeledReplicas, more))
	}
	if s.ReadyReplicas > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("readyReplicas"), s.ReadyReplicas, more))
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}

// Warnings are those of the pods.
func Warnings(rs *appsv1.ReplicaSet) []string {
	return pod.WarningsForTemplate(&rs.Spec.Template, field.NewPath("spec", "template"))
}
