package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// GetPodQOS is the class the apiserver wrote into the status, or else what the spec says.
func GetPodQOS(pod *v1.Pod) v1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	return ComputePodQOS(&pod.Spec)
}

// ComputePodQOS says what a pod is worth when its node runs out of memory: a pod
// that asked for nothing goes first (BestEffort), one that can never get more
// than it asked for goes last (Guaranteed).
func ComputePodQOS(spec *v1.PodSpec) v1.PodQOSClass {
	if hasPodLevelResource(spec.Resources) {
		return requirementsQOS(spec.Resources)
	}
	var class v1.PodQOSClass
	VisitContainers(spec, Containers|InitContainers, func(c *v1.Container, _ ContainerType) bool {
		class = join(class, requirementsQOS(&c.Resources))
		return class != v1.PodQOSBurstable
	})
	if class == "" {
		return v1.PodQOSBestEffort
	}
	return class
}

// hasPodLevelResource: the pod as a whole asks for something that it can have as a whole.
func hasPodLevelResource(r *v1.ResourceRequirements) bool {
	if r == nil {
		return false
	}
	for _, list := range []v1.ResourceList{r.Requests, r.Limits} {
		for name := range list {
			if resource.IsSupportedPodLevelResource(name) {
				return true
			}
		}
	}
	return false
}

// requirementsQOS: of CPU and memory nothing is asked for, or nothing is asked for that is not also the limit, or something else.
func requirementsQOS(r *v1.ResourceRequirements) v1.PodQOSClass {
	return join(resourceQOS(r, v1.ResourceCPU), resourceQOS(r, v1.ResourceMemory))
}

func resourceQOS(r *v1.ResourceRequirements, name v1.ResourceName) v1.PodQOSClass {
	request, limit := r.Requests[name], r.Limits[name]
	switch {
	case !request.Equal(limit):
		return v1.PodQOSBurstable
	case request.IsZero():
		return v1.PodQOSBestEffort
	}
	return v1.PodQOSGuaranteed
}

// join is the class of two together: theirs, if it is the same.
func join(a, b v1.PodQOSClass) v1.PodQOSClass {
	if a == "" || a == b {
		return b
	}
	return v1.PodQOSBurstable
}
