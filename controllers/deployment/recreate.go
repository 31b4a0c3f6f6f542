package deployment

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	podutil "hyperkube/api/core/pod"
	"hyperkube/reconcile"
)

// rolloutRecreate is one turn of a rollout in which old and new never run at the
// same time:
//
//  1. scale the old ReplicaSets to zero,
//  2. wait until the last old pod has gone,
//  3. create the new ReplicaSet, with all replicas,
//  4. when all is complete, delete what the history need not keep,
//  5. write the status.
func (dc *DeploymentController) rolloutRecreate(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) (reconcile.Result, error) {
	newRS, oldRSs, err := dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, false)
	if err != nil {
		return reconcile.Done, err
	}
	allRSs := allReplicaSets(oldRSs, newRS)

	// Step 1: scale the old ReplicaSets to zero.
	scaledDown := false
	for _, old := range FilterActiveReplicaSets(oldRSs) {
		scaled, _, err := dc.scaleReplicaSetAndRecordEvent(ctx, old, 0, d)
		if err != nil {
			return reconcile.Done, err
		}
		scaledDown = scaledDown || scaled
	}
	if scaledDown {
		return dc.syncRolloutStatus(ctx, allRSs, newRS, d)
	}
	// Step 2: wait until the last old pod has gone; its deletion is the next turn.
	podMap, err := dc.getPodMapForDeployment(d, rsList)
	if err != nil {
		return reconcile.Done, err
	}
	if oldPodsRunning(newRS, oldRSs, podMap) {
		return dc.syncRolloutStatus(ctx, allRSs, newRS, d)
	}
	// Step 3: create the new ReplicaSet.
	if newRS == nil {
		newRS, oldRSs, err = dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, true)
		if err != nil || newRS == nil {
			return reconcile.Done, err
		}
		allRSs = allReplicaSets(oldRSs, newRS)
	}
	if _, _, err := dc.scaleReplicaSetAndRecordEvent(ctx, newRS, *d.Spec.Replicas, d); err != nil {
		return reconcile.Done, err
	}
	// Step 4: when all is complete, clean up.
	if DeploymentComplete(d, &d.Status) {
		if err := dc.cleanupDeployment(ctx, oldRSs, d); err != nil {
			return reconcile.Done, err
		}
	}
	// Step 5: write the status.
	return dc.syncRolloutStatus(ctx, allRSs, newRS, d)
}

// oldPodsRunning reports whether a pod of an old ReplicaSet may still run. A pod
// that is being deleted runs until it is gone; one that has ended does not.
func oldPodsRunning(newRS *appsv1.ReplicaSet, oldRSs []*appsv1.ReplicaSet, podMap map[types.UID][]*corev1.Pod) bool {
	if GetActualReplicaCountForReplicaSets(oldRSs) > 0 {
		return true
	}
	for uid, pods := range podMap {
		if newRS != nil && newRS.UID == uid {
			continue
		}
		for _, pod := range pods {
			if !podutil.IsPodTerminal(pod) {
				return true
			}
		}
	}
	return false
}
