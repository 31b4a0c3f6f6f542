package device

import (
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidateTaint checks a taint of a device. Its effect is declared.
func ValidateTaint(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
	errs := metav1validation.ValidateLabelName(t.Key, path.Child("key"))
	return append(errs, rule.All(validation.IsValidLabelValue(t.Value), path.Child("value"), t.Value)...)
}

// StampTaint gives a taint that came without one its time: whoever tolerates it for a while counts from there.
func StampTaint(t *resourcev1.DeviceTaint, now metav1.Time) {
	if t.TimeAdded == nil {
		// Encoded times have whole seconds: others would differ from what is read back.
		whole := now.Rfc3339Copy()
		t.TimeAdded = &whole
	}
}

// RestampTaint gives a taint whose effect has changed a new time, unless the writer gave one: who tolerates it counts from
// when this effect came, not from when the taint did.
func RestampTaint(t, old *resourcev1.DeviceTaint, now metav1.Time) {
	if t.Effect != old.Effect && t.TimeAdded.Equal(old.TimeAdded) {
		t.TimeAdded = nil
	}
	StampTaint(t, now)
}

// ValidateTolerations checks which taints a request puts up with. The words and the key are declared.
func ValidateTolerations(list []resourcev1.DeviceToleration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, t := range list {
		at := path.Index(i).Child("value")
		switch {
		case t.Operator == resourcev1.DeviceTolerationOpExists && t.Value != "":
			errs = append(errs, field.Invalid(at, t.Value, "must be empty for operator `Exists`"))
		case t.Operator == resourcev1.DeviceTolerationOpEqual:
			errs = append(errs, rule.All(validation.IsValidLabelValue(t.Value), at, t.Value)...)
		}
	}
	return errs
}

// ValidateTaintRule checks a DeviceTaintRule.
func ValidateTaintRule(r, old *resourcev1.DeviceTaintRule) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if s := r.Spec.DeviceSelector; s != nil {
		at := path.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, rule.DriverName(*s.Driver, at.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, ValidatePool(*s.Pool, at.Child("pool"))...)
		}
		if s.Device != nil {
			errs = append(errs, rule.DNSLabel(*s.Device, at.Child("device"))...)
		}
	}
	errs = append(errs, ValidateTaint(&r.Spec.Taint, path.Child("taint"))...)
	var before *resourcev1.DeviceTaintRuleSpec
	if old != nil {
		before = &old.Spec
	}
	return append(errs, Declared(resourcev1.Validate_DeviceTaintRuleSpec, &r.Spec, before, path)...)
}

// ValidateTaintRuleStatus checks what the eviction of pods reports.
func ValidateTaintRuleStatus(r, old *resourcev1.DeviceTaintRule) field.ErrorList {
	path := field.NewPath("status")
	errs := metav1validation.ValidateConditions(r.Status.Conditions, path.Child("conditions"))
	if n := len(r.Status.Conditions); n > resourcev1.DeviceTaintRuleStatusMaxConditions {
		errs = append(errs, field.TooMany(path.Child("conditions"), n, resourcev1.DeviceTaintRuleStatusMaxConditions))
	}
	return append(errs, Declared(resourcev1.Validate_DeviceTaintRuleStatus, &r.Status, &old.Status, path)...)
}

// ValidateBinding checks the conditions that a pod waits for before it is bound, and those that end the wait.
func ValidateBinding(conditions, failures []string, path *field.Path) field.ErrorList {
	ready, failed := path.Child("bindingConditions"), path.Child("bindingFailureConditions")
	name := func(condition *string, at *field.Path) field.ErrorList {
		return metav1validation.ValidateLabelName(*condition, at)
	}
	errs := Items(conditions, resourcev1.BindingConditionsMaxSize, ready, name)
	errs = append(errs, Items(failures, resourcev1.BindingFailureConditionsMaxSize, failed, name)...)
	for i, condition := range conditions {
		if slices.Contains(conditions[:i], condition) {
			errs = append(errs, field.Duplicate(ready.Index(i), condition))
		}
	}
	for i, condition := range failures {
		if slices.Contains(failures[:i], condition) {
			errs = append(errs, field.Duplicate(failed.Index(i), condition))
		}
		if slices.Contains(conditions, condition) {
			errs = append(errs, field.Invalid(failed.Index(i), condition, "bindingFailureConditions must not overlap with bindingConditions"))
		}
	}
	switch {
	case len(conditions) == 0 && len(failures) > 0:
		errs = append(errs, field.Invalid(ready, conditions, "bindingConditions are required to use bindingFailureConditions"))
	case len(conditions) > 0 && len(failures) == 0:
		errs = append(errs, field.Invalid(failed, failures, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}
