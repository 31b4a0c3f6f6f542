// Package persistentvolume is what is true of PersistentVolumes and the
// claims on them.
//
// In Kubernetes: SetDefaults_PersistentVolume*, ValidatePersistentVolume*.
package persistentvolume

import (
	"path"

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
	setDefaultsSource(&pv.Spec.PersistentVolumeSource)
}

func setDefaultsSource(source *v1.PersistentVolumeSource) {
	if s := source.HostPath; s != nil && s.Type == nil {
		s.Type = ptr.To(v1.HostPathUnset)
	}
	if s := source.ISCSI; s != nil {
		setDefault(&s.ISCSIInterface, "default")
	}
	if s := source.RBD; s != nil {
		setDefault(&s.RBDPool, "rbd")
		setDefault(&s.RadosUser, "admin")
		setDefault(&s.Keyring, "/etc/ceph/keyring")
	}
	if s := source.AzureDisk; s != nil {
		setDefaultPointer(&s.CachingMode, v1.AzureDataDiskCachingReadWrite)
		setDefaultPointer(&s.Kind, v1.AzureSharedBlobDisk)
		setDefaultPointer(&s.FSType, "ext4")
		setDefaultPointer(&s.ReadOnly, false)
	}
	if s := source.ScaleIO; s != nil {
		setDefault(&s.StorageMode, "ThinProvisioned")
		setDefault(&s.FSType, "xfs")
	}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func setDefaultPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// ValidateVolume checks a volume on its own.
func ValidateVolume(pv *v1.PersistentVolume) field.ErrorList {
	spec, at := &pv.Spec, field.NewPath("spec")
	errs := pod.ValidateAccessModes(spec.AccessModes, "", at.Child("accessModes"))
	errs = append(errs, validateCapacity(spec.Capacity, at.Child("capacity"))...)
	errs = append(errs, rule.SupportedOrEmpty(spec.PersistentVolumeReclaimPolicy, at.Child("persistentVolumeReclaimPolicy"),
		v1.PersistentVolumeReclaimDelete, v1.PersistentVolumeReclaimRecycle, v1.PersistentVolumeReclaimRetain)...)
	if a := spec.NodeAffinity; a != nil {
		if a.Required == nil {
			errs = append(errs, field.Required(at.Child("nodeAffinity", "required"), "must specify required node constraints"))
		} else {
			errs = append(errs, pod.ValidateNodeSelector(a.Required, at.Child("nodeAffinity", "required"))...)
		}
	}
	errs = append(errs, validateSource(spec, pv.Name, at)...)
	if spec.HostPath != nil && path.Clean(spec.HostPath.Path) == "/" && spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if spec.StorageClassName != "" {
		errs = append(errs, rule.DNSSubdomain(spec.StorageClassName, at.Child("storageClassName"))...)
	}
	if spec.VolumeMode != nil {
		errs = append(errs, rule.OneOf(*spec.VolumeMode, at.Child("volumeMode"), v1.PersistentVolumeBlock, v1.PersistentVolumeFilesystem)...)
	}
	errs = append(errs, validateAttributesClass(spec, at)...)
	if _, ok := pv.Annotations[v1.MountOptionAnnotation]; ok && !takesMountOptions(spec) {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations", v1.MountOptionAnnotation), "may not specify mount options for this volume type"))
	}
	return errs
}

// takesMountOptions: the others have none to give them to.
func takesMountOptions(s *v1.PersistentVolumeSpec) bool {
	return s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.NFS != nil || s.RBD != nil || s.Quobyte != nil ||
		s.ISCSI != nil || s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil || s.AzureDisk != nil || s.PhotonPersistentDisk != nil
}

// ValidateInlineSpec checks a volume that stands inside a VolumeAttachment, in place of the name of one.
func ValidateInlineSpec(spec *v1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	const inline = "may not be specified in the context of inline volumes"
	for _, part := range []struct {
		name string
		set  bool
	}{
		{"claimRef", spec.ClaimRef != nil}, {"capacity", len(spec.Capacity) != 0},
		{"nodeAffinity", spec.NodeAffinity != nil}, {"storageClassName", spec.StorageClassName != ""},
	} {
		if part.set {
			errs = append(errs, field.Forbidden(at.Child(part.name), inline))
		}
	}
	if spec.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	errs = append(errs, pod.ValidateAccessModes(spec.AccessModes, "", at.Child("accessModes"))...)
	if p := spec.PersistentVolumeReclaimPolicy; p != "" && p != v1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may only be Retain in the context of inline volumes"))
	}
	if m := spec.VolumeMode; m != nil && *m != v1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than Filesystem in the context of inline volumes"))
	}
	return append(errs, validateSource(spec, "", at)...)
}

