package deployment

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// syncStatusOnly reports, and changes nothing else.
func (dc *DeploymentController) syncStatusOnly(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) error {
	newRS, oldRSs, err := dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, false)
	if err != nil {
		return err
	}
	return dc.syncDeploymentStatus(ctx, allReplicaSets(oldRSs, newRS), newRS, d)
}

// sync brings the sizes in line without rolling out: for a Deployment that is
// paused or was resized.
func (dc *DeploymentController) sync(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) error {
	newRS, oldRSs, err := dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, false)
	if err != nil {
		return err
	}
	if err := dc.scale(ctx, d, newRS, oldRSs); err != nil {
		return err // the next turn goes on where this one stopped
	}
	if d.Spec.Paused {
		if err := dc.cleanupDeployment(ctx, oldRSs, d); err != nil {
			return err
		}
	}
	return dc.syncDeploymentStatus(ctx, allReplicaSets(oldRSs, newRS), newRS, d)
}

// checkPausedConditions notes pausing and resuming in the condition Progressing,
// so that time spent paused does not count towards the deadline.
func (dc *DeploymentController) checkPausedConditions(ctx context.Context, d *appsv1.Deployment) error {
	if !HasProgressDeadline(d) {
		return nil
	}
	cond := GetDeploymentCondition(d.Status, appsv1.DeploymentProgressing)
	if cond != nil && cond.Reason == TimedOutReason {
		return nil // a lost rollout stays reported as lost
	}
	pausedNoted := cond != nil && cond.Reason == PausedDeployReason
	switch {
	case d.Spec.Paused && !pausedNoted:
		dc.setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, PausedDeployReason, "Deployment is paused")
	case !d.Spec.Paused && pausedNoted:
		dc.setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionUnknown, ResumedDeployReason, "Deployment is resumed")
	default:
		return nil
	}
	return dc.updateStatus(ctx, d)
}

// updateStatus writes d.Status (and d's annotations) and takes over the new
// resource version, so that a later write of this turn does not conflict with it.
func (dc *DeploymentController) updateStatus(ctx context.Context, d *appsv1.Deployment) error {
	updated, err := dc.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
	if err == nil {
		d.ResourceVersion = updated.ResourceVersion
	}
	return err
}

// getAllReplicaSetsAndSyncRevision returns the new ReplicaSet (created if asked
// to, else nil when there is none) and the old ones, after bringing the revision
// annotations up to date.
func (dc *DeploymentController) getAllReplicaSetsAndSyncRevision(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet, create bool) (*appsv1.ReplicaSet, []*appsv1.ReplicaSet, error) {
	oldRSs := FindOldReplicaSets(d, rsList)
	newRS, err := dc.getNewReplicaSet(ctx, d, rsList, oldRSs, create)
	if err != nil {
		return nil, nil, err
	}
	return newRS, oldRSs, nil
}

// getNewReplicaSet returns the ReplicaSet of d's template. Its revision becomes
// one more than the highest of the old ones: for a template that was undone to,
// too.
func (dc *DeploymentController) getNewReplicaSet(ctx context.Context, d *appsv1.Deployment, rsList, oldRSs []*appsv1.ReplicaSet, create bool) (*appsv1.ReplicaSet, error) {
	newRevision := strconv.FormatInt(MaxRevision(oldRSs)+1, 10)
	if existing := FindNewReplicaSet(d, rsList); existing != nil {
		return dc.syncExistingReplicaSet(ctx, d, existing, newRevision)
	}
	if !create {
		return nil, nil
	}
	desired, err := newReplicaSetFor(d, oldRSs, newRevision)
	if err != nil {
		return nil, err
	}
	created, err := dc.client.AppsV1().ReplicaSets(d.Namespace).Create(ctx, desired, metav1.CreateOptions{})
	alreadyExists := apierrors.IsAlreadyExists(err)
	switch {
	case alreadyExists:
		created, err = dc.resolveNameTaken(ctx, d, desired.Name, err)
		if err != nil {
			return nil, err
		}
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil // nothing can be created any more
	case err != nil:
		return nil, dc.reportFailedCreate(ctx, d, desired.Name, err)
	}
	if replicas := ptr.Deref(created.Spec.Replicas, 0); !alreadyExists && replicas > 0 {
		dc.eventRecorder.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", created.Name, replicas)
	}
	needsUpdate := SetDeploymentRevision(d, newRevision)
	if !alreadyExists && HasProgressDeadline(d) {
		dc.setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, NewReplicaSetReason,
			fmt.Sprintf("Created new replica set %q", created.Name))
		needsUpdate = true
	}
	if needsUpdate {
		err = dc.updateStatus(ctx, d)
	} else {
		err = nil
	}
	return created, err
}

