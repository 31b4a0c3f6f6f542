// Package resourceclaim is what is true of a ResourceClaim, and of the claim in a ResourceClaimTemplate.
//
// In Kubernetes: pkg/apis/resource (v1/defaults.go, validation/validation.go).
package resourceclaim

import (
	"fmt"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
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
	setDefaultsTolerations(tolerations)
}

// SetDefaultsStatus fills what who allocates left out.
func SetDefaultsStatus(s *resourcev1.ResourceClaimStatus) {
	if s.Allocation == nil {
		return
	}
	for i := range s.Allocation.Devices.Results {
		setDefaultsTolerations(s.Allocation.Devices.Results[i].Tolerations)
	}
}

func setDefaultsTolerations(tolerations []resourcev1.DeviceToleration) {
	for i := range tolerations {
		if tolerations[i].Operator == "" {
			tolerations[i].Operator = resourcev1.DeviceTolerationOpEqual
		}
	}
}

// DropAlpha takes out the fields of features that are off: nobody would act on them.
func DropAlpha(spec *resourcev1.ResourceClaimSpec) {
	if len(spec.Devices.Requests) == 0 {
		spec.Devices.Requests = nil // an answer shows none as null, however it was written
	}
	for i := range spec.Devices.Requests {
		r := &spec.Devices.Requests[i]
		if r.Exactly != nil {
			r.Exactly.DerivedAttributes = nil
		}
		for j := range r.FirstAvailable {
			r.FirstAvailable[j].DerivedAttributes = nil
		}
	}
}

// Validate checks a claim on its own.
func Validate(c *resourcev1.ResourceClaim, compile device.Compile) field.ErrorList {
	return ValidateSpec(&c.Spec, compile, field.NewPath("spec"))
}

// ValidateUpdate: a driver may already have looked at the claim.
func ValidateUpdate(c, old *resourcev1.ResourceClaim) field.ErrorList {
	return rule.Fixed(c.Spec, old.Spec, field.NewPath("spec"))
}

// ValidateTemplate checks a ResourceClaimTemplate on its own.
func ValidateTemplate(t *resourcev1.ResourceClaimTemplate, compile device.Compile) field.ErrorList {
	path := field.NewPath("spec")
	errs := apivalidation.ValidateAnnotations(t.Spec.Annotations, path.Child("metadata", "annotations"))
	errs = append(errs, metav1validation.ValidateLabels(t.Spec.Labels, path.Child("metadata", "labels"))...)
	errs = append(errs, rule.TemplateMetadata(&t.Spec.ObjectMeta, path.Child("metadata"))...)
	return append(errs, ValidateSpec(&t.Spec.Spec, compile, path.Child("spec"))...)
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
func ValidateSpec(spec *resourcev1.ResourceClaimSpec, compile device.Compile, path *field.Path) field.ErrorList {
	claim, at, known := &spec.Devices, path.Child("devices"), names(&spec.Devices)
	errs := device.Items(claim.Requests, resourcev1.DeviceRequestsMaxSize, at.Child("requests"),
		func(r *resourcev1.DeviceRequest, at *field.Path) field.ErrorList {
			return validateRequest(r, compile, at)
		})
	errs = append(errs, device.Items(claim.Constraints, resourcev1.DeviceConstraintsMaxSize, at.Child("constraints"),
		func(c *resourcev1.DeviceConstraint, at *field.Path) field.ErrorList {
			return validateConstraint(c, known, at)
		})...)
	errs = append(errs, device.Items(claim.Config, resourcev1.DeviceConfigMaxSize, at.Child("config"),
		func(c *resourcev1.DeviceClaimConfiguration, at *field.Path) field.ErrorList {
			errs := validateReferences(c.Requests, known, at.Child("requests"))
			return append(errs, device.ValidateConfiguration(&c.DeviceConfiguration, false, at)...)
		})...)
	return append(errs, device.Declared(resourcev1.Validate_ResourceClaimSpec, spec, nil, path)...)
}

func validateRequest(r *resourcev1.DeviceRequest, compile device.Compile, path *field.Path) field.ErrorList {
	errs := rule.DNSLabel(r.Name, path.Child("name"))
	const oneOf = "exactly one of `exactly` or `firstAvailable` is required"
	switch {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		return append(errs, field.Required(path, oneOf))
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		return append(errs, field.Invalid(path, nil, oneOf+", but multiple fields are set"))
	case r.Exactly != nil:
		return append(errs, validateExactly(r.Exactly, compile, path.Child("exactly"))...)
	}
	return append(errs, device.Items(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, path.Child("firstAvailable"),
		func(s *resourcev1.DeviceSubRequest, at *field.Path) field.ErrorList {
			errs := rule.DNSLabel(s.Name, at.Child("name"))
			errs = append(errs, device.ValidateSelectors(s.Selectors, false, compile, at.Child("selectors"))...)
			errs = append(errs, validateCount(s.AllocationMode, s.Count, at.Child("count"))...)
			return append(errs, device.ValidateTolerations(s.Tolerations, at.Child("tolerations"))...)
		})...)
}

func validateExactly(r *resourcev1.ExactDeviceRequest, compile device.Compile, path *field.Path) field.ErrorList {
	class := path.Child("deviceClassName")
	errs := rule.NonEmpty(r.DeviceClassName, class)
	if r.DeviceClassName != "" {
		errs = append(errs, rule.DNSSubdomain(r.DeviceClassName, class)...)
	}
	errs = append(errs, device.ValidateSelectors(r.Selectors, false, compile, path.Child("selectors"))...)
	errs = append(errs, validateCount(r.AllocationMode, r.Count, path.Child("count"))...)
	return append(errs, device.ValidateTolerations(r.Tolerations, path.Child("tolerations"))...)
}

func validateCount(mode resourcev1.DeviceAllocationMode, count int64, path *field.Path) field.ErrorList {
	switch {
	case mode == resourcev1.DeviceAllocationModeAll && count != 0:
		return field.ErrorList{field.Invalid(path, count, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode))}
	case mode == resourcev1.DeviceAllocationModeExactCount:
		return rule.Positive(count, path)
	}
	return nil
}

const unknownRequest = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"

func validateReferences(list []string, known sets.Set[string], path *field.Path) field.ErrorList {
	return device.Items(list, resourcev1.DeviceRequestsMaxSize, path, func(name *string, at *field.Path) field.ErrorList {
		return validateReference(*name, known, at)
	})
}

func validateReference(name string, known sets.Set[string], path *field.Path) field.ErrorList {
	parts := strings.Split(name, "/")
	if len(parts) > 2 {
		return field.ErrorList{field.Invalid(path, name, unknownRequest)}
	}
	var errs field.ErrorList
	for _, part := range parts {
		errs = append(errs, rule.DNSLabel(part, path)...)
	}
	if !known.Has(name) {
		errs = append(errs, field.Invalid(path, name, unknownRequest))
	}
	return errs
}

func validateConstraint(c *resourcev1.DeviceConstraint, known sets.Set[string], path *field.Path) field.ErrorList {
	errs := validateReferences(c.Requests, known, path.Child("requests"))
	if c.MatchAttribute == nil && c.DistinctAttribute == nil {
		// Upstream's words, which fit two fields better than none.
		errs = append(errs, field.Required(path, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
	}
	return errs
}
