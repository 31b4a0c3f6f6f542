// Package configmap is what is true of a ConfigMap: keys, size, immutability.
//
// In Kubernetes: ValidateConfigMap and ValidateConfigMapUpdate of pkg/apis/core/validation.
package configmap

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// MaxSize of all values together, in bytes: what etcd is good for.
const MaxSize = 1 << 20

// Validate checks keys and size.
func Validate(m *v1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	size := 0
	for key, value := range m.Data {
		at := field.NewPath("data").Key(key)
		errs = append(errs, rule.All(validation.IsConfigMapKey(key), at, key)...)
		if _, both := m.BinaryData[key]; both {
			errs = append(errs, field.Invalid(at, key, "duplicate of key present in binaryData"))
		}
		size += len(value)
	}
	for key, value := range m.BinaryData {
		errs = append(errs, rule.All(validation.IsConfigMapKey(key), field.NewPath("binaryData").Key(key), key)...)
		size += len(value)
	}
	if size > MaxSize {
		// The whole object is too big; there is no field to blame.
		errs = append(errs, field.TooLong(field.NewPath(""), "", MaxSize))
	}
	return errs
}

// ValidateUpdate: what is immutable stays so, and stays as it is.
func ValidateUpdate(m, old *v1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	if ptr.Deref(old.Immutable, false) {
		const message = "field is immutable when `immutable` is set"
		if !ptr.Deref(m.Immutable, false) {
			errs = append(errs, field.Forbidden(field.NewPath("immutable"), message))
		}
		if !equality.Semantic.DeepEqual(m.Data, old.Data) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), message))
		}
		if !equality.Semantic.DeepEqual(m.BinaryData, old.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), message))
		}
	}
	return append(errs, Validate(m)...)
}
