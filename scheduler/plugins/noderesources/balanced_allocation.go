package noderesources

import (
	"context"
	"math"

	"hyperkube/scheduler/framework"
)

// BalancedAllocationName is the name of the plugin BalancedAllocation.
const BalancedAllocationName = "NodeResourcesBalancedAllocation"

// BalancedAllocation is a Score plugin: a node with much CPU and no memory left is
// of little use to the next pod, so it prefers nodes where both are used alike.
type BalancedAllocation struct{}

// NewBalancedAllocation returns the plugin.
func NewBalancedAllocation() *BalancedAllocation { return &BalancedAllocation{} }

// Name returns the plugin's name.
func (*BalancedAllocation) Name() string { return BalancedAllocationName }

// PreScore skips pods without requests: they do not change the balance, so the
// best balanced node would get all of them.
func (*BalancedAllocation) PreScore(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	if pod.Requests.MilliCPU == 0 && pod.Requests.Memory == 0 {
		return framework.NewStatus(framework.Skip)
	}
	return nil
}

// Score is (1 - standard deviation of the used shares) in percent. With the two
// resources looked at, the deviation is half of their difference.
func (*BalancedAllocation) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	if node.Allocatable.MilliCPU == 0 || node.Allocatable.Memory == 0 {
		return framework.MaxNodeScore, nil
	}
	cpu := usedShare(node.Requested.MilliCPU+pod.Requests.MilliCPU, node.Allocatable.MilliCPU)
	memory := usedShare(node.Requested.Memory+pod.Requests.Memory, node.Allocatable.Memory)
	return int64((1 - math.Abs(cpu-memory)/2) * float64(framework.MaxNodeScore)), nil
}

func usedShare(requested, allocatable int64) float64 {
	return min(float64(requested)/float64(allocatable), 1)
}
