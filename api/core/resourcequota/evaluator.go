package resourcequota

import (
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
)

// Evaluator measures what objects of one resource use up. Admission charges by it, and the quota controller recounts
// by it: if they counted differently, a quota would drift.
//
// In Kubernetes: quota.Evaluator (k8s.io/apiserver/pkg/quota/v1, pkg/quota/v1/evaluator/core).
type Evaluator struct {
	Resource schema.GroupResource
	// Tracks says whether a name of spec.hard is about this resource.
	Tracks func(name v1.ResourceName) bool
	// Usage is what obj uses up at the time now.
	Usage func(obj runtime.Object, now time.Time) v1.ResourceList
	// Constraints returns what obj must say because a quota counts the required resources; nil: nothing.
	Constraints func(required []v1.ResourceName, obj runtime.Object) error
	// MatchesScope says whether obj falls under one of a quota's scopes; nil: under none.
	MatchesScope func(selector v1.ScopedResourceSelectorRequirement, obj runtime.Object) bool
	// ScopeChanged says whether an update takes an object from under one scope to another; nil: none does. Otherwise the
	// quota it came from would go on paying, and the one it came under not begin to.
	ScopeChanged func(old, obj runtime.Object) bool
}

// ObjectCountName is the name under which objects of any resource are counted: count/deployments.apps, count/pods.
func ObjectCountName(gr schema.GroupResource) v1.ResourceName {
	return v1.ResourceName("count/" + gr.String())
}

// counted are the resources that had a name of their own before any could be counted.
var counted = map[schema.GroupResource]v1.ResourceName{
	{Resource: "configmaps"}:             v1.ResourceConfigMaps,
	{Resource: "resourcequotas"}:         v1.ResourceQuotas,
	{Resource: "replicationcontrollers"}: v1.ResourceReplicationControllers,
	{Resource: "secrets"}:                v1.ResourceSecrets,
}

// EvaluatorFor returns the evaluator of a resource: each has one, since of any the objects can be counted.
func EvaluatorFor(gr schema.GroupResource) *Evaluator {
	switch gr {
	case schema.GroupResource{Resource: "pods"}:
		return podEvaluator
	case schema.GroupResource{Resource: "services"}:
		return serviceEvaluator
	case schema.GroupResource{Resource: "persistentvolumeclaims"}:
		return claimEvaluator
	case resourceClaims:
		return deviceEvaluator
	}
	names := []v1.ResourceName{ObjectCountName(gr)}
	if name, ok := counted[gr]; ok {
		names = append(names, name)
	}
	return &Evaluator{
		Resource: gr,
		Tracks:   func(name v1.ResourceName) bool { return slices.Contains(names, name) },
		Usage: func(runtime.Object, time.Time) v1.ResourceList {
			usage := v1.ResourceList{}
			for _, name := range names {
				usage[name] = one()
			}
			return usage
		},
	}
}

// CountedBy names the resource that a name of spec.hard counts the objects of; false for what the evaluators with
// rules of their own measure, and for names that nothing measures.
func CountedBy(name v1.ResourceName) (schema.GroupResource, bool) {
	for gr, legacy := range counted {
		if legacy == name {
			return gr, true
		}
	}
	rest, ok := strings.CutPrefix(string(name), "count/")
	if !ok {
		return schema.GroupResource{}, false
	}
	return schema.ParseGroupResource(rest), true
}

// MatchingResources are those of names that e measures.
func (e *Evaluator) MatchingResources(names []v1.ResourceName) []v1.ResourceName {
	var matching []v1.ResourceName
	for _, name := range names {
		if e.Tracks(name) {
			matching = append(matching, name)
		}
	}
	return matching
}

// Matches says whether obj counts for a quota that limits hard: all its scopes must hold.
func (e *Evaluator) Matches(q *v1.ResourceQuota, hard v1.ResourceList, obj runtime.Object) bool {
	if len(e.MatchingResources(ResourceNames(hard))) == 0 {
		return false
	}
	for _, selector := range scopeSelectors(q) {
		if e.MatchesScope == nil || !e.MatchesScope(selector, obj) {
			return false
		}
	}
	return true
}

func scopeSelectors(q *v1.ResourceQuota) []v1.ScopedResourceSelectorRequirement {
	var selectors []v1.ScopedResourceSelectorRequirement
	for _, scope := range q.Spec.Scopes {
		selectors = append(selectors, v1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: v1.ScopeSelectorOpExists})
	}
	if q.Spec.ScopeSelector != nil {
		selectors = append(selectors, q.Spec.ScopeSelector.MatchExpressions...)
	}
	return selectors
}

// selects says whether the requirement holds for one of the values; with no value, whether it holds for none.
func selects(requirement v1.ScopedResourceSelectorRequirement, values ...string) bool {
	operator, known := map[v1.ScopeSelectorOperator]selection.Operator{
		v1.ScopeSelectorOpIn: selection.In, v1.ScopeSelectorOpNotIn: selection.NotIn,
		v1.ScopeSelectorOpExists: selection.Exists, v1.ScopeSelectorOpDoesNotExist: selection.DoesNotExist,
	}[requirement.Operator]
	if !known {
		return false
	}
	key := string(requirement.ScopeName)
	compiled, err := labels.NewRequirement(key, operator, requirement.Values)
	if err != nil {
		return false
	}
	if len(values) == 0 {
		return compiled.Matches(labels.Set{})
	}
	return slices.ContainsFunc(values, func(value string) bool { return compiled.Matches(labels.Set{key: value}) })
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }
