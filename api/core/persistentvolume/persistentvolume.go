// Package persistentvolume is what is true of PersistentVolumes and the
// claims on them.
//
// In Kubernetes: SetDefaults_PersistentVolume*, ValidatePersistentVolume*.
package persistentvolume

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaultsVolume fills what the writer of a volume left out.
func SetDefaultsVolume(pv *v1.PersistentVolume) {
	if pv.Status.Phase == "" {
		pv.Status.Phase = v1.VolumePending
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == "" {
		pv.Spec.PersistentVolumeReclaimPolicy = v1.PersistentVolumeReclaimRetain
	}
	if pv.Spec.VolumeMode == nil {
		pv.Spec.VolumeMode = ptr.To(v1.PersistentVolumeFilesystem)
	}
	if h := pv.Spec.HostPath; h != nil && h.Type == nil {
		h.Type = ptr.To(v1.HostPathUnset)
	}
}

// SetDefaultsClaim fills what the writer of a claim left out.
func SetDefaultsClaim(claim *v1.PersistentVolumeClaim) {
	if claim.Status.Phase == "" {
		claim.Status.Phase = v1.ClaimPending
	}
	pod.SetDefaultsPersistentVolumeClaimSpec(&claim.Spec)
}

// ValidateVolume checks a volume on its own.
func ValidateVolume(pv *v1.PersistentVolume) field.ErrorList {
	spec, path := &pv.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if len(spec.AccessModes) == 0 {
		errs = append(errs, field.Required(path.Child("accessModes"), ""))
	}
	for _, mode := range spec.AccessModes {
		errs = append(errs, rule.Supported(mode, path.Child("accessModes"), v1.ReadWriteOnce, v1.ReadOnlyMany, v1.ReadWriteMany, v1.ReadWriteOncePod)...)
	}
	if len(spec.Capacity) == 0 {
		errs = append(errs, field.Required(path.Child("capacity"), ""))
	} else if _, ok := spec.Capacity[v1.ResourceStorage]; !ok || len(spec.Capacity) > 1 {
		errs = append(errs, field.NotSupported(path.Child("capacity"), spec.Capacity, []v1.ResourceName{v1.ResourceStorage}))
	}
	for name, quantity := range spec.Capacity {
		if quantity.Sign() <= 0 {
			errs = append(errs, field.Invalid(path.Child("capacity").Key(string(name)), quantity.String(), rule.NotPositiveMessage))
		}
	}
	errs = append(errs, rule.SupportedOrEmpty(spec.PersistentVolumeReclaimPolicy, path.Child("persistentVolumeReclaimPolicy"),
		v1.PersistentVolumeReclaimDelete, v1.PersistentVolumeReclaimRecycle, v1.PersistentVolumeReclaimRetain)...)
	if spec.VolumeMode != nil {
		errs = append(errs, rule.Supported(*spec.VolumeMode, path.Child("volumeMode"), v1.PersistentVolumeBlock, v1.PersistentVolumeFilesystem)...)
	}
	if spec.StorageClassName != "" {
		errs = append(errs, rule.DNSSubdomain(spec.StorageClassName, path.Child("storageClassName"))...)
	}
	if a := spec.NodeAffinity; a != nil {
		if a.Required == nil {
			errs = append(errs, field.Required(path.Child("nodeAffinity", "required"), "must specify required node constraints"))
		} else {
			errs = append(errs, pod.ValidateNodeSelector(a.Required, path.Child("nodeAffinity", "required"))...)
		}
	}
	return append(errs, validateSource(spec, path)...)
}

func validateSource(spec *v1.PersistentVolumeSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if ptr.AllPtrFieldsNil(&spec.PersistentVolumeSource) {
		errs = append(errs, field.Required(path, "must specify a volume type"))
	}
	if s := spec.HostPath; s != nil {
		errs = append(errs, pod.ValidateHostPath(s, path.Child("hostPath"))...)
	}
	if s := spec.NFS; s != nil {
		errs = append(errs, pod.ValidateNFS(s, path.Child("nfs"))...)
	}
	if s := spec.Local; s != nil {
		errs = append(errs, rule.NonEmpty(s.Path, path.Child("local", "path"))...)
		if spec.NodeAffinity == nil {
			errs = append(errs, field.Required(path.Child("nodeAffinity"), "Local volume requires node affinity"))
		}
	}
	if s := spec.CSI; s != nil {
		errs = append(errs, rule.NonEmpty(s.Driver, path.Child("csi", "driver"))...)
		errs = append(errs, rule.NonEmpty(s.VolumeHandle, path.Child("csi", "volumeHandle"))...)
	}
	return errs
}

// ValidateVolumeUpdate: a volume stays where it is.
func ValidateVolumeUpdate(pv, old *v1.PersistentVolume) field.ErrorList {
	errs := ValidateVolume(pv)
	if !equality.Semantic.DeepEqual(pv.Spec.PersistentVolumeSource, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n"+diff.Diff(old.Spec.PersistentVolumeSource, pv.Spec.PersistentVolumeSource)))
	}
	errs = append(errs, rule.Immutable(pv.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, rule.Immutable(pv.Spec.NodeAffinity, old.Spec.NodeAffinity, field.NewPath("nodeAffinity"))...)
	}
	return errs
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
	// A class given to a claim that waits for the default one.
	if was.StorageClassName == nil && rest.StorageClassName != nil && old.Status.Phase != v1.ClaimBound {
		was.StorageClassName = rest.StorageClassName
	}
	was.VolumeAttributesClassName = rest.VolumeAttributesClassName
	size, oldSize := rest.Resources.Requests[v1.ResourceStorage], was.Resources.Requests[v1.ResourceStorage]
	if old.Status.Phase == v1.ClaimBound && size.Cmp(oldSize) != 0 {
		rest.Resources.Requests[v1.ResourceStorage] = oldSize
		present := old.Status.Capacity[v1.ResourceStorage]
		if size.Cmp(oldSize) < 0 && size.Cmp(present) <= 0 {
			errs = append(errs, field.Forbidden(path.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
		}
	}
	if !equality.Semantic.DeepEqual(rest, was) {
		errs = append(errs, field.Forbidden(path, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+diff.Diff(was, rest)))
	}
	return errs
}
