package pod

import (
	"fmt"
	"math"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hyperkube/api/rule"
)

// ValidatePodStatusUpdate checks what a kubelet (or a scheduler) says of a pod.
func ValidatePodStatusUpdate(pod, old *v1.Pod) field.ErrorList {
	path, status := field.NewPath("status"), &pod.Status
	errs := validateAnnotationUpdates(pod, old, field.NewPath("metadata", "annotations"))
	errs = append(errs, validatePodConditions(status.Conditions, path.Child("conditions"))...)
	if pod.Spec.NodeName != old.Spec.NodeName {
		errs = append(errs, field.Forbidden(path.Child("nodeName"), "may not be changed directly"))
	}
	if name := status.NominatedNodeName; name != old.Status.NominatedNodeName && name != "" {
		errs = append(errs, rule.DNSSubdomain(name, path.Child("nominatedNodeName"))...)
		errs = append(errs, forbidden(old.Spec.NodeName != "", path.Child("nominatedNodeName"), "may not be set on pods that are already bound to a node")...)
	}
	if status.ObservedGeneration < 0 {
		errs = append(errs, field.Invalid(path.Child("observedGeneration"), status.ObservedGeneration, "must be a non-negative integer"))
	}
	errs = append(errs, apivalidation.ValidateImmutableField(status.QOSClass, old.Status.QOSClass, path.Child("qosClass"))...)
	errs = append(errs, validateStateTransition(status.ContainerStatuses, old.Status.ContainerStatuses, restartable(&old.Spec, old.Spec.Containers), path.Child("containerStatuses"))...)
	errs = append(errs, validateStateTransition(status.InitContainerStatuses, old.Status.InitContainerStatuses, restartable(&old.Spec, old.Spec.InitContainers), path.Child("initContainerStatuses"))...)
	never := func(string, int32) bool { return false }
	errs = append(errs, validateStateTransition(status.EphemeralContainerStatuses, old.Status.EphemeralContainerStatuses, never, path.Child("ephemeralContainerStatuses"))...)
	errs = append(errs, validateResourceClaimStatuses(status.ResourceClaimStatuses, claimNames(pod.Spec.ResourceClaims), path.Child("resourceClaimStatuses"))...)
	errs = append(errs, validateExtendedResourceClaim(status.ExtendedResourceClaimStatus, &pod.Spec, path.Child("extendedResourceClaimStatus"))...)
	errs = append(errs, validatePodIPs(status, &old.Status, path.Child("podIPs"))...)
	errs = append(errs, validateHostIPs(status, &old.Status, path.Child("hostIPs"))...)
	lists := []struct {
		name       string
		statuses   []v1.ContainerStatus
		containers []v1.Container
	}{
		{"containerStatuses", status.ContainerStatuses, pod.Spec.Containers},
		{"initContainerStatuses", status.InitContainerStatuses, pod.Spec.InitContainers},
		{"ephemeralContainerStatuses", status.EphemeralContainerStatuses, nil},
	}
	windows := pod.Spec.OS != nil && pod.Spec.OS.Name == v1.Windows
	for _, l := range lists {
		errs = append(errs, validateStatusUsers(l.statuses, windows, path.Child(l.name))...)
	}
	for _, l := range lists[:2] {
		a := allocatedRules{l.containers, status.ExtendedResourceClaimStatus}
		errs = append(errs, a.validate(l.statuses, path.Child(l.name))...)
	}
	for i, s := range status.EphemeralContainerStatuses {
		at := path.Child("ephemeralContainerStatuses").Index(i).Child("allocatedResourcesStatus")
		errs = append(errs, forbidden(len(s.AllocatedResourcesStatus) > 0, at, "must not be specified in container status")...)
	}
	return errs
}

// WarningsForStatus tell of addresses in a form that not everybody reads alike.
func WarningsForStatus(pod *v1.Pod) []string {
	var all []string
	for i, ip := range pod.Status.PodIPs {
		all = append(all, validation.GetWarningsForIP(field.NewPath("status", "podIPs").Index(i).Child("ip"), ip.IP)...)
	}
	for i, ip := range pod.Status.HostIPs {
		all = append(all, validation.GetWarningsForIP(field.NewPath("status", "hostIPs").Index(i).Child("ip"), ip.IP)...)
	}
	return all
}

func validatePodConditions(conditions []v1.PodCondition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range conditions {
		if c.ObservedGeneration < 0 {
			errs = append(errs, field.Invalid(path.Index(i).Child("observedGeneration"), c.ObservedGeneration, "must be a non-negative integer"))
		}
		switch c.Type {
		case v1.PodScheduled, v1.PodReady, v1.PodInitialized:
		default:
			errs = append(errs, rule.QualifiedName(string(c.Type), path.Index(i).Child("Type"))...)
		}
	}
	return errs
}

