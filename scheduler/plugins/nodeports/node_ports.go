// Package nodeports keeps pods off nodes where a host port they want is taken.
package nodeports

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "NodePorts"

// ErrReason is counted over the nodes.
const ErrReason = "node(s) didn't have free ports for the requested pod ports"

// NodePorts is a PreFilter and Filter plugin.
type NodePorts struct{}

// New returns the plugin.
func New() *NodePorts { return &NodePorts{} }

// Name returns the plugin's name.
func (*NodePorts) Name() string { return Name }

// PreFilter skips pods without host ports: nearly all.
func (*NodePorts) PreFilter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	if len(pod.HostPorts) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	return nil, nil
}

// Filter refuses a node where one of the ports is in use.
func (*NodePorts) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	for _, port := range pod.HostPorts {
		if node.UsedPorts.CheckConflict(port.HostIP, port.Protocol, port.HostPort) {
			return framework.NewStatus(framework.Unschedulable, ErrReason)
		}
	}
	return nil
}

// EventsToRegister: a node comes, or a pod that holds one of the ports goes.
func (*NodePorts) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, ActionType: framework.Delete}, QueueingHintFn: isSchedulableAfterPodDeleted},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add}},
	}, nil
}

func isSchedulableAfterPodDeleted(_ klog.Logger, pod *v1.Pod, oldObj, _ any) (framework.QueueingHint, error) {
	deleted, ok := oldObj.(*v1.Pod)
	if !ok {
		return framework.QueueSkip, nil
	}
	freed := framework.HostPortInfo{}
	for _, port := range framework.NewPodInfo(deleted).HostPorts {
		freed.Add(port.HostIP, port.Protocol, port.HostPort)
	}
	for _, port := range framework.NewPodInfo(pod).HostPorts {
		if freed.CheckConflict(port.HostIP, port.Protocol, port.HostPort) {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
