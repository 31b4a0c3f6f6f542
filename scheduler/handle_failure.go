package scheduler

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
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// noteLengthLimit is what the events API accepts for a note.
const noteLengthLimit = 1024

// waitForNode stands among the plugins for "there is no node at all": the first one
// brings these pods back at once. As an error, as upstream has it, they would sit
// out a backoff of up to 10 s each time a cluster starts.
const waitForNode = "WaitForNode"

// handleSchedulingFailure puts a pod that was not placed back into the queue and
// says why, in these steps:
//
//	1: sort refusals from errors, and note who refused
//	2: put the pod, as the informer now knows it, back into the queue
//	3: record the FailedScheduling event
//	4: set the PodScheduled condition (and the nominated node)
func (sched *Scheduler) handleSchedulingFailure(ctx context.Context, podInfo *framework.QueuedPodInfo, status *framework.Status, nominating *framework.NominatingInfo, start time.Time) {
	logger := klog.FromContext(ctx)
	defer sched.SchedulingQueue.Done(podInfo.Pod.UID)

	// Step 1: sort refusals from errors, and note who refused
	err := status.AsError()
	reason := v1.PodReasonSchedulerError
	if status.IsRejected() {
		reason = v1.PodReasonUnschedulable
	}
	var fitError *framework.FitError
	if errors.As(err, &fitError) {
		podInfo.UnschedulablePlugins = fitError.Diagnosis.UnschedulablePlugins
		podInfo.PendingPlugins = fitError.Diagnosis.PendingPlugins
	} else if errors.Is(err, ErrNoNodesAvailable) {
		podInfo.PendingPlugins = sets.New(waitForNode)
	}
	if reason == v1.PodReasonUnschedulable {
		logger.V(2).Info("Unable to schedule pod; no fit; waiting", "pod", klog.KObj(podInfo.Pod), "err", err)
	} else if ctx.Err() == nil {
		logger.Error(err, "Error scheduling pod; retrying", "pod", klog.KObj(podInfo.Pod))
	}
	sched.metrics.podFailed(podInfo.Pod, reason, sched.cfg.Clock.Since(start))

	// Step 2: put the pod, as the informer now knows it, back into the queue
	pod := sched.requeueFailed(logger, podInfo, nominating)
	if pod == nil {
		return
	}

	// Step 3: record the FailedScheduling event
	msg := err.Error()
	sched.recorderFor(pod).Eventf(pod, nil, v1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", truncateMessage(msg))

	// Step 4: set the PodScheduled condition (and the nominated node)
	condition := v1.PodCondition{
		Type: v1.PodScheduled, Status: v1.ConditionFalse, Reason: reason, Message: msg,
		ObservedGeneration: pod.Generation,
	}
	if err := sched.updatePodStatus(ctx, pod, condition, nominating); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		logger.Error(err, "Writing the PodScheduled condition", "pod", klog.KObj(pod))
	}
}

// requeueFailed returns the pod as it now is, or nil when there is nothing left to
// do: it is gone, or has a node after all.
func (sched *Scheduler) requeueFailed(logger klog.Logger, podInfo *framework.QueuedPodInfo, nominating *framework.NominatingInfo) *v1.Pod {
	pod, err := sched.podLister.Pods(podInfo.Pod.Namespace).Get(podInfo.Pod.Name)
	if err != nil || pod.UID != podInfo.Pod.UID {
		logger.V(3).Info("Pod does not exist any more, giving up", "pod", klog.KObj(podInfo.Pod))
		return nil
	}
	if pod.Spec.NodeName != "" {
		logger.Info("Pod has a node, giving up", "pod", klog.KObj(pod), "node", pod.Spec.NodeName)
		return nil
	}
	podInfo.PodInfo = framework.NewPodInfo(pod)
	if err := sched.SchedulingQueue.AddUnschedulableIfNotPresent(podInfo); err != nil {
		logger.Error(err, "Requeueing a pod", "pod", klog.KObj(pod))
	}
	// Before the status is written: the next pod must not take the room that was made for this one.
	sched.nominator.AddNominatedPod(podInfo.PodInfo, nominating)
	return pod
}

// truncateMessage shortens to what an event may hold.
func truncateMessage(message string) string {
	if len(message) <= noteLengthLimit {
		return message
	}
	const suffix = " ..."
	return message[:noteLengthLimit-len(suffix)] + suffix
}

// updatePodStatus patches the status, if anything in it changes.
func (sched *Scheduler) updatePodStatus(ctx context.Context, pod *v1.Pod, condition v1.PodCondition, nominating *framework.NominatingInfo) error {
	status := pod.Status.DeepCopy()
	changed := updatePodCondition(status, &condition, sched.cfg.Clock.Now())
	if nominating != nil && nominating.Override && status.NominatedNodeName != nominating.NominatedNodeName {
		status.NominatedNodeName = nominating.NominatedNodeName
		changed = true
	}
	if !changed {
		return nil
	}
	patch, err := podStatusPatch(pod, status)
	if err != nil {
		return err
	}
	_, err = sched.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// podStatusPatch changes only what differs, so that writes of the kubelet or of
// others in between are kept; the UID keeps it from a namesake.
func podStatusPatch(pod *v1.Pod, status *v1.PodStatus) ([]byte, error) {
	before, err := json.Marshal(v1.Pod{Status: pod.Status})
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID}, Status: *status})
	if err != nil {
		return nil, err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, &v1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("making the status patch of pod %v: %w", klog.KObj(pod), err)
	}
	return patch, nil
}

// updatePodCondition sets the condition and tells whether that changed anything.
// The transition time moves with the status only.
func updatePodCondition(status *v1.PodStatus, condition *v1.PodCondition, now time.Time) bool {
	condition.LastTransitionTime = metav1.NewTime(now)
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != condition.Type {
			continue
		}
		if old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
		same := old.Status == condition.Status && old.Reason == condition.Reason && old.Message == condition.Message &&
			old.ObservedGeneration == condition.ObservedGeneration
		*old = *condition
		return !same
	}
	status.Conditions = append(status.Conditions, *condition)
	return true
}