// restartable tells of a container that ended with a code whether it may run again.
func restartable(spec *v1.PodSpec, containers []v1.Container) func(name string, exitCode int32) bool {
	all := AllContainersCouldRestart(spec)
	return func(name string, exitCode int32) bool {
		i := slices.IndexFunc(containers, func(c v1.Container) bool { return c.Name == name })
		return all || i >= 0 && ContainerShouldRestart(&containers[i], spec, exitCode)
	}
}

// validateStateTransition: what has ended and is not to be restarted stays ended.
func validateStateTransition(statuses, olds []v1.ContainerStatus, restarts func(name string, exitCode int32) bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, old := range olds {
		if old.State.Terminated == nil {
			continue
		}
		again := slices.ContainsFunc(statuses, func(s v1.ContainerStatus) bool { return s.Name == old.Name && s.State.Terminated == nil })
		if again && !restarts(old.Name, old.State.Terminated.ExitCode) {
			errs = append(errs, field.Forbidden(path.Index(i).Child("state"), "may not be transitioned to non-terminated state"))
		}
	}
	return errs
}

func validateResourceClaimStatuses(statuses []v1.PodResourceClaimStatus, claims sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, s := range statuses {
		at := path.Index(i)
		if !claims.Has(s.Name) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, "must match the name of an entry in `spec.resourceClaims`"))
		}
		if seen.Has(s.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), s.Name))
		}
		seen.Insert(s.Name)
		if name := s.ResourceClaimName; name != nil {
			errs = append(errs, rule.DNSSubdomain(*name, at.Child("resourceClaimName"))...)
		}
	}
	return errs
}

// validateExtendedResourceClaim checks the claim that a scheduler made for resources that containers asked for by name only.
func validateExtendedResourceClaim(status *v1.PodExtendedResourceClaimStatus, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if status == nil {
		return nil
	}
	var errs field.ErrorList
	mappings := path.Child("requestMappings")
	if len(status.RequestMappings) == 0 {
		errs = append(errs, field.Required(mappings, "at least one request mapping is required"))
	}
	seen := sets.New[v1.ContainerExtendedResourceRequest]()
	for i, m := range status.RequestMappings {
		at := mappings.Index(i)
		known, asks := false, false
		VisitContainers(spec, Containers|InitContainers, func(c *v1.Container, _ ContainerType) bool {
			if c.Name == m.ContainerName {
				known = true
				_, asks = c.Resources.Requests[v1.ResourceName(m.ResourceName)]
			}
			return true
		})
		switch {
		case !known:
			errs = append(errs, field.Invalid(at.Child("containerName"), m.ContainerName, "must match the name of an entry in spec.initContainers.name or spec.containers.name"))
		case !asks:
			errs = append(errs, field.Invalid(at.Child("resourceName"), m.ResourceName, "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests"))
		}
		errs = append(errs, rule.DNSLabel(m.RequestName, path.Child("requestName"))...)
		if seen.Has(m) {
			errs = append(errs, field.Duplicate(at.Child("containerName"), m.ContainerName), field.Duplicate(at.Child("resourceName"), m.ResourceName), field.Duplicate(at.Child("requestName"), m.RequestName))
		}
		seen.Insert(m)
	}
	if status.ResourceClaimName == "" {
		return append(errs, field.Required(path.Child("resourceClaimName"), ""))
	}
	return append(errs, rule.DNSSubdomain(status.ResourceClaimName, path.Child("resourceClaimName"))...)
}

func validatePodIPs(status, old *v1.PodStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ips, before := make([]string, len(status.PodIPs)), make([]string, len(old.PodIPs))
	for i := range before {
		before[i] = old.PodIPs[i].IP
	}
	for i := range ips {
		ips[i] = status.PodIPs[i].IP
		errs = append(errs, rule.IP(ips[i], path.Index(i), before...)...)
	}
	errs = append(errs, validateFamilies(ips, rule.Untagged(status.PodIPs), path)...)
	switch {
	case (status.PodIP != "") != (len(ips) > 0):
		errs = append(errs, field.Invalid(path, rule.Untagged(status.PodIPs), "podIP and podIPs must either both be set or both be unset"))
	case len(ips) > 0 && status.PodIP != ips[0]:
		errs = append(errs, field.Invalid(path.Index(0).Child("ip"), ips[0], "must be equal to `podIP`"))
	}
	return errs
}

func validateHostIPs(status, old *v1.PodStatus, path *field.Path) field.ErrorList {
	if len(status.HostIPs) == 0 {
		return nil
	}
	var errs field.ErrorList
	if first := status.HostIPs[0].IP; first != status.HostIP {
		errs = append(errs, field.Invalid(path.Index(0).Child("ip"), first, "must be equal to `hostIP`"))
	}
	ips, before := make([]string, len(status.HostIPs)), make([]string, len(old.HostIPs))
	for i := range before {
		before[i] = old.HostIPs[i].IP
	}
	for i := range ips {
		ips[i] = status.HostIPs[i].IP
		errs = append(errs, rule.IP(ips[i], path.Index(i), before...)...)
	}
	return append(errs, validateFamilies(ips, rule.Untagged(status.HostIPs), path)...)
}

