package pod

import (
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"
)

// DefaultPodLevelResources fills the resources of the pod as a whole where some are set (KEP-2837). It is no part of
// SetDefaultsPod: it sums up the containers, and must come when admission has made all of them.
//
//	Step 1: of huge pages, which cannot be given twice, the pod has what its containers have.
//	Step 2: the pod requests what its containers request together, or else its limit.
//	Step 3: what is requested is limited if each container limits it: to their sum, or to the request where that is more.
//
// In Kubernetes: pkg/api/pod/util.go:DefaultPodLevelResources.
func DefaultPodLevelResources(pod *v1.Pod) {
	r := pod.Spec.Resources
	if r == nil || len(r.Requests) == 0 && len(r.Limits) == 0 {
		return
	}
	limits := resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{})
	// Step 1
	for name, sum := range limits {
		if _, requested := r.Requests[name]; isHugePageResourceName(name) && !requested {
			fill(&r.Limits, name, sum)
		}
	}
	// Step 2
	for name, sum := range resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{}) {
		if IsOvercommitAllowed(name) {
			fill(&r.Requests, name, sum)
		}
	}
	for name, limit := range r.Limits {
		fill(&r.Requests, name, limit)
	}
	// Step 3
	for _, name := range slices.Collect(maps.Keys(r.Requests)) {
		sum, ok := limits[name]
		if !ok || !eachLimits(&pod.Spec, name) {
			continue
		}
		if request := r.Requests[name]; request.Cmp(sum) > 0 {
			sum = request
		}
		fill(&r.Limits, name, sum)
	}
}

// fill sets a resource that a pod may have and that is not set.
func fill(list *v1.ResourceList, name v1.ResourceName, value apiresource.Quantity) {
	if _, set := (*list)[name]; set || !resource.IsSupportedPodLevelResource(name) {
		return
	}
	if *list == nil {
		*list = v1.ResourceList{}
	}
	(*list)[name] = value.DeepCopy()
}

func eachLimits(spec *v1.PodSpec, name v1.ResourceName) bool {
	return VisitContainers(spec, AllContainers, func(c *v1.Container, _ ContainerType) bool {
		_, limited := c.Resources.Limits[name]
		return limited
	})
}
