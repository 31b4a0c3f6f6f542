package deployment

import (
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"

	"hyperkube/reconcile"
)

// rolloutRolling is one turn of a rolling update. It scales in one direction only:
// the next turn, which the ReplicaSet's event brings, sees the result.
//
//  1. scale the new ReplicaSet up, as far as maxSurge allows,
//  2. else scale the old ones down, as far as maxUnavailable allows,
//  3. when all is complete, delete what the history need not keep,
//  4. write the status.
func (dc *DeploymentController) rolloutRolling(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) (reconcile.Result, error) {
	newRS, oldRSs, err := dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, true)
	if err != nil || newRS == nil {
		return reconcile.Done, err
	}
	allRSs := allReplicaSets(oldRSs, newRS)

	// Step 1: scale the new ReplicaSet up.
	scaledUp, err := dc.reconcileNewReplicaSet(ctx, allRSs, newRS, d)
	if err != nil {
		return reconcile.Done, err
	}
	if scaledUp {
		return dc.syncRolloutStatus(ctx, allRSs, newRS, d)
	}
	// Step 2: scale the old ones down.
	scaledDown, err := dc.reconcileOldReplicaSets(ctx, allRSs, FilterActiveReplicaSets(oldRSs), newRS, d)
	if err != nil {
		return reconcile.Done, err
	}
	if scaledDown {
		return dc.syncRolloutStatus(ctx, allRSs, newRS, d)
	}
	// Step 3: when all is complete, clean up.
	if DeploymentComplete(d, &d.Status) {
		if err := dc.cleanupDeployment(ctx, oldRSs, d); err != nil {
			return reconcile.Done, err
		}
	}
	// Step 4: write the status.
	return dc.syncRolloutStatus(ctx, allRSs, newRS, d)
}

// reconcileNewReplicaSet sizes the new ReplicaSet and reports whether it wrote.
func (dc *DeploymentController) reconcileNewReplicaSet(ctx context.Context, allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet, d *appsv1.Deployment) (bool, error) {
	if *newRS.Spec.Replicas == *d.Spec.Replicas {
		return false, nil
	}
	replicas := *d.Spec.Replicas
	if *newRS.Spec.Replicas < replicas {
		var err error
		if replicas, err = NewRSNewReplicas(d, allRSs, newRS); err != nil {
			return false, err
		}
	}
	scaled, _, err := dc.scaleReplicaSetAndRecordEvent(ctx, newRS, replicas, d)
	return scaled, err
}

// maxScaledDown is how many old replicas may go now.
//
// It is not available − minAvailable: old replicas that are unavailable may go
// first and cost nothing. New replicas that are not available yet are subtracted,
// since to take old ones for them would count them twice.
func maxScaledDown(d *appsv1.Deployment, allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet) int32 {
	minAvailable := *d.Spec.Replicas - MaxUnavailable(*d)
	newUnavailable := *newRS.Spec.Replicas - lastingAvailable(newRS)
	return GetReplicaCountForReplicaSets(allRSs) - minAvailable - newUnavailable
}

// reconcileOldReplicaSets takes replicas from the old ReplicaSets: first those
// that are not available, then as many available ones as may be missing.
func (dc *DeploymentController) reconcileOldReplicaSets(ctx context.Context, allRSs, oldRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet, d *appsv1.Deployment) (bool, error) {
	if GetReplicaCountForReplicaSets(oldRSs) == 0 {
		return false, nil
	}
	limit := maxScaledDown(d, allRSs, newRS)
	if limit <= 0 {
		return false, nil
	}
	// Otherwise unhealthy old pods could hold up a rollout for ever: they count
	// towards the total, and would never be taken.
	oldRSs, cleaned, err := dc.cleanupUnhealthyReplicas(ctx, oldRSs, d, limit)
	if err != nil {
		return false, err
	}
	scaled, err := dc.scaleDownOldReplicaSetsForRollingUpdate(ctx, allReplicaSets(oldRSs, newRS), oldRSs, d)
	return cleaned+scaled > 0, err
}

// cleanupUnhealthyReplicas takes at most limit unavailable replicas, from the
// oldest ReplicaSet on, and returns the ReplicaSets as they are then.
func (dc *DeploymentController) cleanupUnhealthyReplicas(ctx context.Context, oldRSs []*appsv1.ReplicaSet, d *appsv1.Deployment, limit int32) ([]*appsv1.ReplicaSet, int32, error) {
	oldRSs = slices.Clone(oldRSs)
	slices.SortFunc(oldRSs, byCreation)
	var total int32
	for i, rs := range oldRSs {
		unhealthy := *rs.Spec.Replicas - rs.Status.AvailableReplicas
		take := min(limit-total, unhealthy)
		if take <= 0 {
			continue
		}
		_, updated, err := dc.scaleReplicaSetAndRecordEvent(ctx, rs, *rs.Spec.Replicas-take, d)
		if err != nil {
			return nil, total, err
		}
		total += take
		oldRSs[i] = updated
	}
	return oldRSs, total, nil
}

// scaleDownOldReplicaSetsForRollingUpdate takes what is available beyond the
// minimum, from the oldest ReplicaSet on.
func (dc *DeploymentController) scaleDownOldReplicaSetsForRollingUpdate(ctx context.Context, allRSs, oldRSs []*appsv1.ReplicaSet, d *appsv1.Deployment) (int32, error) {
	minAvailable := *d.Spec.Replicas - MaxUnavailable(*d)
	spare := sum(allRSs, lastingAvailable) - minAvailable
	oldRSs = slices.Clone(oldRSs)
	slices.SortFunc(oldRSs, byCreation)
	var total int32
	for _, rs := range oldRSs {
		take := min(spare-total, *rs.Spec.Replicas)
		if take <= 0 {
			continue
		}
		if _, _, err := dc.scaleReplicaSetAndRecordEvent(ctx, rs, *rs.Spec.Replicas-take, d); err != nil {
			return total, err
		}
		total += take
	}
	return total, nil
}

// lastingAvailable is how many of the ReplicaSet's available pods will stay so.
//
// Not status.availableReplicas: of a ReplicaSet that was scaled from 5 to 3 a moment
// ago, the status still says 5. To take those two for spare, as upstream does, takes
// them away twice (`controllers/deployment/bounds_test.go:TestRolloutKeepsItsBounds`
// finds it).
func lastingAvailable(rs *appsv1.ReplicaSet) int32 {
	return min(rs.Status.AvailableReplicas, *rs.Spec.Replicas)
}
