// Package limitranger holds pods and claims to the LimitRanges of their namespace: a container that asks for nothing
// gets the defaults, and what asks for too little, too much, or for a limit too far above its request is refused.
//
// In Kubernetes: plugin/pkg/admission/limitranger.
package limitranger

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	resourcehelper "k8s.io/component-helpers/resource"

	apipod "hyperkube/api/core/pod"
	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// Annotation tells what the plugin filled in.
const Annotation = "kubernetes.io/limit-ranger"

type limitRanger struct {
	ranges lister.Lister[*corev1.LimitRange]
}

// New makes the plugin.
func New(ranges lister.Lister[*corev1.LimitRange]) plugin.Plugin {
	l := &limitRanger{ranges}
	return plugin.Plugin{
		Name:       "LimitRanger",
		Operations: []request.Operation{request.Create, request.Update},
		Admit:      l.admit,
		Sets:       map[schema.GroupResource][]string{plugin.Pods: {"spec.containers.resources", "spec.initContainers.resources", "metadata.annotations"}},
		Validate:   l.validate,
	}
}

// admit gives the containers of a new pod what their namespace's ranges say.
func (l *limitRanger) admit(_ context.Context, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || a.Operation != request.Create || !plugin.Is(a, "", "pods") {
		return nil
	}
	ranges, err := l.rangesOf(a)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		mergePodResourceRequirements(pod, defaultContainerResourceRequirements(r))
	}
	return nil
}

// validate holds new pods, resized ones, and claims to all ranges. Other updates of a pod cannot change its resources.
func (l *limitRanger) validate(_ context.Context, a *request.AdmissionAttributes) error {
	var check func(corev1.LimitRangeItem) []error
	switch obj := a.Object.(type) {
	case *corev1.Pod:
		created := a.Operation == request.Create && plugin.Is(a, "", "pods")
		if !created && a.Subresource != "resize" {
			return nil
		}
		check = func(item corev1.LimitRangeItem) []error { return validatePod(item, obj) }
	case *corev1.PersistentVolumeClaim:
		if !plugin.Is(a, "", "persistentvolumeclaims") {
			return nil
		}
		check = func(item corev1.LimitRangeItem) []error { return validateClaim(item, obj) }
	default:
		return nil
	}
	ranges, err := l.rangesOf(a)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		var errs []error
		for _, item := range r.Spec.Limits {
			errs = append(errs, check(item)...)
		}
		if len(errs) > 0 {
			return plugin.Forbidden(a, utilerrors.NewAggregate(errs))
		}
	}
	return nil
}

func (l *limitRanger) rangesOf(a *request.AdmissionAttributes) ([]*corev1.LimitRange, error) {
	ranges, err := l.ranges.List(a.Namespace)
	if err != nil {
		return nil, plugin.Forbidden(a, fmt.Errorf("unable to %s %v at this time because there was an error enforcing limit ranges", a.Operation, a.Resource))
	}
	return ranges, nil
}

// defaultContainerResourceRequirements are what a container gets that says nothing.
func defaultContainerResourceRequirements(r *corev1.LimitRange) corev1.ResourceRequirements {
	defaults := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, item := range r.Spec.Limits {
		if item.Type == corev1.LimitTypeContainer {
			maps.Copy(defaults.Requests, item.DefaultRequest)
			maps.Copy(defaults.Limits, item.Default)
		}
	}
	return defaults
}

