package persistentvolume

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaultsClaim fills what the writer of a claim left out.
func SetDefaultsClaim(claim *v1.PersistentVolumeClaim) {
	if claim.Status.Phase == "" {
		claim.Status.Phase = v1.ClaimPending
	}
	pod.SetDefaultsPersistentVolumeClaimSpec(&claim.Spec)
}

// NormalizeDataSource keeps dataSource, which old clients know, and dataSourceRef in step. A reference across
// namespaces has no place in the elder field.
func NormalizeDataSource(spec *v1.PersistentVolumeClaimSpec) {
	ref := spec.DataSourceRef
	if spec.DataSource != nil && ref == nil {
		spec.DataSourceRef = &v1.TypedObjectReference{APIGroup: spec.DataSource.APIGroup, Kind: spec.DataSource.Kind, Name: spec.DataSource.Name}
	} else if ref != nil && spec.DataSource == nil && (ref.Namespace == nil || *ref.Namespace == "") {
		spec.DataSource = &v1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

// ValidateClaim checks a claim on its own.
func ValidateClaim(claim *v1.PersistentVolumeClaim) field.ErrorList {
	return pod.ValidatePersistentVolumeClaimSpec(&claim.Spec, field.NewPath("spec"))
}

// ValidateClaimUpdate: of a bound claim only the size may grow; a binder fills in the volume's name.
func ValidateClaimUpdate(claim, old *v1.PersistentVolumeClaim) field.ErrorList {
	errs := ValidateClaim(claim)
	path := field.NewPath("spec")
	rest, was := claim.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = rest.VolumeName
	}
	errs = append(errs, takeBackClass(claim, old, rest)...)
	rest.VolumeAttributesClassName = was.VolumeAttributesClassName
	size, oldSize := claim.Spec.Resources.Requests[v1.ResourceStorage], old.Spec.Resources.Requests[v1.ResourceStorage]
	if claim.Status.Phase == v1.ClaimBound && rest.Resources.Requests != nil {
		rest.Resources.Requests[v1.ResourceStorage] = oldSize
	}
	if !equality.Semantic.DeepEqual(rest, was) {
		errs = append(errs, field.Forbidden(path, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+diff.Diff(was, rest)))
	}
	// An expansion that failed may be asked for smaller, but not as small as the volume is.
	if present := old.Status.Capacity[v1.ResourceStorage]; size.Cmp(oldSize) < 0 && size.Cmp(present) <= 0 {
		errs = append(errs, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, rule.Immutable(claim.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	return append(errs, validateAttributesClassUpdate(claim.Spec.VolumeAttributesClassName, old.Spec.VolumeAttributesClassName, path.Child("volumeAttributesClassName"))...)
}

// takeBackClass lets a claim without a class get one: the default one, once there is one, or the one of its annotation.
func takeBackClass(claim, old *v1.PersistentVolumeClaim, rest *v1.PersistentVolumeClaimSpec) field.ErrorList {
	was, annotated := old.Annotations[v1.BetaStorageClassAnnotation]
	now, still := claim.Annotations[v1.BetaStorageClassAnnotation]
	if old.Spec.StorageClassName == nil && rest.StorageClassName != nil && (!annotated || *rest.StorageClassName == was) {
		rest.StorageClassName = nil
		if annotated && !still {
			return nil
		}
	}
	if now != was {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(v1.BetaStorageClassAnnotation), now, "field is immutable")}
	}
	return nil
}

func validateAttributesClassUpdate(name, was *string, path *field.Path) field.ErrorList {
	switch {
	case was == nil:
	case name == nil:
		return field.ErrorList{field.Forbidden(path, "update from non-nil value to nil is forbidden")}
	case *name == "" && *was != "":
		return field.ErrorList{field.Forbidden(path, "update from non-nil value to an empty string is forbidden")}
	}
	return nil
}

var resizeStatuses = sets.New(v1.PersistentVolumeClaimControllerResizeInProgress, v1.PersistentVolumeClaimControllerResizeInfeasible,
	v1.PersistentVolumeClaimNodeResizePending, v1.PersistentVolumeClaimNodeResizeInProgress, v1.PersistentVolumeClaimNodeResizeInfeasible)

// ValidateClaimStatusUpdate checks what binder and resizer report.
func ValidateClaimStatusUpdate(claim, old *v1.PersistentVolumeClaim) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	for name, quantity := range claim.Status.Capacity {
		errs = append(errs, validateBasicResource(quantity.Value(), path.Child("capacity").Key(string(name)))...)
	}
	for name, status := range claim.Status.AllocatedResourceStatuses {
		at := path.Child("allocatedResourceStatus")
		errs = append(errs, validateClaimResource(name, at)...)
		if !resizeStatuses.Has(status) {
			errs = append(errs, field.NotSupported(at, name, sets.List(resizeStatuses)))
		}
	}
	for name, quantity := range claim.Status.AllocatedResources {
		at := path.Child("allocatedResources")
		if found := validateClaimResource(name, at); len(found) > 0 {
			errs = append(errs, found...)
			continue
		}
		errs = append(errs, validateBasicResource(quantity.Value(), at.Key(string(name)))...)
	}
	return errs
}

func validateBasicResource(n int64, path *field.Path) field.ErrorList {
	if n < 0 {
		return field.ErrorList{field.Invalid(path, n, "must be a valid resource quantity")}
	}
	return nil
}

func validateClaimResource(name v1.ResourceName, path *field.Path) field.ErrorList {
	errs := rule.QualifiedName(string(name), path)
	if len(errs) == 0 && pod.IsNativeResource(name) && name != v1.ResourceStorage {
		errs = append(errs, field.NotSupported(path, name, []v1.ResourceName{v1.ResourceStorage}))
	}
	return errs
}
