package pod

import (
	"fmt"
	"math"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

const updatable = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`," +
	"`spec.tolerations` (only additions to existing tolerations)," +
	"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"

// ValidatePodUpdate checks a changed pod. Nearly all of a pod is fixed: what a
// container was started with cannot be changed under it. Gated pods, which
// nobody looks at yet, may also be narrowed in where they run.
func ValidatePodUpdate(pod, old *v1.Pod) field.ErrorList {
	path := field.NewPath("spec")
	errs := validatePodOnly(pod)
	if len(pod.Spec.Containers) != len(old.Spec.Containers) {
		return append(errs, field.Forbidden(path.Child("containers"), "pod updates may not add or remove containers"))
	}
	if len(pod.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(path.Child("initContainers"), "pod updates may not add or remove containers"))
	}
	errs = append(errs, validateDeadlineUpdate(pod, old, path.Child("activeDeadlineSeconds"))...)
	errs = append(errs, validateOnlyAddedTolerations(pod, old, path.Child("tolerations"))...)
	errs = append(errs, validateOnlyDeletedSchedulingGates(pod, old, path.Child("schedulingGates"))...)
	if value, was := pod.Annotations[v1.MirrorPodAnnotationKey], old.Annotations[v1.MirrorPodAnnotationKey]; value != was {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations").Key(v1.MirrorPodAnnotationKey), "may not be added, removed or changed"))
	}

	// Take back what may change: what is left must be equal.
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.Tolerations = old.Spec.Tolerations
	rest.SchedulingGates = old.Spec.SchedulingGates
	if grace, was := rest.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; grace != nil && was != nil && *was < 0 && *grace == 1 {
		rest.TerminationGracePeriodSeconds = was
	}
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, validateNarrowedPlacement(pod, old, rest, path)...)
	}
	if !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, diff.Diff(old.Spec, *rest))))
	}
	return errs
}

// validateDeadlineUpdate: a deadline may be set, and then only come nearer.
func validateDeadlineUpdate(pod, old *v1.Pod, path *field.Path) field.ErrorList {
	deadline, was := pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds
	switch {
	case deadline == nil && was != nil:
		return field.ErrorList{field.Invalid(path, deadline, "must not update from a positive integer to nil value")}
	case deadline == nil:
		return nil
	case *deadline < 0 || *deadline > math.MaxInt32:
		return field.ErrorList{field.Invalid(path, *deadline, validation.InclusiveRangeError(0, math.MaxInt32))}
	case was != nil && *was < *deadline:
		return field.ErrorList{field.Invalid(path, *deadline, "must be less than or equal to previous value")}
	}
	return nil
}

func validateOnlyAddedTolerations(pod, old *v1.Pod, path *field.Path) field.ErrorList {
	for _, was := range old.Spec.Tolerations {
		was.TolerationSeconds = nil
		found := false
		for _, t := range pod.Spec.Tolerations {
			t.TolerationSeconds = nil
			found = found || t == was
		}
		if !found {
			return field.ErrorList{field.Forbidden(path, "existing toleration can not be modified except its tolerationSeconds")}
		}
	}
	return nil
}

func validateOnlyDeletedSchedulingGates(pod, old *v1.Pod, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range pod.Spec.SchedulingGates {
		found := false
		for _, was := range old.Spec.SchedulingGates {
			found = found || was.Name == gate.Name
		}
		if !found {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// validateNarrowedPlacement lets a gated pod gain node selectors and node affinity,
// never lose any: a quota or queue that opened the gate relied on them.
func validateNarrowedPlacement(pod, old *v1.Pod, rest *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	narrowed := true
	for key, was := range old.Spec.NodeSelector {
		if value, ok := pod.Spec.NodeSelector[key]; !ok || value != was {
			narrowed = false
			errs = append(errs, field.Invalid(path.Child("nodeSelector").Key(key), pod.Spec.NodeSelector[key], "only additions are allowed (no mutations or deletions)"))
		}
	}
	if narrowed {
		rest.NodeSelector = old.Spec.NodeSelector
	}
	was := requiredNodeTerms(old.Spec.Affinity)
	terms := requiredNodeTerms(pod.Spec.Affinity)
	if len(was) > 0 && len(was) != len(terms) {
		return append(errs, field.Invalid(path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"), terms, "no additions/deletions to non-empty NodeSelectorTerms list are allowed"))
	}
	for i := range was {
		for _, expression := range was[i].MatchExpressions {
			found := false
			for _, e := range terms[i].MatchExpressions {
				found = found || apiequality.Semantic.DeepEqual(e, expression)
			}
			if !found {
				return append(errs, field.Invalid(path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms").Index(i), terms[i], "only additions are allowed (no mutations or deletions)"))
			}
		}
	}
	// Everything of node affinity but what was required before is free.
	if pod.Spec.Affinity != nil {
		rest.Affinity = rest.Affinity.DeepCopy()
		rest.Affinity.NodeAffinity = nil
		if old.Spec.Affinity != nil {
			rest.Affinity.NodeAffinity = old.Spec.Affinity.NodeAffinity
		}
		if old.Spec.Affinity == nil && rest.Affinity.PodAffinity == nil && rest.Affinity.PodAntiAffinity == nil {
			rest.Affinity = nil
		}
	}
	return errs
}

func requiredNodeTerms(affinity *v1.Affinity) []v1.NodeSelectorTerm {
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

// ValidatePodStatusUpdate checks what a kubelet (or a scheduler) says of a pod.
func ValidatePodStatusUpdate(pod, old *v1.Pod) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	if pod.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "may not be changed directly"))
	}
	if name := pod.Status.NominatedNodeName; name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("nominatedNodeName"))...)
	}
	for i, condition := range pod.Status.Conditions {
		if condition.Type == "" {
			errs = append(errs, field.Required(path.Child("conditions").Index(i).Child("type"), ""))
		}
	}
	errs = append(errs, validateStateTransition(pod.Status.ContainerStatuses, old.Status.ContainerStatuses, &old.Spec, path.Child("containerStatuses"))...)
	errs = append(errs, validateStateTransition(pod.Status.InitContainerStatuses, old.Status.InitContainerStatuses, &old.Spec, path.Child("initContainerStatuses"))...)
	for i, ip := range pod.Status.PodIPs {
		errs = append(errs, rule.IP(ip.IP, path.Child("podIPs").Index(i))...)
	}
	if len(pod.Status.PodIPs) > 2 {
		errs = append(errs, field.Invalid(path.Child("podIPs"), pod.Status.PodIPs, "may specify no more than one IP for each IP family"))
	}
	for i, ip := range pod.Status.HostIPs {
		errs = append(errs, rule.IP(ip.IP, path.Child("hostIPs").Index(i))...)
	}
	return errs
}

// validateStateTransition: what has ended and is not to be restarted stays ended.
func validateStateTransition(statuses, olds []v1.ContainerStatus, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if AllContainersCouldRestart(spec) {
		return nil
	}
	var errs field.ErrorList
	for i, old := range olds {
		status, ok := GetContainerStatus(statuses, old.Name)
		if !ok || old.State.Terminated == nil || status.State.Terminated != nil {
			continue
		}
		restarts := !VisitContainers(spec, InitContainers|Containers, func(c *v1.Container, _ ContainerType) bool {
			return c.Name != old.Name || !ContainerShouldRestart(c, spec, old.State.Terminated.ExitCode)
		})
		errs = append(errs, forbidden(!restarts, path.Index(i).Child("state"), "may not be transitioned to non-terminated state")...)
	}
	return errs
}

// ValidatePodEphemeralContainersUpdate checks a write of pods/ephemeralcontainers:
// containers can be added to a running pod, none can be changed or taken away.
func ValidatePodEphemeralContainersUpdate(pod, old *v1.Pod) field.ErrorList {
	path := field.NewPath("spec", "ephemeralContainers")
	errs := validatePodOnly(pod)
	byName := map[string]*v1.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		byName[pod.Spec.EphemeralContainers[i].Name] = &pod.Spec.EphemeralContainers[i]
	}
	for i := range old.Spec.EphemeralContainers {
		was := &old.Spec.EphemeralContainers[i]
		now, ok := byName[was.Name]
		switch {
		case !ok:
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be removed\n", was.Name)))
		case !apiequality.Semantic.DeepEqual(was, now):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(was, now))))
		}
	}
	if len(pod.Spec.EphemeralContainers) > 0 && IsMirrorPod(pod) {
		errs = append(errs, field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers"))
	}
	return errs
}
