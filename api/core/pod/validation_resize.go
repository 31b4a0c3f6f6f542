package pod

import (
	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidatePodResize checks a write of pods/resize: the processor time and the memory of containers, and of the pod as a whole, may
// change while they run, as long as the pod keeps its class of service and nothing ends up without what it had.
func ValidatePodResize(pod, old *v1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	if IsMirrorPod(old) {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == v1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	errs := validateGenerateName(pod)
	errs = append(errs, validatePodOnly(pod)...)
	if ComputePodQOS(&pod.Spec) != GetPodQOS(old) {
		errs = append(errs, field.Invalid(path, pod.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if !resizeSupported(old) {
		errs = append(errs, field.Forbidden(path, "Pod running on node without support for resize"))
	}
	// Take back what may change: what is left must be equal.
	rest := pod.Spec.DeepCopy()
	if hasPodResources(&pod.Spec) || hasPodResources(&old.Spec) {
		errs = append(errs, takeBackPodResources(rest, &old.Spec, path)...)
	}
	if moved := validateSameContainers(&pod.Spec, &old.Spec, path); len(moved) > 0 {
		return append(errs, moved...)
	}
	errs = append(errs, takeBackContainers(rest, &old.Spec, path)...)
	if len(errs) == 0 && !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(path, "only cpu and memory resources are mutable"))
	}
	return errs
}

// resizeSupported: a node that can resize reports what its containers have.
func resizeSupported(pod *v1.Pod) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running != nil {
			return c.Resources != nil
		}
	}
	return true
}

func hasPodResources(spec *v1.PodSpec) bool {
	return spec.Resources != nil && len(spec.Resources.Requests)+len(spec.Resources.Limits) > 0
}

// takeBackPodResources gives rest the processor time and memory of the pod as a whole that old has (KEP-5419).
func takeBackPodResources(rest, old *v1.PodSpec, path *field.Path) field.ErrorList {
	at := path.Child("resources")
	if rest.Resources == nil && old.Resources != nil {
		return field.ErrorList{field.Forbidden(at, "pod-level resources cannot be removed")}
	}
	var errs field.ErrorList
	had := v1.ResourceRequirements{}
	if old.Resources != nil {
		had = *old.Resources
		errs = append(errs, forbidden(removed(rest.Resources.Requests, had.Requests), at.Child("requests"), "pod-level resource requests cannot be removed")...)
		errs = append(errs, forbidden(removed(rest.Resources.Limits, had.Limits), at.Child("limits"), "pod-level resource limits cannot be removed")...)
	}
	rest.Resources.Requests = takeBack(rest.Resources.Requests, had.Requests)
	rest.Resources.Limits = takeBack(rest.Resources.Limits, had.Limits)
	if r := rest.Resources; old.Resources == nil && len(r.Requests) == 0 && len(r.Limits) == 0 && len(r.Claims) == 0 {
		rest.Resources = nil
	}
	return append(errs, forbidden(!apiequality.Semantic.DeepEqual(rest.Resources, old.Resources), path, "only cpu and memory resources are mutable at pod-level")...)
}

// validateSameContainers: a resize has the containers of before, in their order.
func validateSameContainers(spec, old *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, list := range []struct {
		field    string
		now, was []v1.Container
	}{{"containers", spec.Containers, old.Containers}, {"initContainers", spec.InitContainers, old.InitContainers}} {
		at := path.Child(list.field)
		if len(list.now) != len(list.was) {
			errs = append(errs, field.Forbidden(at, list.field+" may not be added or removed on resize"))
			continue
		}
		for i := range list.now {
			if list.now[i].Name != list.was[i].Name {
				errs = append(errs, field.Forbidden(at.Index(i).Child("name"), list.field+" may not be renamed or reordered on resize"))
			}
		}
	}
	return errs
}

// takeBackContainers gives the containers of rest what old has, and says what else was changed.
func takeBackContainers(rest, old *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range rest.InitContainers {
		errs = append(errs, validateResized(&rest.InitContainers[i], &old.InitContainers[i], path.Child("initContainers").Index(i))...)
	}
	for i := range rest.Containers {
		errs = append(errs, validateResized(&rest.Containers[i], &old.Containers[i], path.Child("containers").Index(i))...)
	}
	for i := range rest.Containers {
		c, was := &rest.Containers[i], &old.Containers[i]
		takeBackContainer(c, was)
		errs = append(errs, forbidden(!apiequality.Semantic.DeepEqual(*c, *was), path, "only cpu and memory resources are mutable")...)
	}
	for i := range rest.InitContainers {
		c, was, at := &rest.InitContainers[i], &old.InitContainers[i], path.Child("initContainers").Index(i)
		changed := !apiequality.Semantic.DeepEqual(*c, *was)
		takeBackContainer(c, was)
		errs = append(errs, forbidden(!apiequality.Semantic.DeepEqual(*c, *was), at, "only cpu and memory resources for init or sidecar containers are mutable")...)
		if !changed || IsRestartableInitContainer(c) {
			continue
		}
		for _, policy := range c.ResizePolicy {
			errs = append(errs, forbidden(policy.RestartPolicy == v1.RestartContainer, at, "non-sidecar init containers with a resize policy of RestartContainer cannot be resized")...)
		}
	}
	return errs
}

func validateResized(c, old *v1.Container, path *field.Path) field.ErrorList {
	path = path.Child("resources")
	var errs field.ErrorList
	if removed(c.Resources.Requests, old.Resources.Requests) {
		errs = append(errs, field.Forbidden(path.Child("requests"), "resource requests cannot be removed"))
	}
	if removed(c.Resources.Limits, old.Resources.Limits) {
		errs = append(errs, field.Forbidden(path.Child("limits"), "resource limits cannot be removed"))
	}
	return errs
}

func takeBackContainer(c, old *v1.Container) {
	c.Resources.Requests = takeBack(c.Resources.Requests, old.Resources.Requests)
	c.Resources.Limits = takeBack(c.Resources.Limits, old.Resources.Limits)
}

// removed: something that was in old is not in list.
func removed(list, old v1.ResourceList) bool {
	for name := range old {
		if _, ok := list[name]; !ok {
			return true
		}
	}
	return false
}

// takeBack is list with the processor time and the memory of old.
func takeBack(list, old v1.ResourceList) v1.ResourceList {
	if list == nil && old == nil {
		return nil
	}
	list = list.DeepCopy()
	if list == nil {
		list = v1.ResourceList{}
	}
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		delete(list, name)
		if before, had := old[name]; had {
			list[name] = before
		}
	}
	return list
}
