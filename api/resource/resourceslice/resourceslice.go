// Package resourceslice is what is true of a ResourceSlice: some of the devices that a driver has.
//
// In Kubernetes: pkg/apis/resource (v1/defaults.go, validation/validation.go).
package resourceslice

import (
	"regexp"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/resource/device"
	"hyperkube/api/rule"
)

// StampTaints gives taints that came without one their time.
func StampTaints(s *resourcev1.ResourceSlice, now metav1.Time) {
	for i := range s.Spec.Devices {
		taints := s.Spec.Devices[i].Taints
		for j := range taints {
			if taints[j].TimeAdded == nil {
				taints[j].TimeAdded = &now
			}
		}
	}
}

// Validate checks a slice on its own.
func Validate(s *resourcev1.ResourceSlice) field.ErrorList {
	spec, path := &s.Spec, field.NewPath("spec")
	errs := device.ValidateDriver(spec.Driver, path.Child("driver"))
	errs = append(errs, device.ValidatePool(spec.Pool.Name, path.Child("pool", "name"))...)
	errs = append(errs, rule.Positive(spec.Pool.ResourceSliceCount, path.Child("pool", "resourceSliceCount"))...)
	if spec.Pool.Generation < 0 {
		errs = append(errs, field.Invalid(path.Child("pool", "generation"), spec.Pool.Generation, "must be greater than or equal to zero"))
	}
	errs = append(errs, validatePlace(spec, path)...)
	errs = append(errs, device.AtMost(len(spec.Devices), resourcev1.ResourceSliceMaxDevices, path.Child("devices"))...)
	seen := sets.New[string]()
	for i := range spec.Devices {
		at, d := path.Child("devices").Index(i), &spec.Devices[i]
		errs = append(errs, validateDevice(d, at)...)
		if seen.Has(d.Name) {
			errs = append(errs, field.Duplicate(at, d.Name))
		}
		seen.Insert(d.Name)
	}
	return errs
}

// validatePlace: the devices are at a node, at nodes, everywhere, or each says where.
func validatePlace(spec *resourcev1.ResourceSliceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	set := 0
	if name := spec.NodeName; name != nil {
		set++
		if *name == "" {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *name, "must be either unset or set to a non-empty string"))
		} else {
			errs = append(errs, rule.DNSSubdomain(*name, path.Child("nodeName"))...)
		}
	}
	if selector := spec.NodeSelector; selector != nil {
		set++
		if n := len(selector.NodeSelectorTerms); n != 1 {
			errs = append(errs, field.Invalid(path.Child("nodeSelector", "nodeSelectorTerms"), selector.NodeSelectorTerms, "must have exactly one node selector term"))
		}
	}
	for name, flag := range map[string]*bool{"allNodes": spec.AllNodes, "perDeviceNodeSelection": spec.PerDeviceNodeSelection} {
		if flag == nil {
			continue
		}
		set++
		if !*flag {
			errs = append(errs, field.Invalid(path.Child(name), false, "must be either unset or set to true"))
		}
	}
	const oneOf = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch {
	case set == 0:
		errs = append(errs, field.Required(path, oneOf))
	case set > 1:
		errs = append(errs, field.Invalid(path, nil, oneOf+", but multiple fields are set"))
	}
	return errs
}

// semantic is a version by semver.org 2.0.0.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)

func validateDevice(d *resourcev1.Device, path *field.Path) field.ErrorList {
	errs := rule.DNSLabel(d.Name, path.Child("name"))
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, "the total number of attributes and capacities must not exceed 32"))
	}
	for name, value := range d.Attributes {
		at := path.Child("attributes").Key(string(name))
		errs = append(errs, device.ValidateQualifiedName(string(name), at)...)
		errs = append(errs, validateAttribute(&value, at)...)
	}
	for name := range d.Capacity {
		errs = append(errs, device.ValidateQualifiedName(string(name), path.Child("capacity").Key(string(name)))...)
	}
	errs = append(errs, device.AtMost(len(d.Taints), resourcev1.DeviceTaintsMaxLength, path.Child("taints"))...)
	for i := range d.Taints {
		errs = append(errs, device.ValidateTaint(&d.Taints[i], path.Child("taints").Index(i))...)
	}
	errs = append(errs, device.AtMost(len(d.BindingConditions), resourcev1.BindingConditionsMaxSize, path.Child("bindingConditions"))...)
	return append(errs, device.AtMost(len(d.BindingFailureConditions), resourcev1.BindingFailureConditionsMaxSize, path.Child("bindingFailureConditions"))...)
}

// validateAttribute: a value of one type.
func validateAttribute(a *resourcev1.DeviceAttribute, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	texts := func(name string, list []string, check func(string) string) {
		for _, text := range list {
			if len(text) > resourcev1.DeviceAttributeMaxValueLength {
				errs = append(errs, field.TooLong(path.Child(name), "", resourcev1.DeviceAttributeMaxValueLength))
			} else if message := check(text); message != "" {
				errs = append(errs, field.Invalid(path.Child(name), text, message))
			}
		}
	}
	anyText := func(string) string { return "" }
	version := func(text string) string {
		if semantic.MatchString(text) {
			return ""
		}
		return "must be a string compatible with semver.org spec 2.0.0"
	}
	texts("string", []string{ptr.Deref(a.StringValue, "")}, anyText)
	texts("strings", a.StringValues, anyText)
	if a.VersionValue != nil {
		texts("version", []string{*a.VersionValue}, version)
	}
	texts("versions", a.VersionValues, version)
	set := 0
	for _, there := range []bool{a.IntValue != nil, a.BoolValue != nil, a.StringValue != nil, a.VersionValue != nil,
		len(a.IntValues) > 0, len(a.BoolValues) > 0, len(a.StringValues) > 0, len(a.VersionValues) > 0} {
		if there {
			set++
		}
	}
	switch {
	case set == 0:
		errs = append(errs, field.Required(path, "exactly one value must be specified"))
	case set > 1:
		errs = append(errs, field.Invalid(path, a, "exactly one value must be specified"))
	}
	return errs
}

// ValidateUpdate: whose devices these are, and where, stays.
func ValidateUpdate(s, old *resourcev1.ResourceSlice) field.ErrorList {
	path := field.NewPath("spec")
	errs := Validate(s)
	errs = append(errs, rule.Immutable(s.Spec.Driver, old.Spec.Driver, path.Child("driver"))...)
	errs = append(errs, rule.Immutable(s.Spec.Pool.Name, old.Spec.Pool.Name, path.Child("pool", "name"))...)
	errs = append(errs, rule.Immutable(s.Spec.NodeName, old.Spec.NodeName, path.Child("nodeName"))...)
	errs = append(errs, rule.Immutable(s.Spec.NodeSelector, old.Spec.NodeSelector, path.Child("nodeSelector"))...)
	return append(errs, rule.Immutable(s.Spec.AllNodes, old.Spec.AllNodes, path.Child("allNodes"))...)
}
