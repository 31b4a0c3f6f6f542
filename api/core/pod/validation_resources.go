package pod

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/resource"

	"hyperkube/api/rule"
)

// isHugePageResourceName: hugepages-2Mi, hugepages-1Gi …
func isHugePageResourceName(name v1.ResourceName) bool {
	return strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix)
}

// IsNativeResource reports whether a name belongs to Kubernetes itself.
func IsNativeResource(name v1.ResourceName) bool {
	return !strings.Contains(string(name), "/") || strings.Contains(string(name), v1.ResourceDefaultNamespacePrefix)
}

// IsExtendedResourceName reports whether a name is one that nodes advertise for
// themselves (example.com/gpu).
func IsExtendedResourceName(name v1.ResourceName) bool {
	if IsNativeResource(name) || strings.HasPrefix(string(name), v1.DefaultResourceRequestsPrefix) {
		return false
	}
	return len(validation.IsQualifiedName(v1.DefaultResourceRequestsPrefix+string(name))) == 0
}

// IsOvercommitAllowed reports whether more of a resource may be limited than is requested.
func IsOvercommitAllowed(name v1.ResourceName) bool {
	return IsNativeResource(name) && !isHugePageResourceName(name)
}

func isStandardContainerResourceName(name v1.ResourceName) bool {
	switch name {
	case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage:
		return true
	}
	return isHugePageResourceName(name)
}

var standardResources = sets.New(v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage, v1.ResourceStorage,
	v1.ResourceRequestsCPU, v1.ResourceRequestsMemory, v1.ResourceRequestsEphemeralStorage, v1.ResourceRequestsStorage,
	v1.ResourceLimitsCPU, v1.ResourceLimitsMemory, v1.ResourceLimitsEphemeralStorage,
	v1.ResourcePods, v1.ResourceQuotas, v1.ResourceServices, v1.ResourceReplicationControllers, v1.ResourceSecrets, v1.ResourceConfigMaps,
	v1.ResourcePersistentVolumeClaims, v1.ResourceServicesNodePorts, v1.ResourceServicesLoadBalancers)

// ValidateResourceName asks for the name of a resource: a standard one, or one
// with a domain.
func ValidateResourceName(name v1.ResourceName, path *field.Path) field.ErrorList {
	errs := rule.QualifiedName(string(name), path)
	if len(errs) > 0 || strings.Contains(string(name), "/") || standardResources.Has(name) || isHugePageResourceName(name) || isHugePageRequest(name) {
		return errs
	}
	return field.ErrorList{field.Invalid(path, name, "must be a standard resource type or fully qualified")}
}

// ValidateQuotaResourceName asks for the name of something that a quota can count.
func ValidateQuotaResourceName(name v1.ResourceName, path *field.Path) field.ErrorList {
	errs := ValidateResourceName(name, path)
	if !strings.Contains(string(name), "/") && !IsStandardQuotaResource(name) {
		errs = append(errs, field.Invalid(path, name, "must be a standard resource for quota"))
	}
	return errs
}

// IsStandardQuotaResource: a quota of it is kept by Kubernetes itself.
func IsStandardQuotaResource(name v1.ResourceName) bool {
	return standardResources.Has(name) && name != v1.ResourceStorage || isHugePageResourceName(name) || isHugePageRequest(name)
}

// isHugePageRequest: requests.hugepages-2Mi, as quotas name it.
func isHugePageRequest(name v1.ResourceName) bool {
	return strings.HasPrefix(string(name), v1.ResourceRequestsHugePagesPrefix)
}

// ValidateContainerResourceName asks for a resource that a container can have.
func ValidateContainerResourceName(name v1.ResourceName, path *field.Path) field.ErrorList {
	errs := ValidateResourceName(name, path)
	switch {
	case !strings.Contains(string(name), "/"):
		if !isStandardContainerResourceName(name) {
			errs = append(errs, field.Invalid(path, name, "must be a standard resource for containers"))
		}
	case !IsNativeResource(name) && !IsExtendedResourceName(name):
		errs = append(errs, field.Invalid(path, name, "doesn't follow extended resource name standard"))
	}
	return errs
}

