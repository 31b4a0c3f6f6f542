package pod

import (
	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePodResize checks a write of pods/resize: the processor time and the memory of containers may change while they run, as
// long as the pod keeps its class of service and no container ends up without what it had.
func ValidatePodResize(pod, old *v1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePodOnly(pod)
	if IsMirrorPod(old) {
		return append(errs, field.Forbidden(field.NewPath(""), "static pods cannot be resized"))
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name == v1.Windows {
		return append(errs, field.Forbidden(field.NewPath(""), "windows pods cannot be resized"))
	}
	if class := ComputePodQOS(&pod.Spec); class != GetPodQOS(old) {
		errs = append(errs, field.Invalid(path, class, "Pod QOS Class may not change as a result of resizing"))
	}
	if len(pod.Spec.Containers) != len(old.Spec.Containers) || len(pod.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(path.Child("containers"), "containers may not be added or removed on pod resize"))
	}
	// Take back what may change: what is left must be equal.
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		errs = append(errs, takeBackResize(&rest.Containers[i], &old.Spec.Containers[i], path.Child("containers").Index(i))...)
	}
	for i := range rest.InitContainers {
		// A container that runs to its end before the others start has no time to be resized in.
		if IsRestartableInitContainer(&old.Spec.InitContainers[i]) {
			errs = append(errs, takeBackResize(&rest.InitContainers[i], &old.Spec.InitContainers[i], path.Child("initContainers").Index(i))...)
		}
	}
	if !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(path, "only cpu and memory resources are mutable"))
	}
	return errs
}

// takeBackResize gives c the processor time and memory that old has, and says what is missing now.
func takeBackResize(c, old *v1.Container, path *field.Path) field.ErrorList {
	path = path.Child("resources")
	var errs field.ErrorList
	c.ResizePolicy = old.ResizePolicy
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		for _, list := range []struct {
			now     *v1.ResourceList
			before  v1.ResourceList
			path    *field.Path
			message string
		}{
			{&c.Resources.Requests, old.Resources.Requests, path.Child("requests"), "resource requests cannot be removed"},
			{&c.Resources.Limits, old.Resources.Limits, path.Child("limits"), "resource limits cannot be removed"},
		} {
			before, had := list.before[name]
			if _, has := (*list.now)[name]; had && !has {
				errs = append(errs, field.Forbidden(list.path, list.message))
			}
			delete(*list.now, name)
			if !had {
				continue
			}
			if *list.now == nil {
				*list.now = v1.ResourceList{}
			}
			(*list.now)[name] = before
		}
	}
	return errs
}
