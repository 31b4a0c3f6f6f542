// Package volumeattributesclass is what is true of a VolumeAttributesClass.
//
// In Kubernetes: ValidateVolumeAttributesClass* of pkg/apis/storage/validation.
package volumeattributesclass

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
	maxDriverName     = 63
)

// Validate checks a class on its own.
func Validate(c *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := ValidateDriverName(c.DriverName, field.NewPath("driverName"))
	path := field.NewPath("parameters")
	if len(c.Parameters) > maxParameters {
		return append(errs, field.TooLong(path, "", maxParameters))
	}
	if len(c.Parameters) == 0 {
		return append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	size := 0
	for key, value := range c.Parameters {
		if key == "" {
			errs = append(errs, field.Invalid(path, key, "field can not be empty."))
		}
		size += len(key) + len(value)
	}
	if size > maxParametersSize {
		errs = append(errs, field.TooLong(path, "", maxParametersSize))
	}
	return errs
}

// ValidateUpdate: volumes have the attributes that the class gave them; other attributes are another class.
func ValidateUpdate(c, old *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := rule.Immutable(c.DriverName, old.DriverName, field.NewPath("driverName"))
	return append(errs, rule.Immutable(c.Parameters, old.Parameters, field.NewPath("parameters"))...)
}

// ValidateDriverName asks for the name of a CSI driver, as CSIDrivers, attachments and resource drivers have it.
func ValidateDriverName(name string, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(name, path)
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, "", maxDriverName))
	}
	if name == "" {
		return errs
	}
	return append(errs, rule.All(validation.IsDNS1123Subdomain(strings.ToLower(name)), path, name)...)
}