// ValidateResourceQuantityValue asks for a quantity that its resource can have.
func ValidateResourceQuantityValue(name v1.ResourceName, value apiresource.Quantity, path *field.Path) field.ErrorList {
	errs := rule.NonNegativeQuantity(value, path)
	if IsIntegerResourceName(name) && value.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, value.String(), rule.NotIntegerMessage))
	}
	return errs
}

var integerResources = sets.New(v1.ResourcePods, v1.ResourceQuotas, v1.ResourceServices, v1.ResourceReplicationControllers,
	v1.ResourceSecrets, v1.ResourceConfigMaps, v1.ResourcePersistentVolumeClaims, v1.ResourceServicesNodePorts, v1.ResourceServicesLoadBalancers)

// IsIntegerResourceName reports whether a resource comes in whole pieces only.
func IsIntegerResourceName(name v1.ResourceName) bool {
	return integerResources.Has(name) || IsExtendedResourceName(name)
}

func validateContainerResources(r *v1.ResourceRequirements, claims sets.Set[string], path *field.Path) field.ErrorList {
	errs := ValidateResourceRequirements(r, path, ValidateContainerResourceName)
	return append(errs, validateClaimsOfContainer(r.Claims, claims, path.Child("claims"))...)
}

// validateClaimsOfContainer: each claim is one of the pod's, and is named once as a whole, or once for each of its requests.
func validateClaimsOfContainer(list []v1.ResourceClaim, claims sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, claim := range list {
		at := path.Index(i)
		if claim.Name == "" {
			errs = append(errs, field.Required(at, ""))
			continue
		}
		if seen.Has(claim.Name) {
			errs = append(errs, field.Duplicate(at, claim.Name))
		} else {
			key := claim.Name
			if claim.Request != "" {
				errs = append(errs, rule.DNSLabel(claim.Request, at.Child("request"))...)
				key += "/" + claim.Request
			}
			for other := range seen {
				if other == key || claim.Request == "" && strings.HasPrefix(other, claim.Name+"/") {
					errs = append(errs, field.Duplicate(at, key))
				}
			}
			seen.Insert(key)
		}
		if !claims.Has(claim.Name) {
			missing := field.NotFound(at, claim.Name)
			missing.Detail = "must be one of the names in pod.spec.resourceClaims which is empty"
			if len(claims) > 0 {
				missing.Detail = "must be one of the names in pod.spec.resourceClaims: " + strings.Join(sets.List(claims), ", ")
			}
			errs = append(errs, missing)
		}
	}
	return errs
}

// validateHugePages: such memory comes in whole pages of the size that its name says.
func validateHugePages(name v1.ResourceName, value apiresource.Quantity, path *field.Path) field.ErrorList {
	if !isHugePageResourceName(name) {
		return nil
	}
	size, err := apiresource.ParseQuantity(strings.TrimPrefix(string(name), v1.ResourceHugePagesPrefix))
	if err == nil && size.Sign() > 0 && size.MilliValue()%1000 == 0 && value.Value()%size.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value.String(), fmt.Sprintf("%s is not positive integer multiple of %s", value.String(), name))}
}

// ValidateResourceRequirements checks requests against limits. validateName
// says which resources may stand there (a container's, a pod's).
func ValidateResourceRequirements(r *v1.ResourceRequirements, path *field.Path, validateName func(v1.ResourceName, *field.Path) field.ErrorList) field.ErrorList {
	limits, requests := path.Child("limits"), path.Child("requests")
	var errs field.ErrorList
	hugePages, cpuOrMemory := false, false
	for name, limit := range r.Limits {
		errs = append(errs, validateName(name, limits.Key(string(name)))...)
		errs = append(errs, ValidateResourceQuantityValue(name, limit, limits.Key(string(name)))...)
		errs = append(errs, validateHugePages(name, limit, limits.Key(string(name)))...)
		hugePages = hugePages || isHugePageResourceName(name)
		cpuOrMemory = cpuOrMemory || name == v1.ResourceCPU || name == v1.ResourceMemory
	}
	for name, request := range r.Requests {
		errs = append(errs, validateName(name, requests.Key(string(name)))...)
		errs = append(errs, ValidateResourceQuantityValue(name, request, requests.Key(string(name)))...)
		hugePages = hugePages || isHugePageResourceName(name)
		cpuOrMemory = cpuOrMemory || name == v1.ResourceCPU || name == v1.ResourceMemory
		limit, limited := r.Limits[name]
		switch {
		case limited && request.Cmp(limit) != 0 && !IsOvercommitAllowed(name):
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be equal to %s limit of %s", name, limit.String())))
		case limited && request.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(requests, request.String(), fmt.Sprintf("must be less than or equal to %s limit of %s", name, limit.String())))
		case !limited && !IsOvercommitAllowed(name):
			errs = append(errs, field.Required(limits, "Limit must be set for non overcommitable resources"))
		}
		errs = append(errs, validateHugePages(name, request, requests.Key(string(name)))...)
	}
	if hugePages && !cpuOrMemory {
		errs = append(errs, field.Forbidden(path, "HugePages require cpu or memory"))
	}
	return errs
}

