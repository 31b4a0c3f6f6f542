package podtopologyspread

import (
	"context"
	"math"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// preScoreState is what PreScore has counted.
type preScoreState struct {
	constraints []topologySpreadConstraint
	// ignored are feasible nodes that lack a label: the worst ones.
	ignored sets.Set[string]
	// counts are the matching pods of each topology that has a feasible node, for each
	// constraint. A hostname is a topology of one node, which Score counts itself.
	counts []map[string]int
	// weights make the constraints comparable: three zones differ by more pods than three hundred nodes.
	weights []float64
}

// Clone returns the state itself: it never changes.
func (s *preScoreState) Clone() framework.StateData { return s }

// PreScore counts the matching pods of each topology that can be chosen.
func (pl *PodTopologySpread) PreScore(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, feasible []*framework.NodeInfo) *framework.Status {
	s := &preScoreState{constraints: pl.constraints(pod.Pod, v1.ScheduleAnyway), ignored: sets.New[string]()}
	// The built-in constraints are a wish: a cluster without zones is none to be ignored.
	requireAll := len(pod.Pod.Spec.TopologySpreadConstraints) > 0 || pl.defaults.own
	if len(s.constraints) == 0 || len(feasible) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	s.findTopologies(feasible, requireAll)
	s.count(ctx, pod.Pod, pl.nodes.List(), requireAll)
	state.Write(preScoreStateKey, s)
	return nil
}

// findTopologies notes the topologies of the feasible nodes, and how much a pod in one weighs.
func (s *preScoreState) findTopologies(feasible []*framework.NodeInfo, requireAll bool) {
	s.counts = make([]map[string]int, len(s.constraints))
	for i := range s.counts {
		s.counts[i] = map[string]int{}
	}
	for _, info := range feasible {
		node := info.Node()
		if requireAll && !hasAllTopologies(node, s.constraints) {
			s.ignored.Insert(node.Name)
			continue
		}
		for i, c := range s.constraints {
			if value, ok := node.Labels[c.TopologyKey]; ok && c.TopologyKey != v1.LabelHostname {
				s.counts[i][value] = 0
			}
		}
	}
	s.weights = make([]float64, len(s.constraints))
	for i, c := range s.constraints {
		size := len(s.counts[i])
		if c.TopologyKey == v1.LabelHostname {
			size = len(feasible) - len(s.ignored)
		}
		s.weights[i] = math.Log(float64(size + 2))
	}
}

// count counts over all nodes, not only the feasible ones.
func (s *preScoreState) count(ctx context.Context, pod *v1.Pod, nodes []*framework.NodeInfo, requireAll bool) {
	required := nodeaffinity.GetRequiredNodeAffinity(pod)
	var mu sync.Mutex
	runtime.Until(ctx, len(nodes), func(n int) {
		node := nodes[n].Node()
		if requireAll && !hasAllTopologies(node, s.constraints) {
			return
		}
		for i := range s.constraints {
			c := &s.constraints[i]
			value, ok := node.Labels[c.TopologyKey]
			if !ok || c.TopologyKey == v1.LabelHostname || !c.includes(pod, node, required) {
				continue
			}
			found := countPods(nodes[n].Pods, c.Selector, pod.Namespace)
			mu.Lock()
			if before, candidate := s.counts[i][value]; candidate {
				s.counts[i][value] = before + found
			}
			mu.Unlock()
		}
	})
}

// Score is high where many matching pods are: NormalizeScore turns it round.
func (*PodTopologySpread) Score(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	data, err := state.Read(preScoreStateKey)
	if err != nil {
		return 0, framework.AsStatus(err)
	}
	s := data.(*preScoreState)
	if s.ignored.Has(node.Node().Name) {
		return 0, nil
	}
	score := 0.0
	for i, c := range s.constraints {
		value, ok := node.Node().Labels[c.TopologyKey]
		if !ok {
			continue
		}
		pods := s.counts[i][value]
		if c.TopologyKey == v1.LabelHostname {
			pods = countPods(node.Pods, c.Selector, pod.Pod.Namespace)
		}
		// A larger maxSkew makes small differences matter less.
		score += float64(pods)*s.weights[i] + float64(c.MaxSkew-1)
	}
	return int64(math.Round(score)), nil
}

// NormalizeScore gives the fewest pods 100, and nodes without the labels 0.
func (*PodTopologySpread) NormalizeScore(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	data, err := state.Read(preScoreStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	s := data.(*preScoreState)
	least, most := int64(math.MaxInt64), int64(0)
	for _, score := range scores {
		if !s.ignored.Has(score.Name) {
			least, most = min(least, score.Score), max(most, score.Score)
		}
	}
	for i := range scores {
		switch {
		case s.ignored.Has(scores[i].Name):
			scores[i].Score = 0
		case most == 0:
			scores[i].Score = framework.MaxNodeScore
		default:
			scores[i].Score = framework.MaxNodeScore * (most + least - scores[i].Score) / most
		}
	}
	return nil
}
