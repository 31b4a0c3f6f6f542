// Package schedulinggates keeps a pod out of the queue while spec.schedulingGates
// is not empty (KEP-3521).
package schedulinggates

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "SchedulingGates"

// SchedulingGates is a PreEnqueue plugin.
type SchedulingGates struct{}

// New returns the plugin.
func New() *SchedulingGates { return &SchedulingGates{} }

// Name returns the plugin's name.
func (*SchedulingGates) Name() string { return Name }

// PreEnqueue refuses a pod that has gates.
func (*SchedulingGates) PreEnqueue(_ context.Context, pod *v1.Pod) *framework.Status {
	if len(pod.Spec.SchedulingGates) == 0 {
		return nil
	}
	gates := make([]string, 0, len(pod.Spec.SchedulingGates))
	for _, gate := range pod.Spec.SchedulingGates {
		gates = append(gates, gate.Name)
	}
	return framework.NewStatus(framework.UnschedulableAndUnresolvable, fmt.Sprintf("waiting for scheduling gates: %v", gates))
}

// EventsToRegister names the one event that opens the gates: the pod's own update.
func (*SchedulingGates) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	eliminated := framework.ClusterEvent{Resource: framework.TargetPod, ActionType: framework.UpdatePodSchedulingGatesEliminated}
	return []framework.ClusterEventWithHint{{Event: eliminated, QueueingHintFn: isSchedulableAfterUpdatePodSchedulingGatesEliminated}}, nil
}

func isSchedulableAfterUpdatePodSchedulingGatesEliminated(_ klog.Logger, pod *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	updated, ok := newObj.(*v1.Pod)
	if !ok || updated.UID != pod.UID {
		return framework.QueueSkip, nil
	}
	return framework.Queue, nil
}
