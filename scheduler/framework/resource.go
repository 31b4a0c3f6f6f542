package framework

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// What a container without requests counts as in scores (never in filters), so
// that a crowd of pods without requests does not pile up on one node.
const (
	DefaultMilliCPURequest int64 = 100               // 0.1 core
	DefaultMemoryRequest   int64 = 200 * 1024 * 1024 // 200 MiB
)

// Resource is a sum of resources in plain integers: comparing quantities for each
// node and pod would cost more than the rest of the filter.
type Resource struct {
	MilliCPU         int64
	Memory           int64 // bytes
	EphemeralStorage int64 // bytes
	// AllowedPodNumber is only set on a node's Allocatable.
	AllowedPodNumber int
	// ScalarResources are all others: extended resources, huge pages.
	ScalarResources map[v1.ResourceName]int64
}

// NewResource converts a list of quantities.
func NewResource(list v1.ResourceList) *Resource {
	r := &Resource{}
	for name, quantity := range list {
		switch name {
		case v1.ResourceCPU:
			r.MilliCPU = quantity.MilliValue()
		case v1.ResourceMemory:
			r.Memory = quantity.Value()
		case v1.ResourcePods:
			r.AllowedPodNumber = int(quantity.Value())
		case v1.ResourceEphemeralStorage:
			r.EphemeralStorage = quantity.Value()
		default:
			if r.ScalarResources == nil {
				r.ScalarResources = map[v1.ResourceName]int64{}
			}
			r.ScalarResources[name] = quantity.Value()
		}
	}
	return r
}

// Clone copies the sum.
func (r *Resource) Clone() *Resource {
	clone := *r
	if r.ScalarResources != nil {
		clone.ScalarResources = make(map[v1.ResourceName]int64, len(r.ScalarResources))
		for name, value := range r.ScalarResources {
			clone.ScalarResources[name] = value
		}
	}
	return &clone
}

// add adds other sign times.
func (r *Resource) add(other *Resource, sign int64) {
	r.MilliCPU += sign * other.MilliCPU
	r.Memory += sign * other.Memory
	r.EphemeralStorage += sign * other.EphemeralStorage
	for name, value := range other.ScalarResources {
		if r.ScalarResources == nil {
			r.ScalarResources = map[v1.ResourceName]int64{}
		}
		r.ScalarResources[name] += sign * value
	}
}

// podRequests is what the pod occupies on a node: containers, init containers,
// sidecars, overhead, pod-level requests, and for a resize in flight the larger of
// what is asked and what is given.
func podRequests(pod *v1.Pod) v1.ResourceList {
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{UseStatusResources: true})
}

// podNonZeroRequests is podRequests with a minimum for CPU and memory.
func podNonZeroRequests(pod *v1.Pod) v1.ResourceList {
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: true,
		NonMissingContainerRequests: v1.ResourceList{
			v1.ResourceCPU:    *resource.NewMilliQuantity(DefaultMilliCPURequest, resource.DecimalSI),
			v1.ResourceMemory: *resource.NewQuantity(DefaultMemoryRequest, resource.BinarySI),
		},
	})
}