// validateFamilies: of several addresses there is one of IPv4 and one of IPv6.
func validateFamilies(ips []string, shown any, path *field.Path) field.ErrorList {
	if len(ips) < 2 {
		return nil
	}
	var errs field.ErrorList
	dual, err := netutils.IsDualStackIPStrings(ips)
	if err != nil {
		errs = append(errs, field.InternalError(path, fmt.Errorf("failed to check for dual stack with error:%v", err)))
	}
	if !dual || len(ips) > 2 {
		errs = append(errs, field.Invalid(path, shown, "may specify no more than one IP for each IP family"))
	}
	return errs
}

// validateStatusUsers checks as whom containers run. A runtime may report any user Linux has, more than a spec may ask for.
func validateStatusUsers(statuses []v1.ContainerStatus, windows bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range statuses {
		if s.User == nil || s.User.Linux == nil {
			continue
		}
		at, user := path.Index(i).Child("user", "linux"), s.User.Linux
		if windows {
			errs = append(errs, field.Forbidden(at, "cannot be set for a windows pod"))
			continue
		}
		if user.UID < 0 || user.UID > math.MaxUint32 {
			errs = append(errs, field.Invalid(at.Child("uid"), user.UID, fmt.Sprintf("must be between 0 and %d, inclusive", int64(math.MaxUint32))))
		}
		errs = append(errs, rule.All(validation.IsValidGroupID(user.GID), at.Child("gid"), user.GID)...)
		for j, group := range user.SupplementalGroups {
			errs = append(errs, rule.All(validation.IsValidGroupID(group), at.Child("supplementalGroups").Index(j), group)...)
		}
	}
	return errs
}

// allocatedRules checks the health of what containers were given.
type allocatedRules struct {
	containers []v1.Container
	extended   *v1.PodExtendedResourceClaimStatus
}

func (r allocatedRules) validate(statuses []v1.ContainerStatus, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, s := range statuses {
		for j, resource := range s.AllocatedResourcesStatus {
			at := path.Index(i).Child("allocatedResourcesStatus").Index(j)
			for k := range r.containers {
				if r.containers[k].Name == s.Name {
					errs = append(errs, r.validateName(&r.containers[k], resource.Name, at.Child("name"))...)
					break
				}
			}
			errs = append(errs, validateHealth(resource.Resources, at.Child("resources"))...)
		}
	}
	return errs
}

func (r allocatedRules) validateName(c *v1.Container, name v1.ResourceName, path *field.Path) field.ErrorList {
	claim, ok := strings.CutPrefix(string(name), "claim:")
	if !ok {
		if _, asked := c.Resources.Requests[name]; asked {
			return nil
		}
		return field.ErrorList{field.Invalid(path, name, "must match one of the container's resource requests")}
	}
	for _, used := range c.Resources.Claims {
		if claim == used.Name && used.Request == "" || used.Request != "" && claim == used.Name+"/"+used.Request {
			return nil
		}
	}
	if r.isExtended(c, claim) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, name, "must match one of the container's resource claims as 'claim:<claimName>/<requestName>' when container.resources.claims[*].request is set or 'claim:<claimName>' when it is empty")}
}

// isExtended: the container asked by name for what this request of the scheduler's claim has got it.
func (r allocatedRules) isExtended(c *v1.Container, claim string) bool {
	name, request, _ := strings.Cut(claim, "/")
	if r.extended == nil || request == "" || name != r.extended.ResourceClaimName {
		return false
	}
	return slices.ContainsFunc(r.extended.RequestMappings, func(m v1.ContainerExtendedResourceRequest) bool {
		quantity, ok := c.Resources.Requests[v1.ResourceName(m.ResourceName)]
		return m.ContainerName == c.Name && m.RequestName == request && ok && !quantity.IsZero()
	})
}

func validateHealth(list []v1.ResourceHealth, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[v1.ResourceID]()
	for i, r := range list {
		at := path.Index(i)
		errs = append(errs, rule.OneOf(r.Health, at.Child("health"), v1.ResourceHealthStatusHealthy, v1.ResourceHealthStatusUnhealthy, v1.ResourceHealthStatusUnknown)...)
		switch {
		case r.Message == nil:
		case *r.Message == "":
			errs = append(errs, field.Required(at.Child("message"), "must be non-empty if specified"))
		case len(*r.Message) > v1.ResourceHealthMessageMaxLength:
			errs = append(errs, field.TooLong(at.Child("message"), *r.Message, v1.ResourceHealthMessageMaxLength))
		}
		if seen.Has(r.ResourceID) {
			errs = append(errs, field.Duplicate(at.Child("resourceID"), r.ResourceID))
		}
		seen.Insert(r.ResourceID)
	}
	return errs
}
