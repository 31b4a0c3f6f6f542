package interpodaffinity

import (
	"context"
	"maps"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hyperkube/scheduler/framework"
)

// The three reasons, counted over nodes in the FailedScheduling event.
const (
	ErrReasonExistingAntiAffinityRulesNotMatch = "node(s) didn't satisfy existing pods anti-affinity rules"
	ErrReasonAffinityRulesNotMatch             = "node(s) didn't match pod affinity rules"
	ErrReasonAntiAffinityRulesNotMatch         = "node(s) didn't match pod anti-affinity rules"
)

// counts say how many pods match in each topology.
type counts map[topologyPair]int64

// add counts what a term found on a node; a node without the label is in no topology.
func (c counts) add(node *v1.Node, key string, n int64) {
	value, ok := node.Labels[key]
	if !ok {
		return
	}
	pair := topologyPair{key, value}
	if c[pair] += n; c[pair] == 0 {
		delete(c, pair) // emptiness of the whole map means something: see satisfiesAffinity
	}
}

// preFilterState is what PreFilter has counted.
type preFilterState struct {
	pod             *v1.Pod
	namespaceLabels labels.Set
	affinity, anti  []framework.AffinityTerm // the pod's own required terms

	existingAnti counts // pods whose required anti-affinity matches this pod
	matching     counts // pods that match all of affinity
	repelling    counts // pods that match one of anti
}

// Clone copies the counts, which preemption changes.
func (s *preFilterState) Clone() framework.StateData {
	clone := *s
	clone.existingAnti, clone.matching, clone.repelling = maps.Clone(s.existingAnti), maps.Clone(s.matching), maps.Clone(s.repelling)
	return &clone
}

// update counts n more (or fewer) of other on node.
func (s *preFilterState) update(other *framework.PodInfo, node *v1.Node, n int64) {
	for i := range other.RequiredAntiAffinityTerms {
		if term := &other.RequiredAntiAffinityTerms[i]; term.Matches(s.pod, s.namespaceLabels) {
			s.existingAnti.add(node, term.TopologyKey, n)
		}
	}
	s.updateOwn(other, node, n)
}

// updateOwn counts for the pod's own terms only.
func (s *preFilterState) updateOwn(other *framework.PodInfo, node *v1.Node, n int64) {
	if matchesAll(s.affinity, other.Pod, nil) {
		for i := range s.affinity {
			s.matching.add(node, s.affinity[i].TopologyKey, n)
		}
	}
	for i := range s.anti {
		if s.anti[i].Matches(other.Pod, nil) {
			s.repelling.add(node, s.anti[i].TopologyKey, n)
		}
	}
}

// PreFilter counts. Only nodes with pods that have anti-affinity are looked at, unless
// the pod has terms of its own.
func (pl *InterPodAffinity) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	s := &preFilterState{
		pod: pod.Pod, affinity: pl.resolvedTerms(pod.RequiredAffinityTerms), anti: pl.resolvedTerms(pod.RequiredAntiAffinityTerms),
		existingAnti: counts{}, matching: counts{}, repelling: counts{},
	}
	repellers := pl.nodes.HavePodsWithRequiredAntiAffinity()
	if len(repellers) > 0 {
		s.namespaceLabels = pl.namespaceLabels(pod.Pod.Namespace)
	}
	for _, node := range repellers {
		for _, other := range node.PodsWithRequiredAntiAffinity {
			for i := range other.RequiredAntiAffinityTerms {
				if term := &other.RequiredAntiAffinityTerms[i]; term.Matches(pod.Pod, s.namespaceLabels) {
					s.existingAnti.add(node.Node(), term.TopologyKey, 1)
				}
			}
		}
	}
	if len(s.affinity)+len(s.anti) == 0 {
		if len(s.existingAnti) == 0 {
			return nil, framework.NewStatus(framework.Skip)
		}
	} else {
		for _, node := range nodes {
			for _, other := range node.Pods {
				s.updateOwn(other, node.Node(), 1)
			}
		}
	}
	state.Write(preFilterStateKey, s)
	return nil, nil
}

// AddPod counts a pod that preemption puts onto a node.
func (pl *InterPodAffinity) AddPod(_ context.Context, state *framework.CycleState, _, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	return change(state, added, node, 1)
}

// RemovePod counts a pod that preemption takes from a node.
func (pl *InterPodAffinity) RemovePod(_ context.Context, state *framework.CycleState, _, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	return change(state, removed, node, -1)
}

func change(state *framework.CycleState, other *framework.PodInfo, node *framework.NodeInfo, n int64) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	data.(*preFilterState).update(other, node.Node(), n)
	return nil
}

// Filter refuses a node for one of three reasons. Only missing company is
// unresolvable: no preemption brings it about.
func (pl *InterPodAffinity) Filter(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	s := data.(*preFilterState)
	switch nodeLabels := node.Node().Labels; {
	case !s.satisfiesAffinity(nodeLabels):
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonAffinityRulesNotMatch)
	case !s.satisfiesAntiAffinity(nodeLabels):
		return framework.NewStatus(framework.Unschedulable, ErrReasonAntiAffinityRulesNotMatch)
	case !s.satisfiesExistingAntiAffinity(nodeLabels):
		return framework.NewStatus(framework.Unschedulable, ErrReasonExistingAntiAffinityRulesNotMatch)
	}
	return nil
}

// satisfiesAffinity: each term must have company in the node's topology. The first of a
// group that wants to be together has nobody to join: it may go anywhere that has the
// labels, if it matches its own terms. Otherwise no such group could ever begin.
func (s *preFilterState) satisfiesAffinity(nodeLabels map[string]string) bool {
	company := true
	for i := range s.affinity {
		key := s.affinity[i].TopologyKey
		value, ok := nodeLabels[key]
		if !ok {
			return false
		}
		company = company && s.matching[topologyPair{key, value}] > 0
	}
	return company || len(s.matching) == 0 && matchesAll(s.affinity, s.pod, nil)
}

func (s *preFilterState) satisfiesAntiAffinity(nodeLabels map[string]string) bool {
	for i := range s.anti {
		key := s.anti[i].TopologyKey
		if value, ok := nodeLabels[key]; ok && s.repelling[topologyPair{key, value}] > 0 {
			return false
		}
	}
	return true
}

func (s *preFilterState) satisfiesExistingAntiAffinity(nodeLabels map[string]string) bool {
	if len(s.existingAnti) == 0 {
		return true
	}
	for key, value := range nodeLabels {
		if s.existingAnti[topologyPair{key, value}] > 0 {
			return false
		}
	}
	return true
}
