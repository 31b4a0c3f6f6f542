// Package resourceclaim is what is true of a ResourceClaim, and of the claim in a ResourceClaimTemplate.
//
// In Kubernetes: pkg/apis/resource (v1/defaults.go, validation/validation.go).
package resourceclaim

import (
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/resource/device"
	"hyperkube/api/rule"
)

// SetDefaults fills what the writer of a claim left out: one device, where no number is given.
func SetDefaults(spec *resourcev1.ResourceClaimSpec) {
	for i := range spec.Devices.Requests {
		r := &spec.Devices.Requests[i]
		if e := r.Exactly; e != nil {
			setDefaults(&e.AllocationMode, &e.Count, e.Tolerations)
		}
		for j := range r.FirstAvailable {
			s := &r.FirstAvailable[j]
			setDefaults(&s.AllocationMode, &s.Count, s.Tolerations)
		}
	}
}

func setDefaults(mode *resourcev1.DeviceAllocationMode, count *int64, tolerations []resourcev1.DeviceToleration) {
	if *mode == "" {
		*mode = resourcev1.DeviceAllocationModeExactCount
	}
	if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
		*count = 1
	}
	for i := range tolerations {
		if tolerations[i].Operator == "" {
			tolerations[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}

// Validate checks a claim on its own.
func Validate(c *resourcev1.ResourceClaim) field.ErrorList {
	return ValidateSpec(&c.Spec, field.NewPath("spec"))
}

// ValidateUpdate: a driver may already have looked at the claim.
func ValidateUpdate(c, old *resourcev1.ResourceClaim) field.ErrorList {
	return rule.Immutable(c.Spec, old.Spec, field.NewPath("spec"))
}

// ValidateTemplate checks a ResourceClaimTemplate on its own.
func ValidateTemplate(t *resourcev1.ResourceClaimTemplate) field.ErrorList {
	return ValidateSpec(&t.Spec.Spec, field.NewPath("spec", "spec"))
}

// ValidateTemplateUpdate: claims made of one template are alike.
func ValidateTemplateUpdate(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
	return rule.Immutable(t.Spec, old.Spec, field.NewPath("spec"))
}

// names are those of the requests: "gpu", and "gpu/large" for each of its alternatives.
func names(claim *resourcev1.DeviceClaim) sets.Set[string] {
	all := sets.New[string]()
	for _, r := range claim.Requests {
		all.Insert(r.Name)
		for _, s := range r.FirstAvailable {
			all.Insert(r.Name + "/" + s.Name)
		}
	}
	return all
}

// ValidateSpec checks what is asked for.
func ValidateSpec(spec *resourcev1.ResourceClaimSpec, path *field.Path) field.ErrorList {
	claim, path := &spec.Devices, path.Child("devices")
	requests, known := path.Child("requests"), names(claim)
	errs := device.AtMost(len(claim.Requests), resourcev1.DeviceRequestsMaxSize, requests)
	seen := sets.New[string]()
	for i := range claim.Requests {
		errs = append(errs, validateRequest(&claim.Requests[i], requests.Index(i))...)
		errs = append(errs, once(seen, claim.Requests[i].Name, requests.Index(i))...)
	}
	errs = append(errs, device.AtMost(len(claim.Constraints), resourcev1.DeviceConstraintsMaxSize, path.Child("constraints"))...)
	for i := range claim.Constraints {
		errs = append(errs, validateConstraint(&claim.Constraints[i], known, path.Child("constraints").Index(i))...)
	}
	errs = append(errs, device.AtMost(len(claim.Config), resourcev1.DeviceConfigMaxSize, path.Child("config"))...)
	for i := range claim.Config {
		at := path.Child("config").Index(i)
		errs = append(errs, validateReferences(claim.Config[i].Requests, known, at.Child("requests"))...)
		errs = append(errs, device.ValidateConfiguration(&claim.Config[i].DeviceConfiguration, at)...)
	}
	return errs
}

func once(seen sets.Set[string], name string, path *field.Path) field.ErrorList {
	if seen.Has(name) {
		return field.ErrorList{field.Duplicate(path, name)}
	}
	seen.Insert(name)
	return nil
}

func validateRequest(r *resourcev1.DeviceRequest, path *field.Path) field.ErrorList {
	errs := rule.DNSLabel(r.Name, path.Child("name"))
	const oneOf = "exactly one of `exactly` or `firstAvailable` is required"
	switch {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		return append(errs, field.Required(path, oneOf))
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		return append(errs, field.Invalid(path, nil, oneOf+", but multiple fields are set"))
	case r.Exactly != nil:
		return append(errs, validateExactly(r.Exactly, path.Child("exactly"))...)
	}
	at := path.Child("firstAvailable")
	errs = append(errs, device.AtMost(len(r.FirstAvailable), resourcev1.FirstAvailableDeviceRequestMaxSize, at)...)
	seen := sets.New[string]()
	for i, s := range r.FirstAvailable {
		errs = append(errs, rule.DNSLabel(s.Name, at.Index(i).Child("name"))...)
		errs = append(errs, once(seen, s.Name, at.Index(i))...)
		// An alternative says the same as the only one does, but for administrative access.
		same := resourcev1.ExactDeviceRequest{DeviceClassName: s.DeviceClassName, Selectors: s.Selectors, AllocationMode: s.AllocationMode,
			Count: s.Count, Tolerations: s.Tolerations, Capacity: s.Capacity, DerivedAttributes: s.DerivedAttributes}
		errs = append(errs, validateExactly(&same, at.Index(i))...)
	}
	return errs
}

func validateExactly(r *resourcev1.ExactDeviceRequest, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(r.DeviceClassName, path.Child("deviceClassName"))
	if r.DeviceClassName != "" {
		errs = append(errs, rule.DNSSubdomain(r.DeviceClassName, path.Child("deviceClassName"))...)
	}
	errs = append(errs, device.ValidateSelectors(r.Selectors, path.Child("selectors"))...)
	switch r.AllocationMode {
	case resourcev1.DeviceAllocationModeAll:
		if r.Count != 0 {
			errs = append(errs, field.Invalid(path.Child("count"), r.Count, fmt.Sprintf("must not be specified when allocationMode is '%s'", r.AllocationMode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		errs = append(errs, rule.Positive(r.Count, path.Child("count"))...)
	default:
		errs = append(errs, field.NotSupported(path.Child("allocationMode"), r.AllocationMode,
			[]resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}))
	}
	if r.Capacity != nil {
		for name := range r.Capacity.Requests {
			errs = append(errs, device.ValidateQualifiedName(string(name), path.Child("capacity", "requests").Key(string(name)))...)
		}
	}
	return append(errs, device.ValidateTolerations(r.Tolerations, path.Child("tolerations"))...)
}

func validateReferences(list []string, known sets.Set[string], path *field.Path) field.ErrorList {
	errs := device.AtMost(len(list), resourcev1.DeviceRequestsMaxSize, path)
	seen := sets.New[string]()
	for i, name := range list {
		for _, part := range strings.SplitN(name, "/", 2) {
			errs = append(errs, rule.DNSLabel(part, path.Index(i))...)
		}
		if !known.Has(name) {
			errs = append(errs, field.Invalid(path.Index(i), name, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
		}
		errs = append(errs, once(seen, name, path.Index(i))...)
	}
	return errs
}

func validateConstraint(c *resourcev1.DeviceConstraint, known sets.Set[string], path *field.Path) field.ErrorList {
	errs := validateReferences(c.Requests, known, path.Child("requests"))
	switch {
	case c.MatchAttribute != nil:
		return append(errs, device.ValidateFullyQualifiedName(string(*c.MatchAttribute), path.Child("matchAttribute"))...)
	case c.DistinctAttribute != nil:
		return append(errs, device.ValidateFullyQualifiedName(string(*c.DistinctAttribute), path.Child("distinctAttribute"))...)
	}
	return append(errs, field.Required(path.Child("matchAttribute"), ""))
}

// ValidateStatusUpdate checks what scheduler and drivers write: an allocation is made once, for requests that there are; what
// is not allocated is reserved for nobody.
func ValidateStatusUpdate(c, old *resourcev1.ResourceClaim) field.ErrorList {
	path, status, known := field.NewPath("status"), &c.Status, names(&c.Spec.Devices)
	var errs field.ErrorList
	if allocation := status.Allocation; allocation != nil {
		results := path.Child("allocation", "devices", "results")
		errs = append(errs, device.AtMost(len(allocation.Devices.Results), resourcev1.AllocationResultsMaxSize, results)...)
		for i, r := range allocation.Devices.Results {
			at := results.Index(i)
			if !known.Has(r.Request) {
				errs = append(errs, field.Invalid(at.Child("request"), r.Request, "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"))
			}
			errs = append(errs, device.ValidateDriver(r.Driver, at.Child("driver"))...)
			errs = append(errs, device.ValidatePool(r.Pool, at.Child("pool"))...)
			errs = append(errs, rule.DNSLabel(r.Device, at.Child("device"))...)
		}
		if old.Status.Allocation != nil {
			errs = append(errs, rule.Immutable(*allocation, *old.Status.Allocation, path.Child("allocation"))...)
		}
	} else if len(status.ReservedFor) > 0 {
		errs = append(errs, field.Forbidden(path.Child("reservedFor"), "may not be specified when `allocated` is not set"))
	}
	errs = append(errs, validateReservedFor(c, old, path.Child("reservedFor"))...)
	for i, d := range status.Devices {
		at := path.Child("devices").Index(i)
		errs = append(errs, device.ValidateDriver(d.Driver, at.Child("driver"))...)
		errs = append(errs, device.ValidatePool(d.Pool, at.Child("pool"))...)
		errs = append(errs, rule.DNSLabel(d.Device, at.Child("device"))...)
		errs = append(errs, metav1validation.ValidateConditions(d.Conditions, at.Child("conditions"))...)
	}
	return errs
}

func validateReservedFor(c, old *resourcev1.ResourceClaim, path *field.Path) field.ErrorList {
	list := c.Status.ReservedFor
	errs := device.AtMost(len(list), resourcev1.ResourceClaimReservedForMaxSize, path)
	seen, before := sets.New[string](), sets.New[string]()
	for _, r := range old.Status.ReservedFor {
		before.Insert(string(r.UID))
	}
	more := false
	for i, r := range list {
		at := path.Index(i)
		errs = append(errs, rule.NonEmpty(r.Resource, at.Child("resource"))...)
		errs = append(errs, rule.NonEmpty(r.Name, at.Child("name"))...)
		errs = append(errs, rule.NonEmpty(string(r.UID), at.Child("uid"))...)
		errs = append(errs, once(seen, string(r.UID), at.Child("uid"))...)
		more = more || !before.Has(string(r.UID))
	}
	if more && c.DeletionTimestamp != nil {
		errs = append(errs, field.Forbidden(path, "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"))
	}
	return errs
}
