// Package resourceslice is what is true of a ResourceSlice: some of the devices that a driver has.
//
// In Kubernetes: pkg/apis/resource (v1/defaults.go, validation/validation.go).
package resourceslice

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/resource/device"
	"hyperkube/api/rule"
)

// StampTaints gives taints that came without one their time.
func StampTaints(s *resourcev1.ResourceSlice, now metav1.Time) {
	for i := range s.Spec.Devices {
		for j := range s.Spec.Devices[i].Taints {
			device.StampTaint(&s.Spec.Devices[i].Taints[j], now)
		}
	}
}

// DropAlpha takes out the fields of features that are off: nobody would act on them. Of an attribute that was a list, nothing
// stays, which validation refuses.
func DropAlpha(s *resourcev1.ResourceSlice) {
	s.Spec.SkipNodeOperations, s.Spec.PartitionTypeAttribute = nil, nil
	for i := range s.Spec.Devices {
		d := &s.Spec.Devices[i]
		d.NodeAllocatableResources = nil
		for j := range d.ConsumesCounters {
			d.ConsumesCounters[j].CompatibilityGroups = nil
		}
		for name, a := range d.Attributes {
			a.IntValues, a.BoolValues, a.StringValues, a.VersionValues = nil, nil, nil, nil
			d.Attributes[name] = a
		}
	}
}

// Warnings tells of drivers that are not named as they should be.
func Warnings(s *resourcev1.ResourceSlice) []string {
	if s.Spec.Driver == strings.ToLower(s.Spec.Driver) {
		return nil
	}
	return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", s.Spec.Driver)}
}

// Validate checks a slice on its own.
func Validate(s *resourcev1.ResourceSlice) field.ErrorList { return validate(&s.Spec, nil) }

// ValidateUpdate: whose devices these are, and at which node, stays.
func ValidateUpdate(s, old *resourcev1.ResourceSlice) field.ErrorList {
	return validate(&s.Spec, &old.Spec)
}

