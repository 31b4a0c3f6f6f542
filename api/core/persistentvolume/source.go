package persistentvolume

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
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

// sources are the kinds of volumes, in upstream's order. Many no driver serves any more: they are checked and accepted all the same.
func sources(spec *v1.PersistentVolumeSpec, volume string, in *field.Path) []source {
	inPod := func(s v1.VolumeSource) func(at *field.Path) field.ErrorList {
		return func(at *field.Path) field.ErrorList { return pod.ValidateSource(&s, at) }
	}
	return []source{
		{"hostPath", spec.HostPath != nil, inPod(v1.VolumeSource{HostPath: spec.HostPath})},
		{"gcePersistentDisk", spec.GCEPersistentDisk != nil, func(*field.Path) field.ErrorList {
			return pod.ValidateSource(&v1.VolumeSource{GCEPersistentDisk: spec.GCEPersistentDisk}, in.Child("persistentDisk"))
		}},
		{"awsElasticBlockStore", spec.AWSElasticBlockStore != nil, inPod(v1.VolumeSource{AWSElasticBlockStore: spec.AWSElasticBlockStore})},
		{"glusterfs", spec.Glusterfs != nil, func(at *field.Path) field.ErrorList { return validateGlusterfs(spec.Glusterfs, at) }},
		{"flocker", spec.Flocker != nil, inPod(v1.VolumeSource{Flocker: spec.Flocker})},
		{"nfs", spec.NFS != nil, inPod(v1.VolumeSource{NFS: spec.NFS})},
		{"rbd", spec.RBD != nil, func(at *field.Path) field.ErrorList {
			return pod.ValidateSource(&v1.VolumeSource{RBD: &v1.RBDVolumeSource{CephMonitors: spec.RBD.CephMonitors, RBDImage: spec.RBD.RBDImage}}, at)
		}},
		{"quobyte", spec.Quobyte != nil, inPod(v1.VolumeSource{Quobyte: spec.Quobyte})},
		{"cephFS", spec.CephFS != nil, func(*field.Path) field.ErrorList {
			return pod.ValidateSource(&v1.VolumeSource{CephFS: &v1.CephFSVolumeSource{Monitors: spec.CephFS.Monitors}}, in.Child("cephfs"))
		}},
		{"iscsi", spec.ISCSI != nil, func(at *field.Path) field.ErrorList { return validateISCSI(spec.ISCSI, volume, at) }},
		{"cinder", spec.Cinder != nil, func(at *field.Path) field.ErrorList {
			return append(rule.NonEmpty(spec.Cinder.VolumeID, at.Child("volumeID")), validateSecret(spec.Cinder.SecretRef, at.Child("secretRef"))...)
		}},
		{"fc", spec.FC != nil, inPod(v1.VolumeSource{FC: spec.FC})},
		{"flexVolume", spec.FlexVolume != nil, func(at *field.Path) field.ErrorList {
			return pod.ValidateSource(&v1.VolumeSource{FlexVolume: &v1.FlexVolumeSource{Driver: spec.FlexVolume.Driver, Options: spec.FlexVolume.Options}}, at)
		}},
		{"azureFile", spec.AzureFile != nil, func(at *field.Path) field.ErrorList { return validateAzureFile(spec.AzureFile, at) }},
		{"vsphereVolume", spec.VsphereVolume != nil, inPod(v1.VolumeSource{VsphereVolume: spec.VsphereVolume})},
		{"photonPersistentDisk", spec.PhotonPersistentDisk != nil, inPod(v1.VolumeSource{PhotonPersistentDisk: spec.PhotonPersistentDisk})},
		{"portworxVolume", spec.PortworxVolume != nil, inPod(v1.VolumeSource{PortworxVolume: spec.PortworxVolume})},
		{"azureDisk", spec.AzureDisk != nil, inPod(v1.VolumeSource{AzureDisk: spec.AzureDisk})},
		{"scaleIO", spec.ScaleIO != nil, func(at *field.Path) field.ErrorList {
			return pod.ValidateSource(&v1.VolumeSource{ScaleIO: &v1.ScaleIOVolumeSource{Gateway: spec.ScaleIO.Gateway, System: spec.ScaleIO.System, VolumeName: spec.ScaleIO.VolumeName}}, at)
		}},
		{"local", spec.Local != nil, func(at *field.Path) field.ErrorList {
			errs := validateLocal(spec.Local, at)
			if spec.NodeAffinity == nil {
				errs = append(errs, field.Required(in.Child("nodeAffinity"), "Local volume requires node affinity"))
			}
			return errs
		}},
		{"storageos", spec.StorageOS != nil, func(at *field.Path) field.ErrorList { return validateStorageOS(spec.StorageOS, at) }},
		{"csi", spec.CSI != nil, func(at *field.Path) field.ErrorList { return validateCSI(spec.CSI, at) }},
	}
}

