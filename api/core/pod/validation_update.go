package pod

import (
	"fmt"
	"math"
	"slices"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
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
	errs := validateGenerateName(pod)
	errs = append(errs, validatePodOnly(pod)...)
	errs = append(errs, validateAnnotationUpdates(pod, old, field.NewPath("metadata", "annotations"))...)
	found, stop := validateImageUpdates(pod.Spec.Containers, old.Spec.Containers, path.Child("containers"))
	errs = append(errs, found...)
	if !stop {
		found, stop = validateImageUpdates(pod.Spec.InitContainers, old.Spec.InitContainers, path.Child("initContainers"))
		errs = append(errs, found...)
	}
	if !stop {
		found, stop = validateDeadlineUpdate(pod, old, path.Child("activeDeadlineSeconds"))
		errs = append(errs, found...)
	}
	if stop {
		return errs
	}
	errs = append(errs, validateOnlyAddedTolerations(pod, old, path.Child("tolerations"))...)
	errs = append(errs, validateOnlyDeletedSchedulingGates(pod, old, path.Child("schedulingGates"))...)
	if apiequality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		return errs
	}
	rest := withoutUpdatable(pod, old)
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, validateNarrowedPlacement(rest, &old.Spec, path)...)
	}
	if !apiequality.Semantic.DeepEqual(*rest, old.Spec) {
		changes := diff.Diff(rule.Untagged(old.Spec), rule.Untagged(*rest))
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("pod updates may not change fields other than %s\n%v", updatable, changes)))
	}
	return errs
}

// validateGenerateName: of other kinds nobody looks at what a name was made from once it is made.
func validateGenerateName(pod *v1.Pod) field.ErrorList {
	if pod.GenerateName == "" {
		return nil
	}
	return rule.All(apivalidation.NameIsDNSSubdomain(pod.GenerateName, true), field.NewPath("metadata", "generateName"), pod.GenerateName)
}

// withoutUpdatable is the pod's spec with what may change taken back: what is left must be equal to old's.
func withoutUpdatable(pod, old *v1.Pod) *v1.PodSpec {
	rest := pod.Spec.DeepCopy()
	for i := range rest.Containers {
		rest.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range rest.InitContainers {
		rest.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	if len(rest.InitContainers) == 0 {
		rest.InitContainers = nil
	}
	rest.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	rest.Tolerations = old.Spec.Tolerations
	rest.SchedulingGates = old.Spec.SchedulingGates
	if grace, was := rest.TerminationGracePeriodSeconds, old.Spec.TerminationGracePeriodSeconds; grace != nil && was != nil && *was < 0 && *grace == 1 {
		rest.TerminationGracePeriodSeconds = was
	}
	return rest
}

// validateImageUpdates stops what follows where there are not as many containers as there were.
func validateImageUpdates(now, old []v1.Container, path *field.Path) (errs field.ErrorList, stop bool) {
	if len(now) != len(old) {
		return field.ErrorList{field.Forbidden(path, "pod updates may not add or remove containers")}, true
	}
	for i := range now {
		errs = append(errs, rule.NonEmpty(now[i].Image, path.Index(i).Child("image"))...)
		errs = append(errs, validateTrimmedImage(&now[i], path.Index(i))...)
	}
	return errs, false
}

// validateDeadlineUpdate: a deadline may be set, and then only come nearer.
func validateDeadlineUpdate(pod, old *v1.Pod, path *field.Path) (errs field.ErrorList, stop bool) {
	deadline, was := pod.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds
	switch {
	case deadline == nil && was != nil:
		return field.ErrorList{field.Invalid(path, deadline, "must not update from a positive integer to nil value")}, false
	case deadline == nil:
		return nil, false
	case *deadline < 0 || *deadline > math.MaxInt32:
		return field.ErrorList{field.Invalid(path, *deadline, validation.InclusiveRangeError(0, math.MaxInt32))}, true
	case was != nil && *was < *deadline:
		return field.ErrorList{field.Invalid(path, *deadline, "must be less than or equal to previous value")}, true
	}
	return nil, false
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
	return ValidateTolerations(pod.Spec.Tolerations, path)
}

func validateOnlyDeletedSchedulingGates(pod, old *v1.Pod, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range pod.Spec.SchedulingGates {
		same := func(other v1.PodSchedulingGate) bool { return other.Name == gate.Name }
		if !slices.ContainsFunc(old.Spec.SchedulingGates, same) && !slices.ContainsFunc(pod.Spec.SchedulingGates[i+1:], same) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// validateNarrowedPlacement lets a gated pod gain node selectors and node affinity, never lose any: a quota or queue that opened
// the gate relied on them. What was gained is taken back in rest.
func validateNarrowedPlacement(rest, old *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for key, was := range old.NodeSelector {
		if value, ok := rest.NodeSelector[key]; !ok || value != was {
			errs = append(errs, field.Invalid(path.Child("nodeSelector"), rest.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	rest.NodeSelector = old.NodeSelector
	was, now := nodeAffinity(old), nodeAffinity(rest)
	if apiequality.Semantic.DeepEqual(was, now) {
		return errs
	}
	errs = append(errs, validateNarrowedTerms(requiredNodeTerms(now), requiredNodeTerms(was),
		path.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"))...)
	switch {
	case rest.Affinity == nil:
		rest.Affinity = &v1.Affinity{NodeAffinity: was}
	case old.Affinity == nil && rest.Affinity.PodAffinity == nil && rest.Affinity.PodAntiAffinity == nil:
		rest.Affinity = nil
	default:
		rest.Affinity.NodeAffinity = was
	}
	return errs
}

func nodeAffinity(spec *v1.PodSpec) *v1.NodeAffinity {
	if spec.Affinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity
}

func requiredNodeTerms(affinity *v1.NodeAffinity) []v1.NodeSelectorTerm {
	if affinity == nil || affinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return affinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

// validateNarrowedTerms: terms are alternatives, so another one would widen; within one, more requirements narrow.
func validateNarrowedTerms(now, was []v1.NodeSelectorTerm, path *field.Path) field.ErrorList {
	if len(was) > 0 && len(was) != len(now) {
		return field.ErrorList{field.Invalid(path, rule.Untagged(now), "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i := range was {
		empty := len(was[i].MatchExpressions)+len(was[i].MatchFields) == 0 // matches no node; anything more would
		if empty && len(now[i].MatchExpressions)+len(now[i].MatchFields) > 0 ||
			!startsWith(now[i].MatchExpressions, was[i].MatchExpressions) || !startsWith(now[i].MatchFields, was[i].MatchFields) {
			errs = append(errs, field.Invalid(path.Index(i), rule.Untagged(now[i]), "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

func startsWith(now, was []v1.NodeSelectorRequirement) bool {
	return len(now) >= len(was) && (len(was) == 0 || apiequality.Semantic.DeepEqual(now[:len(was)], was))
}

// ValidatePodEphemeralContainersUpdate checks a write of pods/ephemeralcontainers:
// containers can be added to a running pod, none can be changed or taken away.
func ValidatePodEphemeralContainersUpdate(pod, old *v1.Pod) field.ErrorList {
	if IsMirrorPod(old) {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods do not support ephemeral containers")}
	}
	path := field.NewPath("spec", "ephemeralContainers")
	errs := validateGenerateName(pod)
	errs = append(errs, validatePodOnly(pod)...)
	errs = append(errs, validateAnnotationUpdates(pod, old, field.NewPath("metadata", "annotations"))...)
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
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("existing ephemeral containers %q may not be changed\n%v", was.Name, diff.Diff(rule.Untagged(*was), rule.Untagged(now)))))
		}
	}
	return errs
}