func validate(spec, old *resourcev1.ResourceSliceSpec) field.ErrorList {
	path := field.NewPath("spec")
	errs := rule.DriverName(spec.Driver, path.Child("driver"))
	errs = append(errs, validatePool(&spec.Pool, path.Child("pool"))...)
	if old != nil {
		errs = append(errs, rule.Immutable(spec.Pool.Name, old.Pool.Name, path.Child("pool", "name"))...)
		errs = append(errs, rule.Immutable(spec.Driver, old.Driver, path.Child("driver"))...)
		errs = append(errs, rule.Immutable(spec.NodeName, old.NodeName, path.Child("nodeName"))...)
	}
	errs = append(errs, validatePlace(spec, path)...)
	if spec.SharedCounters != nil && spec.Devices != nil {
		errs = append(errs, field.Invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	errs = append(errs, validateDevices(spec, old, path.Child("devices"))...)
	return append(errs, device.Declared(resourcev1.Validate_ResourceSliceSpec, spec, old, path)...)
}

func validatePool(pool *resourcev1.ResourcePool, path *field.Path) field.ErrorList {
	errs := device.ValidatePool(pool.Name, path.Child("name"))
	errs = append(errs, rule.Positive(pool.ResourceSliceCount, path.Child("resourceSliceCount"))...)
	if pool.Generation < 0 {
		errs = append(errs, field.Invalid(path.Child("generation"), pool.Generation, "must be greater than or equal to zero"))
	}
	return errs
}

// place says where devices are: a slice's, or one device's.
type place struct {
	nodeName *string
	selector *v1.NodeSelector
	allNodes *bool
	// emptyName is what a node name without a name is told.
	emptyName string
}

// validate returns which of the ways of saying it are used.
func (p place) validate(path *field.Path) (used []string, errs field.ErrorList) {
	if name := p.nodeName; name != nil && *name == "" {
		errs = append(errs, field.Invalid(path.Child("nodeName"), *name, p.emptyName))
	} else if name != nil {
		used = append(used, "`nodeName`")
		errs = append(errs, rule.DNSSubdomain(*name, path.Child("nodeName"))...)
	}
	if p.selector != nil {
		used = append(used, "`nodeSelector`")
		errs = append(errs, pod.ValidateNodeSelector(p.selector, path.Child("nodeSelector"))...)
	}
	named, wrong := validateFlag(p.allNodes, path.Child("allNodes"), "`allNodes`")
	return append(used, named...), append(errs, wrong...)
}

// validateFlag: a flag that is there is true.
func validateFlag(flag *bool, path *field.Path, name string) (used []string, errs field.ErrorList) {
	switch {
	case flag == nil:
		return nil, nil
	case *flag:
		return []string{name}, nil
	}
	return nil, field.ErrorList{field.Invalid(path, false, "must be either unset or set to true")}
}

// validatePlace: the devices are at a node, at nodes, everywhere, or each says where.
func validatePlace(spec *resourcev1.ResourceSliceSpec, path *field.Path) field.ErrorList {
	p := place{spec.NodeName, spec.NodeSelector, spec.AllNodes, "must be either unset or set to a non-empty string"}
	used, errs := p.validate(path)
	if s := spec.NodeSelector; s != nil && len(s.NodeSelectorTerms) != 1 {
		// With one term each, the selectors of slices whose devices are allocated together can be merged.
		errs = append(errs, field.Invalid(path.Child("nodeSelector", "nodeSelectorTerms"), rule.Untagged(s.NodeSelectorTerms), "must have exactly one node selector term"))
	}
	named, wrong := validateFlag(spec.PerDeviceNodeSelection, path.Child("perDeviceNodeSelection"), "`perDeviceNodeSelection`")
	used, errs = append(used, named...), append(errs, wrong...)
	const oneOf = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch len(used) {
	case 0:
		return append(errs, field.Required(path, oneOf))
	case 1:
		return errs
	}
	return append(errs, field.Invalid(path, "{"+strings.Join(used, ", ")+"}", oneOf+", but multiple fields are set"))
}

// validateDevicePlace: a device says where it is if the slice leaves that to each.
func validateDevicePlace(d *resourcev1.Device, each bool, path *field.Path) field.ErrorList {
	if !each {
		if d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil {
			return field.ErrorList{field.Invalid(path, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec")}
		}
		return nil
	}
	used, errs := place{d.NodeName, d.NodeSelector, d.AllNodes, "must not be empty"}.validate(path)
	const oneOf = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
	switch len(used) {
	case 0:
		return append(errs, field.Required(path, oneOf))
	case 1:
		return errs
	}
	return append(errs, field.Invalid(path, "{"+strings.Join(used, ", ")+"}", oneOf))
}

func validateDevices(spec, old *resourcev1.ResourceSliceSpec, path *field.Path) field.ErrorList {
	most := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(spec.Devices, func(d resourcev1.Device) bool { return len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 }) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	if n := len(spec.Devices); n > most {
		return field.ErrorList{field.TooMany(path, n, most)}
	}
	before := map[string]*resourcev1.Device{}
	if old != nil {
		for i := range old.Devices {
			before[old.Devices[i].Name] = &old.Devices[i]
		}
	}
	var errs field.ErrorList
	for i := range spec.Devices {
		d := &spec.Devices[i]
		errs = append(errs, validateDevice(d, before[d.Name], ptr.Deref(spec.PerDeviceNodeSelection, false), path.Index(i))...)
	}
	seen := sets.New[string]()
	for i, d := range spec.Devices {
		if seen.Has(d.Name) {
			errs = append(errs, field.Duplicate(path.Index(i), d.Name))
		}
		seen.Insert(d.Name)
	}
	return errs
}

func validateDevice(d, old *resourcev1.Device, each bool, path *field.Path) field.ErrorList {
	errs := rule.DNSLabel(d.Name, path.Child("name"))
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	errs = append(errs, validateAttributes(d.Attributes, path.Child("attributes"))...)
	if old == nil || !equality.Semantic.DeepEqual(d.Capacity, old.Capacity) {
		errs = append(errs, validateCapacities(d.Capacity, ptr.Deref(d.AllowMultipleAllocations, false), path.Child("capacity"))...)
	}
	if old == nil || !equality.Semantic.DeepEqual(d.Taints, old.Taints) {
		at := path.Child("taints")
		if n := len(d.Taints); n > resourcev1.DeviceTaintsMaxLength {
			errs = append(errs, field.TooMany(at, n, resourcev1.DeviceTaintsMaxLength))
		}
		errs = append(errs, device.Items(d.Taints, resourcev1.DeviceTaintsMaxLength, at, device.ValidateTaint)...)
	}
	errs = append(errs, validateDevicePlace(d, each, path)...)
	return append(errs, device.ValidateBinding(d.BindingConditions, d.BindingFailureConditions, path)...)
}