// validateSource: a volume is of exactly one kind.
func validateSource(spec *v1.PersistentVolumeSpec, volume string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := 0
	for _, s := range sources(spec, volume, at) {
		if !s.set {
			continue
		}
		found++
		switch {
		case found > 1 && s.name != "flexVolume": // which upstream lets stand beside another
			errs = append(errs, field.Forbidden(at.Child(s.name), "may not specify more than 1 volume type"))
		case s.check != nil:
			errs = append(errs, s.check(at.Child(s.name))...)
		}
	}
	if found == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
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
		{"controllerPublishSecretRef", s.ControllerPublishSecretRef}, {"controllerExpandSecretRef", s.ControllerExpandSecretRef},
		{"nodePublishSecretRef", s.NodePublishSecretRef}, {"nodeExpandSecretRef", s.NodeExpandSecretRef},
	} {
		if secret.ref == nil {
			continue
		}
		for _, part := range []struct {
			name, value string
			check       func(string, *field.Path) field.ErrorList
		}{{"name", secret.ref.Name, rule.DNSSubdomain}, {"namespace", secret.ref.Namespace, rule.DNSLabel}} {
			path := at.Child(secret.name, part.name)
			if part.value == "" {
				errs = append(errs, field.Required(path, ""))
			} else {
				errs = append(errs, part.check(part.value, path)...)
			}
		}
	}
	return errs
}

// validateSecret asks for a name and a namespace, of whatever form.
func validateSecret(ref *v1.SecretReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return append(rule.NonEmpty(ref.Name, at.Child("name")), rule.NonEmpty(ref.Namespace, at.Child("namespace"))...)
}

func validateGlusterfs(s *v1.GlusterfsPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := append(rule.NonEmpty(s.EndpointsName, at.Child("endpoints")), rule.NonEmpty(s.Path, at.Child("path"))...)
	switch namespace, path := s.EndpointsNamespace, at.Child("endpointsNamespace"); {
	case namespace == nil:
	case *namespace == "":
		errs = append(errs, field.Invalid(path, "", "if the endpointnamespace is set, it must be a valid namespace name"))
	default:
		errs = append(errs, rule.All(validation.ValidateNamespaceName(*namespace, false), path, *namespace)...)
	}
	return errs
}

// maxISCSITarget bounds what an initiator is told of a volume: its name and where it is.
const maxISCSITarget = 64

func validateISCSI(s *v1.ISCSIPersistentVolumeSource, volume string, at *field.Path) field.ErrorList {
	var secret *v1.LocalObjectReference
	if s.SecretRef != nil {
		secret = &v1.LocalObjectReference{Name: s.SecretRef.Name}
	}
	errs := pod.ValidateSource(&v1.VolumeSource{ISCSI: &v1.ISCSIVolumeSource{TargetPortal: s.TargetPortal, IQN: s.IQN, Lun: s.Lun,
		DiscoveryCHAPAuth: s.DiscoveryCHAPAuth, SessionCHAPAuth: s.SessionCHAPAuth, SecretRef: secret, InitiatorName: s.InitiatorName}}, at)
	for _, err := range errs {
		// Of a volume of its own the complaint is shorter.
		err.Detail = strings.TrimSuffix(err.Detail, " starting with iqn, eui, or naa")
	}
	if s.SecretRef != nil && s.SecretRef.Name == "" {
		errs = append(errs, field.Required(at.Child("secretRef", "name"), ""))
	}
	if s.InitiatorName != nil && len(volume+":"+s.TargetPortal) > maxISCSITarget {
		errs = append(errs, field.Invalid(at.Child("targetportal"), s.TargetPortal,
			"Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
	}
	return errs
}

func validateAzureFile(s *v1.AzureFilePersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := append(rule.NonEmpty(s.SecretName, at.Child("secretName")), rule.NonEmpty(s.ShareName, at.Child("shareName"))...)
	if s.SecretNamespace != nil {
		errs = append(errs, rule.NonEmpty(*s.SecretNamespace, at.Child("secretNamespace"))...)
	}
	return errs
}

func validateStorageOS(s *v1.StorageOSPersistentVolumeSource, at *field.Path) field.ErrorList {
	errs := pod.ValidateSource(&v1.VolumeSource{StorageOS: &v1.StorageOSVolumeSource{VolumeName: s.VolumeName, VolumeNamespace: s.VolumeNamespace}}, at)
	if s.SecretRef != nil {
		errs = append(errs, validateSecret(&v1.SecretReference{Name: s.SecretRef.Name, Namespace: s.SecretRef.Namespace}, at.Child("secretRef"))...)
	}
	return errs
}
