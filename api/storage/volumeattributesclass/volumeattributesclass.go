// Package volumeattributesclass is what is true of a VolumeAttributesClass.
//
// In Kubernetes: ValidateVolumeAttributesClass* of pkg/apis/storage/validation.
package volumeattributesclass

import (
	"maps"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

const (
	maxParameters     = 512
	maxParametersSize = 256 << 10
)

// Validate checks a class on its own.
func Validate(c *storagev1.VolumeAttributesClass) field.ErrorList {
	errs := ValidateProvisioner(c.DriverName, field.NewPath("driverName"))
	path := field.NewPath("parameters")
	errs = append(errs, ValidateParameters(c.Parameters, path)...)
	if len(c.Parameters) == 0 {
		errs = append(errs, field.Required(path, "must contain at least one key/value pair"))
	}
	return errs
}

// ValidateProvisioner asks for the name of who makes volumes: a driver's, or one in the form of a label key.
func ValidateProvisioner(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return rule.QualifiedName(strings.ToLower(name), path)
}

// ValidateParameters bounds what a class tells its driver.
func ValidateParameters(parameters map[string]string, path *field.Path) field.ErrorList {
	if len(parameters) > maxParameters {
		return field.ErrorList{field.TooLong(path, "", maxParameters)}
	}
	var errs field.ErrorList
	size := 0
	for key, value := range parameters {
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
	var errs field.ErrorList
	if c.DriverName != old.DriverName {
		errs = append(errs, field.Forbidden(field.NewPath("driverName"), "updates to driverName are forbidden."))
	}
	if !maps.Equal(c.Parameters, old.Parameters) {
		errs = append(errs, field.Forbidden(field.NewPath("parameters"), "updates to parameters are forbidden."))
	}
	return append(errs, Validate(c)...)
}
