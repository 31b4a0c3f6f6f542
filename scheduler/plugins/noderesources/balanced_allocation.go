package noderesources

import (
	"context"
	"fmt"
	"math"

	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// BalancedAllocationName is the name of the plugin BalancedAllocation.
const BalancedAllocationName = "NodeResourcesBalancedAllocation"

// BalancedAllocation is a Score plugin: a node with much CPU and no memory left is
// of little use to the next pod, so it prefers nodes where both are used alike.
type BalancedAllocation struct{ resources []weighted }

// NewBalancedAllocation makes the plugin.
func NewBalancedAllocation(_ context.Context, _ framework.Handle, args framework.Args) (framework.Plugin, error) {
	var settings configv1.NodeResourcesBalancedAllocationArgs
	if err := args.Into(&settings); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i, r := range settings.Resources {
		if seen[r.Name] {
			return nil, fmt.Errorf("resources[%d].name: Duplicate value: %q", i, r.Name)
		}
		if seen[r.Name] = true; r.Weight > 1 || r.Weight < 0 { // 0: not said
			return nil, fmt.Errorf("resources[%d].weight: Invalid value: %d: must be 1", i, r.Weight)
		}
	}
	resources, err := weightedResources(settings.Resources)
	return &BalancedAllocation{resources}, err
}

// Name returns the plugin's name.
func (*BalancedAllocation) Name() string { return BalancedAllocationName }

// PreScore skips pods without requests: they do not change the balance, so the
// best balanced node would get all of them.
func (b *BalancedAllocation) PreScore(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	for _, r := range b.resources {
		if amount(pod.Requests, r.name) != 0 {
			return nil
		}
	}
	return framework.NewStatus(framework.Skip)
}

// Score is (1 - standard deviation of the used shares) in percent. Of two resources, the
// deviation is half of their difference.
func (b *BalancedAllocation) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	var buffer [4]float64
	shares, sum := buffer[:0], 0.0
	for _, r := range b.resources {
		allocatable := amount(node.Allocatable, r.name)
		if allocatable == 0 || isScalar(r.name) && amount(pod.Requests, r.name) == 0 {
			continue
		}
		share := usedShare(amount(node.Requested, r.name)+amount(pod.Requests, r.name), allocatable)
		shares, sum = append(shares, share), sum+share
	}
	deviation := 0.0
	switch {
	case len(shares) == 2:
		deviation = math.Abs(shares[0]-shares[1]) / 2
	case len(shares) > 2:
		mean, squares := sum/float64(len(shares)), 0.0
		for _, share := range shares {
			squares += (share - mean) * (share - mean)
		}
		deviation = math.Sqrt(squares / float64(len(shares)))
	}
	return int64((1 - deviation) * float64(framework.MaxNodeScore)), nil
}

func usedShare(requested, allocatable int64) float64 {
	return min(float64(requested)/float64(allocatable), 1)
}
