package persistentvolume

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// source is one kind of volume: the field it is written in, whether this volume is one, and what is asked of it.
type source struct {
	name  string
	set   bool
	check func(at *field.Path) field.ErrorList
}

func sources(spec *v1.PersistentVolumeSpec) []source {
	return []source{
		{"hostPath", spec.HostPath != nil, func(at *field.Path) field.ErrorList { return pod.ValidateHostPath(spec.HostPath, at) }},
		{name: "gcePersistentDisk", set: spec.GCEPersistentDisk != nil},
		{name: "awsElasticBlockStore", set: spec.AWSElasticBlockStore != nil},
		{name: "glusterfs", set: spec.Glusterfs != nil},
		{name: "flocker", set: spec.Flocker != nil},
		{"nfs", spec.NFS != nil, func(at *field.Path) field.ErrorList { return pod.ValidateNFS(spec.NFS, at) }},
		{name: "rbd", set: spec.RBD != nil},
		{name: "quobyte", set: spec.Quobyte != nil},
		{name: "cephFS", set: spec.CephFS != nil},
		{"iscsi", spec.ISCSI != nil, func(at *field.Path) field.ErrorList {
			return append(rule.NonEmpty(spec.ISCSI.TargetPortal, at.Child("targetPortal")), rule.NonEmpty(spec.ISCSI.IQN, at.Child("iqn"))...)
		}},
		{name: "cinder", set: spec.Cinder != nil},
		{name: "fc", set: spec.FC != nil},
		{"flexVolume", spec.FlexVolume != nil, func(at *field.Path) field.ErrorList {
			return rule.NonEmpty(spec.FlexVolume.Driver, at.Child("driver"))
		}},
		{name: "azureFile", set: spec.AzureFile != nil},
		{name: "vsphereVolume", set: spec.VsphereVolume != nil},
		{name: "photonPersistentDisk", set: spec.PhotonPersistentDisk != nil},
		{name: "portworxVolume", set: spec.PortworxVolume != nil},
		{name: "azureDisk", set: spec.AzureDisk != nil},
		{name: "scaleIO", set: spec.ScaleIO != nil},
		{"local", spec.Local != nil, func(at *field.Path) field.ErrorList { return validateLocal(spec.Local, at) }},
		{name: "storageos", set: spec.StorageOS != nil},
		{"csi", spec.CSI != nil, func(at *field.Path) field.ErrorList { return validateCSI(spec.CSI, at) }},
	}
}

// validateSource: a volume is of exactly one kind.
func validateSource(spec *v1.PersistentVolumeSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := 0
	for _, s := range sources(spec) {
		if !s.set {
			continue
		}
		found++
		switch {
		case found > 1:
			errs = append(errs, field.Forbidden(at.Child(s.name), "may not specify more than 1 volume type"))
		case s.check != nil:
			errs = append(errs, s.check(at.Child(s.name))...)
		}
	}
	if found == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	if spec.Local != nil && (spec.NodeAffinity == nil || spec.NodeAffinity.Required == nil) {
		errs = append(errs, field.Required(at.Child("nodeAffinity"), "Local volume requires node affinity"))
	}
	return errs
}

func validateLocal(s *v1.LocalVolumeSource, at *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	for _, part := range strings.Split(s.Path, "/") {
		if part == ".." {
			return field.ErrorList{field.Invalid(at.Child("path"), s.Path, "must not contain '..'")}
		}
	}
	return nil
}

func validateCSI(s *v1.CSIPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.DriverName(s.Driver, at.Child("driver"))
	errs = append(errs, rule.NonEmpty(s.VolumeHandle, at.Child("volumeHandle"))...)
	for _, secret := range []struct {
		name string
		ref  *v1.SecretReference
	}{
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"nodeStageSecretRef", s.NodeStageSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if secret.ref != nil {
			errs = append(errs, rule.NonEmpty(secret.ref.Name, at.Child(secret.name, "name"))...)
			errs = append(errs, rule.NonEmpty(secret.ref.Namespace, at.Child(secret.name, "namespace"))...)
		}
	}
	return errs
}
