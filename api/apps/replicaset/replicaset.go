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
	errs := rule.NonNegative(int64(ptr.Deref(rs.Spec.Replicas, 0)), path.Child("replicas"))
	errs = append(errs, rule.NonNegative(int64(rs.Spec.MinReadySeconds), path.Child("minReadySeconds"))...)
	return append(errs, pod.ValidateSelectorAndTemplate(rs.Spec.Selector, &rs.Spec.Template, path)...)
}

// ValidateUpdate: a changed selector would disown the pods that run.
func ValidateUpdate(rs, old *appsv1.ReplicaSet) field.ErrorList {
	return append(Validate(rs), rule.Immutable(rs.Spec.Selector, old.Spec.Selector, field.NewPath("spec", "selector"))...)
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(rs, old *appsv1.ReplicaSet) field.ErrorList {
	s, path := &rs.Status, field.NewPath("status")
	labeled, ready := rule.Count{Field: "fullyLabeledReplicas", N: int64(s.FullyLabeledReplicas)}, rule.Count{Field: "readyReplicas", N: int64(s.ReadyReplicas)}
	available := rule.Count{Field: "availableReplicas", N: int64(s.AvailableReplicas)}
	errs := rule.NonNegativeCounts(path, rule.Count{Field: "replicas", N: int64(s.Replicas)}, labeled, ready, available,
		rule.Count{Field: "observedGeneration", N: s.ObservedGeneration}, rule.Count{Field: "terminatingReplicas", N: int64(ptr.Deref(s.TerminatingReplicas, 0))})
	errs = append(errs, rule.CountsAtMost(path, int64(s.Replicas), "status.replicas", labeled, ready, available)...)
	return append(errs, rule.CountsAtMost(path, int64(s.ReadyReplicas), "readyReplicas", available)...)
}

// Warnings are those of the name, and of the pods.
func Warnings(rs *appsv1.ReplicaSet) []string {
	return append(pod.WarnWorkloadName(rs.Name), WarningsOnUpdate(rs)...)
}

// WarningsOnUpdate: its name cannot be helped any more.
func WarningsOnUpdate(rs *appsv1.ReplicaSet) []string {
	return pod.WarningsForTemplate(&rs.Spec.Template, field.NewPath("spec", "template"))
}
