package framework

import (
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
)

// AffinityTerm is a v1.PodAffinityTerm, parsed.
type AffinityTerm struct {
	// Namespaces and NamespaceSelector say where pods are looked for: in any of the
	// former, and in those that the latter selects.
	Namespaces        sets.Set[string]
	NamespaceSelector labels.Selector
	Selector          labels.Selector
	TopologyKey       string
}

// WeightedAffinityTerm is a preferred term.
type WeightedAffinityTerm struct {
	AffinityTerm
	Weight int64
}

// Matches says whether the term selects pod, whose namespace has the labels namespaceLabels.
func (t *AffinityTerm) Matches(pod *v1.Pod, namespaceLabels labels.Set) bool {
	return (t.Namespaces.Has(pod.Namespace) || t.NamespaceSelector.Matches(namespaceLabels)) && t.Selector.Matches(labels.Set(pod.Labels))
}

// podAffinity are the inter-pod terms of a pod.
type podAffinity struct {
	RequiredAffinityTerms      []AffinityTerm
	RequiredAntiAffinityTerms  []AffinityTerm
	PreferredAffinityTerms     []WeightedAffinityTerm
	PreferredAntiAffinityTerms []WeightedAffinityTerm
}

func parsePodAffinity(pod *v1.Pod) podAffinity {
	var parsed podAffinity
	if pod.Spec.Affinity == nil {
		return parsed
	}
	if a := pod.Spec.Affinity.PodAffinity; a != nil {
		parsed.RequiredAffinityTerms = parseTerms(pod, a.RequiredDuringSchedulingIgnoredDuringExecution)
		parsed.PreferredAffinityTerms = parseWeightedTerms(pod, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := pod.Spec.Affinity.PodAntiAffinity; a != nil {
		parsed.RequiredAntiAffinityTerms = parseTerms(pod, a.RequiredDuringSchedulingIgnoredDuringExecution)
		parsed.PreferredAntiAffinityTerms = parseWeightedTerms(pod, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return parsed
}

func parseTerms(pod *v1.Pod, terms []v1.PodAffinityTerm) []AffinityTerm {
	var parsed []AffinityTerm
	for i := range terms {
		parsed = append(parsed, parseTerm(pod, &terms[i]))
	}
	return parsed
}

func parseWeightedTerms(pod *v1.Pod, terms []v1.WeightedPodAffinityTerm) []WeightedAffinityTerm {
	var parsed []WeightedAffinityTerm
	for i := range terms {
		parsed = append(parsed, WeightedAffinityTerm{parseTerm(pod, &terms[i].PodAffinityTerm), int64(terms[i].Weight)})
	}
	return parsed
}

// parseTerm: without namespaces and without a selector of them, the pod's own is meant.
func parseTerm(pod *v1.Pod, term *v1.PodAffinityTerm) AffinityTerm {
	namespaces := sets.New(term.Namespaces...)
	if len(namespaces) == 0 && term.NamespaceSelector == nil {
		namespaces.Insert(pod.Namespace)
	}
	return AffinityTerm{
		Namespaces: namespaces, NamespaceSelector: ParseSelector(term.NamespaceSelector),
		Selector: ParseSelector(term.LabelSelector), TopologyKey: term.TopologyKey,
	}
}

// ParseSelector: none selects nothing, an empty one everything. The apiserver lets no
// malformed one pass; if there is one, it selects nothing.
func ParseSelector(selector *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}