// syncExistingReplicaSet brings annotations, revision and minReadySeconds of the
// new ReplicaSet up to date with d, and d's revision with the ReplicaSet's.
func (dc *DeploymentController) syncExistingReplicaSet(ctx context.Context, d *appsv1.Deployment, existing *appsv1.ReplicaSet, newRevision string) (*appsv1.ReplicaSet, error) {
	rs := existing.DeepCopy()
	changed := SetNewReplicaSetAnnotations(d, rs, newRevision, true)
	if changed || rs.Spec.MinReadySeconds != d.Spec.MinReadySeconds {
		rs.Spec.MinReadySeconds = d.Spec.MinReadySeconds
		return dc.client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, rs, metav1.UpdateOptions{})
	}
	needsUpdate := SetDeploymentRevision(d, rs.Annotations[RevisionAnnotation])
	if HasProgressDeadline(d) && GetDeploymentCondition(d.Status, appsv1.DeploymentProgressing) == nil {
		dc.setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionTrue, FoundNewRSReason,
			fmt.Sprintf("Found new replica set %q", rs.Name))
		needsUpdate = true
	}
	if needsUpdate {
		if err := dc.updateStatus(ctx, d); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// newReplicaSetFor is the ReplicaSet to create for d's template.
func newReplicaSetFor(d *appsv1.Deployment, oldRSs []*appsv1.ReplicaSet, revision string) (*appsv1.ReplicaSet, error) {
	template := *d.Spec.Template.DeepCopy()
	hash := ComputeHash(&template, d.Status.CollisionCount)
	template.Labels = withLabel(template.Labels, hash)
	selector := d.Spec.Selector.DeepCopy()
	selector.MatchLabels = withLabel(selector.MatchLabels, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			// The name is the template's, so that two controllers, or one that forgot,
			// cannot create two ReplicaSets for it.
			Name:            d.Name + "-" + hash,
			Namespace:       d.Namespace,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, controllerKind)},
			Labels:          maps.Clone(template.Labels),
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To[int32](0), MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template,
		},
	}
	replicas, err := NewRSNewReplicas(d, allReplicaSets(oldRSs, rs), rs)
	if err != nil {
		return nil, err
	}
	rs.Spec.Replicas = ptr.To(replicas)
	SetNewReplicaSetAnnotations(d, rs, revision, false)
	return rs, nil
}

func withLabel(labels map[string]string, hash string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return labels
}

