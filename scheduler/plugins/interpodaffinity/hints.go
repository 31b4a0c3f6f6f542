package interpodaffinity

import (
	"context"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// EventsToRegister: company comes, or changes its labels; somebody who was in the way
// goes; a node comes, or moves into another topology.
func (pl *InterPodAffinity) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.Pod, ActionType: framework.Add | framework.UpdatePodLabel | framework.Delete}, QueueingHintFn: pl.isSchedulableAfterPodChange},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeLabel}, QueueingHintFn: isSchedulableAfterNodeChange},
	}, nil
}

// isSchedulableAfterPodChange asks whether the pod that came could be company, or the
// one that went was in the way. A change of labels can be both.
func (pl *InterPodAffinity) isSchedulableAfterPodChange(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, _ := oldObj.(*v1.Pod)
	after, _ := newObj.(*v1.Pod)
	waiting := framework.NewPodInfo(pod)
	if after != nil && after.UID == pod.UID {
		return framework.Queue, nil // its own labels: terms of others may match it no longer
	}
	if after != nil && pl.company(waiting, after) && (before == nil || !pl.company(waiting, before)) {
		return framework.Queue, nil
	}
	if before != nil && pl.inTheWay(waiting, before) && (after == nil || !pl.inTheWay(waiting, after)) {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

// company says whether other is what the pod waits for.
func (pl *InterPodAffinity) company(waiting *framework.PodInfo, other *v1.Pod) bool {
	return matchesAll(waiting.RequiredAffinityTerms, other, pl.namespaceLabels(other.Namespace))
}

// inTheWay says whether one of the two keeps the other away.
func (pl *InterPodAffinity) inTheWay(waiting *framework.PodInfo, other *v1.Pod) bool {
	return matchesAny(waiting.RequiredAntiAffinityTerms, other, pl.namespaceLabels(other.Namespace)) ||
		matchesAny(framework.NewPodInfo(other).RequiredAntiAffinityTerms, waiting.Pod, pl.namespaceLabels(waiting.Pod.Namespace))
}

func matchesAny(terms []framework.AffinityTerm, pod *v1.Pod, namespace labels.Set) bool {
	for i := range terms {
		if terms[i].Matches(pod, namespace) {
			return true
		}
	}
	return false
}

// isSchedulableAfterNodeChange asks whether the node has come into a topology that the
// pod's terms speak of. For anti-affinity of others any label may matter.
func isSchedulableAfterNodeChange(_ klog.Logger, pod *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, _ := oldObj.(*v1.Node)
	after, ok := newObj.(*v1.Node)
	if !ok || before == nil {
		return framework.Queue, nil
	}
	waiting := framework.NewPodInfo(pod)
	if len(waiting.RequiredAffinityTerms) == 0 {
		return framework.Queue, nil
	}
	for _, term := range waiting.RequiredAffinityTerms {
		if before.Labels[term.TopologyKey] != after.Labels[term.TopologyKey] {
			return framework.Queue, nil
		}
	}
	for _, term := range waiting.RequiredAntiAffinityTerms {
		if before.Labels[term.TopologyKey] != after.Labels[term.TopologyKey] {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
