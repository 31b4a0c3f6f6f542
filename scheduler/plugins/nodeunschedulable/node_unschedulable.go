// Package nodeunschedulable keeps pods off cordoned nodes.
package nodeunschedulable

import (
	"context"

	v1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeUnschedulable"

// ErrReasonUnschedulable is counted over the cordoned nodes.
const ErrReasonUnschedulable = "node(s) were unschedulable"

// NodeUnschedulable is a Filter plugin.
type NodeUnschedulable struct{}

// New returns the plugin.
func New() *NodeUnschedulable { return &NodeUnschedulable{} }

// Name returns the plugin's name.
func (*NodeUnschedulable) Name() string { return Name }

// Filter refuses a cordoned node unless the pod tolerates the taint that stands
// for the cordon (daemon pods do).
func (*NodeUnschedulable) Filter(ctx context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if !node.Node().Spec.Unschedulable || toleratesCordon(klog.FromContext(ctx), pod.Pod) {
		return nil
	}
	return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonUnschedulable)
}

func toleratesCordon(logger klog.Logger, pod *v1.Pod) bool {
	taint := &v1.Taint{Key: v1.TaintNodeUnschedulable, Effect: v1.TaintEffectNoSchedule}
	return corev1helpers.TolerationsTolerateTaint(logger, pod.Spec.Tolerations, taint, true)
}

// EventsToRegister: a node comes or is uncordoned, or the pod gains the toleration.
func (*NodeUnschedulable) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeTaint}, QueueingHintFn: isSchedulableAfterNodeChange},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, ActionType: framework.UpdatePodToleration}, QueueingHintFn: isSchedulableAfterPodTolerationChange},
	}, nil
}

func isSchedulableAfterNodeChange(_ klog.Logger, _ *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	newNode, ok := newObj.(*v1.Node)
	if !ok || newNode.Spec.Unschedulable {
		return framework.QueueSkip, nil
	}
	if oldNode, ok := oldObj.(*v1.Node); ok && !oldNode.Spec.Unschedulable {
		return framework.QueueSkip, nil // it was schedulable before: that did not help
	}
	return framework.Queue, nil
}

func isSchedulableAfterPodTolerationChange(logger klog.Logger, pod *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	updated, ok := newObj.(*v1.Pod)
	if !ok || updated.UID != pod.UID || !toleratesCordon(logger, updated) {
		return framework.QueueSkip, nil
	}
	return framework.Queue, nil
}
