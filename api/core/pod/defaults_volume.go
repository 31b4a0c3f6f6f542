package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// setDefaultsVolume fills a volume; one without a source is an emptyDir.
func setDefaultsVolume(volume *v1.Volume) {
	if ptr.AllPtrFieldsNil(&volume.VolumeSource) {
		volume.EmptyDir = &v1.EmptyDirVolumeSource{}
	}
	if s := volume.HostPath; s != nil && s.Type == nil {
		s.Type = ptr.To(v1.HostPathUnset)
	}
	if s := volume.Secret; s != nil {
		setDefaultMode(&s.DefaultMode, v1.SecretVolumeSourceDefaultMode)
	}
	if s := volume.ConfigMap; s != nil {
		setDefaultMode(&s.DefaultMode, v1.ConfigMapVolumeSourceDefaultMode)
	}
	if s := volume.DownwardAPI; s != nil {
		setDefaultMode(&s.DefaultMode, v1.DownwardAPIVolumeSourceDefaultMode)
		setDefaultsDownwardItems(s.Items)
	}
	if s := volume.Projected; s != nil {
		setDefaultsProjected(s)
	}
	if s := volume.EmptyDir; s != nil && s.SizeLimit != nil {
		s.SizeLimit.RoundUp(milliScale)
	}
	if s := volume.Ephemeral; s != nil && s.VolumeClaimTemplate != nil {
		SetDefaultsPersistentVolumeClaimSpec(&s.VolumeClaimTemplate.Spec)
	}
	if s := volume.Image; s != nil {
		setDefault(&s.PullPolicy, defaultPullPolicy(s.Reference))
	}
	if s := volume.ISCSI; s != nil {
		setDefault(&s.ISCSIInterface, "default")
	}
	setDefaultsBlockDevices(volume)
}

// setDefaultsBlockDevices fills the sources of network disks that keep defaults
// of their own although no driver of theirs is left in the tree.
func setDefaultsBlockDevices(volume *v1.Volume) {
	if s := volume.RBD; s != nil {
		setDefault(&s.RBDPool, "rbd")
		setDefault(&s.RadosUser, "admin")
		setDefault(&s.Keyring, "/etc/ceph/keyring")
	}
	if s := volume.AzureDisk; s != nil {
		setDefaultPointer(&s.CachingMode, v1.AzureDataDiskCachingReadWrite)
		setDefaultPointer(&s.Kind, v1.AzureSharedBlobDisk)
		setDefaultPointer(&s.FSType, "ext4")
		setDefaultPointer(&s.ReadOnly, false)
	}
	if s := volume.ScaleIO; s != nil {
		setDefault(&s.StorageMode, "ThinProvisioned")
		setDefault(&s.FSType, "xfs")
	}
}

func setDefaultsProjected(projected *v1.ProjectedVolumeSource) {
	setDefaultMode(&projected.DefaultMode, v1.ProjectedVolumeSourceDefaultMode)
	if len(projected.Sources) == 0 {
		projected.Sources = nil // an empty list is shown as none
	}
	for i := range projected.Sources {
		source := &projected.Sources[i]
		if source.DownwardAPI != nil {
			setDefaultsDownwardItems(source.DownwardAPI.Items)
		}
		if token := source.ServiceAccountToken; token != nil && token.ExpirationSeconds == nil {
			token.ExpirationSeconds = ptr.To(int64(60 * 60))
		}
	}
}

func setDefaultsDownwardItems(items []v1.DownwardAPIVolumeFile) {
	for i := range items {
		setDefaultsFieldRef(items[i].FieldRef)
	}
}

// SetDefaultsPersistentVolumeClaimSpec fills the spec of a claim, or of the claim
// template inside a pod or a StatefulSet.
func SetDefaultsPersistentVolumeClaimSpec(spec *v1.PersistentVolumeClaimSpec) {
	if spec.VolumeMode == nil {
		spec.VolumeMode = ptr.To(v1.PersistentVolumeFilesystem)
	}
	setDefaultsResourceList(spec.Resources.Limits)
	setDefaultsResourceList(spec.Resources.Requests)
}

func setDefaultMode(mode **int32, value int32) { setDefaultPointer(mode, value) }

func setDefaultPointer[T any](p **T, value T) {
	if *p == nil {
		*p = &value
	}
}