// resolveNameTaken tells two cases apart: the cache lags, and the ReplicaSet is
// the one wanted; or another template has the same hash, and the collision count,
// which goes into the hash, must grow.
func (dc *DeploymentController) resolveNameTaken(ctx context.Context, d *appsv1.Deployment, name string, taken error) (*appsv1.ReplicaSet, error) {
	rs, err := dc.rsLister.ReplicaSets(d.Namespace).Get(name)
	if apierrors.IsNotFound(err) {
		rs, err = dc.client.AppsV1().ReplicaSets(d.Namespace).Get(ctx, name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, err
	}
	if ref := metav1.GetControllerOf(rs); ref != nil && ref.UID == d.UID && EqualIgnoreHash(&d.Spec.Template, &rs.Spec.Template) {
		return rs, nil
	}
	d.Status.CollisionCount = ptr.To(ptr.Deref(d.Status.CollisionCount, 0) + 1)
	if err := dc.updateStatus(ctx, d); err != nil {
		return nil, err
	}
	klog.FromContext(ctx).V(2).Info("Found a hash collision, bumped the collision count", "replicaSet", name, "collisionCount", *d.Status.CollisionCount)
	return nil, taken
}

func (dc *DeploymentController) reportFailedCreate(ctx context.Context, d *appsv1.Deployment, name string, cause error) error {
	msg := fmt.Sprintf("Failed to create new replica set %q: %v", name, cause)
	if HasProgressDeadline(d) {
		dc.setCondition(&d.Status, appsv1.DeploymentProgressing, corev1.ConditionFalse, FailedRSCreateReason, msg)
		// The cause is returned either way; a status that could not be written is
		// written by the retry.
		_ = dc.updateStatus(ctx, d)
	}
	dc.eventRecorder.Eventf(d, corev1.EventTypeWarning, FailedRSCreateReason, "%s", msg)
	return cause
}

// scale brings the sum of the sizes to what d asks for, without a rollout:
//
//  1. where one ReplicaSet is active, or none, it gets everything;
//  2. where the new one is saturated, the old ones go to zero;
//  3. else, in the middle of a rolling update, all are scaled in proportion to
//     their sizes, so that the risk stays spread as it was.
func (dc *DeploymentController) scale(ctx context.Context, d *appsv1.Deployment, newRS *appsv1.ReplicaSet, oldRSs []*appsv1.ReplicaSet) error {
	// Step 1: one active ReplicaSet, or none.
	if only := FindActiveOrLatest(newRS, oldRSs); only != nil {
		_, _, err := dc.scaleReplicaSetAndRecordEvent(ctx, only, *d.Spec.Replicas, d)
		return err
	}
	// Step 2: the new one is saturated.
	if IsSaturated(d, newRS) {
		for _, old := range FilterActiveReplicaSets(oldRSs) {
			if _, _, err := dc.scaleReplicaSetAndRecordEvent(ctx, old, 0, d); err != nil {
				return err
			}
		}
		return nil
	}
	// Step 3: in proportion.
	if !IsRollingUpdate(d) {
		return nil
	}
	active := FilterActiveReplicaSets(allReplicaSets(oldRSs, newRS))
	for _, size := range proportionalSizes(d, active) {
		// The annotations change with d's size even where the ReplicaSet's does not.
		if _, _, err := dc.scaleReplicaSet(ctx, size.rs, size.replicas, d); err != nil {
			return err
		}
	}
	return nil
}

type sizedReplicaSet struct {
	rs       *appsv1.ReplicaSet
	replicas int32
}

// proportionalSizes spreads the replicas to add (or, negative, to take) over the
// active ReplicaSets. Larger ones come first; what rounding leaves goes to the
// first.
func proportionalSizes(d *appsv1.Deployment, active []*appsv1.ReplicaSet) []sizedReplicaSet {
	var allowed int32
	if *d.Spec.Replicas > 0 {
		allowed = *d.Spec.Replicas + MaxSurge(*d)
	}
	toAdd := allowed - GetReplicaCountForReplicaSets(active)
	active = slices.Clone(active)
	if toAdd > 0 {
		slices.SortFunc(active, bySizeNewer)
	} else if toAdd < 0 {
		slices.SortFunc(active, bySizeOlder)
	}
	var added int32
	sizes := make([]sizedReplicaSet, len(active))
	for i, rs := range active {
		share := GetReplicaSetProportion(rs, *d, toAdd, added)
		sizes[i] = sizedReplicaSet{rs, *rs.Spec.Replicas + share}
		added += share
	}
	if len(sizes) > 0 && toAdd != 0 {
		sizes[0].replicas = max(0, sizes[0].replicas+toAdd-added)
	}
	return sizes
}

func (dc *DeploymentController) scaleReplicaSetAndRecordEvent(ctx context.Context, rs *appsv1.ReplicaSet, newScale int32, d *appsv1.Deployment) (bool, *appsv1.ReplicaSet, error) {
	if *rs.Spec.Replicas == newScale {
		return false, rs, nil
	}
	return dc.scaleReplicaSet(ctx, rs, newScale, d)
}

// scaleReplicaSet writes the size and the annotations that proportional scaling
// needs later.
func (dc *DeploymentController) scaleReplicaSet(ctx context.Context, rs *appsv1.ReplicaSet, newScale int32, d *appsv1.Deployment) (bool, *appsv1.ReplicaSet, error) {
	oldScale := *rs.Spec.Replicas
	updated := rs.DeepCopy()
	annotated := SetReplicasAnnotations(updated, *d.Spec.Replicas, *d.Spec.Replicas+MaxSurge(*d))
	if oldScale == newScale && !annotated {
		return false, rs, nil
	}
	updated.Spec.Replicas = ptr.To(newScale)
	updated, err := dc.client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, updated, metav1.UpdateOptions{})
	if err != nil {
		return false, rs, err
	}
	if oldScale == newScale {
		return false, updated, nil
	}
	operation := "up"
	if newScale < oldScale {
		operation = "down"
	}
	dc.eventRecorder.Eventf(d, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", operation, rs.Name, oldScale, newScale)
	return true, updated, nil
}

// cleanupDeployment deletes the oldest ReplicaSets beyond revisionHistoryLimit,
// but never one that has pods or is about to.
func (dc *DeploymentController) cleanupDeployment(ctx context.Context, oldRSs []*appsv1.ReplicaSet, d *appsv1.Deployment) error {
	if !HasRevisionHistoryLimit(d) {
		return nil
	}
	cleanable := slices.DeleteFunc(slices.Clone(oldRSs), func(rs *appsv1.ReplicaSet) bool { return rs.DeletionTimestamp != nil })
	surplus := len(cleanable) - int(*d.Spec.RevisionHistoryLimit)
	if surplus <= 0 {
		return nil
	}
	slices.SortFunc(cleanable, byRevision)
	for _, rs := range cleanable[:surplus] {
		if rs.Status.Replicas != 0 || *rs.Spec.Replicas != 0 || rs.Generation > rs.Status.ObservedGeneration {
			continue
		}
		err := dc.client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// syncDeploymentStatus writes the status if it changed.
func (dc *DeploymentController) syncDeploymentStatus(ctx context.Context, allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet, d *appsv1.Deployment) error {
	status := dc.calculateStatus(allRSs, newRS, d)
	if equality.Semantic.DeepEqual(d.Status, status) {
		return nil
	}
	d.Status = status
	return dc.updateStatus(ctx, d)
}

// calculateStatus sums up the ReplicaSets.
func (dc *DeploymentController) calculateStatus(allRSs []*appsv1.ReplicaSet, newRS *appsv1.ReplicaSet, d *appsv1.Deployment) appsv1.DeploymentStatus {
	available := GetAvailableReplicaCountForReplicaSets(allRSs)
	status := appsv1.DeploymentStatus{
		ObservedGeneration:  d.Generation,
		Replicas:            GetActualReplicaCountForReplicaSets(allRSs),
		UpdatedReplicas:     GetActualReplicaCountForReplicaSets([]*appsv1.ReplicaSet{newRS}),
		ReadyReplicas:       GetReadyReplicaCountForReplicaSets(allRSs),
		AvailableReplicas:   available,
		UnavailableReplicas: max(0, GetReplicaCountForReplicaSets(allRSs)-available),
		TerminatingReplicas: GetTerminatingReplicaCountForReplicaSets(allRSs),
		CollisionCount:      d.Status.CollisionCount,
		Conditions:          slices.Clone(d.Status.Conditions),
	}
	if available >= *d.Spec.Replicas-MaxUnavailable(*d) {
		dc.setCondition(&status, appsv1.DeploymentAvailable, corev1.ConditionTrue, MinimumReplicasAvailable, "Deployment has minimum availability.")
	} else {
		dc.setCondition(&status, appsv1.DeploymentAvailable, corev1.ConditionFalse, MinimumReplicasUnavailable, "Deployment does not have minimum availability.")
	}
	return status
}

// isScalingEvent reports whether d.spec.replicas differs from what it was when the
// active ReplicaSets were last sized: each carries that number as an annotation.
func (dc *DeploymentController) isScalingEvent(ctx context.Context, d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) (bool, error) {
	newRS, oldRSs, err := dc.getAllReplicaSetsAndSyncRevision(ctx, d, rsList, false)
	if err != nil {
		return false, err
	}
	for _, rs := range FilterActiveReplicaSets(allReplicaSets(oldRSs, newRS)) {
		if desired, ok := intAnnotation(rs, DesiredReplicasAnnotation); ok && desired != *d.Spec.Replicas {
			return true, nil
		}
	}
	return false, nil
}

// ComputeHash is the value of the label pod-template-hash: a hash of the template
// and, where two templates have collided, of the collision count.
func ComputeHash(template *corev1.PodTemplateSpec, collisionCount *int32) string {
	return rand.SafeEncodeString(strconv.FormatUint(uint64(hashTemplate(template, collisionCount)), 10))
}
