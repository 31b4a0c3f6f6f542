package daemonset

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// updatedDesiredNodeCounts returns maxSurge and maxUnavailable as numbers of nodes.
func (t *turn) updatedDesiredNodeCounts(logger klog.Logger) (maxSurge, maxUnavailable int) {
	rolling := t.ds.Spec.UpdateStrategy.RollingUpdate
	if t.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || rolling == nil {
		return 0, 1
	}
	desired := 0
	for _, node := range t.nodes {
		if run, _ := nodeShouldRunDaemonPod(logger, node, t.ds); run {
			desired++
		}
	}
	// Validation has seen both: there is no error left to meet.
	maxUnavailable, _ = intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(rolling.MaxUnavailable, intstr.FromInt32(1))), desired, true)
	maxSurge, _ = intstr.GetScaledValueFromIntOrPercent(ptr.To(ptr.Deref(rolling.MaxSurge, intstr.FromInt32(0))), desired, true)
	if desired > 0 && maxUnavailable == 0 && maxSurge == 0 {
		maxUnavailable = 1
	}
	return maxSurge, maxUnavailable
}

// rollingUpdate replaces old pods. Without surge it deletes old ones, and the next
// turn makes their successors; with surge it makes the successor first.
func (dsc *DaemonSetsController) rollingUpdate(ctx context.Context, t *turn) error {
	_, maxUnavailable := t.updatedDesiredNodeCounts(klog.FromContext(ctx))
	if t.maxSurge == 0 {
		return dsc.syncNodes(ctx, t, t.podsToReplace(klog.FromContext(ctx), maxUnavailable), nil)
	}
	remove, nodes := t.nodesToSurge(klog.FromContext(ctx))
	return dsc.syncNodes(ctx, t, remove, nodes)
}

// findUpdatedPodsOnNode returns the newer and the older of the node's pods that are
// not on their way out. ok is false when there are more than that: manage comes first.
func (t *turn) findUpdatedPodsOnNode(node string) (newPod, oldPod *corev1.Pod, ok bool) {
	for _, pod := range t.podsOn[node] {
		if pod.DeletionTimestamp != nil {
			continue
		}
		slot := &oldPod
		if t.updated(pod) {
			slot = &newPod
		}
		if *slot != nil {
			return nil, nil, false
		}
		*slot = pod
	}
	return newPod, oldPod, true
}

// podsToReplace are the old pods that may go now: those that are not available
// anyway, and others until maxUnavailable nodes have none available.
func (t *turn) podsToReplace(logger klog.Logger, maxUnavailable int) []*corev1.Pod {
	unavailable := 0
	var broken, candidates []*corev1.Pod
	for _, node := range t.nodes {
		newPod, oldPod, ok := t.findUpdatedPodsOnNode(node.Name)
		if !ok {
			continue
		}
		switch {
		case newPod == nil && oldPod == nil:
			if run, _ := nodeShouldRunDaemonPod(logger, node, t.ds); run {
				unavailable++ // its next is on the way
			}
		case newPod != nil:
			if !t.available(newPod) {
				unavailable++
			}
		case !t.available(oldPod):
			broken = append(broken, oldPod)
			unavailable++
		default:
			candidates = append(candidates, oldPod)
		}
	}
	return append(broken, candidates[:min(max(0, maxUnavailable-unavailable), len(candidates))]...)
}

// nodesToSurge returns the old pods whose successor is available, and the nodes that
// get a successor now: those without an available pod, and others until maxSurge
// nodes have two.
func (t *turn) nodesToSurge(logger klog.Logger) (remove []*corev1.Pod, nodes []string) {
	surging := 0
	var broken, candidates []string
	for _, node := range t.nodes {
		newPod, oldPod, ok := t.findUpdatedPodsOnNode(node.Name)
		if !ok || oldPod == nil {
			continue
		}
		run, _ := nodeShouldRunDaemonPod(logger, node, t.ds)
		switch {
		case newPod == nil && !run: // it would not be scheduled
		case newPod == nil && !t.available(oldPod):
			broken = append(broken, node.Name)
		case newPod == nil:
			candidates = append(candidates, node.Name)
		case t.available(newPod):
			remove = append(remove, oldPod)
		default:
			surging++
		}
	}
	return remove, append(broken, candidates[:min(max(0, t.maxSurge-surging), len(candidates))]...)
}

// cleanupHistory deletes revisions beyond the limit that no pod is of.
func (dsc *DaemonSetsController) cleanupHistory(ctx context.Context, t *turn, revisions []*appsv1.ControllerRevision, current *appsv1.ControllerRevision) error {
	live := map[string]bool{t.hash: true}
	for _, pods := range t.podsOn {
		for _, pod := range pods {
			live[pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]] = true
		}
	}
	return dsc.history.Truncate(ctx, revisions, int(ptr.Deref(t.ds.Spec.RevisionHistoryLimit, 10)), func(r *appsv1.ControllerRevision) bool {
		return r.UID == current.UID || live[r.Labels[appsv1.ControllerRevisionHashLabelKey]]
	})
}
