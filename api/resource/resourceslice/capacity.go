package resourceslice

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/resource/device"
	"hyperkube/api/rule"
)

// semantic is a version by semver.org 2.0.0.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)` +
	`(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

// maxValidValues is how many amounts of a capacity may be offered.
const maxValidValues = 10

// longestKey is how much of a name an error shows: no valid one is longer.
const longestKey = resourcev1.DeviceMaxDomainLength + 1 + resourcev1.DeviceMaxIDLength

// key is the path of a map's item; of a name that is too long, both ends are shown.
func key[K ~string](path *field.Path, name K) *field.Path {
	text, ellipsis := string(name), "..."
	if len(text) > longestKey {
		rest := longestKey - len(ellipsis)
		text = text[:(rest+1)/2] + ellipsis + text[len(text)-rest/2:]
	}
	return path.Key(text)
}

// validateAttributes checks the values; that each has one of one type is declared.
func validateAttributes(attributes map[resourcev1.QualifiedName]resourcev1.DeviceAttribute, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	long := func(text *string, at *field.Path) {
		if text != nil && len(*text) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(at, "", resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a, at := attributes[name], key(path, name)
		errs = append(errs, device.ValidateQualifiedName(string(name), path)...)
		long(a.StringValue, at.Child("string"))
		if a.VersionValue != nil && !semantic.MatchString(*a.VersionValue) {
			errs = append(errs, field.Invalid(at.Child("version"), *a.VersionValue, "must be a string compatible with semver.org spec 2.0.0"))
		}
		long(a.VersionValue, at.Child("version"))
	}
	return errs
}

// validateCapacities: only a device that may be given to several claims says how much of it each may take.
func validateCapacities(capacities map[resourcev1.QualifiedName]resourcev1.DeviceCapacity, shared bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(capacities)) {
		c, at := capacities[name], key(path, name)
		errs = append(errs, device.ValidateQualifiedName(string(name), path)...)
		switch at := at.Child("requestPolicy"); {
		case c.RequestPolicy == nil:
		case !shared:
			errs = append(errs, field.Forbidden(at, "allowMultipleAllocations must be true"))
		default:
			errs = append(errs, validatePolicy(c.Value, c.RequestPolicy, at)...)
		}
	}
	return errs
}

func validatePolicy(most resource.Quantity, p *resourcev1.CapacityRequestPolicy, path *field.Path) field.ErrorList {
	values, some := len(p.ValidValues) > 0, p.ValidRange != nil
	switch {
	case values && some:
		return field.ErrorList{field.Forbidden(path, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`)}
	case values && p.Default == nil:
		return field.ErrorList{field.Required(path.Child("default"), "required when validValues is defined")}
	case values:
		return validateValues(*p.Default, most, p.ValidValues, path.Child("validValues"))
	case some && p.Default == nil:
		return field.ErrorList{field.Required(path.Child("default"), "required when validRange is defined")}
	case some:
		return validateRange(*p.Default, most, p.ValidRange, path.Child("validRange"))
	}
	return nil
}

// validateValues: the values go up, none is beyond the capacity, and the default is one of them.
func validateValues(standard, most resource.Quantity, values []resource.Quantity, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := 1; i < len(values); i++ {
		if values[i-1].Cmp(values[i]) > 0 {
			errs = append(errs, field.Invalid(path.Index(i), values[i].String(), "values must be sorted in ascending order"))
		}
	}
	if n := len(values); n > maxValidValues {
		errs = append(errs, field.TooMany(path, n, maxValidValues))
		values = nil
	}
	found, seen := false, sets.New[int64]()
	for i, v := range values {
		if v.Cmp(most) > 0 {
			errs = append(errs, field.Invalid(path.Index(i), v.String(), "option is larger than capacity value: "+most.String()))
		}
		found = found || v.Cmp(standard) == 0
	}
	for i, v := range values {
		if seen.Has(v.Value()) {
			errs = append(errs, field.Duplicate(path.Index(i), fmt.Sprint(v.Value())))
		}
		seen.Insert(v.Value())
	}
	if !found {
		errs = append(errs, field.Invalid(path, standard.String(), "default value is not valid according to the requestPolicy"))
	}
	return errs
}

// validateRange: min ≤ default ≤ max ≤ capacity, and default and max are whole steps above min.
func validateRange(standard, most resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, path *field.Path) field.ErrorList {
	low, high, usual := path.Child("min"), path.Child("max"), path.Child("default")
	if r.Min == nil {
		return field.ErrorList{field.Required(low, "required when validRange is defined")}
	}
	var errs field.ErrorList
	refuse := func(wrong bool, at *field.Path, value resource.Quantity, message string, limit resource.Quantity) {
		if wrong {
			errs = append(errs, field.Invalid(at, value.String(), message+limit.String()))
		}
	}
	refuse(r.Min.Cmp(most) > 0, low, *r.Min, "min is larger than capacity value: ", most)
	refuse(standard.Cmp(*r.Min) < 0, usual, standard, "default is less than min: ", *r.Min)
	if r.Max != nil {
		refuse(r.Min.Cmp(*r.Max) > 0, high, *r.Min, "min is larger than max: ", *r.Max)
		refuse(r.Max.Cmp(most) > 0, high, *r.Max, "max is larger than capacity value: ", most)
		refuse(standard.Cmp(*r.Max) > 0, usual, standard, "default is more than max: ", *r.Max)
	}
	if r.Step == nil {
		return errs
	}
	at, first := path.Child("step"), r.Min.DeepCopy()
	if r.Step.Sign() <= 0 {
		return append(errs, field.Invalid(at, r.Step.String(), "must be greater than zero"))
	}
	first.Add(*r.Step)
	refuse(first.Cmp(most) > 0, at, *r.Step, fmt.Sprintf("one step %s is larger than capacity value: ", first.String()), most)
	if wrong := validateWhole(standard, r, path); len(wrong) > 0 {
		return append(errs, wrong...)
	}
	errs = append(errs, validateStep(standard, r, at)...)
	if r.Max != nil {
		errs = append(errs, validateStep(*r.Max, r, at)...)
	}
	return errs
}

// validateWhole asks for numbers that steps can be counted in.
func validateWhole(standard resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value *resource.Quantity
	}{{"default", &standard}, {"min", r.Min}, {"max", r.Max}, {"step", r.Step}} {
		switch at := path.Child(n.name); {
		case n.value == nil:
		case n.value.Sign() < 0:
			errs = append(errs, field.Invalid(at, n.value.String(), rule.NegativeMessage))
		case n.value.CmpInt64(math.MaxInt64) > 0:
			errs = append(errs, field.Invalid(at, n.value.String(), fmt.Sprintf("must not be larger than %d", math.MaxInt64)))
		}
	}
	return errs
}

func validateStep(value resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, path *field.Path) field.ErrorList {
	if (value.Value()-r.Min.Value())%r.Step.Value() == 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, value.String(), fmt.Sprintf("value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String()))}
}
