package deployment

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"hyperkube/reconcile"
)

// syncRolloutStatus writes the status with the condition Progressing, which
// `kubectl rollout status` reads, and asks to come back at the deadline: nothing
// else would tell that no progress was made.
func (dc *DeploymentController) syncRolloutStatus(ctx context.Context, allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet, d *appsv1.Deployment) (reconcile.Result, error) {
	status := dc.calculateStatus(allRSs, newRS, d)
	dc.setProgress(&status, newRS, d)
	if failure := getReplicaFailure(allRSs, newRS); failure != nil {
		SetDeploymentCondition(&status, *failure)
	} else {
		RemoveDeploymentCondition(&status, appsv1.DeploymentReplicaFailure)
	}
	if !equality.Semantic.DeepEqual(d.Status, status) {
		d.Status = status
		if err := dc.updateStatus(ctx, d); err != nil {
			return reconcile.Done, err
		}
	}
	return reconcile.Result{After: untilDeadline(d, dc.clock.Now())}, nil
}

// setProgress decides on the condition Progressing in status.
func (dc *DeploymentController) setProgress(status *appsv1.DeploymentStatus, newRS *appsv1.ReplicaSet, d *appsv1.Deployment) {
	if !HasProgressDeadline(d) {
		RemoveDeploymentCondition(status, appsv1.DeploymentProgressing)
		return
	}
	current := GetDeploymentCondition(d.Status, appsv1.DeploymentProgressing)
	if status.Replicas == status.UpdatedReplicas && current != nil && current.Reason == NewRSAvailableReason {
		return // it was complete; pods that come and go since are no rollout
	}
	what := fmt.Sprintf("Deployment %q", d.Name)
	if newRS != nil {
		what = fmt.Sprintf("ReplicaSet %q", newRS.Name)
	}
	switch {
	case DeploymentComplete(d, status):
		dc.setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionTrue, NewRSAvailableReason, what+" has successfully progressed.")
	case DeploymentProgressing(d, status):
		// Set anew even when nothing in it changes: its update time is what the
		// deadline counts from.
		condition := dc.newCondition(appsv1.DeploymentProgressing, corev1.ConditionTrue, ReplicaSetUpdatedReason, what+" is progressing.")
		if current != nil && current.Status == corev1.ConditionTrue {
			condition.LastTransitionTime = current.LastTransitionTime
		}
		RemoveDeploymentCondition(status, appsv1.DeploymentProgressing)
		SetDeploymentCondition(status, condition)
	case deploymentTimedOut(d, status, dc.clock.Now()):
		dc.setCondition(status, appsv1.DeploymentProgressing, corev1.ConditionFalse, TimedOutReason, what+" has timed out progressing.")
	}
}

// DeploymentComplete: all replicas are of the new template and available, and
// nothing else runs.
func DeploymentComplete(d *appsv1.Deployment, status *appsv1.DeploymentStatus) bool {
	replicas := *d.Spec.Replicas
	return status.UpdatedReplicas == replicas && status.Replicas == replicas &&
		status.AvailableReplicas == replicas && status.ObservedGeneration >= d.Generation
}

// DeploymentProgressing compares the new status with the one d has: more new
// pods, fewer old ones, or more ready or available ones are progress.
func DeploymentProgressing(d *appsv1.Deployment, status *appsv1.DeploymentStatus) bool {
	before := d.Status
	return status.UpdatedReplicas > before.UpdatedReplicas ||
		status.Replicas-status.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		status.ReadyReplicas > before.ReadyReplicas ||
		status.AvailableReplicas > before.AvailableReplicas
}

// deploymentTimedOut reports whether there has been no progress for
// progressDeadlineSeconds.
func deploymentTimedOut(d *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) bool {
	condition := GetDeploymentCondition(*status, appsv1.DeploymentProgressing)
	switch {
	case condition == nil:
		return false // no condition yet, so no time to count from
	case condition.Reason == NewRSAvailableReason:
		return false
	case condition.Reason == TimedOutReason:
		return true
	}
	return condition.LastUpdateTime.Add(progressDeadline(d)).Before(now)
}

// untilDeadline is when to look again whether the rollout is stuck; 0 when
// there is nothing to look for.
func untilDeadline(d *appsv1.Deployment, now time.Time) time.Duration {
	condition := GetDeploymentCondition(d.Status, appsv1.DeploymentProgressing)
	if !HasProgressDeadline(d) || condition == nil || DeploymentComplete(d, &d.Status) ||
		condition.Reason == TimedOutReason || condition.Reason == NewRSAvailableReason {
		return 0
	}
	// API times are whole seconds: one more, to be surely past the deadline.
	return max(0, condition.LastUpdateTime.Add(progressDeadline(d)).Sub(now)) + time.Second
}

func progressDeadline(d *appsv1.Deployment) time.Duration {
	return time.Duration(*d.Spec.ProgressDeadlineSeconds) * time.Second
}

// getReplicaFailure is the new ReplicaSet's failure to create or delete pods, else
// any other's.
func getReplicaFailure(allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet) *appsv1.DeploymentCondition {
	for _, rs := range append([]*appsv1.ReplicaSet{newRS}, allRSs...) {
		if rs == nil {
			continue
		}
		for _, c := range rs.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				return &appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
				}
			}
		}
	}
	return nil
}