// mergePodResourceRequirements fills in defaults, and annotates the pod with what it filled in.
func mergePodResourceRequirements(pod *corev1.Pod, defaults corev1.ResourceRequirements) {
	var notes []string
	apipod.VisitContainers(&pod.Spec, apipod.Containers|apipod.InitContainers, func(c *corev1.Container, kind apipod.ContainerType) bool {
		what := " for container " + c.Name
		if kind == apipod.InitContainers {
			what = " for init container " + c.Name
		}
		if set := fill(&c.Resources.Requests, defaults.Requests); len(set) > 0 {
			notes = append(notes, strings.Join(set, ", ")+" request"+what)
		}
		if set := fill(&c.Resources.Limits, defaults.Limits); len(set) > 0 {
			notes = append(notes, strings.Join(set, ", ")+" limit"+what)
		}
		return true
	})
	if len(notes) == 0 {
		return
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[Annotation] = "LimitRanger plugin set: " + strings.Join(notes, "; ")
}

// fill adds what list lacks, and returns the names of it, sorted.
func fill(list *corev1.ResourceList, defaults corev1.ResourceList) []string {
	var set []string
	for name, quantity := range defaults {
		if _, has := (*list)[name]; has {
			continue
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = quantity.DeepCopy()
		set = append(set, string(name))
	}
	slices.Sort(set)
	return set
}

// validatePod judges each container by an item for containers, and their sum by one for pods.
func validatePod(item corev1.LimitRangeItem, pod *corev1.Pod) []error {
	var errs []error
	switch item.Type {
	case corev1.LimitTypeContainer:
		apipod.VisitContainers(&pod.Spec, apipod.Containers|apipod.InitContainers, func(c *corev1.Container, _ apipod.ContainerType) bool {
			errs = append(errs, validateResources(item, c.Resources.Requests, c.Resources.Limits)...)
			return true
		})
	case corev1.LimitTypePod:
		options := resourcehelper.PodResourcesOptions{}
		errs = validateResources(item, resourcehelper.PodRequests(pod, options), resourcehelper.PodLimits(pod, options))
	}
	return errs
}

func validateClaim(item corev1.LimitRangeItem, claim *corev1.PersistentVolumeClaim) []error {
	if item.Type != corev1.LimitTypePersistentVolumeClaim {
		return nil
	}
	requests := claim.Spec.Resources.Requests
	var errs []error
	for _, name := range sortedNames(item.Min) {
		errs = appendError(errs, minConstraint(item.Type, name, item.Min[name], requests, nil))
	}
	for _, name := range sortedNames(item.Max) {
		errs = appendError(errs, maxRequestConstraint(item.Type, name, item.Max[name], requests))
	}
	return errs
}

func validateResources(item corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	for _, name := range sortedNames(item.Min) {
		errs = appendError(errs, minConstraint(item.Type, name, item.Min[name], requests, limits))
	}
	for _, name := range sortedNames(item.Max) {
		errs = appendError(errs, maxConstraint(item.Type, name, item.Max[name], requests, limits))
	}
	for _, name := range sortedNames(item.MaxLimitRequestRatio) {
		errs = appendError(errs, limitRequestRatioConstraint(item.Type, name, item.MaxLimitRequestRatio[name], requests, limits))
	}
	return errs
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	return slices.Sorted(maps.Keys(list))
}

func appendError(errs []error, err error) []error {
	if err != nil {
		errs = append(errs, err)
	}
	return errs
}

func minConstraint(kind corev1.LimitType, name corev1.ResourceName, enforced resource.Quantity, requests, limits corev1.ResourceList) error {
	request, requested := requests[name]
	limit, limited := limits[name]
	switch {
	case !requested:
		return fmt.Errorf("minimum %s usage per %s is %s.  No request is specified", name, kind, enforced.String())
	case request.Cmp(enforced) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but request is %s", name, kind, enforced.String(), request.String())
	case limited && limit.Cmp(enforced) < 0:
		return fmt.Errorf("minimum %s usage per %s is %s, but limit is %s", name, kind, enforced.String(), limit.String())
	}
	return nil
}

func maxConstraint(kind corev1.LimitType, name corev1.ResourceName, enforced resource.Quantity, requests, limits corev1.ResourceList) error {
	request, requested := requests[name]
	limit, limited := limits[name]
	switch {
	case !limited:
		return fmt.Errorf("maximum %s usage per %s is %s.  No limit is specified", name, kind, enforced.String())
	case limit.Cmp(enforced) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but limit is %s", name, kind, enforced.String(), limit.String())
	case requested && request.Cmp(enforced) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, kind, enforced.String(), request.String())
	}
	return nil
}

// maxRequestConstraint is for claims, which have no limits.
func maxRequestConstraint(kind corev1.LimitType, name corev1.ResourceName, enforced resource.Quantity, requests corev1.ResourceList) error {
	request, requested := requests[name]
	switch {
	case !requested:
		return fmt.Errorf("maximum %s usage per %s is %s.  No request is specified", name, kind, enforced.String())
	case request.Cmp(enforced) > 0:
		return fmt.Errorf("maximum %s usage per %s is %s, but request is %s", name, kind, enforced.String(), request.String())
	}
	return nil
}

func limitRequestRatioConstraint(kind corev1.LimitType, name corev1.ResourceName, enforced resource.Quantity, requests, limits corev1.ResourceList) error {
	request, limit := requests[name], limits[name]
	switch {
	case request.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no request is specified or request is 0", name, kind, enforced.String())
	case limit.IsZero():
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but no limit is specified or limit is 0", name, kind, enforced.String())
	}
	ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64()
	// A ratio of exactly the maximum must not fail by a rounding of the last digit.
	if ratio > enforced.AsApproximateFloat64()*(1+1e-12) {
		return fmt.Errorf("%s max limit to request ratio per %s is %s, but provided ratio is %f", name, kind, enforced.String(), ratio)
	}
	return nil
}
