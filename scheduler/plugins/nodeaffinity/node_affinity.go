// Package nodeaffinity honours spec.nodeSelector and spec.affinity.nodeAffinity:
// required terms filter nodes, preferred terms score them.
package nodeaffinity

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeAffinity"

const (
	// ErrReasonPod is counted over the nodes that do not match.
	ErrReasonPod = "node(s) didn't match Pod's node affinity/selector"
	// errReasonEnforced is counted over the nodes that do not match the profile's own.
	errReasonEnforced = "node(s) didn't match scheduler-enforced node affinity"
	// errReasonConflict is given when matchFields contradict each other.
	errReasonConflict = "pod affinity terms conflict"

	preFilterStateKey = "PreFilter" + Name
	preScoreStateKey  = "PreScore" + Name
)

// NodeAffinity is a PreFilter, Filter and Score plugin.
type NodeAffinity struct {
	// added is what the profile asks of nodes for every pod, besides what the pod does; may be nil.
	added          *nodeaffinity.NodeSelector
	addedPreferred *nodeaffinity.PreferredSchedulingTerms
}

// New makes the plugin.
func New(_ context.Context, _ framework.Handle, args framework.Args) (framework.Plugin, error) {
	var settings configv1.NodeAffinityArgs
	if err := args.Into(&settings); err != nil {
		return nil, err
	}
	pl := &NodeAffinity{}
	if settings.AddedAffinity == nil {
		return pl, nil
	}
	var err error
	if required := settings.AddedAffinity.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		if pl.added, err = nodeaffinity.NewNodeSelector(required); err != nil {
			return nil, fmt.Errorf("addedAffinity.requiredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	if preferred := settings.AddedAffinity.PreferredDuringSchedulingIgnoredDuringExecution; len(preferred) > 0 {
		if pl.addedPreferred, err = nodeaffinity.NewPreferredSchedulingTerms(preferred); err != nil {
			return nil, fmt.Errorf("addedAffinity.preferredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	return pl, nil
}

// Name returns the plugin's name.
func (*NodeAffinity) Name() string { return Name }

type preFilterState struct {
	required nodeaffinity.RequiredNodeAffinity
}

// Clone returns the state itself: it never changes.
func (s *preFilterState) Clone() framework.StateData { return s }

type preScoreState struct {
	preferred *nodeaffinity.PreferredSchedulingTerms
}

// Clone returns the state itself: it never changes.
func (s *preScoreState) Clone() framework.StateData { return s }

// PreFilter parses the required terms. When each term names nodes by
// metadata.name, as daemon pods do, only those nodes need be looked at: a
// DaemonSet on a thousand nodes then costs a thousand checks instead of a million.
func (pl *NodeAffinity) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	affinity := pod.Pod.Spec.Affinity
	noAffinity := affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil
	if noAffinity && pod.Pod.Spec.NodeSelector == nil && pl.added == nil {
		return nil, framework.NewStatus(framework.Skip)
	}
	state.Write(preFilterStateKey, &preFilterState{nodeaffinity.GetRequiredNodeAffinity(pod.Pod)})
	if noAffinity {
		return nil, nil
	}
	terms := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	names, narrowed := namedNodes(terms)
	if !narrowed {
		return nil, nil
	}
	if len(names) == 0 {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, errReasonConflict)
	}
	return &framework.PreFilterResult{NodeNames: names}, nil
}

// namedNodes unites the names of all terms (terms are ORed, requirements within a
// term are ANDed); one term without a name makes every node a candidate.
func namedNodes(terms []v1.NodeSelectorTerm) (names sets.Set[string], narrowed bool) {
	names = sets.New[string]()
	for _, term := range terms {
		var own sets.Set[string]
		for _, field := range term.MatchFields {
			if field.Key != metav1.ObjectNameField || field.Operator != v1.NodeSelectorOpIn {
				continue
			}
			if own == nil {
				own = sets.New(field.Values...)
			} else {
				own = own.Intersection(sets.New(field.Values...))
			}
		}
		if own == nil {
			return nil, false
		}
		names = names.Union(own)
	}
	return names, len(terms) > 0
}

// Filter refuses nodes that the required terms do not match.
func (pl *NodeAffinity) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if pl.added != nil && !pl.added.Match(node.Node()) {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, errReasonEnforced)
	}
	var required nodeaffinity.RequiredNodeAffinity
	if data, err := state.Read(preFilterStateKey); err == nil {
		required = data.(*preFilterState).required
	} else {
		required = nodeaffinity.GetRequiredNodeAffinity(pod.Pod)
	}
	// A term that cannot be parsed matches nothing: the error is the pod's, no
	// retry would cure it.
	if match, _ := required.Match(node.Node()); !match {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonPod)
	}
	return nil
}

// PreScore parses the preferred terms.
func (pl *NodeAffinity) PreScore(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	affinity := pod.Pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || len(affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		if pl.addedPreferred == nil {
			return framework.NewStatus(framework.Skip)
		}
		state.Write(preScoreStateKey, &preScoreState{})
		return nil
	}
	preferred, err := nodeaffinity.NewPreferredSchedulingTerms(affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return framework.AsStatus(err)
	}
	state.Write(preScoreStateKey, &preScoreState{preferred})
	return nil
}

// Score sums the weights of the preferred terms that match.
func (pl *NodeAffinity) Score(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	data, err := state.Read(preScoreStateKey)
	if err != nil {
		return 0, framework.AsStatus(err)
	}
	var score int64
	if preferred := data.(*preScoreState).preferred; preferred != nil {
		score = preferred.Score(node.Node())
	}
	if pl.addedPreferred != nil {
		score += pl.addedPreferred.Score(node.Node())
	}
	return score, nil
}

// NormalizeScore scales the sums to 100.
func (*NodeAffinity) NormalizeScore(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, scores []framework.NodeScore) *framework.Status {
	framework.DefaultNormalizeScore(framework.MaxNodeScore, false, scores)
	return nil
}

// EventsToRegister: a node comes, or its labels change.
func (pl *NodeAffinity) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{{
		Event:          framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeLabel},
		QueueingHintFn: pl.isSchedulableAfterNodeChange,
	}}, nil
}

// isSchedulableAfterNodeChange: the node must match now and not have matched before.
func (pl *NodeAffinity) isSchedulableAfterNodeChange(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	newNode, ok := newObj.(*v1.Node)
	if !ok {
		return framework.QueueSkip, nil
	}
	if pl.added != nil && !pl.added.Match(newNode) {
		return framework.QueueSkip, nil
	}
	required := nodeaffinity.GetRequiredNodeAffinity(pod)
	match, err := required.Match(newNode)
	if err != nil || !match {
		return framework.QueueSkip, err
	}
	if oldNode, ok := oldObj.(*v1.Node); ok {
		if matched, _ := required.Match(oldNode); matched && (pl.added == nil || pl.added.Match(oldNode)) {
			return framework.QueueSkip, nil
		}
	}
	return framework.Queue, nil
}
