package pod

import (
	"math"
	"path"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidateVolumes checks the volumes of a pod and returns the good ones by name,
// for the mounts to refer to.
func ValidateVolumes(volumes []v1.Volume, at *field.Path) (map[string]v1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	good := map[string]v1.VolumeSource{}
	seen := sets.New[string]()
	for i := range volumes {
		volume, here := &volumes[i], at.Index(i)
		found := validateVolumeSource(volume, here)
		switch {
		case volume.Name == "":
			found = append(found, field.Required(here.Child("name"), ""))
		case seen.Has(volume.Name):
			found = append(found, field.Duplicate(here.Child("name"), volume.Name))
		default:
			found = append(found, rule.DNSLabel(volume.Name, here.Child("name"))...)
		}
		seen.Insert(volume.Name)
		// Even a faulty volume exists: its mounts need no second complaint.
		good[volume.Name] = volume.VolumeSource
		errs = append(errs, found...)
	}
	return good, errs
}

type source = v1.VolumeSource

// volumeRule is the check of one kind of volume; set says that the volume is of that kind.
type volumeRule struct {
	name  string
	set   func(s *source) bool
	check func(s *source, at *field.Path) field.ErrorList
}

func validateVolumeSource(volume *v1.Volume, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := 0
	for i := range volumeRules {
		kind := &volumeRules[i]
		if !kind.set(&volume.VolumeSource) {
			continue
		}
		found++
		if found > 1 {
			errs = append(errs, field.Forbidden(at.Child(kind.name), "may not specify more than 1 volume type"))
			continue
		}
		if kind.check != nil {
			errs = append(errs, kind.check(&volume.VolumeSource, at.Child(kind.name))...)
		}
	}
	if found == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

// volumeRules are the kinds of volumes. Those from "gcePersistentDisk" on no driver serves any more: they are accepted as
// upstream accepts them, and a kubelet says at the mount that it cannot.
var volumeRules = []volumeRule{
	{"emptyDir", func(s *source) bool { return s.EmptyDir != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateEmptyDir(s.EmptyDir, at) }},
	{"hostPath", func(s *source) bool { return s.HostPath != nil },
		func(s *source, at *field.Path) field.ErrorList { return ValidateHostPath(s.HostPath, at) }},
	{"secret", func(s *source) bool { return s.Secret != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := rule.NonEmpty(s.Secret.SecretName, at.Child("secretName"))
		return append(errs, validateItems(s.Secret.DefaultMode, s.Secret.Items, at)...)
	}},
	{"configMap", func(s *source) bool { return s.ConfigMap != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := rule.NonEmpty(s.ConfigMap.Name, at.Child("name"))
		return append(errs, validateItems(s.ConfigMap.DefaultMode, s.ConfigMap.Items, at)...)
	}},
	{"downwardAPI", func(s *source) bool { return s.DownwardAPI != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := rule.FileMode(s.DownwardAPI.DefaultMode, at.Child("defaultMode"))
		return append(errs, validateDownwardItems(s.DownwardAPI.Items, at)...)
	}},
	{"projected", func(s *source) bool { return s.Projected != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateProjected(s.Projected, at) }},
	{"persistentVolumeClaim", func(s *source) bool { return s.PersistentVolumeClaim != nil },
		func(s *source, at *field.Path) field.ErrorList {
			return rule.NonEmpty(s.PersistentVolumeClaim.ClaimName, at.Child("claimName"))
		}},
	{"ephemeral", func(s *source) bool { return s.Ephemeral != nil },
		func(s *source, at *field.Path) field.ErrorList { return validateEphemeral(s.Ephemeral, at) }},
	{"csi", func(s *source) bool { return s.CSI != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := rule.DriverName(s.CSI.Driver, at.Child("driver"))
		if ref := s.CSI.NodePublishSecretRef; ref != nil {
			errs = append(errs, rule.NonEmpty(ref.Name, at.Child("nodePublishSecretRef", "name"))...)
		}
		return errs
	}},
	{"nfs", func(s *source) bool { return s.NFS != nil },
		func(s *source, at *field.Path) field.ErrorList { return ValidateNFS(s.NFS, at) }},
	{"image", func(s *source) bool { return s.Image != nil }, func(s *source, at *field.Path) field.ErrorList {
		errs := rule.NonEmpty(s.Image.Reference, at.Child("reference"))
		return append(errs, validatePullPolicy(s.Image.PullPolicy, at.Child("pullPolicy"))...)
	}},

	{name: "gcePersistentDisk", set: func(s *source) bool { return s.GCEPersistentDisk != nil }},
	{name: "awsElasticBlockStore", set: func(s *source) bool { return s.AWSElasticBlockStore != nil }},
	{"gitRepo", func(s *source) bool { return s.GitRepo != nil }, func(s *source, at *field.Path) field.ErrorList {
		return rule.NonEmpty(s.GitRepo.Repository, at.Child("repository"))
	}},
	{"iscsi", func(s *source) bool { return s.ISCSI != nil }, func(s *source, at *field.Path) field.ErrorList {
		return append(rule.NonEmpty(s.ISCSI.TargetPortal, at.Child("targetPortal")), rule.NonEmpty(s.ISCSI.IQN, at.Child("iqn"))...)
	}},
	{name: "glusterfs", set: func(s *source) bool { return s.Glusterfs != nil }},
	{name: "rbd", set: func(s *source) bool { return s.RBD != nil }},
	{"flexVolume", func(s *source) bool { return s.FlexVolume != nil }, func(s *source, at *field.Path) field.ErrorList {
		return rule.NonEmpty(s.FlexVolume.Driver, at.Child("driver"))
	}},
	{name: "cinder", set: func(s *source) bool { return s.Cinder != nil }},
	{name: "cephfs", set: func(s *source) bool { return s.CephFS != nil }},
	{name: "flocker", set: func(s *source) bool { return s.Flocker != nil }},
	{name: "fc", set: func(s *source) bool { return s.FC != nil }},
	{name: "azureFile", set: func(s *source) bool { return s.AzureFile != nil }},
	{name: "vsphereVolume", set: func(s *source) bool { return s.VsphereVolume != nil }},
	{name: "quobyte", set: func(s *source) bool { return s.Quobyte != nil }},
	{name: "azureDisk", set: func(s *source) bool { return s.AzureDisk != nil }},
	{name: "photonPersistentDisk", set: func(s *source) bool { return s.PhotonPersistentDisk != nil }},
	{name: "portworxVolume", set: func(s *source) bool { return s.PortworxVolume != nil }},
	{name: "scaleIO", set: func(s *source) bool { return s.ScaleIO != nil }},
	{name: "storageos", set: func(s *source) bool { return s.StorageOS != nil }},
}

func validateEmptyDir(s *v1.EmptyDirVolumeSource, at *field.Path) field.ErrorList {
	if s.SizeLimit != nil && s.SizeLimit.Sign() < 0 {
		return field.ErrorList{field.Forbidden(at.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")}
	}
	return nil
}

// ValidateHostPath checks a path of the node.
func ValidateHostPath(s *v1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := validatePathNoBacksteps(s.Path, at.Child("path"))
	if s.Type != nil {
		errs = append(errs, rule.SupportedOrEmpty(*s.Type, at.Child("type"), v1.HostPathUnset, v1.HostPathDirectoryOrCreate,
			v1.HostPathDirectory, v1.HostPathFileOrCreate, v1.HostPathFile, v1.HostPathSocket, v1.HostPathCharDev, v1.HostPathBlockDev)...)
	}
	return errs
}

// ValidateNFS checks an export of a file server.
func ValidateNFS(s *v1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(s.Server, at.Child("server"))
	errs = append(errs, rule.NonEmpty(s.Path, at.Child("path"))...)
	if s.Path != "" && !path.IsAbs(s.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

func validateEphemeral(s *v1.EphemeralVolumeSource, at *field.Path) field.ErrorList {
	at = at.Child("volumeClaimTemplate")
	if s.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	return ValidatePersistentVolumeClaimSpec(&s.VolumeClaimTemplate.Spec, at.Child("spec"))
}

func validateItems(mode *int32, items []v1.KeyToPath, at *field.Path) field.ErrorList {
	errs := rule.FileMode(mode, at.Child("defaultMode"))
	for i := range items {
		errs = append(errs, validateKeyToPath(&items[i], at.Child("items").Index(i))...)
	}
	return errs
}

func validateKeyToPath(item *v1.KeyToPath, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(item.Key, at.Child("key"))
	errs = append(errs, rule.NonEmpty(item.Path, at.Child("path"))...)
	errs = append(errs, validateLocalNonReservedPath(item.Path, at.Child("path"))...)
	return append(errs, rule.FileMode(item.Mode, at.Child("mode"))...)
}

func validateDownwardItems(items []v1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		item, at := &items[i], at.Child("items").Index(i)
		errs = append(errs, rule.NonEmpty(item.Path, at.Child("path"))...)
		errs = append(errs, validateLocalNonReservedPath(item.Path, at.Child("path"))...)
		switch {
		case item.FieldRef != nil && item.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		case item.FieldRef != nil:
			errs = append(errs, validateObjectFieldSelector(item.FieldRef, volumeFields, at.Child("fieldRef"))...)
		case item.ResourceFieldRef != nil:
			errs = append(errs, validateResourceFieldSelector(item.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
		}
		errs = append(errs, rule.FileMode(item.Mode, at.Child("mode"))...)
	}
	return errs
}

// validateProjected checks the sources of a projected volume, and that no two
// write one file.
func validateProjected(s *v1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.FileMode(s.DefaultMode, at.Child("defaultMode"))
	paths := sets.New[string]()
	claim := func(p string, where *field.Path) {
		if p != "" && paths.Has(p) {
			errs = append(errs, field.Invalid(where, p, "conflicting duplicate paths"))
		}
		paths.Insert(p)
	}
	for i := range s.Sources {
		source, at := &s.Sources[i], at.Child("sources").Index(i)
		found := 0
		count := func(set bool, name string) bool {
			if set {
				found++
			}
			if set && found > 1 {
				errs = append(errs, field.Forbidden(at.Child(name), "may not specify more than 1 volume type per source"))
				return false
			}
			return set
		}
		if p := source.Secret; count(p != nil, "secret") {
			errs = append(errs, validateProjection(p.Name, p.Items, at.Child("secret"), claim)...)
		}
		if p := source.ConfigMap; count(p != nil, "configMap") {
			errs = append(errs, validateProjection(p.Name, p.Items, at.Child("configMap"), claim)...)
		}
		if p := source.DownwardAPI; count(p != nil, "downwardAPI") {
			errs = append(errs, validateDownwardItems(p.Items, at.Child("downwardAPI"))...)
			for _, item := range p.Items {
				claim(item.Path, at.Child("downwardAPI"))
			}
		}
		if p := source.ServiceAccountToken; count(p != nil, "serviceAccountToken") {
			errs = append(errs, validateTokenProjection(p, at.Child("serviceAccountToken"))...)
			claim(p.Path, at.Child("serviceAccountToken"))
		}
		if p := source.ClusterTrustBundle; count(p != nil, "clusterTrustBundle") {
			errs = append(errs, validateTrustProjection(p, at.Child("clusterTrustBundle"))...)
			claim(p.Path, at.Child("clusterTrustBundle"))
		}
		if p := source.PodCertificate; count(p != nil, "podCertificate") {
			errs = append(errs, validateCertificateProjection(p, at.Child("podCertificate"))...)
			for _, path := range certificatePaths(p) {
				claim(path, at.Child("podCertificate"))
			}
		}
		if found == 0 {
			errs = append(errs, field.Required(at, "must specify a volume type"))
		}
	}
	return errs
}

func validateProjection(name string, items []v1.KeyToPath, at *field.Path, claim func(string, *field.Path)) field.ErrorList {
	errs := rule.NonEmpty(name, at.Child("name"))
	for i := range items {
		errs = append(errs, validateKeyToPath(&items[i], at.Child("items").Index(i))...)
		claim(items[i].Path, at)
	}
	return errs
}

func validateTokenProjection(p *v1.ServiceAccountTokenProjection, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(p.Path, at.Child("path"))
	errs = append(errs, validateLocalNonReservedPath(p.Path, at.Child("path"))...)
	switch seconds := p.ExpirationSeconds; {
	case seconds == nil:
		errs = append(errs, field.Required(at.Child("expirationSeconds"), ""))
	case *seconds < 10*60:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration less than 10 minutes"))
	case *seconds > math.MaxUint32+1:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	return errs
}

// validateLocalNonReservedPath asks for a relative path that does not start with
// "..": names like "..data" are the kubelet's own in these volumes.
func validateLocalNonReservedPath(p string, at *field.Path) field.ErrorList {
	errs := validateLocalDescendingPath(p, at)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") && p != ".." {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

// validateLocalDescendingPath asks for a relative path that stays below its root.
func validateLocalDescendingPath(p string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, validatePathNoBacksteps(p, at)...)
}

func validatePathNoBacksteps(p string, at *field.Path) field.ErrorList {
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
		}
	}
	return nil
}
