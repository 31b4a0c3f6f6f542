// Package interpodaffinity places pods near to, or away from, other pods:
// spec.affinity.podAffinity and podAntiAffinity, of the pod and of those that are there.
//
// A term says: "in the same X as pods that look like this", where X is whatever nodes
// have the same value of a label (topologyKey). All of it is counting: for each pair of
// label and value, how many pods match. PreFilter and PreScore count once over all
// nodes; Filter and Score look a node's own pairs up.
//
//	filtering.go  the required terms: three reasons to refuse a node
//	scoring.go    the preferred terms: weights to add up
//	hints.go      which events can cure a refusal
//
// Anti-affinity is symmetric: a pod that wants to be alone keeps others away, though
// they say nothing of it. That is why the terms of the pods on the nodes count as
// well. Affinity is not: nobody is pulled to a pod that likes company, except by
// score.
//
// In Kubernetes: pkg/scheduler/framework/plugins/interpodaffinity.
package interpodaffinity

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "InterPodAffinity"

const (
	preFilterStateKey = "PreFilter" + Name
	preScoreStateKey  = "PreScore" + Name
)

// InterPodAffinity is a PreFilter, Filter, PreScore and Score plugin.
type InterPodAffinity struct {
	args       configv1.InterPodAffinityArgs
	nodes      framework.SharedLister
	namespaces corelisters.NamespaceLister
}

// New makes the plugin; it reads namespaces for the terms that select them by label.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	pl := &InterPodAffinity{nodes: h.SnapshotSharedLister(), namespaces: h.SharedInformerFactory().Core().V1().Namespaces().Lister()}
	pl.args.HardPodAffinityWeight = new(int32(1))
	if err := args.Into(&pl.args); err != nil {
		return nil, err
	}
	if w := *pl.args.HardPodAffinityWeight; w < 0 || w > 100 {
		return nil, fmt.Errorf("hardPodAffinityWeight: Invalid value: %d: not in valid range [0, 100]", w)
	}
	return pl, nil
}

// Name returns the plugin's name.
func (*InterPodAffinity) Name() string { return Name }

// topologyPair is a label and its value: "zone", "a".
type topologyPair struct{ key, value string }

// namespaceLabels are those of a namespace; none if it is not known yet.
func (pl *InterPodAffinity) namespaceLabels(name string) labels.Set {
	namespace, err := pl.namespaces.Get(name)
	if err != nil {
		return nil
	}
	return namespace.Labels
}

// resolved returns a term of the pod to be placed with its namespace selector replaced
// by the namespaces that it selects now: it is put to every pod of the cluster.
func (pl *InterPodAffinity) resolved(term framework.AffinityTerm) framework.AffinityTerm {
	if term.NamespaceSelector.Empty() {
		return term // everything: there is nothing to look up
	}
	selected, err := pl.namespaces.List(term.NamespaceSelector)
	if err != nil {
		return term
	}
	names := term.Namespaces.Clone()
	for _, namespace := range selected {
		names.Insert(namespace.Name)
	}
	term.Namespaces, term.NamespaceSelector = names, labels.Nothing()
	return term
}

func (pl *InterPodAffinity) resolvedTerms(terms []framework.AffinityTerm) []framework.AffinityTerm {
	resolved := make([]framework.AffinityTerm, len(terms))
	for i := range terms {
		resolved[i] = pl.resolved(terms[i])
	}
	return resolved
}

func (pl *InterPodAffinity) resolvedWeighted(terms []framework.WeightedAffinityTerm) []framework.WeightedAffinityTerm {
	resolved := make([]framework.WeightedAffinityTerm, len(terms))
	for i := range terms {
		resolved[i] = framework.WeightedAffinityTerm{AffinityTerm: pl.resolved(terms[i].AffinityTerm), Weight: terms[i].Weight}
	}
	return resolved
}

// matchesAll says whether the pod matches every one of the terms; there must be one.
func matchesAll(terms []framework.AffinityTerm, pod *v1.Pod, namespace labels.Set) bool {
	for i := range terms {
		if !terms[i].Matches(pod, namespace) {
			return false
		}
	}
	return len(terms) > 0
}
