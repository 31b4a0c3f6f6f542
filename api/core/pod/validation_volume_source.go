package pod

import (
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

type source = v1.VolumeSource

// volumeRule is the check of one kind of volume; set says that the volume is of that kind.
type volumeRule struct {
	name  string
	set   func(s *source) bool
	check func(s *source, at *field.Path) field.ErrorList
}

// second is the kind's name in the complaint that it is one too many: two are misspelled upstream.
func (r *volumeRule) second() string {
	switch r.name {
	case "persistentDisk":
		return "gcePersistentDisk"
	case "cephfs":
		return "cephFS"
	case "downwardAPI":
		return "downwarAPI"
	}
	return r.name
}

// volumeRules are the kinds of volumes, in upstream's order: what is set besides the first of them is too much. Many no driver
// serves any more: they are checked and accepted all the same, and a kubelet says at the mount that it cannot.
var volumeRules = []volumeRule{
	{"emptyDir", func(s *source) bool { return s.EmptyDir != nil }, func(s *source, at *field.Path) field.ErrorList {
		return forbidden(s.EmptyDir.SizeLimit != nil && s.EmptyDir.SizeLimit.Sign() < 0, at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")
	}},
	{"hostPath", func(s *source) bool { return s.HostPath != nil },
		func(s *source, at *field.Path) field.ErrorList { return ValidateHostPath(s.HostPath, at) }},
	{"gitRepo", func(s *source) bool { return s.GitRepo != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.GitRepo.Repository, at.Child("repository")), validateLocalDescendingPath(s.GitRepo.Directory, at.Child("directory"))...)
	}},
	{"persistentDisk", func(s *source) bool { return s.GCEPersistentDisk != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.GCEPersistentDisk.PDName, at.Child("pdName")), validatePartition(s.GCEPersistentDisk.Partition, at)...)
	}},
	{"awsElasticBlockStore", func(s *source) bool { return s.AWSElasticBlockStore != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.AWSElasticBlockStore.VolumeID, at.Child("volumeID")), validatePartition(s.AWSElasticBlockStore.Partition, at)...)
	}},
	{"secret", func(s *source) bool { return s.Secret != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.Secret.SecretName, at.Child("secretName")), validateItems(s.Secret.DefaultMode, s.Secret.Items, at)...)
	}},
	{"nfs", func(s *source) bool { return s.NFS != nil },
		func(s *source, at *field.Path) field.ErrorList { return ValidateNFS(s.NFS, at) }},
	{"iscsi", func(s *source) bool { return s.ISCSI != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateISCSI(s.ISCSI, at) }},
	{"glusterfs", func(s *source) bool { return s.Glusterfs != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.Glusterfs.EndpointsName, at.Child("endpoints")), rule.NonEmpty(s.Glusterfs.Path, at.Child("path"))...)
	}},
	{"flocker", func(s *source) bool { return s.Flocker != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateFlocker(s.Flocker, at) }},
	{"persistentVolumeClaim", func(s *source) bool { return s.PersistentVolumeClaim != nil }, func(s *source, at *field.Path) field.ErrorList {
		return rule.NonEmpty(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))
	}},
	{"rbd", func(s *source) bool { return s.RBD != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(requireSome(s.RBD.CephMonitors, at.Child("monitors")), rule.NonEmpty(s.RBD.RBDImage, at.Child("image"))...)
	}},
	{"cinder", func(s *source) bool { return s.Cinder != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.Cinder.VolumeID, at.Child("volumeID")), validateSecretName(s.Cinder.SecretRef, at)...)
	}},
	{"cephfs", func(s *source) bool { return s.CephFS != nil }, func(s *source, at *field.Path) field.ErrorList {
		return requireSome(s.CephFS.Monitors, at.Child("monitors"))
	}},
	{"quobyte", func(s *source) bool { return s.Quobyte != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateQuobyte(s.Quobyte, at) }},
	{"downwardAPI", func(s *source) bool { return s.DownwardAPI != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := rule.FileMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))
		for i := range s.DownwardAPI.Items {
			errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[i], at)...)
		}
		return errs
	}},
	{"fc", func(s *source) bool { return s.FC != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateFC(s.FC, at) }},
	{"flexVolume", func(s *source) bool { return s.FlexVolume != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateFlexVolume(s.FlexVolume, at) }},
	{"configMap", func(s *source) bool { return s.ConfigMap != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.ConfigMap.Name, at.Child("name")), validateItems(s.ConfigMap.DefaultMode, s.ConfigMap.Items, at)...)
	}},
	{"azureFile", func(s *source) bool { return s.AzureFile != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.AzureFile.SecretName, at.Child("secretName")), rule.NonEmpty(s.AzureFile.ShareName, at.Child("shareName"))...)
	}},
	{"vsphereVolume", func(s *source) bool { return s.VsphereVolume != nil }, func(s *source, at *field.Path) field.ErrorList {
		return rule.NonEmpty(s.VsphereVolume.VolumePath, at.Child("volumePath"))
	}},
	{"photonPersistentDisk", func(s *source) bool { return s.PhotonPersistentDisk != nil }, func(s *source, at *field.Path) field.ErrorList {
		return rule.NonEmpty(s.PhotonPersistentDisk.PdID, at.Child("pdID"))
	}},
	{"portworxVolume", func(s *source) bool { return s.PortworxVolume != nil }, func(s *source, at *field.Path) field.ErrorList {
		return rule.NonEmpty(s.PortworxVolume.VolumeID, at.Child("volumeID"))
	}},
	{"azureDisk", func(s *source) bool { return s.AzureDisk != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateAzureDisk(s.AzureDisk, at) }},
	{"storageos", func(s *source) bool { return s.StorageOS != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateStorageOS(s.StorageOS, at) }},
	{"projected", func(s *source) bool { return s.Projected != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateProjected(s.Projected, at) }},
	{"scaleIO", func(s *source) bool { return s.ScaleIO != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := append(rule.NonEmpty(s.ScaleIO.Gateway, at.Child("gateway")), rule.NonEmpty(s.ScaleIO.System, at.Child("system"))...)
		return append(errs, rule.NonEmpty(s.ScaleIO.VolumeName, at.Child("volumeName"))...)
	}},
	{"csi", func(s *source) bool { return s.CSI != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateCSI(s.CSI, at) }},
	{"ephemeral", func(s *source) bool { return s.Ephemeral != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateEphemeral(s.Ephemeral, at) }},
	{"image", func(s *source) bool { return s.Image != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.Image.Reference, at.Child("reference")), validatePullPolicy(s.Image.PullPolicy, at.Child("pullPolicy"))...)
	}},
}

