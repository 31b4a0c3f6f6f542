package statefulset

import (
	"cmp"
	"context"
	"errors"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
)

// turn is what one turn knows.
type turn struct {
	set             *appsv1.StatefulSet
	current, update string // names of the revisions
	currentTemplate *corev1.PodTemplateSpec
	pods            []*corev1.Pod
	// replicas has one place for each wanted ordinal, nil where the pod is missing.
	replicas []*corev1.Pod
	// condemned are pods of other ordinals, highest first.
	condemned []*corev1.Pod
	status    appsv1.StatefulSetStatus
	now       metav1.Time
}

// arrange puts the pods into their places.
func (t *turn) arrange(pods []*corev1.Pod) {
	start := getStartOrdinal(t.set)
	t.pods = pods
	t.replicas = make([]*corev1.Pod, ptr.Deref(t.set.Spec.Replicas, 1))
	for _, pod := range pods {
		if place := getOrdinal(pod) - start; place >= 0 && place < len(t.replicas) {
			t.replicas[place] = pod
		} else {
			t.condemned = append(t.condemned, pod)
		}
	}
	slices.SortFunc(t.condemned, func(a, b *corev1.Pod) int { return cmp.Compare(getOrdinal(b), getOrdinal(a)) })
}

// updateStatefulSet brings the pods nearer to what they should be, as far as their
// order allows:
//
//  1. make each replica that is missing, lowest first,
//  2. delete condemned pods, highest first,
//  3. delete pods of an old revision, highest first, down to the partition.
//
// A step that must wait for a pod ends the turn.
func (ssc *StatefulSetController) updateStatefulSet(ctx context.Context, t *turn) error {
	if t.set.DeletionTimestamp != nil {
		return nil
	}
	// Step 1: make each replica that is missing, lowest first.
	var errs []error
	for place := range t.replicas {
		wait, err := ssc.processReplica(ctx, t, place)
		if err != nil {
			errs = append(errs, err)
		}
		if (wait || err != nil) && t.monotonic() {
			return errors.Join(errs...)
		}
	}
	// Step 2: delete condemned pods, highest first.
	for _, pod := range t.condemned {
		wait, err := ssc.processCondemned(ctx, t, pod)
		if err != nil {
			errs = append(errs, err)
		}
		if (wait || err != nil) && t.monotonic() {
			return errors.Join(errs...)
		}
	}
	// Step 3: delete pods of an old revision.
	if len(errs) > 0 || t.set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		return errors.Join(errs...)
	}
	for _, pod := range t.podsToUpdate() {
		if err := ssc.deleteStatefulPod(ctx, t.set, pod); err != nil {
			return err
		}
		if getPodRevision(pod) == t.current {
			t.status.CurrentReplicas--
		}
	}
	return nil
}

