package defaultpreemption

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"hyperkube/flow"
	"hyperkube/scheduler/framework/runtime"
)

// evict deletes the victims, several at a time, and takes back the nominations of lesser
// pods that wait for the same node: they should look elsewhere.
func (pl *DefaultPreemption) evict(ctx context.Context, preemptor *v1.Pod, on candidate) error {
	reportVictims(ctx, preemptor, on)
	errs := make([]error, len(on.pods))
	runtime.Until(ctx, len(on.pods), func(i int) { errs[i] = pl.evictOne(ctx, preemptor, on.pods[i], on.node) })
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, other := range pl.handle.NominatedPodsForNode(on.node) {
		if corev1helpers.PodPriority(other.Pod) >= corev1helpers.PodPriority(preemptor) {
			continue
		}
		if err := pl.patchStatus(ctx, other.Pod, map[string]any{"nominatedNodeName": nil}); err != nil {
			// It will not fit, and be nominated anew.
			pl.handle.Logger().Error(err, "Clearing a nominated node", "pod", other.Pod.Namespace+"/"+other.Pod.Name)
		}
	}
	return nil
}

// reportVictims tells the record of the cluster who makes room for whom.
func reportVictims(ctx context.Context, preemptor *v1.Pod, on candidate) {
	effect := flow.Effect{What: "preempt", Kind: "Pod", Namespace: preemptor.Namespace, Name: preemptor.Name, Depth: 1,
		Detail: fmt.Sprintf("%d pods of less than priority %d make room on %s", len(on.pods), corev1helpers.PodPriority(preemptor), on.node)}
	for _, victim := range on.pods {
		effect.Lines = append(effect.Lines, fmt.Sprintf("- %s/%s, priority %d", victim.Namespace, victim.Name, corev1helpers.PodPriority(victim)))
	}
	flow.Report(ctx, effect)
}

// evictOne ends a pod: one that Permit still holds is rejected, any other deleted, after
// its status says why.
func (pl *DefaultPreemption) evictOne(ctx context.Context, preemptor, victim *v1.Pod, node string) error {
	if waiting := pl.handle.GetWaitingPod(victim.UID); waiting != nil {
		waiting.Reject(Name, "preempted")
		return nil
	}
	if victim.DeletionTimestamp == nil {
		condition := v1.PodCondition{
			Type: v1.DisruptionTarget, Status: v1.ConditionTrue, ObservedGeneration: victim.Generation, Reason: v1.PodReasonPreemptionByScheduler,
			Message:            fmt.Sprintf("%s: preempting to accommodate a higher priority pod", preemptor.Spec.SchedulerName),
			LastTransitionTime: metav1.NewTime(time.Now()),
		}
		if err := pl.patchStatus(ctx, victim, map[string]any{"conditions": []v1.PodCondition{condition}}); err != nil {
			return err
		}
		uid := victim.UID
		err := pl.handle.ClientSet().CoreV1().Pods(victim.Namespace).Delete(ctx, victim.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting %s/%s: %w", victim.Namespace, victim.Name, err)
		}
	}
	pl.handle.EventRecorder().Eventf(victim, preemptor, v1.EventTypeNormal, "Preempted", "Preempting", "Preempted by pod %v on node %v", preemptor.UID, node)
	return nil
}

// patchStatus changes a part of a pod's status; a pod that has gone needs nothing.
func (pl *DefaultPreemption) patchStatus(ctx context.Context, pod *v1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = pl.handle.ClientSet().CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("changing the status of %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
