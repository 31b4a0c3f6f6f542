// Package replicationcontroller is what is true of a ReplicationController, the
// elder of ReplicaSet: its selector is a plain map, taken from the template where
// it is left out (S0-07).
//
// In Kubernetes: SetDefaults_ReplicationController and ValidateReplicationController*.
package replicationcontroller

import (
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer left out.
func SetDefaults(rc *v1.ReplicationController) {
	if rc.Spec.Replicas == nil {
		rc.Spec.Replicas = ptr.To[int32](1)
	}
	if rc.Spec.Template == nil {
		return
	}
	pod.SetDefaultsPodTemplate(rc.Spec.Template)
	if labels := rc.Spec.Template.Labels; labels != nil {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(labels)
		}
	}
}

// Validate checks a controller on its own.
func Validate(rc *v1.ReplicationController) field.ErrorList {
	path := field.NewPath("spec")
	errs := rule.NonNegative(int64(rc.Spec.MinReadySeconds), path.Child("minReadySeconds"))
	if len(rc.Spec.Selector) == 0 {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	}
	if n := rc.Spec.Replicas; n == nil {
		errs = append(errs, field.Required(path.Child("replicas"), ""))
	} else {
		errs = append(errs, rule.NonNegative(int64(*n), path.Child("replicas"))...)
	}
	if rc.Spec.Template == nil {
		return append(errs, field.Required(path.Child("template"), ""))
	}
	return append(errs, pod.ValidateLongRunningTemplate(rc.Spec.Template, labels.SelectorFromSet(rc.Spec.Selector), "ReplicationController", path.Child("template"))...)
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(rc, old *v1.ReplicationController) field.ErrorList {
	s, path := &rc.Status, field.NewPath("status")
	labeled, ready := rule.Count{Field: "fullyLabeledReplicas", N: int64(s.FullyLabeledReplicas)}, rule.Count{Field: "readyReplicas", N: int64(s.ReadyReplicas)}
	available := rule.Count{Field: "availableReplicas", N: int64(s.AvailableReplicas)}
	errs := rule.NonNegativeCounts(path, rule.Count{Field: "replicas", N: int64(s.Replicas)}, labeled, ready, available,
		rule.Count{Field: "observedGeneration", N: s.ObservedGeneration})
	errs = append(errs, rule.CountsAtMost(path, int64(s.Replicas), "status.replicas", labeled, ready, available)...)
	return append(errs, rule.CountsAtMost(path, int64(s.ReadyReplicas), "readyReplicas", available)...)
}

// Warnings are those of the name, and of the pods.
func Warnings(rc *v1.ReplicationController) []string {
	return append(pod.WarnWorkloadName(rc.Name), warnTemplate(rc)...)
}

// WarningsOnUpdate are, as upstream's, those of the template that was there before.
func WarningsOnUpdate(rc, old *v1.ReplicationController) []string {
	if rc.Generation == old.Generation {
		return nil
	}
	return warnTemplate(old)
}

func warnTemplate(rc *v1.ReplicationController) []string {
	if rc.Spec.Template == nil {
		return nil
	}
	return pod.WarningsForTemplate(rc.Spec.Template, field.NewPath("spec", "template"))
}