// validatePodResources checks the resources of the pod as a whole (KEP-2837).
func validatePodResources(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if spec.Resources == nil {
		return nil
	}
	if spec.OS != nil && spec.OS.Name == v1.Windows {
		return field.ErrorList{field.Forbidden(path, "may not be set for a windows pod")}
	}
	errs := forbidden(spec.Resources.Claims != nil, path.Child("claims"), "claims may not be set for Resources at pod-level")
	errs = append(errs, ValidateResourceRequirements(spec.Resources, path, validatePodResourceName)...)
	errs = append(errs, validateClaimsOfContainer(spec.Resources.Claims, claimNames(spec.ResourceClaims), path.Child("claims"))...)
	return append(errs, validatePodResourceConsistency(spec, path)...)
}

func validatePodResourceName(name v1.ResourceName, path *field.Path) field.ErrorList {
	errs := ValidateResourceName(name, path)
	if len(errs) == 0 && !resource.IsSupportedPodLevelResource(name) {
		errs = append(errs, field.NotSupported(path, name, sets.List(resource.SupportedPodLevelResources())))
	}
	return errs
}

// validatePodResourceConsistency: the pod as a whole has no less than its containers ask for.
func validatePodResourceConsistency(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	pod, r := &v1.Pod{Spec: *spec}, spec.Resources
	for name, sum := range resource.AggregateContainerRequests(pod, resource.PodResourcesOptions{}) {
		if request, ok := r.Requests[name]; ok && sum.Cmp(request) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), request.String(), fmt.Sprintf("must be greater than or equal to aggregate container requests of %s", sum.String())))
		}
	}
	for name, sum := range resource.AggregateContainerLimits(pod, resource.PodResourcesOptions{}) {
		if limit, ok := r.Limits[name]; ok && isHugePageResourceName(name) && sum.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(path.Child("limits").Key(string(name)), limit.String(), fmt.Sprintf("must be greater than or equal to aggregate container limits of %s", sum.String())))
		}
	}
	for i := range spec.Containers {
		for name, limit := range spec.Containers[i].Resources.Limits {
			if whole, ok := r.Limits[name]; ok && limit.Cmp(whole) > 0 {
				at := path.Child("containers").Index(i).Key(string(name)).Child("limits")
				errs = append(errs, field.Invalid(at, limit.String(), fmt.Sprintf("must be less than or equal to pod limits of %s", whole.String())))
			}
		}
	}
	return errs
}

func validateResizePolicy(policies []v1.ContainerResizePolicy, restart v1.RestartPolicy, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[v1.ResourceName]()
	for i, policy := range policies {
		if seen.Has(policy.ResourceName) {
			errs = append(errs, field.Duplicate(path.Index(i), policy.ResourceName))
		}
		seen.Insert(policy.ResourceName)
		errs = append(errs, rule.Supported(policy.ResourceName, path, v1.ResourceCPU, v1.ResourceMemory)...)
		errs = append(errs, rule.Supported(policy.RestartPolicy, path, v1.NotRequired, v1.RestartContainer)...)
		if restart == v1.RestartPolicyNever && policy.RestartPolicy != v1.NotRequired {
			errs = append(errs, field.Invalid(path, policy.RestartPolicy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'"))
		}
	}
	return errs
}
