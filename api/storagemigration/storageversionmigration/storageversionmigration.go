// Package storageversionmigration is what is true of a StorageVersionMigration: a wish that all objects of a resource be written
// again, as they are stored now.
//
// In Kubernetes: pkg/apis/storagemigration/validation/validation.go.
package storageversionmigration

import (
	"strings"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Validate checks a migration on its own.
func Validate(m *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	r, path := m.Spec.Resource, field.NewPath("spec", "resource")
	var errs field.ErrorList
	if r.Resource == "" {
		errs = append(errs, field.Required(path.Child("resource"), "resource is required to be set"))
	} else if messages := validation.IsDNS1035Label(r.Resource); len(messages) > 0 {
		errs = append(errs, field.Invalid(path.Child("resource"), r.Resource, strings.Join(messages, ",")))
	}
	if messages := validation.IsDNS1123Subdomain(r.Group); r.Group != "" && len(messages) > 0 {
		errs = append(errs, field.Invalid(path.Child("group"), r.Group, strings.Join(messages, ",")))
	}
	return errs
}

// ValidateUpdate: what is being migrated stays.
func ValidateUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	return append(Validate(m), rule.Immutable(m.Spec, old.Spec, field.NewPath("spec"))...)
}

// ValidateStatusUpdate: a migration ends once, in one way.
func ValidateStatusUpdate(m, old *storagemigrationv1.StorageVersionMigration) field.ErrorList {
	path, version := field.NewPath("status"), m.Status.ResourceVersion
	var errs field.ErrorList
	// Compared with itself, for it must be a number; a condition may be known before the version is.
	if _, err := resourceversion.CompareResourceVersion(version, version); version != "" && err != nil {
		errs = append(errs, field.Invalid(path.Child("resourceVersion"), version, err.Error()))
	}
	at := path.Child("conditions")
	errs = append(errs, metav1validation.ValidateConditions(m.Status.Conditions, at)...)
	if old.Status.ResourceVersion != "" && old.Status.ResourceVersion != version {
		errs = append(errs, field.Invalid(path.Child("resourceVersion"), version, "field is immutable"))
	}
	is := func(m *storagemigrationv1.StorageVersionMigration, kind storagemigrationv1.MigrationConditionType) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, string(kind))
	}
	succeeded, failed := is(m, storagemigrationv1.MigrationSucceeded), is(m, storagemigrationv1.MigrationFailed)
	for _, check := range []struct {
		wrong   bool
		message string
	}{
		{succeeded && failed, "Both success and failed conditions cannot be true at the same time"},
		{is(old, storagemigrationv1.MigrationSucceeded) && !succeeded, "Success condition cannot be set to false once it is true"},
		{is(old, storagemigrationv1.MigrationFailed) && !failed, "Failed condition cannot be set to false once it is true"},
	} {
		if check.wrong {
			errs = append(errs, field.Invalid(at, m.Status.Conditions, check.message))
		}
	}
	return errs
}
