package pod

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IsPodReady reports whether the pod's Ready condition is true.
func IsPodReady(pod *corev1.Pod) bool { return IsPodReadyConditionTrue(pod.Status) }

// IsPodAvailable reports whether the pod has been ready for minReadySeconds.
func IsPodAvailable(pod *corev1.Pod, minReadySeconds int32, now metav1.Time) bool {
	if !IsPodReady(pod) {
		return false
	}
	if minReadySeconds == 0 {
		return true
	}
	since := GetPodReadyCondition(pod.Status).LastTransitionTime
	minimum := time.Duration(minReadySeconds) * time.Second
	return !since.IsZero() && !since.Add(minimum).After(now.Time)
}

// IsPodPhaseTerminal reports whether the phase is one that a pod never leaves.
func IsPodPhaseTerminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodFailed || phase == corev1.PodSucceeded
}

// IsPodTerminal reports whether all containers have ended for good.
func IsPodTerminal(pod *corev1.Pod) bool { return IsPodPhaseTerminal(pod.Status.Phase) }

// IsPodActive reports whether the pod counts as a replica: it has neither ended
// nor been asked to.
func IsPodActive(pod *corev1.Pod) bool { return !IsPodTerminal(pod) && pod.DeletionTimestamp == nil }

// IsPodReadyConditionTrue reports whether the Ready condition is true.
func IsPodReadyConditionTrue(status corev1.PodStatus) bool {
	condition := GetPodReadyCondition(status)
	return condition != nil && condition.Status == corev1.ConditionTrue
}

// IsContainersReadyConditionTrue reports whether the ContainersReady condition is true.
func IsContainersReadyConditionTrue(status corev1.PodStatus) bool {
	_, condition := GetPodCondition(&status, corev1.ContainersReady)
	return condition != nil && condition.Status == corev1.ConditionTrue
}

// GetPodReadyCondition returns the Ready condition, or nil.
func GetPodReadyCondition(status corev1.PodStatus) *corev1.PodCondition {
	_, condition := GetPodCondition(&status, corev1.PodReady)
	return condition
}

// GetPodCondition returns the index of the condition and the condition inside
// status, or -1 and nil.
func GetPodCondition(status *corev1.PodStatus, kind corev1.PodConditionType) (int, *corev1.PodCondition) {
	if status == nil {
		return -1, nil
	}
	return GetPodConditionFromList(status.Conditions, kind)
}

// GetPodConditionFromList is GetPodCondition for a bare list.
func GetPodConditionFromList(conditions []corev1.PodCondition, kind corev1.PodConditionType) (int, *corev1.PodCondition) {
	i := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	if i < 0 {
		return -1, nil
	}
	return i, &conditions[i]
}

// UpdatePodCondition sets the condition and reports whether that changed
// anything. LastTransitionTime moves to now only when the condition's status
// changed (API conventions, "Typical status properties").
func UpdatePodCondition(status *corev1.PodStatus, condition *corev1.PodCondition) bool {
	condition.LastTransitionTime = metav1.Now()
	_, known := GetPodCondition(status, condition.Type)
	if known == nil {
		status.Conditions = append(status.Conditions, *condition)
		return true
	}
	if known.Status == condition.Status {
		condition.LastTransitionTime = known.LastTransitionTime
	}
	changed := known.Status != condition.Status || known.Reason != condition.Reason || known.Message != condition.Message ||
		known.ObservedGeneration != condition.ObservedGeneration || !known.LastProbeTime.Equal(&condition.LastProbeTime)
	*known = *condition
	return changed
}