// monotonic: one pod after the other.
func (t *turn) monotonic() bool {
	return t.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// processReplica makes the pod of that place be there; wait is true where those after
// it must not be looked at yet.
func (ssc *StatefulSetController) processReplica(ctx context.Context, t *turn, place int) (wait bool, err error) {
	pod := t.replicas[place]
	if pod == nil {
		return true, ssc.createStatefulPod(ctx, t, newVersionedStatefulSetPod(t, getStartOrdinal(t.set)+place))
	}
	if podutil.IsPodTerminal(pod) && pod.DeletionTimestamp == nil {
		return true, ssc.deleteStatefulPod(ctx, t.set, pod)
	}
	if pod.DeletionTimestamp != nil {
		return true, nil // its successor comes when it is gone
	}
	if err := ssc.keepClaims(ctx, t.set, pod, false, pod.Status.Phase == corev1.PodPending); err != nil {
		return true, err
	}
	if !identityMatches(t.set, pod) {
		fixed := pod.DeepCopy()
		updateIdentity(t.set, fixed)
		_, err := ssc.client.CoreV1().Pods(fixed.Namespace).Update(ctx, fixed, metav1.UpdateOptions{})
		ssc.recordPodEvent("update", t.set, fixed, err)
		if err != nil {
			return true, err
		}
	}
	return !t.available(pod), nil
}

// processCondemned deletes a pod of an ordinal that is not wanted. One after the other, an unhealthy pod is waited for: to
// take more away would break what quorum is left. Only the lowest unhealthy one goes all the same, when all above it
// have gone: broken for good, it would otherwise keep the set from ever becoming smaller.
func (ssc *StatefulSetController) processCondemned(ctx context.Context, t *turn, pod *corev1.Pod) (wait bool, err error) {
	if pod.DeletionTimestamp != nil {
		return true, nil
	}
	if err := ssc.keepClaims(ctx, t.set, pod, true, false); err != nil {
		return true, err
	}
	if t.monotonic() && !t.available(pod) && pod != t.firstUnavailable() {
		return true, nil
	}
	return true, ssc.deleteStatefulPod(ctx, t.set, pod)
}

// firstUnavailable is the condemned pod of the lowest ordinal that is not available; replicas are by the time it is asked for.
func (t *turn) firstUnavailable() *corev1.Pod {
	for _, pod := range slices.Backward(t.condemned) {
		if pod.DeletionTimestamp != nil || !t.available(pod) {
			return pod
		}
	}
	return nil
}

func isRunningAndReady(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning && podutil.IsPodReady(pod)
}

func (t *turn) available(pod *corev1.Pod) bool {
	return isRunningAndReady(pod) && podutil.IsPodAvailable(pod, t.set.Spec.MinReadySeconds, t.now)
}

// podsToUpdate are the pods of an old revision that may go now: from the highest down,
// while fewer than maxUnavailable are missing, stopping or not available.
func (t *turn) podsToUpdate() []*corev1.Pod {
	partition, most := 0, 1
	if rolling := t.set.Spec.UpdateStrategy.RollingUpdate; rolling != nil {
		partition = int(ptr.Deref(rolling.Partition, 0))
		if rolling.MaxUnavailable != nil {
			if n, err := intstr.GetScaledValueFromIntOrPercent(rolling.MaxUnavailable, len(t.replicas), false); err == nil {
				most = max(1, n)
			}
		}
	}
	unavailable := 0
	for _, pod := range t.replicas {
		if pod == nil || pod.DeletionTimestamp != nil || !t.available(pod) {
			unavailable++
		}
	}
	var chosen []*corev1.Pod
	waiting := 0 // those from the top down that are not available
	for place := len(t.replicas) - 1; place >= partition && waiting < most; place-- {
		pod := t.replicas[place]
		switch {
		case pod == nil || pod.DeletionTimestamp != nil:
			waiting++
		case getPodRevision(pod) == t.update:
			if !t.available(pod) {
				waiting++
			}
		case !t.available(pod):
			chosen = append(chosen, pod)
			waiting++
		case unavailable < most || most == 1:
			chosen = append(chosen, pod)
			waiting++
			unavailable++
		default:
			return chosen
		}
	}
	return chosen
}

// countStatus is the status that the pods have.
func (t *turn) countStatus(pods []*corev1.Pod) appsv1.StatefulSetStatus {
	status := appsv1.StatefulSetStatus{
		ObservedGeneration: t.set.Generation, CurrentRevision: t.current, UpdateRevision: t.update, Conditions: t.set.Status.Conditions,
	}
	for _, pod := range pods {
		status.Replicas++
		if isRunningAndReady(pod) {
			status.ReadyReplicas++
			if t.available(pod) {
				status.AvailableReplicas++
			}
		}
		if pod.DeletionTimestamp != nil {
			continue
		}
		if getPodRevision(pod) == t.current {
			status.CurrentReplicas++
		}
		if getPodRevision(pod) == t.update {
			status.UpdatedReplicas++
		}
	}
	return status
}

// completeRollingUpdate: when all are new and ready, the update revision is the
// current one.
func (t *turn) completeRollingUpdate() {
	s, want := &t.status, ptr.Deref(t.set.Spec.Replicas, 1)
	if t.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType &&
		s.UpdatedReplicas == want && s.ReadyReplicas == want && s.Replicas == want {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
}
