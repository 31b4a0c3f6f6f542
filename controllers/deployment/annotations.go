package deployment

import (
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The annotations in which rollouts keep their memory, on ReplicaSets and (the
// first) on the Deployment.
const (
	// RevisionAnnotation numbers the templates by their last use.
	RevisionAnnotation = "deployment.kubernetes.io/revision"
	// RevisionHistoryAnnotation lists the numbers a ReplicaSet had before.
	RevisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	// DesiredReplicasAnnotation is the Deployment's size when the ReplicaSet was
	// last sized, and MaxReplicasAnnotation that size with the surge.
	DesiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas"
	MaxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"
)

// maxRevHistoryLengthInChars bounds RevisionHistoryAnnotation.
const maxRevHistoryLengthInChars = 2000

// notCopied are the Deployment's annotations that a ReplicaSet does not inherit.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation, RevisionAnnotation, RevisionHistoryAnnotation,
	DesiredReplicasAnnotation, MaxReplicasAnnotation, appsv1.DeprecatedRollbackTo,
}

// Revision is the number of an object's template; 0 where it has none yet.
func Revision(object metav1.Object) (int64, error) {
	value, ok := object.GetAnnotations()[RevisionAnnotation]
	if !ok {
		return 0, nil
	}
	return strconv.ParseInt(value, 10, 64)
}

// MaxRevision is the highest revision of the ReplicaSets; one that cannot be read
// counts for nothing.
func MaxRevision(rsList []*appsv1.ReplicaSet) int64 {
	var highest int64
	for _, rs := range rsList {
		if revision, err := Revision(rs); err == nil {
			highest = max(highest, revision)
		}
	}
	return highest
}

// SetDeploymentRevision notes the revision on d and reports whether it is new.
func SetDeploymentRevision(d *appsv1.Deployment, revision string) bool {
	return setAnnotation(&d.ObjectMeta, RevisionAnnotation, revision)
}

// SetNewReplicaSetAnnotations brings rs's annotations up to date with d and
// reports whether one changed. exists: rs is in the API already, so that its size
// annotations are scale's business.
func SetNewReplicaSetAnnotations(d *appsv1.Deployment, rs *appsv1.ReplicaSet, newRevision string, exists bool) bool {
	changed := copyDeploymentAnnotationsToReplicaSet(d, rs)
	if setRevision(rs, newRevision) {
		changed = true
	}
	if !exists && SetReplicasAnnotations(rs, *d.Spec.Replicas, *d.Spec.Replicas+MaxSurge(*d)) {
		changed = true
	}
	return changed
}

// setRevision raises rs's revision, never lowers it, and keeps the former number
// in the history: `kubectl rollout history` would otherwise lose it on an undo.
func setRevision(rs *appsv1.ReplicaSet, newRevision string) bool {
	former, err := Revision(rs)
	if err != nil {
		return false // somebody wrote it; it is not ours to repair
	}
	next, err := strconv.ParseInt(newRevision, 10, 64)
	if err != nil || former >= next {
		return false
	}
	if formerText, had := rs.Annotations[RevisionAnnotation]; had {
		setAnnotation(&rs.ObjectMeta, RevisionHistoryAnnotation, appendHistory(rs.Annotations[RevisionHistoryAnnotation], formerText))
	}
	return setAnnotation(&rs.ObjectMeta, RevisionAnnotation, newRevision)
}

// appendHistory drops the oldest numbers where the list would become too long.
func appendHistory(history, revision string) string {
	var all []string
	if history != "" {
		all = strings.Split(history, ",")
	}
	all = append(all, revision)
	for len(all) > 1 && len(strings.Join(all, ",")) > maxRevHistoryLengthInChars {
		all = all[1:]
	}
	return strings.Join(all, ",")
}

func copyDeploymentAnnotationsToReplicaSet(d *appsv1.Deployment, rs *appsv1.ReplicaSet) bool {
	changed := false
	for key, value := range d.Annotations {
		if !slices.Contains(notCopied, key) && setAnnotation(&rs.ObjectMeta, key, value) {
			changed = true
		}
	}
	return changed
}

// SetReplicasAnnotations notes the sizes that rs is sized for.
func SetReplicasAnnotations(rs *appsv1.ReplicaSet, desired, maximum int32) bool {
	changed := setAnnotation(&rs.ObjectMeta, DesiredReplicasAnnotation, strconv.Itoa(int(desired)))
	return setAnnotation(&rs.ObjectMeta, MaxReplicasAnnotation, strconv.Itoa(int(maximum))) || changed
}

func setAnnotation(meta *metav1.ObjectMeta, key, value string) bool {
	if known, ok := meta.Annotations[key]; ok && known == value {
		return false
	}
	if meta.Annotations == nil {
		meta.Annotations = map[string]string{}
	}
	meta.Annotations[key] = value
	return true
}
