package replicaset

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
)

// calculateStatus says how many replicas there are and how they are. manageErr
// becomes the condition ReplicaFailure.
func calculateStatus(rs *appsv1.ReplicaSet, active []*corev1.Pod, terminating int32, manageErr error, now metav1.Time) appsv1.ReplicaSetStatus {
	status := *rs.Status.DeepCopy()
	template := labels.Set(rs.Spec.Template.Labels).AsSelectorPreValidated()
	var fullyLabeled, ready, available int32
	for _, pod := range active {
		if template.Matches(labels.Set(pod.Labels)) {
			fullyLabeled++
		}
		if podutil.IsPodReady(pod) {
			ready++
			if podutil.IsPodAvailable(pod, rs.Spec.MinReadySeconds, now) {
				available++
			}
		}
	}
	status.Replicas = int32(len(active))
	status.FullyLabeledReplicas = fullyLabeled
	status.ReadyReplicas = ready
	status.AvailableReplicas = available
	status.TerminatingReplicas = &terminating

	failure := GetCondition(status, appsv1.ReplicaSetReplicaFailure)
	if manageErr != nil && failure == nil {
		reason := "FailedDelete"
		if len(active) < int(ptr.Deref(rs.Spec.Replicas, 1)) {
			reason = "FailedCreate"
		}
		status.Conditions = append(status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
			LastTransitionTime: now, Reason: reason, Message: manageErr.Error(),
		})
	} else if manageErr == nil && failure != nil {
		status.Conditions = slices.DeleteFunc(status.Conditions, func(c appsv1.ReplicaSetCondition) bool {
			return c.Type == appsv1.ReplicaSetReplicaFailure
		})
	}
	return status
}

// GetCondition returns the condition inside status, or nil.
func GetCondition(status appsv1.ReplicaSetStatus, kind appsv1.ReplicaSetConditionType) *appsv1.ReplicaSetCondition {
	i := slices.IndexFunc(status.Conditions, func(c appsv1.ReplicaSetCondition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &status.Conditions[i]
}

// updateReplicaSetStatus writes the status unless the object has it already. A
// conflict is retried once on the newest object, since only we write its counts.
func (rsc *ReplicaSetController) updateReplicaSetStatus(ctx context.Context, rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	status.ObservedGeneration = rs.Generation
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return nil
	}
	updated := rs.DeepCopy()
	updated.Status = status
	_, err := rsc.store.updateStatus(ctx, updated)
	if err == nil {
		return nil
	}
	fresh, getErr := rsc.store.getFresh(ctx, rs.Namespace, rs.Name)
	if getErr != nil || fresh.UID != rs.UID {
		return getErr
	}
	fresh = fresh.DeepCopy()
	fresh.Status = status
	_, err = rsc.store.updateStatus(ctx, fresh)
	return err
}
