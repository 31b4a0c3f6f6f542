package nodelifecycle

import (
	"context"
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// taintOf says which taint a condition's status asks for.
var taintOf = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
}

// wantedTaints are the taints of ours that the node should have, without times.
func wantedTaints(node *corev1.Node, evict bool) []corev1.Taint {
	var wanted []corev1.Taint
	for _, rule := range taintOf {
		condition := getNodeCondition(node, rule.condition)
		if condition == nil || condition.Status != rule.status {
			continue
		}
		wanted = append(wanted, corev1.Taint{Key: rule.key, Effect: corev1.TaintEffectNoSchedule})
		if rule.condition == corev1.NodeReady && evict {
			wanted = append(wanted, corev1.Taint{Key: rule.key, Effect: corev1.TaintEffectNoExecute})
		}
	}
	if node.Spec.Unschedulable {
		wanted = append(wanted, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	return wanted
}

// ours reports whether we decide about the taint.
func ours(taint corev1.Taint) bool {
	switch taint.Key {
	case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable:
		return taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
	case corev1.TaintNodeMemoryPressure, corev1.TaintNodeDiskPressure, corev1.TaintNodePIDPressure,
		corev1.TaintNodeNetworkUnavailable, corev1.TaintNodeUnschedulable:
		return taint.Effect == corev1.TaintEffectNoSchedule
	}
	return false
}

// desiredTaints returns the node's taints as they should be, and whether they
// differ from those it has. A taint that stays keeps its time: tolerations count
// from it. A node without a Ready condition has not reported yet and keeps what
// admission gave it.
func desiredTaints(node *corev1.Node, evict bool, now metav1.Time) ([]corev1.Taint, bool) {
	if getNodeCondition(node, corev1.NodeReady) == nil {
		return node.Spec.Taints, false
	}
	wanted := wantedTaints(node, evict)
	desired := []corev1.Taint{}
	changed := false
	for _, taint := range node.Spec.Taints {
		i := slices.IndexFunc(wanted, func(w corev1.Taint) bool { return w.MatchTaint(&taint) })
		if ours(taint) && i < 0 {
			changed = true // no longer wanted
			continue
		}
		desired = append(desired, taint)
		if i >= 0 {
			wanted = slices.Delete(wanted, i, i+1)
		}
	}
	for _, taint := range wanted {
		taint.TimeAdded = &now
		desired = append(desired, taint)
		changed = true
	}
	return desired, changed
}

// syncTaints writes the node's taints where they differ from desiredTaints.
func (c *Controller) syncTaints(ctx context.Context, node *corev1.Node) error {
	down, err := c.allNodesDown()
	if err != nil {
		return err
	}
	taints, changed := desiredTaints(node, !down, metav1.NewTime(c.clock.Now()))
	if !changed {
		return nil
	}
	klog.FromContext(ctx).V(2).Info("Tainting node by its conditions", "node", node.Name, "taints", taints)
	// The list is replaced as a whole; the resource version refuses that when
	// someone else has changed it since.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
