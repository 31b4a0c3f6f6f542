// Package noderesources has the two plugins that look at requests: Fit, which
// filters by what is left on a node and prefers the emptier one (or as its strategy says),
// and BalancedAllocation, which prefers nodes whose resources are used evenly.
package noderesources

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// FitName is the name of the plugin Fit.
const FitName = "NodeResourcesFit"

// Fit is a PreFilter, Filter and Score plugin. What it needs of the pod is already
// in PodInfo, so that it keeps no state.
type Fit struct {
	scorer  *scorer
	ignored ignored
}

// NewFit makes the plugin.
func NewFit(_ context.Context, _ framework.Handle, args framework.Args) (framework.Plugin, error) {
	var settings configv1.NodeResourcesFitArgs
	if err := args.Into(&settings); err != nil {
		return nil, err
	}
	scorer, err := newScorer(settings.ScoringStrategy)
	if err != nil {
		return nil, err
	}
	ignored, err := newIgnored(&settings)
	return &Fit{scorer: scorer, ignored: ignored}, err
}

// Name returns the plugin's name.
func (*Fit) Name() string { return FitName }

// Filter refuses a node where any resource is short, and names all of them.
func (f *Fit) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	short := f.fitsRequest(pod.Requests, node)
	if len(short) == 0 {
		return nil
	}
	code := framework.Unschedulable
	reasons := make([]string, len(short))
	for i, s := range short {
		reasons[i] = s.reason()
		if s.unresolvable {
			code = framework.UnschedulableAndUnresolvable
		}
	}
	return framework.NewStatus(code, reasons...)
}

// insufficientResource is one resource that a node lacks.
type insufficientResource struct {
	name v1.ResourceName
	// unresolvable: even the empty node would be too small.
	unresolvable bool
}

func (r insufficientResource) reason() string {
	if r.name == v1.ResourcePods {
		return "Too many pods"
	}
	return fmt.Sprintf("Insufficient %v", r.name)
}

// fitsRequest compares a request with what is left; nil means it fits.
func (f *Fit) fitsRequest(request *framework.Resource, node *framework.NodeInfo) []insufficientResource {
	var short []insufficientResource
	if len(node.Pods)+1 > node.Allocatable.AllowedPodNumber {
		short = append(short, insufficientResource{name: v1.ResourcePods})
	}
	check := func(name v1.ResourceName, want, used, allocatable int64) {
		if want > 0 && want > allocatable-used {
			short = append(short, insufficientResource{name, want > allocatable})
		}
	}
	used, allocatable := node.Requested, node.Allocatable
	check(v1.ResourceCPU, request.MilliCPU, used.MilliCPU, allocatable.MilliCPU)
	check(v1.ResourceMemory, request.Memory, used.Memory, allocatable.Memory)
	check(v1.ResourceEphemeralStorage, request.EphemeralStorage, used.EphemeralStorage, allocatable.EphemeralStorage)
	for name, want := range request.ScalarResources {
		if f.ignored.has(name) {
			continue
		}
		check(name, want, used.ScalarResources[name], allocatable.ScalarResources[name])
	}
	return short
}

// Score is that of the strategy, with the pod on the node.
func (f *Fit) Score(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	return f.scorer.score(pod, node), nil
}

// EventsToRegister: a pod goes or shrinks, or a node comes or grows.
func (f *Fit) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	podActions := framework.Delete | framework.UpdatePodScaleDown
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, ActionType: podActions}, QueueingHintFn: isSchedulableAfterPodEvent},
		{Event: framework.ClusterEvent{Resource: framework.TargetPod, ActionType: framework.UpdatePodScaleDown}},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeAllocatable}, QueueingHintFn: f.isSchedulableAfterNodeEvent},
	}, nil
}

// isSchedulableAfterPodEvent: a deletion frees at least a place (Too many pods);
// a shrunk pod helps only with a resource the pod asks for.
func isSchedulableAfterPodEvent(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	oldPod, ok := oldObj.(*v1.Pod)
	if !ok {
		return framework.QueueSkip, nil
	}
	newPod, ok := newObj.(*v1.Pod)
	if !ok {
		return framework.Queue, nil
	}
	want, before, after := framework.NewPodInfo(pod).Requests, framework.NewPodInfo(oldPod).Requests, framework.NewPodInfo(newPod).Requests
	freed := want.MilliCPU > 0 && after.MilliCPU < before.MilliCPU ||
		want.Memory > 0 && after.Memory < before.Memory ||
		want.EphemeralStorage > 0 && after.EphemeralStorage < before.EphemeralStorage
	for name := range want.ScalarResources {
		freed = freed || after.ScalarResources[name] < before.ScalarResources[name]
	}
	if freed {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterNodeEvent: the pod must fit the node if it were empty, and the
// node must have more of something than before.
func (f *Fit) isSchedulableAfterNodeEvent(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	newNode, ok := newObj.(*v1.Node)
	if !ok {
		return framework.QueueSkip, nil
	}
	empty := framework.NewNodeInfo()
	empty.SetNode(newNode)
	if len(f.fitsRequest(framework.NewPodInfo(pod).Requests, empty)) > 0 {
		return framework.QueueSkip, nil
	}
	if oldNode, ok := oldObj.(*v1.Node); ok && !allocatableGrew(oldNode.Status.Allocatable, newNode.Status.Allocatable) {
		return framework.QueueSkip, nil
	}
	return framework.Queue, nil
}

func allocatableGrew(before, after v1.ResourceList) bool {
	for name, now := range after {
		if was, ok := before[name]; !ok || now.Cmp(was) > 0 {
			return true
		}
	}
	return false
}