func validateCapacity(capacity v1.ResourceList, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(capacity) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	if _, ok := capacity[v1.ResourceStorage]; !ok || len(capacity) > 1 {
		errs = append(errs, field.NotSupported(at, capacity, []v1.ResourceName{v1.ResourceStorage}))
	}
	for name, quantity := range capacity {
		errs = append(errs, validateBasicResource(quantity.Value(), at.Key(string(name)))...)
		if quantity.Sign() <= 0 {
			errs = append(errs, field.Invalid(at.Key(string(name)), quantity.String(), rule.NotPositiveMessage))
		}
	}
	return errs
}

// validateAttributesClass: only drivers know of attributes.
func validateAttributesClass(spec *v1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	name := spec.VolumeAttributesClassName
	if name == nil {
		return nil
	}
	var errs field.ErrorList
	if *name == "" {
		errs = append(errs, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
	} else {
		errs = append(errs, rule.DNSSubdomain(*name, at.Child("volumeAttributesClassName"))...)
	}
	if spec.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
	}
	return errs
}

// ValidateVolumeUpdate: a volume stays where it is.
func ValidateVolumeUpdate(pv, old *v1.PersistentVolume) field.ErrorList {
	errs := ValidateVolume(pv)
	source := pv.Spec.PersistentVolumeSource.DeepCopy()
	if was := old.Spec.CSI; source.CSI != nil && was != nil && was.ControllerExpandSecretRef == nil {
		source.CSI.ControllerExpandSecretRef = nil // a secret for growing may come later
	}
	if !equality.Semantic.DeepEqual(*source, old.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n"+diff.Diff(rule.Untagged(old.Spec.PersistentVolumeSource), rule.Untagged(*source))))
	}
	errs = append(errs, rule.Immutable(pv.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	if old.Spec.NodeAffinity != nil {
		errs = append(errs, validateAffinityUpdate(pv.Spec.NodeAffinity, old.Spec.NodeAffinity, field.NewPath("nodeAffinity"))...)
	}
	if old.Spec.VolumeAttributesClassName != nil && pv.Spec.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// stableLabels are the labels of nodes that lost their "beta".
var stableLabels = map[string]string{
	v1.LabelFailureDomainBetaZone: v1.LabelTopologyZone, v1.LabelFailureDomainBetaRegion: v1.LabelTopologyRegion,
	"beta.kubernetes.io/os": v1.LabelOSStable, "beta.kubernetes.io/arch": v1.LabelArchStable, v1.LabelInstanceType: v1.LabelInstanceTypeStable,
}

// validateAffinityUpdate: a volume stays where it is, though its place may be called by its newer name.
func validateAffinityUpdate(affinity, old *v1.VolumeNodeAffinity, path *field.Path) field.ErrorList {
	was := old.DeepCopy()
	if affinity != nil && affinity.Required != nil && was.Required != nil && len(affinity.Required.NodeSelectorTerms) == len(was.Required.NodeSelectorTerms) {
		for i := range was.Required.NodeSelectorTerms {
			rename(was.Required.NodeSelectorTerms[i].MatchExpressions, affinity.Required.NodeSelectorTerms[i].MatchExpressions)
			rename(was.Required.NodeSelectorTerms[i].MatchFields, affinity.Required.NodeSelectorTerms[i].MatchFields)
		}
	}
	if equality.Semantic.DeepEqual(affinity, was) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, rule.Untagged(affinity), "field is immutable, except for updating from beta label to GA")}
}

// rename gives each requirement the newer key that its counterpart has.
func rename(requirements, like []v1.NodeSelectorRequirement) {
	for i := range requirements {
		if r := &requirements[i]; i < len(like) && stableLabels[r.Key] == like[i].Key {
			r.Key = like[i].Key
		}
	}
}
