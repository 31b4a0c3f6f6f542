package replicaset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

// replicaSetKeys: its own. A ReplicaSet that went, or was replaced under the same
// name, expects nothing any more.
func (rsc *ReplicaSetController) replicaSetKeys(e reconcile.Event) []string {
	key := reconcile.KeyOf(e.Object())
	if e.Deleted() || !e.Added() && e.Old.GetUID() != e.New.GetUID() {
		rsc.expectations.DeleteExpectations(key)
	}
	return []string{key}
}

// podKeys names the ReplicaSets that a pod's event concerns, and tells the
// expectations what was seen.
func (rsc *ReplicaSetController) podKeys(e reconcile.Event) []string {
	switch {
	case e.Deleted():
		return rsc.deletePod(e.Old.(*corev1.Pod))
	case e.Added():
		return rsc.addPod(e.New.(*corev1.Pod))
	default:
		return rsc.updatePod(e.Old.(*corev1.Pod), e.New.(*corev1.Pod))
	}
}

func (rsc *ReplicaSetController) addPod(pod *corev1.Pod) []string {
	if pod.DeletionTimestamp != nil {
		// After a restart, the first we see of a pod may be that it is going.
		return rsc.deletePod(pod)
	}
	if key, ok := rsc.resolveControllerRef(pod); ok {
		rsc.expectations.CreationObserved(key)
		return []string{key}
	}
	return rsc.matching(pod)
}

func (rsc *ReplicaSetController) updatePod(before, pod *corev1.Pod) []string {
	if before.ResourceVersion == pod.ResourceVersion {
		return nil
	}
	if pod.DeletionTimestamp != nil {
		// It counts as deleted from the moment it is asked to go. When its labels
		// changed with the same event, its former owner hears of it too.
		keys := rsc.deletePod(pod)
		if !labels.Equals(before.Labels, pod.Labels) {
			keys = append(keys, rsc.deletePod(before)...)
		}
		return keys
	}
	var keys []string
	oldKey, hadOwner := rsc.resolveControllerRef(before)
	key, hasOwner := rsc.resolveControllerRef(pod)
	if hadOwner && oldKey != key {
		keys = append(keys, oldKey)
	}
	if hasOwner {
		return append(keys, key)
	}
	// An orphan: a changed label or owner may make someone adopt it.
	if metav1.GetControllerOf(pod) == nil && (hadOwner || !labels.Equals(before.Labels, pod.Labels)) {
		keys = append(keys, rsc.matching(pod)...)
	}
	return keys
}

func (rsc *ReplicaSetController) deletePod(pod *corev1.Pod) []string {
	key, ok := rsc.resolveControllerRef(pod)
	if !ok {
		return nil // nobody cares about an orphan's end
	}
	rsc.expectations.DeletionObserved(key, podcontrol.PodKey(pod))
	return []string{key}
}

// resolveControllerRef returns the key of the pod's ReplicaSet. The UID decides:
// a reference to a former ReplicaSet of the same name leads nowhere.
func (rsc *ReplicaSetController) resolveControllerRef(pod *corev1.Pod) (string, bool) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil || ref.Kind != rsc.kind.Kind {
		return "", false
	}
	rs, err := rsc.store.get(pod.Namespace, ref.Name)
	if err != nil || rs.UID != ref.UID {
		return "", false
	}
	return reconcile.KeyOf(rs), true
}

// matching are the ReplicaSets that might adopt the orphan.
func (rsc *ReplicaSetController) matching(pod *corev1.Pod) []string {
	if metav1.GetControllerOf(pod) != nil {
		return nil
	}
	all, err := rsc.store.list(pod.Namespace)
	if err != nil {
		return nil
	}
	var keys []string
	for _, rs := range all {
		if selects(rs, pod.Labels) {
			keys = append(keys, reconcile.KeyOf(rs))
		}
	}
	return keys
}

func selects(rs *appsv1.ReplicaSet, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	return err == nil && !selector.Empty() && selector.Matches(set)
}
