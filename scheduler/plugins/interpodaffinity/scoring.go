package interpodaffinity

import (
	"context"
	"math"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// scores are the sums of weights in each topology: by label, then by value.
type scores map[string]map[string]int64

func (m scores) add(term *framework.AffinityTerm, pod *v1.Pod, namespace labels.Set, node *v1.Node, weight int64) {
	value, ok := node.Labels[term.TopologyKey]
	if !ok || weight == 0 || !term.Matches(pod, namespace) {
		return
	}
	if m[term.TopologyKey] == nil {
		m[term.TopologyKey] = map[string]int64{}
	}
	m[term.TopologyKey][value] += weight
}

func (m scores) addAll(other scores) {
	for key, values := range other {
		if m[key] == nil {
			m[key] = values
			continue
		}
		for value, weight := range values {
			m[key][value] += weight
		}
	}
}

// preScoreState is what PreScore has summed.
type preScoreState struct {
	pod             *v1.Pod
	namespaceLabels labels.Set
	affinity, anti  []framework.WeightedAffinityTerm // the pod's own preferred terms
	// hardWeight is what a required affinity term of a pod on the node is worth to those
	// who match it: affinity pulls by score only.
	hardWeight int64
	sums       scores
}

// Clone returns the state itself: it never changes.
func (s *preScoreState) Clone() framework.StateData { return s }

// PreScore sums the weights over all nodes, not only those that passed: what is in a
// zone counts for each of its nodes. Without terms of its own, a pod is only looked at by
// pods that have some.
func (pl *InterPodAffinity) PreScore(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, feasible []*framework.NodeInfo) *framework.Status {
	own := len(pod.PreferredAffinityTerms)+len(pod.PreferredAntiAffinityTerms) > 0
	nodes := pl.nodes.HavePodsWithAffinity()
	if own {
		nodes = pl.nodes.List()
	}
	if len(nodes) == 0 || len(feasible) == 0 || !own && pl.args.IgnorePreferredTermsOfExistingPods {
		return framework.NewStatus(framework.Skip)
	}
	s := &preScoreState{
		pod: pod.Pod, namespaceLabels: pl.namespaceLabels(pod.Pod.Namespace), sums: scores{}, hardWeight: int64(*pl.args.HardPodAffinityWeight),
		affinity: pl.resolvedWeighted(pod.PreferredAffinityTerms), anti: pl.resolvedWeighted(pod.PreferredAntiAffinityTerms),
	}
	var mu sync.Mutex
	runtime.Until(ctx, len(nodes), func(i int) {
		pods := nodes[i].PodsWithAffinity
		if own {
			pods = nodes[i].Pods
		}
		found := scores{}
		for _, other := range pods {
			s.process(found, other, nodes[i].Node())
		}
		if len(found) > 0 {
			mu.Lock()
			s.sums.addAll(found)
			mu.Unlock()
		}
	})
	if len(s.sums) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	state.Write(preScoreStateKey, s)
	return nil
}

// process adds what the pod thinks of other, and other of the pod.
func (s *preScoreState) process(found scores, other *framework.PodInfo, node *v1.Node) {
	for i := range s.affinity {
		found.add(&s.affinity[i].AffinityTerm, other.Pod, nil, node, s.affinity[i].Weight)
	}
	for i := range s.anti {
		found.add(&s.anti[i].AffinityTerm, other.Pod, nil, node, -s.anti[i].Weight)
	}
	for i := range other.RequiredAffinityTerms {
		found.add(&other.RequiredAffinityTerms[i], s.pod, s.namespaceLabels, node, s.hardWeight)
	}
	for i := range other.PreferredAffinityTerms {
		found.add(&other.PreferredAffinityTerms[i].AffinityTerm, s.pod, s.namespaceLabels, node, other.PreferredAffinityTerms[i].Weight)
	}
	for i := range other.PreferredAntiAffinityTerms {
		found.add(&other.PreferredAntiAffinityTerms[i].AffinityTerm, s.pod, s.namespaceLabels, node, -other.PreferredAntiAffinityTerms[i].Weight)
	}
}

// Score adds up the sums of the topologies that the node is in. It may be negative.
func (pl *InterPodAffinity) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	data, err := state.Read(preScoreStateKey)
	if err != nil {
		return 0, framework.AsStatus(err)
	}
	var score int64
	for key, values := range data.(*preScoreState).sums {
		if value, ok := node.Node().Labels[key]; ok {
			score += values[value]
		}
	}
	return score, nil
}

// NormalizeScore spreads the scores from 0 to 100; all equal ones are 0.
func (pl *InterPodAffinity) NormalizeScore(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, list []framework.NodeScore) *framework.Status {
	least, most := int64(math.MaxInt64), int64(math.MinInt64)
	for _, s := range list {
		least, most = min(least, s.Score), max(most, s.Score)
	}
	for i := range list {
		normalized := 0.0
		if most > least {
			normalized = float64(framework.MaxNodeScore) * (float64(list[i].Score-least) / float64(most-least))
		}
		list[i].Score = int64(normalized)
	}
	return nil
}
