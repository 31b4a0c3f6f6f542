package podcontrol

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"hyperkube/api/core/pod"
)

// RankedPod is a pod with what decides how soon it is deleted.
type RankedPod struct {
	*corev1.Pod
	// Rank is the number of the owner's active pods on the same node. Those on
	// crowded nodes go first.
	Rank int
}

// phaseOrder: what has not begun to run costs least to delete.
var phaseOrder = map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}

// SortActivePodsWithRanks puts the pods to delete first in front:
//
//  1. not assigned to a node before assigned,
//  2. pending before unknown before running,
//  3. not ready before ready,
//  4. lower deletion cost (controller.kubernetes.io/pod-deletion-cost),
//  5. more pods of the owner on the same node,
//  6. ready for a shorter time,
//  7. more container restarts,
//  8. younger.
//
// Times are compared by their magnitude, so that among pods of similar age the
// choice is not always the youngest, which would empty the newest node or zone.
func SortActivePodsWithRanks(pods []RankedPod, now time.Time) {
	slices.SortStableFunc(pods, func(a, b RankedPod) int {
		return cmp.Or(
			cmp.Compare(boolOrder(a.Spec.NodeName != ""), boolOrder(b.Spec.NodeName != "")),
			cmp.Compare(phaseOrder[a.Status.Phase], phaseOrder[b.Status.Phase]),
			cmp.Compare(boolOrder(pod.IsPodReady(a.Pod)), boolOrder(pod.IsPodReady(b.Pod))),
			cmp.Compare(deletionCost(a.Pod), deletionCost(b.Pod)),
			cmp.Compare(b.Rank, a.Rank),
			cmp.Compare(magnitude(readySince(a.Pod), now), magnitude(readySince(b.Pod), now)),
			cmp.Compare(maxRestarts(b.Pod), maxRestarts(a.Pod)),
			cmp.Compare(magnitude(a.CreationTimestamp.Time, now), magnitude(b.CreationTimestamp.Time, now)),
			cmp.Compare(string(a.UID), string(b.UID)),
		)
	})
}

func boolOrder(b bool) int {
	if b {
		return 1
	}
	return 0
}

// deletionCost is 0 where the annotation is missing or no number.
func deletionCost(p *corev1.Pod) int64 {
	cost, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return cost
}

func readySince(p *corev1.Pod) time.Time {
	if !pod.IsPodReady(p) {
		return time.Time{}
	}
	return pod.GetPodReadyCondition(p.Status).LastTransitionTime.Time
}

// magnitude is the binary logarithm of the age in nanoseconds. An unknown time
// counts as the youngest.
func magnitude(t, now time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	age := now.Sub(t)
	if age <= 0 {
		return 0
	}
	return int64(math.Log2(float64(age)))
}

func maxRestarts(p *corev1.Pod) int32 {
	var most int32
	for _, status := range p.Status.ContainerStatuses {
		most = max(most, status.RestartCount)
	}
	return most
}
