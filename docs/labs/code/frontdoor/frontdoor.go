// Package frontdoor is a scheduler plugin of one's own (lab 3): it refuses nodes with the
// label lab.hyperkube.local/closed, and prefers those with a high lab.hyperkube.local/rank.
//
// In Kubernetes: the same methods make a plugin for kube-scheduler
// (kubernetes-sigs/scheduler-plugins has some); only the import paths differ.
package frontdoor

import (
	"context"
	"strconv"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "FrontDoor"

const (
	closed = "lab.hyperkube.local/closed"
	rank   = "lab.hyperkube.local/rank"
)

// FrontDoor is a Filter and Score plugin: it has their methods, so the framework asks it there.
type FrontDoor struct{}

// New makes the plugin. It needs neither the cluster nor settings.
func New(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) {
	return &FrontDoor{}, nil
}

// Name returns the plugin's name.
func (*FrontDoor) Name() string { return Name }

// Filter refuses closed nodes. Evicting pods would not open them: unresolvable.
func (*FrontDoor) Filter(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if _, isClosed := node.Node().Labels[closed]; isClosed {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, "node(s) were closed")
	}
	return nil
}

// Score is the node's rank, 0 to 100.
func (*FrontDoor) Score(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	n, err := strconv.ParseInt(node.Node().Labels[rank], 10, 64)
	if err != nil {
		return 0, nil
	}
	return min(max(n, framework.MinNodeScore), framework.MaxNodeScore), nil
}

// EventsToRegister: a refused pod is tried again when a node comes, or one has been opened.
func (*FrontDoor) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{{
		Event:          framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeLabel},
		QueueingHintFn: opened,
	}}, nil
}

func opened(_ klog.Logger, _ *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	if node, ok := newObj.(*v1.Node); ok {
		if _, isClosed := node.Labels[closed]; !isClosed {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
