// Package csinode is what is true of a CSINode: the volume drivers on one node, and how many volumes each can have there.
//
// In Kubernetes: ValidateCSINode* of pkg/apis/storage/validation.
package csinode

import (
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// maxNodeID is how long the name may be by which a driver knows the node.
const maxNodeID = 256

// SetDefaults leaves no empty lists.
func SetDefaults(n *storagev1.CSINode) {
	n.Spec.Drivers = rule.NoneIfEmpty(n.Spec.Drivers)
	for i := range n.Spec.Drivers {
		n.Spec.Drivers[i].TopologyKeys = rule.NoneIfEmpty(n.Spec.Drivers[i].TopologyKeys)
	}
}

// Validate checks the drivers of a node.
func Validate(n *storagev1.CSINode) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range n.Spec.Drivers {
		driver, at := &n.Spec.Drivers[i], field.NewPath("spec", "drivers").Index(i)
		errs = append(errs, validateDriver(driver, at)...)
		if names.Has(driver.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), driver.Name))
		}
		names.Insert(driver.Name)
	}
	return errs
}

func validateDriver(driver *storagev1.CSINodeDriver, path *field.Path) field.ErrorList {
	errs := rule.DriverName(driver.Name, path.Child("name"))
	errs = append(errs, rule.NonEmpty(driver.NodeID, path.Child("nodeID"))...)
	if len(driver.NodeID) > maxNodeID {
		errs = append(errs, field.Invalid(path.Child("nodeID"), driver.NodeID, "must be 256 characters or less"))
	}
	if a := driver.Allocatable; a != nil && a.Count != nil {
		errs = append(errs, rule.NonNegative(int64(*a.Count), path.Child("allocatable", "count"))...)
	}
	keys := sets.New[string]()
	for _, key := range driver.TopologyKeys {
		errs = append(errs, rule.NonEmpty(key, path)...)
		if keys.Has(key) {
			errs = append(errs, field.Duplicate(path, key))
		}
		keys.Insert(key)
		errs = append(errs, rule.QualifiedName(key, path)...)
	}
	return errs
}

// ValidateUpdate: a driver may come, go, and count anew; it does not become another one.
func ValidateUpdate(n, old *storagev1.CSINode) field.ErrorList {
	errs := Validate(n)
	for _, was := range old.Spec.Drivers {
		for _, driver := range n.Spec.Drivers {
			if driver.Name != was.Name {
				continue
			}
			driver.Allocatable, was.Allocatable = nil, nil
			errs = append(errs, rule.Immutable(driver, was, field.NewPath("spec", "drivers"))...)
		}
	}
	return errs
}
