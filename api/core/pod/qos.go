package pod

import v1 "k8s.io/api/core/v1"

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
	if r := spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		if isGuaranteed(r) {
			return v1.PodQOSGuaranteed
		}
		return v1.PodQOSBurstable
	}
	guaranteed, any := true, false
	VisitContainers(spec, Containers|InitContainers, func(c *v1.Container, _ ContainerType) bool {
		guaranteed = guaranteed && isGuaranteed(&c.Resources)
		any = any || hasCompute(c.Resources.Requests) || hasCompute(c.Resources.Limits)
		return true
	})
	switch {
	case !any:
		return v1.PodQOSBestEffort
	case guaranteed:
		return v1.PodQOSGuaranteed
	}
	return v1.PodQOSBurstable
}

func hasCompute(list v1.ResourceList) bool {
	cpu, memory := list[v1.ResourceCPU], list[v1.ResourceMemory]
	return cpu.Sign() > 0 || memory.Sign() > 0
}

// isGuaranteed: CPU and memory are limited, and no less is requested.
func isGuaranteed(r *v1.ResourceRequirements) bool {
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		limit := r.Limits[name]
		if limit.Sign() <= 0 {
			return false
		}
		if request, ok := r.Requests[name]; ok && request.Cmp(limit) != 0 {
			return false
		}
	}
	return true
}
