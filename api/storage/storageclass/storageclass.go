// Package storageclass is what is true of a StorageClass.
//
// In Kubernetes: pkg/apis/storage/v1/defaults.go and ValidateStorageClass*.
package storageclass

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/nodelabel"
	"hyperkube/api/rule"
	"hyperkube/api/storage/volumeattributesclass"
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
	errs := rule.Declared(rule.NonEmpty(c.Provisioner, field.NewPath("provisioner")))
	if c.Provisioner != "" {
		errs = append(errs, volumeattributesclass.ValidateProvisioner(c.Provisioner, field.NewPath("provisioner"))...)
	}
	errs = append(errs, volumeattributesclass.ValidateParameters(c.Parameters, field.NewPath("parameters"))...)
	if p := c.ReclaimPolicy; p != nil {
		errs = append(errs, rule.SupportedOrEmpty(*p, field.NewPath("reclaimPolicy"), v1.PersistentVolumeReclaimDelete, v1.PersistentVolumeReclaimRetain)...)
	}
	if m := c.VolumeBindingMode; m == nil {
		errs = append(errs, field.Required(field.NewPath("volumeBindingMode"), ""))
	} else {
		errs = append(errs, rule.OneOf(*m, field.NewPath("volumeBindingMode"), storagev1.VolumeBindingImmediate, storagev1.VolumeBindingWaitForFirstConsumer)...)
	}
	return append(errs, validateTopologies(c.AllowedTopologies, field.NewPath("allowedTopologies"))...)
}

// validateTopologies: each key once in a term, each value once in its list, no term twice.
func validateTopologies(terms []v1.TopologySelectorTerm, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	// Upstream begins with as many empty terms as there are: an empty term is found among them each time.
	seen := make([]map[string]sets.Set[string], len(terms))
	for i, term := range terms {
		at := path.Index(i).Child("matchLabelExpressions")
		keys := map[string]sets.Set[string]{}
		for j, expression := range term.MatchLabelExpressions {
			at := at.Index(j)
			values := sets.New[string]()
			if len(expression.Values) == 0 {
				errs = append(errs, field.Required(at.Child("values"), ""))
			}
			for k, value := range expression.Values {
				if values.Has(value) {
					errs = append(errs, field.Duplicate(at.Child("values").Index(k), value))
				}
				values.Insert(value)
			}
			errs = append(errs, metav1validation.ValidateLabelName(expression.Key, at.Child("key"))...)
			if keys[expression.Key] != nil {
				errs = append(errs, field.Duplicate(at.Child("key"), expression.Key))
			}
			keys[expression.Key] = values
		}
		for _, other := range seen {
			if equality.Semantic.DeepEqual(keys, other) {
				errs = append(errs, field.Duplicate(at, ""))
			}
		}
		seen = append(seen, keys)
	}
	return errs
}

// Warnings tell of node labels that have newer names.
func Warnings(c *storagev1.StorageClass) []string {
	var warnings []string
	for i, term := range c.AllowedTopologies {
		for j, expression := range term.MatchLabelExpressions {
			if text := nodelabel.Deprecated(expression.Key); text != "" {
				warnings = append(warnings, fmt.Sprintf("%s: %s", field.NewPath("allowedTopologies").Index(i).Child("matchLabelExpressions").Index(j).Child("key"), text))
			}
		}
	}
	return warnings
}

// ValidateUpdate: volumes were made by what the class said; it cannot say otherwise later.
func ValidateUpdate(c, old *storagev1.StorageClass) field.ErrorList {
	errs := append(Validate(c), rule.Fixed(c.Provisioner, old.Provisioner, field.NewPath("provisioner"))...)
	errs = append(errs, rule.Fixed(c.Parameters, old.Parameters, field.NewPath("parameters"))...)
	errs = append(errs, rule.Fixed(c.ReclaimPolicy, old.ReclaimPolicy, field.NewPath("reclaimPolicy"))...)
	return append(errs, rule.Fixed(c.VolumeBindingMode, old.VolumeBindingMode, field.NewPath("volumeBindingMode"))...)
}
