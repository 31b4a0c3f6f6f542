package persistentvolume

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

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

// NormalizeDataSource keeps dataSource, which old clients know, and dataSourceRef in step; old is nil at a create. A reference
// across namespaces has no place in the elder field (nor in the newer, while CrossNamespaceVolumeDataSource is a gate that is off),
// and what the elder field never took is dropped from it without a word, as ever (KEP-1495).
func NormalizeDataSource(spec, old *v1.PersistentVolumeClaimSpec) {
	if old == nil {
		old = &v1.PersistentVolumeClaimSpec{}
	}
	if isElsewhere(spec.DataSourceRef) && old.DataSourceRef == nil {
		spec.DataSourceRef = nil
	}
	if old.DataSource == nil && old.DataSourceRef == nil && spec.DataSourceRef == nil && !isClaimOrSnapshot(spec.DataSource) {
		spec.DataSource = nil
	}
	ref := spec.DataSourceRef
	if spec.DataSource != nil && ref == nil {
		spec.DataSourceRef = &v1.TypedObjectReference{APIGroup: spec.DataSource.APIGroup, Kind: spec.DataSource.Kind, Name: spec.DataSource.Name}
	} else if ref != nil && spec.DataSource == nil && !isElsewhere(ref) {
		spec.DataSource = &v1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

func isElsewhere(ref *v1.TypedObjectReference) bool {
	return ref != nil && ptr.Deref(ref.Namespace, "") != ""
}

func isClaimOrSnapshot(source *v1.TypedLocalObjectReference) bool {
	if source == nil {
		return false
	}
	switch group := ptr.Deref(source.APIGroup, ""); source.Kind {
	case "PersistentVolumeClaim":
		return group == ""
	case "VolumeSnapshot":
		return group == "snapshot.storage.k8s.io"
	}
	return false
}

// ValidateClaim checks a claim on its own.
func ValidateClaim(claim *v1.PersistentVolumeClaim) field.ErrorList {
	return pod.ValidatePersistentVolumeClaimSpec(&claim.Spec, field.NewPath("spec"))
}

// ValidateClaimUpdate: of a bound claim only the size may grow; a binder fills in the volume's name.
func ValidateClaimUpdate(claim, old *v1.PersistentVolumeClaim) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateClaim(claim)
	if old.Spec.DataSource != nil && old.Spec.DataSource.APIGroup != nil || old.Spec.DataSourceRef != nil && old.Spec.DataSourceRef.APIGroup != nil {
		errs = slices.DeleteFunc(errs, isOfSourceGroup) // there was a time when any was let in
	}
	rest, was := claim.Spec.DeepCopy(), old.Spec.DeepCopy()
	if was.VolumeName == "" {
		was.VolumeName = rest.VolumeName
	}
	errs = append(errs, takeBackClass(claim, old, rest)...)
	size, oldSize := claim.Spec.Resources.Requests[v1.ResourceStorage], old.Spec.Resources.Requests[v1.ResourceStorage]
	if claim.Status.Phase == v1.ClaimBound {
		rest.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if claim.Status.Phase == v1.ClaimBound && rest.Resources.Requests != nil {
		rest.Resources.Requests[v1.ResourceStorage] = oldSize
	}
	if !equality.Semantic.DeepEqual(rest, was) {
		errs = append(errs, field.Forbidden(path, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+diff.Diff(rule.Untagged(was), rule.Untagged(rest))))
	}
	// An expansion that failed may be asked for smaller, but not as small as the volume is.
	if present := old.Status.Capacity[v1.ResourceStorage]; size.Cmp(oldSize) < 0 && size.Cmp(present) <= 0 {
		errs = append(errs, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, rule.Immutable(claim.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	return append(errs, validateAttributesClassUpdate(claim, old, path.Child("volumeAttributesClassName"))...)
}

func isOfSourceGroup(err *field.Error) bool {
	return err.Field == "spec.dataSource.apiGroup" || err.Field == "spec.dataSourceRef.apiGroup"
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

// validateAttributesClassUpdate: a volume that has attributes keeps some.
func validateAttributesClassUpdate(claim, old *v1.PersistentVolumeClaim, path *field.Path) field.ErrorList {
	name := claim.Spec.VolumeAttributesClassName
	switch {
	case old.Status.CurrentVolumeAttributesClassName == nil || ptr.Equal(name, old.Spec.VolumeAttributesClassName):
	case name == nil:
		return field.ErrorList{field.Forbidden(path, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil")}
	case *name == "":
		return field.ErrorList{field.Forbidden(path, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil")}
	}
	return nil
}

var resizeStatuses = sets.New(v1.PersistentVolumeClaimControllerResizeInProgress, v1.PersistentVolumeClaimControllerResizeInfeasible,
	v1.PersistentVolumeClaimNodeResizePending, v1.PersistentVolumeClaimNodeResizeInProgress, v1.PersistentVolumeClaimNodeResizeInfeasible)

// ValidateClaimStatusUpdate checks what binder and resizer report.
func ValidateClaimStatusUpdate(claim, old *v1.PersistentVolumeClaim) field.ErrorList {
	path := field.NewPath("status")
	var errs field.ErrorList
	if len(claim.Spec.AccessModes) == 0 {
		errs = append(errs, field.Required(field.NewPath("Spec", "accessModes"), ""))
	}
	for name, quantity := range claim.Status.Capacity {
		errs = append(errs, validateBasicResource(quantity.Value(), path.Child("capacity").Key(string(name)))...)
	}
	for name, status := range claim.Status.AllocatedResourceStatuses {
		at := path.Child("allocatedResourceStatuses")
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
		if found := validateBasicResource(quantity.Value(), at.Key(string(name))); len(found) > 0 {
			errs = append(errs, found...)
			continue
		}
		errs = append(errs, pod.ValidateResourceQuantityValue(v1.ResourceStorage, quantity, at.Key(string(name)))...)
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
