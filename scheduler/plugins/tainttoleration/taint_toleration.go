// Package tainttoleration keeps pods off nodes whose NoSchedule and NoExecute
// taints they do not tolerate, and prefers nodes with fewer untolerated
// PreferNoSchedule taints.
package tainttoleration

import (
	"context"

	v1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "TaintToleration"

// ErrReasonNotMatch is counted over the nodes. It does not name the taint, as it
// did before v1.35: a text per taint made the message of a large cluster endless.
const ErrReasonNotMatch = "node(s) had untolerated taint(s)"

const preScoreStateKey = "PreScore" + Name

// TaintToleration is a Filter and Score plugin.
type TaintToleration struct{}

// New returns the plugin.
func New() *TaintToleration { return &TaintToleration{} }

// Name returns the plugin's name.
func (*TaintToleration) Name() string { return Name }

// Filter refuses a node with an untolerated taint.
func (*TaintToleration) Filter(ctx context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	taints := node.Node().Spec.Taints
	if len(taints) == 0 {
		return nil
	}
	if _, found := findUntolerated(klog.FromContext(ctx), taints, pod.Pod.Spec.Tolerations); found {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonNotMatch)
	}
	return nil
}

// findUntolerated looks only at the effects that keep pods away.
func findUntolerated(logger klog.Logger, taints []v1.Taint, tolerations []v1.Toleration) (v1.Taint, bool) {
	return corev1helpers.FindMatchingUntoleratedTaint(logger, taints, tolerations, func(t *v1.Taint) bool {
		return t.Effect == v1.TaintEffectNoSchedule || t.Effect == v1.TaintEffectNoExecute
	}, true)
}

// preScoreState is what Score needs of the pod.
type preScoreState struct {
	tolerationsPreferNoSchedule []v1.Toleration
}

// Clone returns the state itself: it never changes.
func (s *preScoreState) Clone() framework.StateData { return s }

// PreScore picks the tolerations that matter, and skips scoring when no node has a
// PreferNoSchedule taint.
func (*TaintToleration) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) *framework.Status {
	if !anyPreferNoSchedule(nodes) {
		return framework.NewStatus(framework.Skip)
	}
	s := &preScoreState{}
	for _, t := range pod.Pod.Spec.Tolerations {
		if t.Effect == "" || t.Effect == v1.TaintEffectPreferNoSchedule {
			s.tolerationsPreferNoSchedule = append(s.tolerationsPreferNoSchedule, t)
		}
	}
	state.Write(preScoreStateKey, s)
	return nil
}

func anyPreferNoSchedule(nodes []*framework.NodeInfo) bool {
	for _, node := range nodes {
		for _, taint := range node.Node().Spec.Taints {
			if taint.Effect == v1.TaintEffectPreferNoSchedule {
				return true
			}
		}
	}
	return false
}

// Score counts the untolerated PreferNoSchedule taints: fewer is better.
func (*TaintToleration) Score(ctx context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	data, err := state.Read(preScoreStateKey)
	if err != nil {
		return 0, framework.AsStatus(err)
	}
	count := int64(0)
	for _, taint := range node.Node().Spec.Taints {
		if taint.Effect == v1.TaintEffectPreferNoSchedule &&
			!corev1helpers.TolerationsTolerateTaint(klog.FromContext(ctx), data.(*preScoreState).tolerationsPreferNoSchedule, &taint, true) {
			count++
		}
	}
	return count, nil
}

// NormalizeScore turns the counts round, so that no taints is 100.
func (*TaintToleration) NormalizeScore(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	framework.DefaultNormalizeScore(framework.MaxNodeScore, true, scores)
	return nil
}

// EventsToRegister: a node comes or loses taints, or the pod gains tolerations.
func (*TaintToleration) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeTaint}, QueueingHintFn: isSchedulableAfterNodeChange},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, ActionType: framework.UpdatePodToleration}, QueueingHintFn: isSchedulableAfterPodTolerationChange},
	}, nil
}

// isSchedulableAfterNodeChange: the node must have become tolerable by this event.
func isSchedulableAfterNodeChange(logger klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	tolerable := func(node *v1.Node) bool {
		_, untolerated := findUntolerated(logger, node.Spec.Taints, pod.Spec.Tolerations)
		return !untolerated
	}
	newNode, ok := newObj.(*v1.Node)
	if !ok || !tolerable(newNode) {
		return framework.QueueSkip, nil
	}
	if oldNode, ok := oldObj.(*v1.Node); ok && tolerable(oldNode) {
		return framework.QueueSkip, nil
	}
	return framework.Queue, nil
}

func isSchedulableAfterPodTolerationChange(_ klog.Logger, pod *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	if updated, ok := newObj.(*v1.Pod); ok && updated.UID == pod.UID {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}
