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
	errs := pod.ValidateReplicas(rc.Spec.Replicas, rc.Spec.MinReadySeconds, path)
	if len(rc.Spec.Selector) == 0 {
		errs = append(errs, field.Required(path.Child("selector"), ""))
	}
	if rc.Spec.Template == nil {
		return append(errs, field.Required(path.Child("template"), ""))
	}
	return append(errs, pod.ValidateLongRunningTemplate(rc.Spec.Template, labels.SelectorFromSet(rc.Spec.Selector), path.Child("template"))...)
}

// ValidateStatusUpdate checks that the numbers a controller reports fit each other.
func ValidateStatusUpdate(rc, old *v1.ReplicationController) field.ErrorList {
	s, path := &rc.Status, field.NewPath("status")
	errs := rule.NonNegative(int64(s.Replicas), path.Child("replicas"))
	errs = append(errs, rule.NonNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	for name, n := range map[string]int32{
		"fullyLabeledReplicas": s.FullyLabeledReplicas, "readyReplicas": s.ReadyReplicas, "availableReplicas": s.AvailableReplicas,
	} {
		errs = append(errs, rule.NonNegative(int64(n), path.Child(name))...)
		if n > s.Replicas {
			errs = append(errs, field.Invalid(path.Child(name), n, "cannot be greater than status.replicas"))
		}
	}
	return errs
}
