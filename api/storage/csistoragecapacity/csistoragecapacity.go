// Package csistoragecapacity is what is true of a CSIStorageCapacity: how much room a class has on some nodes.
//
// In Kubernetes: ValidateCSIStorageCapacity* of pkg/apis/storage/validation.
package csistoragecapacity

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/nodelabel"
	"hyperkube/api/rule"
)

// Validate checks a capacity on its own.
func Validate(c *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := metav1validation.ValidateLabelSelector(c.NodeTopology, metav1validation.LabelSelectorValidationOptions{}, field.NewPath("nodeTopology"))
	errs = append(errs, rule.DNSSubdomain(c.StorageClassName, field.NewPath("storageClassName"))...)
	if c.Capacity != nil {
		errs = append(errs, rule.NonNegativeQuantity(*c.Capacity, field.NewPath("capacity"))...)
	}
	return errs
}

// ValidateUpdate: what was asked of the driver stays; its answers change.
func ValidateUpdate(c, old *storagev1.CSIStorageCapacity) field.ErrorList {
	errs := append(Validate(c), rule.Immutable(c.NodeTopology, old.NodeTopology, field.NewPath("nodeTopology"))...)
	return append(errs, rule.Immutable(c.StorageClassName, old.StorageClassName, field.NewPath("storageClassName"))...)
}

// Warnings tell of node labels that have newer names.
func Warnings(c *storagev1.CSIStorageCapacity) []string {
	return nodelabel.WarnSelector(c.NodeTopology, field.NewPath("nodeTopology"))
}
