package podtopologyspread

import (
	"context"
	"maps"
	"math"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hyperkube/scheduler/framework"
)

// The reasons, counted over nodes in the FailedScheduling event.
const (
	ErrReasonConstraintsNotMatch = "node(s) didn't match pod topology spread constraints"
	ErrReasonNodeLabelNotMatch   = ErrReasonConstraintsNotMatch + " (missing required label)"
)

// domain is a topology with its number of matching pods.
type domain struct {
	value string
	pods  int
}

// spread is the state of one constraint: the matching pods of each topology.
type spread struct {
	counts map[string]int
	// lowest are two topologies, the first of which has the fewest pods. The second need
	// not be the second lowest: preemption changes one topology at a time, and then comes
	// back; for that, one other is enough. It saves a pass over a thousand nodes for each node.
	lowest [2]domain
}

func newSpread() spread {
	return spread{counts: map[string]int{}, lowest: [2]domain{{pods: math.MaxInt}, {pods: math.MaxInt}}}
}

// change sets the count of a topology and keeps the lowest.
func (s *spread) change(value string, pods int) {
	s.counts[value] = pods
	switch value {
	case s.lowest[0].value:
		s.lowest[0].pods = pods
	case s.lowest[1].value:
		s.lowest[1].pods = pods
	default:
		if pods < s.lowest[0].pods {
			s.lowest[0], s.lowest[1] = domain{value, pods}, s.lowest[0]
		} else if pods < s.lowest[1].pods {
			s.lowest[1] = domain{value, pods}
		}
		return
	}
	if s.lowest[0].pods > s.lowest[1].pods {
		s.lowest[0], s.lowest[1] = s.lowest[1], s.lowest[0]
	}
}

// minimum is the fewest matching pods of a topology; none, if there are fewer topologies
// than the constraint wants: then each further pod has to go to a new one.
func (s *spread) minimum(minDomains int32) int {
	if len(s.counts) < int(minDomains) {
		return 0
	}
	return s.lowest[0].pods
}

// preFilterState is what PreFilter has counted.
type preFilterState struct {
	constraints []topologySpreadConstraint
	required    nodeaffinity.RequiredNodeAffinity
	spreads     []spread // of each constraint
}

// Clone copies the counts, which preemption changes.
func (s *preFilterState) Clone() framework.StateData {
	clone := &preFilterState{constraints: s.constraints, required: s.required, spreads: make([]spread, len(s.spreads))}
	for i := range s.spreads {
		clone.spreads[i] = spread{counts: maps.Clone(s.spreads[i].counts), lowest: s.spreads[i].lowest}
	}
	return clone
}

// PreFilter counts the matching pods of each topology.
func (pl *PodTopologySpread) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	s := &preFilterState{constraints: pl.constraints(pod.Pod, v1.DoNotSchedule)}
	if len(s.constraints) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	s.required = nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	s.spreads = make([]spread, len(s.constraints))
	for i := range s.constraints {
		c := &s.constraints[i]
		counts := map[string]int{}
		for _, info := range nodes {
			if node := info.Node(); hasAllTopologies(node, s.constraints) && c.includes(pod.Pod, node, s.required) {
				counts[node.Labels[c.TopologyKey]] += countPods(info.Pods, c.Selector, pod.Pod.Namespace)
			}
		}
		s.spreads[i] = newSpread()
		for value, pods := range counts {
			s.spreads[i].change(value, pods)
		}
	}
	state.Write(preFilterStateKey, s)
	return nil, nil
}

// AddPod counts a pod that preemption puts onto a node.
func (*PodTopologySpread) AddPod(_ context.Context, state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	return change(state, pod.Pod, added.Pod, node.Node(), 1)
}

// RemovePod counts a pod that preemption takes from a node.
func (*PodTopologySpread) RemovePod(_ context.Context, state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	return change(state, pod.Pod, removed.Pod, node.Node(), -1)
}

func change(state *framework.CycleState, pod, other *v1.Pod, node *v1.Node, n int) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	s := data.(*preFilterState)
	if other.Namespace != pod.Namespace || !hasAllTopologies(node, s.constraints) {
		return nil
	}
	for i := range s.constraints {
		c := &s.constraints[i]
		if c.Selector.Matches(labels.Set(other.Labels)) && c.includes(pod, node, s.required) {
			value := node.Labels[c.TopologyKey]
			s.spreads[i].change(value, s.spreads[i].counts[value]+n)
		}
	}
	return nil
}

// Filter refuses a node whose topology the pod would make too full.
func (*PodTopologySpread) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	s := data.(*preFilterState)
	for i := range s.constraints {
		c := &s.constraints[i]
		value, ok := node.Node().Labels[c.TopologyKey]
		if !ok {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonNodeLabelNotMatch)
		}
		self := 0
		if c.Selector.Matches(labels.Set(pod.Pod.Labels)) {
			self = 1
		}
		if skew := s.spreads[i].counts[value] + self - s.spreads[i].minimum(c.MinDomains); skew > int(c.MaxSkew) {
			return framework.NewStatus(framework.Unschedulable, ErrReasonConstraintsNotMatch)
		}
	}
	return nil
}
