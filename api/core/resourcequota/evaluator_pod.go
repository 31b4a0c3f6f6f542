package resourcequota

import (
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	resourcehelper "k8s.io/component-helpers/resource"

	"hyperkube/api/core/pod"
)

var podEvaluator = &Evaluator{
	Resource: schema.GroupResource{Resource: "pods"},
	Tracks:   tracksPods,
	Usage: func(obj runtime.Object, now time.Time) v1.ResourceList {
		if p, ok := obj.(*v1.Pod); ok {
			return podUsage(p, now)
		}
		return nil
	},
	Constraints: func(required []v1.ResourceName, obj runtime.Object) error {
		if p, ok := obj.(*v1.Pod); ok {
			return podConstraints(required, p)
		}
		return nil
	},
	MatchesScope: func(selector v1.ScopedResourceSelectorRequirement, obj runtime.Object) bool {
		p, ok := obj.(*v1.Pod)
		return ok && podMatchesScope(selector, p)
	},
	ScopeChanged: func(old, obj runtime.Object) bool {
		before, ok := old.(*v1.Pod)
		after, isPod := obj.(*v1.Pod)
		return ok && isPod && terminating(before) != terminating(after)
	},
}

const podCount v1.ResourceName = "count/pods"

var podResources = sets.New(podCount, v1.ResourcePods,
	v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage,
	v1.ResourceRequestsCPU, v1.ResourceRequestsMemory, v1.ResourceRequestsEphemeralStorage,
	v1.ResourceLimitsCPU, v1.ResourceLimitsMemory, v1.ResourceLimitsEphemeralStorage)

func tracksPods(name v1.ResourceName) bool {
	text := string(name)
	return podResources.Has(name) || strings.HasPrefix(text, v1.ResourceHugePagesPrefix) || strings.HasPrefix(text, v1.ResourceRequestsHugePagesPrefix) ||
		!pod.IsNativeResource(name) && strings.HasPrefix(text, v1.DefaultResourceRequestsPrefix)
}

// podUsage: the object counts as long as it is there; what it computes with, and "pods" itself, until it has ended or
// should have been gone.
func podUsage(p *v1.Pod, now time.Time) v1.ResourceList {
	usage := v1.ResourceList{podCount: one()}
	if pod.IsPodTerminal(p) {
		return usage
	}
	if at, grace := p.DeletionTimestamp, p.DeletionGracePeriodSeconds; at != nil && grace != nil && now.After(at.Add(time.Duration(*grace)*time.Second)) {
		return usage
	}
	options := resourcehelper.PodResourcesOptions{UseStatusResources: true}
	return Add(usage, computeUsage(resourcehelper.PodRequests(p, options), resourcehelper.PodLimits(p, options)))
}

// computeUsage names requests and limits as quotas do.
func computeUsage(requests, limits v1.ResourceList) v1.ResourceList {
	usage := v1.ResourceList{v1.ResourcePods: one()}
	for name, quantity := range requests {
		switch {
		case name == v1.ResourceCPU, name == v1.ResourceMemory, name == v1.ResourceEphemeralStorage, strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix):
			usage[name] = quantity
			usage[v1.DefaultResourceRequestsPrefix+name] = quantity
		case pod.IsExtendedResourceName(name):
			usage[v1.DefaultResourceRequestsPrefix+name] = quantity
		}
	}
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage} {
		if quantity, ok := limits[name]; ok {
			usage["limits."+name] = quantity
		}
	}
	return usage
}

// mustSpecify are the resources that each container must name when a quota counts them.
var mustSpecify = sets.New(v1.ResourceCPU, v1.ResourceMemory, v1.ResourceRequestsCPU, v1.ResourceRequestsMemory, v1.ResourceLimitsCPU, v1.ResourceLimitsMemory)

// podConstraints: a quota on memory refuses pods that do not say how much they want, since they could not be counted.
func podConstraints(required []v1.ResourceName, p *v1.Pod) error {
	if resourcehelper.IsPodLevelResourcesSet(p) {
		return nil
	}
	var messages []string
	required = slices.Clone(required)
	slices.Sort(required)
	for _, name := range required {
		if !mustSpecify.Has(name) {
			continue
		}
		silent := sets.New[string]()
		pod.VisitContainers(&p.Spec, pod.Containers|pod.InitContainers, func(c *v1.Container, _ pod.ContainerType) bool {
			if _, ok := computeUsage(c.Resources.Requests, c.Resources.Limits)[name]; !ok {
				silent.Insert(c.Name)
			}
			return true
		})
		if silent.Len() > 0 {
			messages = append(messages, fmt.Sprintf("%s for: %s", name, strings.Join(sets.List(silent), ",")))
		}
	}
	if len(messages) == 0 {
		return nil
	}
	return fmt.Errorf("must specify %s", strings.Join(messages, "; "))
}

func podMatchesScope(selector v1.ScopedResourceSelectorRequirement, p *v1.Pod) bool {
	switch selector.ScopeName {
	case v1.ResourceQuotaScopeTerminating:
		return terminating(p)
	case v1.ResourceQuotaScopeNotTerminating:
		return !terminating(p)
	case v1.ResourceQuotaScopeBestEffort:
		return pod.GetPodQOS(p) == v1.PodQOSBestEffort
	case v1.ResourceQuotaScopeNotBestEffort:
		return pod.GetPodQOS(p) != v1.PodQOSBestEffort
	case v1.ResourceQuotaScopePriorityClass:
		if p.Spec.PriorityClassName == "" {
			return selects(selector)
		}
		return selects(selector, p.Spec.PriorityClassName)
	case v1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return usesCrossNamespacePodAffinity(p)
	}
	return false
}

// terminating: the pod will end by itself. It is the one scope that an update of a pod can take it into.
func terminating(p *v1.Pod) bool {
	return p.Spec.ActiveDeadlineSeconds != nil && *p.Spec.ActiveDeadlineSeconds >= 0
}

// usesCrossNamespacePodAffinity: such a pod makes the scheduler look at pods of other namespaces.
func usesCrossNamespacePodAffinity(p *v1.Pod) bool {
	if p.Spec.Affinity == nil {
		return false
	}
	var terms []v1.PodAffinityTerm
	if a := p.Spec.Affinity.PodAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, weighted := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, weighted.PodAffinityTerm)
		}
	}
	if a := p.Spec.Affinity.PodAntiAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, weighted := range a.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, weighted.PodAffinityTerm)
		}
	}
	return slices.ContainsFunc(terms, func(t v1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}
