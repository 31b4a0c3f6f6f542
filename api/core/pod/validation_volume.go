package pod

import (
	"path"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// validateVolumes checks the volumes of a pod and returns the good ones by name, for the mounts to refer to. meta is the pod's,
// whose name is part of the claims that are made for it; a template has none.
func validateVolumes(volumes []v1.Volume, meta *metav1.ObjectMeta, at *field.Path) (map[string]v1.VolumeSource, field.ErrorList) {
	var errs field.ErrorList
	good := make(map[string]v1.VolumeSource, len(volumes))
	for i := range volumes {
		volume, here := &volumes[i], at.Index(i)
		found := validateVolumeSource(volume, meta, here)
		if volume.Name == "" {
			found = append(found, field.Required(here.Child("name"), ""))
		} else {
			found = append(found, rule.DNSLabel(volume.Name, here.Child("name"))...)
		}
		if _, again := good[volume.Name]; again {
			found = append(found, field.Duplicate(here.Child("name"), volume.Name))
		}
		if len(found) == 0 {
			good[volume.Name] = volume.VolumeSource
		}
		errs = append(errs, found...)
		if claim := volume.PersistentVolumeClaim; claim != nil && isMadeForPod(claim.ClaimName, volumes, meta) {
			errs = append(errs, field.Invalid(here.Child("persistentVolumeClaim", "claimName"), claim.ClaimName, "must not reference a PVC that gets created for an ephemeral volume"))
		}
	}
	return good, errs
}

// isMadeForPod: a claim by this name will be made for one of the volumes.
func isMadeForPod(claim string, volumes []v1.Volume, meta *metav1.ObjectMeta) bool {
	if meta == nil || meta.Name == "" {
		return false
	}
	for i := range volumes {
		if volumes[i].Ephemeral != nil && claim == meta.Name+"-"+volumes[i].Name {
			return true
		}
	}
	return false
}

func validateVolumeSource(volume *v1.Volume, meta *metav1.ObjectMeta, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	found := 0
	for i := range volumeRules {
		kind := &volumeRules[i]
		if !kind.set(&volume.VolumeSource) {
			continue
		}
		if found++; found > 1 {
			errs = append(errs, field.Forbidden(at.Child(kind.second()), "may not specify more than 1 volume type"))
		} else {
			errs = append(errs, kind.check(&volume.VolumeSource, at.Child(kind.name))...)
		}
		if s := volume.ISCSI; kind.name == "iscsi" && s.InitiatorName != nil && len(volume.Name+":"+s.TargetPortal) > 64 {
			errs = append(errs, field.Invalid(at.Child("name"), volume.Name, "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."))
		}
		if kind.name == "ephemeral" && found == 1 && meta != nil && meta.Name != "" && volume.Name != "" {
			claim := meta.Name + "-" + volume.Name
			for _, message := range apivalidation.NameIsDNSSubdomain(claim, false) {
				errs = append(errs, field.Invalid(at.Child("name"), volume.Name, "PVC name \""+claim+"\": "+message))
			}
		}
	}
	if found == 0 {
		errs = append(errs, field.Required(at, "must specify a volume type"))
	}
	return errs
}

// ValidateHostPath checks a path of the node.
func ValidateHostPath(s *v1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(at.Child("path"), "")}
	}
	errs := validatePathNoBacksteps(s.Path, at.Child("path"))
	if s.Type != nil {
		errs = append(errs, rule.OneOf(*s.Type, at.Child("type"), v1.HostPathUnset, v1.HostPathDirectoryOrCreate,
			v1.HostPathDirectory, v1.HostPathFileOrCreate, v1.HostPathFile, v1.HostPathSocket, v1.HostPathCharDev, v1.HostPathBlockDev)...)
	}
	return errs
}

// ValidateNFS checks an export of a file server.
func ValidateNFS(s *v1.NFSVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(s.Server, at.Child("server"))
	errs = append(errs, rule.NonEmpty(s.Path, at.Child("path"))...)
	if !path.IsAbs(s.Path) {
		errs = append(errs, field.Invalid(at.Child("path"), s.Path, "must be an absolute path"))
	}
	return errs
}

func validateCSI(s *v1.CSIVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.DriverName(s.Driver, at.Child("driver"))
	if ref := s.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			return append(errs, field.Required(at.Child("nodePublishSecretRef", "name"), ""))
		}
		errs = append(errs, rule.DNSSubdomain(ref.Name, at.Child("name"))...)
	}
	return errs
}

func validateEphemeral(s *v1.EphemeralVolumeSource, at *field.Path) field.ErrorList {
	at = at.Child("volumeClaimTemplate")
	if s.VolumeClaimTemplate == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	errs := validateTemplateMeta(&s.VolumeClaimTemplate.ObjectMeta, at.Child("metadata"))
	return append(errs, ValidatePersistentVolumeClaimSpec(&s.VolumeClaimTemplate.Spec, at.Child("spec"))...)
}