// ValidateSource checks a volume of one kind, at the path of that kind: that of a pod, or what a PersistentVolume has in common with it.
func ValidateSource(s *v1.VolumeSource, at *field.Path) field.ErrorList {
	for i := range volumeRules {
		if volumeRules[i].set(s) {
			return volumeRules[i].check(s, at)
		}
	}
	return nil
}

func requireSome(list []string, at *field.Path) field.ErrorList {
	if len(list) == 0 {
		return field.ErrorList{field.Required(at, "")}
	}
	return nil
}

func validatePartition(number int32, at *field.Path) field.ErrorList {
	if number < 0 || number > 255 {
		return field.ErrorList{field.Invalid(at.Child("partition"), number, validation.InclusiveRangeError(1, 255))}
	}
	return nil
}

func validateSecretName(ref *v1.LocalObjectReference, at *field.Path) field.ErrorList {
	if ref == nil {
		return nil
	}
	return rule.NonEmpty(ref.Name, at.Child("secretRef", "name"))
}

// Names of iSCSI: of a type (iqn, eui, naa) each with a form of its own.
var iscsiNames = map[string]*regexp.Regexp{
	"iqn": regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`),
	"eui": regexp.MustCompile(`^eui.[[:alnum:]]{16}$`),
	"naa": regexp.MustCompile(`^naa.[[:alnum:]]{32}$`),
}

func validateISCSIName(name string, at *field.Path) field.ErrorList {
	form := iscsiNames[name[:min(3, len(name))]]
	switch {
	case form == nil:
		return field.ErrorList{field.Invalid(at, name, "must be valid format starting with iqn, eui, or naa")}
	case !form.MatchString(name):
		return field.ErrorList{field.Invalid(at, name, "must be valid format")}
	}
	return nil
}

func validateISCSI(s *v1.ISCSIVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(s.TargetPortal, at.Child("targetPortal"))
	if s.IQN == "" {
		errs = append(errs, field.Required(at.Child("iqn"), ""))
	} else {
		errs = append(errs, validateISCSIName(s.IQN, at.Child("iqn"))...)
	}
	if s.Lun < 0 || s.Lun > 255 {
		errs = append(errs, field.Invalid(at.Child("lun"), s.Lun, validation.InclusiveRangeError(0, 255)))
	}
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		errs = append(errs, field.Required(at.Child("secretRef"), ""))
	}
	if s.InitiatorName != nil {
		errs = append(errs, validateISCSIName(*s.InitiatorName, at.Child("initiatorname"))...)
	}
	return errs
}

func validateFlocker(s *v1.FlockerVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.DatasetName == "" && s.DatasetUUID == "" {
		errs = append(errs, field.Required(at, "one of datasetName and datasetUUID is required"))
	}
	if s.DatasetName != "" && s.DatasetUUID != "" {
		errs = append(errs, field.Invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
	}
	if strings.Contains(s.DatasetName, "/") {
		errs = append(errs, field.Invalid(at.Child("datasetName"), s.DatasetName, "must not contain '/'"))
	}
	return errs
}

func validateQuobyte(s *v1.QuobyteVolumeSource, at *field.Path) field.ErrorList {
	const pairs = "must be a host:port pair or multiple pairs separated by commas"
	var errs field.ErrorList
	switch {
	case s.Registry == "":
		errs = append(errs, field.Required(at.Child("registry"), pairs))
	case len(s.Tenant) >= 65:
		errs = append(errs, field.Required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters"))
	default:
		for pair := range strings.SplitSeq(s.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				errs = append(errs, field.Invalid(at.Child("registry"), s.Registry, pairs))
			}
		}
	}
	return append(errs, rule.NonEmpty(s.Volume, at.Child("volume"))...)
}

func validateFC(s *v1.FCVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := at.Child("targetWWNs")
	if len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0 {
		errs = append(errs, field.Required(names, "must specify either targetWWNs or wwids, but not both"))
	}
	if len(s.TargetWWNs) > 0 && len(s.WWIDs) > 0 {
		errs = append(errs, field.Invalid(names, s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously"))
	}
	switch {
	case len(s.TargetWWNs) == 0:
	case s.Lun == nil:
		errs = append(errs, field.Required(at.Child("lun"), "lun is required if targetWWNs is specified"))
	case *s.Lun < 0 || *s.Lun > 255:
		errs = append(errs, field.Invalid(at.Child("lun"), *s.Lun, validation.InclusiveRangeError(0, 255)))
	}
	return errs
}

func validateFlexVolume(s *v1.FlexVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(s.Driver, at.Child("driver"))
	for _, key := range slices.Sorted(maps.Keys(s.Options)) {
		namespace, _, _ := strings.Cut(key, "/")
		namespace = "." + strings.ToLower(namespace)
		if strings.HasSuffix(namespace, ".kubernetes.io") || strings.HasSuffix(namespace, ".k8s.io") {
			errs = append(errs, field.Invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved"))
		}
	}
	return errs
}

func validateAzureDisk(s *v1.AzureDiskVolumeSource, at *field.Path) field.ErrorList {
	errs := append(rule.NonEmpty(s.DiskName, at.Child("diskName")), rule.NonEmpty(s.DataDiskURI, at.Child("diskURI"))...)
	if s.CachingMode != nil {
		errs = append(errs, rule.OneOf(*s.CachingMode, at.Child("cachingMode"), v1.AzureDataDiskCachingNone, v1.AzureDataDiskCachingReadOnly, v1.AzureDataDiskCachingReadWrite)...)
	}
	if s.Kind == nil {
		return errs
	}
	errs = append(errs, rule.OneOf(*s.Kind, at.Child("kind"), v1.AzureSharedBlobDisk, v1.AzureDedicatedBlobDisk, v1.AzureManagedDisk)...)
	prefix, form := "https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
	if *s.Kind == v1.AzureManagedDisk {
		prefix, form = "/subscriptions/", "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
	}
	if !strings.HasPrefix(s.DataDiskURI, prefix) {
		errs = append(errs, field.NotSupported(at.Child("diskURI"), s.DataDiskURI, []string{form}))
	}
	return errs
}

func validateStorageOS(s *v1.StorageOSVolumeSource, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.VolumeName == "" {
		errs = append(errs, field.Required(at.Child("volumeName"), ""))
	} else {
		errs = append(errs, rule.DNSLabel(s.VolumeName, at.Child("volumeName"))...)
	}
	if s.VolumeNamespace != "" {
		errs = append(errs, rule.DNSLabel(s.VolumeNamespace, at.Child("volumeNamespace"))...)
	}
	return append(errs, validateSecretName(s.SecretRef, at)...)
}
