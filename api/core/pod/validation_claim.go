package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidatePersistentVolumeClaimSpec checks what a claim asks for, be it a claim of its own or the template of one in a pod.
func ValidatePersistentVolumeClaimSpec(spec *v1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), "at least 1 access mode is required"))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, at.Child("selector"))...)
	if len(spec.AccessModes) > 0 {
		errs = append(errs, ValidateAccessModes(spec.AccessModes, "", at.Child("accessModes"))...)
	}
	storage, ok := spec.Resources.Requests[v1.ResourceStorage]
	switch here := at.Child("resources").Key(string(v1.ResourceStorage)); {
	case !ok:
		errs = append(errs, field.Required(here, ""))
	case storage.Sign() <= 0:
		errs = append(errs, field.Invalid(here, storage.String(), rule.NotPositiveMessage))
	}
	for _, class := range []struct {
		field string
		name  *string
	}{{"storageClassName", spec.StorageClassName}, {"volumeAttributesClassName", spec.VolumeAttributesClassName}} {
		if class.name != nil && *class.name != "" {
			errs = append(errs, rule.DNSSubdomain(*class.name, at.Child(class.field))...)
		}
	}
	if mode := spec.VolumeMode; mode != nil {
		errs = append(errs, rule.OneOf(*mode, at.Child("volumeMode"), v1.PersistentVolumeBlock, v1.PersistentVolumeFilesystem)...)
	}
	return append(errs, validateDataSources(spec, at)...)
}

// ValidateAccessModes asks for modes that go together; required says what to tell who gives none.
func ValidateAccessModes(modes []v1.PersistentVolumeAccessMode, required string, at *field.Path) field.ErrorList {
	if len(modes) == 0 {
		return field.ErrorList{field.Required(at, required)}
	}
	var errs field.ErrorList
	known := sets.New(v1.ReadWriteOnce, v1.ReadOnlyMany, v1.ReadWriteMany, v1.ReadWriteOncePod)
	once, others := false, false
	for _, mode := range modes {
		if !known.Has(mode) {
			errs = append(errs, field.NotSupported(at, mode, sets.List(known)))
			continue
		}
		once = once || mode == v1.ReadWriteOncePod
		others = others || mode != v1.ReadWriteOncePod
	}
	if once && others {
		errs = append(errs, field.Forbidden(at, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

// validateDataSources: what a volume is to be filled from, in its elder field and in its newer one, which must agree.
func validateDataSources(spec *v1.PersistentVolumeClaimSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	source, ref := spec.DataSource, spec.DataSourceRef
	if source != nil {
		errs = append(errs, validateDataSource(source.APIGroup, source.Kind, source.Name, at.Child("dataSource"))...)
	}
	if ref == nil {
		return errs
	}
	errs = append(errs, validateDataSource(ref.APIGroup, ref.Kind, ref.Name, at.Child("dataSourceRef"))...)
	elsewhere := ref.Namespace != nil && *ref.Namespace != ""
	if elsewhere {
		errs = append(errs, rule.All(apivalidation.ValidateNamespaceName(*ref.Namespace, false), at.Child("dataSourceRef", "namespace"), *ref.Namespace)...)
	}
	switch {
	case source == nil:
	case elsewhere:
		errs = append(errs, field.Invalid(at, at.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified"))
	case !apiequality.Semantic.DeepEqual(source.APIGroup, ref.APIGroup) || source.Kind != ref.Kind || source.Name != ref.Name:
		errs = append(errs, field.Invalid(at, at.Child("dataSource"), "must match dataSourceRef"))
	}
	return errs
}

func validateDataSource(group *string, kind, name string, at *field.Path) field.ErrorList {
	errs := append(rule.NonEmpty(name, at.Child("name")), rule.NonEmpty(kind, at.Child("kind"))...)
	if group == nil || *group == "" {
		if kind != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
		return errs
	}
	return append(errs, rule.DNSSubdomain(*group, at.Child("apiGroup"))...)
}

// WarningsForClaimSpec tell of sizes in parts of a byte.
func WarningsForClaimSpec(spec *v1.PersistentVolumeClaimSpec, path *field.Path) []string {
	return append(warnFraction(spec.Resources.Requests, v1.ResourceStorage, path.Child("resources", "requests")),
		warnFraction(spec.Resources.Limits, v1.ResourceStorage, path.Child("resources", "limits"))...)
}

func warnFraction(list v1.ResourceList, name v1.ResourceName, path *field.Path, below ...string) []string {
	if value, ok := list[name]; ok && value.MilliValue()%1000 != 0 {
		for _, step := range below { // only now: nearly always there is nothing to warn of
			path = path.Child(step)
		}
		return []string{fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer", path.Key(string(name)), value.String())}
	}
	return nil
}