// validateTemplateMeta: of what is made for a pod, labels and annotations may be said; the rest follows from the pod.
func validateTemplateMeta(meta *metav1.ObjectMeta, at *field.Path) field.ErrorList {
	errs := apivalidation.ValidateAnnotations(meta.Annotations, at.Child("annotations"))
	errs = append(errs, metav1validation.ValidateLabels(meta.Labels, at.Child("labels"))...)
	return append(errs, rule.TemplateMetadata(meta, at)...)
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

// validateDownwardFile checks a file of the pod's own fields. at is the volume: errors do not say which of its files.
func validateDownwardFile(item *v1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := rule.NonEmpty(item.Path, at.Child("path"))
	errs = append(errs, validateLocalNonReservedPath(item.Path, at.Child("path"))...)
	switch {
	case item.FieldRef != nil:
		errs = append(errs, validateObjectFieldSelector(item.FieldRef, volumeFields, at.Child("fieldRef"))...)
		if item.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case item.ResourceFieldRef != nil:
		errs = append(errs, validateResourceFieldSelector(item.ResourceFieldRef, true, at.Child("resourceFieldRef"))...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, rule.FileMode(item.Mode, at.Child("mode"))...)
}

// claimPaths takes the files that a projected volume's sources write, each of which only one may write.
type claimPaths struct {
	taken sets.Set[string]
	at    *field.Path // of the volume
}

func (c *claimPaths) claim(p, shown string) field.ErrorList {
	if c.taken.Has(p) {
		return field.ErrorList{field.Invalid(c.at, shown, "conflicting duplicate paths")}
	}
	c.taken.Insert(p)
	return nil
}

// validateProjected checks the sources of a projected volume, and that no two write one file.
func validateProjected(s *v1.ProjectedVolumeSource, at *field.Path) field.ErrorList {
	errs := rule.FileMode(s.DefaultMode, at.Child("defaultMode"))
	files := &claimPaths{sets.New[string](), at}
	for i := range s.Sources {
		source, here := &s.Sources[i], at.Child("sources").Index(i)
		found := 0
		if p := source.Secret; p != nil {
			found++
			errs = append(errs, validateProjection(p.Name, p.Items, here.Child("secret"), files)...)
		}
		if p := source.ConfigMap; p != nil {
			found++
			errs = append(errs, validateProjection(p.Name, p.Items, here.Child("configMap"), files)...)
		}
		if p := source.DownwardAPI; p != nil {
			found++
			for j := range p.Items {
				errs = append(errs, validateDownwardFile(&p.Items[j], here.Child("downwardAPI"))...)
				if file := p.Items[j].Path; file != "" {
					errs = append(errs, files.claim(file, file)...)
				}
			}
		}
		if p := source.ServiceAccountToken; p != nil {
			found++
			errs = append(errs, validateTokenProjection(p, here.Child("serviceAccountToken"), at.Child("path"))...)
		}
		if p := source.ClusterTrustBundle; p != nil {
			found++
			errs = append(errs, validateTrustProjection(p, here.Child("clusterTrustBundle"))...)
			errs = append(errs, files.claim(p.Path, p.Path)...)
		}
		if p := source.PodCertificate; p != nil {
			found++
			errs = append(errs, validateCertificateProjection(p, here.Child("podCertificate"), files)...)
		}
		errs = append(errs, forbidden(found > 1, here, "may not specify more than 1 volume type per source")...)
	}
	return errs
}

func validateProjection(name string, items []v1.KeyToPath, at *field.Path, files *claimPaths) field.ErrorList {
	errs := rule.NonEmpty(name, at.Child("name"))
	for i := range items {
		errs = append(errs, validateKeyToPath(&items[i], at.Child("items").Index(i))...)
		if file := items[i].Path; file != "" {
			errs = append(errs, files.claim(file, name)...)
		}
	}
	return errs
}

func validateTokenProjection(p *v1.ServiceAccountTokenProjection, at, file *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch seconds := p.ExpirationSeconds; {
	case seconds == nil:
		errs = append(errs, field.Required(at.Child("expirationSeconds"), ""))
	case *seconds < 10*60:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration less than 10 minutes"))
	case *seconds > 1<<32:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	if p.Path == "" {
		return append(errs, field.Required(file, ""))
	}
	return append(errs, validateLocalNonReservedPath(p.Path, file)...)
}

// validateLocalNonReservedPath asks for a relative path that does not start with
// "..": names like "..data" are the kubelet's own in these volumes.
func validateLocalNonReservedPath(p string, at *field.Path) field.ErrorList {
	errs := validateLocalDescendingPath(p, at)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
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
