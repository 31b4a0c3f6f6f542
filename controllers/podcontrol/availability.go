package podcontrol

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	podutil "hyperkube/api/core/pod"
)

// NextAvailability returns after what time the next of the pods will have been
// ready for minReadySeconds: zero when none is on its way there. No event tells
// that moment, so a controller must come back for it.
func NextAvailability(pods []*corev1.Pod, minReadySeconds int32, now time.Time) time.Duration {
	var next time.Duration
	for _, pod := range pods {
		ready := podutil.GetPodReadyCondition(pod.Status)
		if minReadySeconds == 0 || ready == nil || ready.Status != corev1.ConditionTrue {
			continue
		}
		wait := ready.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second).Sub(now)
		if wait > 0 && (next == 0 || wait < next) {
			next = wait
		}
	}
	return next
}
