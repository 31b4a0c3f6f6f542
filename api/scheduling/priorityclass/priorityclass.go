// Package priorityclass is what is true of a PriorityClass, and the two classes
// that are always there.
//
// In Kubernetes: pkg/apis/scheduling (helpers.go, v1/defaults.go, validation).
package priorityclass

import (
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

const (
	// HighestUserDefinablePriority: above it are the system's own pods.
	HighestUserDefinablePriority = int32(1000000000)
	// SystemClassPrefix names are the system's.
	SystemClassPrefix = "system-"
	SystemCritical    = 2 * HighestUserDefinablePriority
)

// SystemPriorityClasses are made when an apiserver starts.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, description string) *schedulingv1.PriorityClass {
		return &schedulingv1.PriorityClass{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description,
			PreemptionPolicy: ptr.To(v1.PreemptLowerPriority),
		}
	}
	return []*schedulingv1.PriorityClass{
		class("system-node-critical", SystemCritical+1000, "Used for system critical pods that must not be moved from their current node."),
		class("system-cluster-critical", SystemCritical, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
	}
}

// SetDefaults lets pods of the class preempt others.
func SetDefaults(pc *schedulingv1.PriorityClass) {
	if pc.PreemptionPolicy == nil {
		pc.PreemptionPolicy = ptr.To(v1.PreemptLowerPriority)
	}
}

// Validate keeps the system's names and values for the system.
func Validate(pc *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if strings.HasPrefix(pc.Name, SystemClassPrefix) {
		if err := isKnownSystemClass(pc); err != nil {
			errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), fmt.Sprintf("priority class names with '%s' prefix are reserved for system use only. error: %v", SystemClassPrefix, err)))
		}
	} else if pc.Value > HighestUserDefinablePriority {
		errs = append(errs, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", HighestUserDefinablePriority)))
	}
	path := field.NewPath("preemptionPolicy")
	switch p := pc.PreemptionPolicy; {
	case p == nil:
	case *p == "":
		errs = append(errs, field.Required(path, ""))
	default:
		errs = append(errs, rule.Listed(*p, path, v1.PreemptLowerPriority, v1.PreemptNever)...)
	}
	return errs
}

func isKnownSystemClass(pc *schedulingv1.PriorityClass) error {
	for _, known := range SystemPriorityClasses() {
		switch {
		case known.Name != pc.Name:
			continue
		case known.Value != pc.Value:
			return fmt.Errorf("value of %v PriorityClass must be %v", known.Name, known.Value)
		case pc.GlobalDefault:
			return fmt.Errorf("globalDefault of %v PriorityClass must be false", known.Name)
		}
		return nil
	}
	return fmt.Errorf("%v is not a known system priority class", pc.Name)
}

// CheckDelete refuses to delete the classes that the cluster's own pods are of.
func CheckDelete(name string) error {
	for _, known := range SystemPriorityClasses() {
		if known.Name == name {
			return errors.New("this is a system priority class and cannot be deleted")
		}
	}
	return nil
}

// ValidateUpdate: pods have copied the value; it must go on to mean the same.
func ValidateUpdate(pc, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if pc.Value != old.Value {
		errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(errs, rule.Immutable(pc.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}
