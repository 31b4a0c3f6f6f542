// Package nodename honours a node name that is already in the pod's spec.
package nodename

import (
	"context"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeName"

// ErrReason is counted over the nodes that do not match.
const ErrReason = "node(s) didn't match the requested node name"

// NodeName is a Filter plugin.
type NodeName struct{}

// New returns the plugin.
func New() *NodeName { return &NodeName{} }

// Name returns the plugin's name.
func (*NodeName) Name() string { return Name }

// Filter refuses every node but the named one.
func (*NodeName) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if name := pod.Pod.Spec.NodeName; name != "" && name != node.Node().Name {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReason)
	}
	return nil
}

// EventsToRegister: the named node may still come.
func (*NodeName) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add}}}, nil
}
