// Package storageclass is what is true of a StorageClass.
//
// In Kubernetes: pkg/apis/storage/v1/defaults.go and ValidateStorageClass*.
package storageclass

import (
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// IsDefaultAnnotation makes a class the one for claims that name none.
const IsDefaultAnnotation = "storageclass.kubernetes.io/is-default-class"

// SetDefaults fills what the writer left out.
func SetDefaults(c *storagev1.StorageClass) {
	if c.ReclaimPolicy == nil {
		c.ReclaimPolicy = ptr.To(v1.PersistentVolumeReclaimDelete)
	}
	if c.VolumeBindingMode == nil {
		c.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	}
}

// Validate checks a class on its own.
func Validate(c *storagev1.StorageClass) field.ErrorList {
	errs := rule.NonEmpty(c.Provisioner, field.NewPath("provisioner"))
	if c.Provisioner != "" {
		errs = append(errs, rule.QualifiedName(c.Provisioner, field.NewPath("provisioner"))...)
	}
	if len(c.Parameters) > 512 {
		errs = append(errs, field.TooMany(field.NewPath("parameters"), len(c.Parameters), 512))
	}
	if p := c.ReclaimPolicy; p != nil {
		errs = append(errs, rule.Supported(*p, field.NewPath("reclaimPolicy"), v1.PersistentVolumeReclaimDelete, v1.PersistentVolumeReclaimRetain)...)
	}
	if m := c.VolumeBindingMode; m == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, rule.Supported(*m, field.NewPath("volumeBindingMode"), storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return errs
}

// ValidateUpdate: volumes were made by what the class said; it cannot say otherwise later.
func ValidateUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := Validate(c)
	if !equality.Semantic.DeepEqual(c.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	if c.Provisioner != old.Provisioner {
		errs = append(errs, field.Forbidden(field.NewPath("provisioner"), "updates to provisioner are forbidden."))
	}
	if !equality.Semantic.DeepEqual(c.ReclaimPolicy, old.ReclaimPolicy) {
		errs = append(errs, field.Forbidden(field.NewPath("reclaimPolicy"), "updates to reclaimPolicy are forbidden."))
	}
	return append(errs, rule.Immutable(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}
