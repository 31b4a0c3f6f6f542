package pod

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// The downward API: which fields of a pod a container may see, in its
// environment and in a volume. Only a volume shows whole maps, and follows changes.
var (
	envFields = sets.New("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
		"spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs")
	volumeFields = sets.New("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")

	otherFields = sets.New("spec.restartPolicy", "spec.schedulerName", "status.phase") // fields, but not for containers

	downwardResources = sets.New("limits.cpu", "limits.memory", "limits.ephemeral-storage",
		"requests.cpu", "requests.memory", "requests.ephemeral-storage")
)

// ValidateEnv checks the environment of a container.
func ValidateEnv(env []v1.EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range env {
		at := path.Index(i)
		if env[i].Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, rule.All(validation.IsRelaxedEnvVarName(env[i].Name), at.Child("name"), env[i].Name)...)
		}
		errs = append(errs, validateEnvVarValueFrom(&env[i], at.Child("valueFrom"))...)
	}
	return errs
}

func validateEnvVarValueFrom(env *v1.EnvVar, path *field.Path) field.ErrorList {
	from := env.ValueFrom
	if from == nil {
		return nil
	}
	var errs field.ErrorList
	sources := 0
	if ref := from.FieldRef; ref != nil {
		sources++
		errs = append(errs, validateObjectFieldSelector(ref, envFields, path.Child("fieldRef"))...)
	}
	if ref := from.ResourceFieldRef; ref != nil {
		sources++
		errs = append(errs, validateResourceFieldSelector(ref, false, path.Child("resourceFieldRef"))...)
	}
	if ref := from.ConfigMapKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeySelector(ref.Name, ref.Key, path.Child("configMapKeyRef"))...)
	}
	if ref := from.SecretKeyRef; ref != nil {
		sources++
		errs = append(errs, validateKeySelector(ref.Name, ref.Key, path.Child("secretKeyRef"))...)
	}
	if ref := from.FileKeyRef; ref != nil {
		sources++
		errs = append(errs, validateFileKeySelector(ref, path.Child("fileKeyRef"))...)
	}
	switch {
	case sources == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case env.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case sources > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

func validateKeySelector(name, key string, path *field.Path) field.ErrorList {
	errs := rule.DNSSubdomain(name, path.Child("name"))
	if key == "" {
		return append(errs, field.Required(path.Child("key"), ""))
	}
	return append(errs, rule.All(validation.IsConfigMapKey(key), path.Child("key"), key)...)
}

// validateFileKeySelector checks a variable that stands in a file (KEP-3721).
func validateFileKeySelector(ref *v1.FileKeySelector, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(ref.Key, path.Child("key"))
	if ref.Key != "" {
		errs = append(errs, rule.All(validation.IsRelaxedEnvVarName(ref.Key), path.Child("key"), ref.Key)...)
	}
	if ref.VolumeName == "" {
		errs = append(errs, field.Required(path.Child("volumeName"), ""))
	} else {
		errs = append(errs, rule.DNSLabel(ref.VolumeName, path.Child("volumeName"))...)
	}
	if ref.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, validatePathNoBacksteps(ref.Path, path.Child("path"))...)
}

// validateFileKeyRefVolumes: a file of variables is written by the pod itself, so it stands in an emptyDir.
func validateFileKeyRefVolumes(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		for i, env := range c.Env {
			if env.ValueFrom == nil || env.ValueFrom.FileKeyRef == nil {
				continue
			}
			name := env.ValueFrom.FileKeyRef.VolumeName
			named := at.Child("env").Index(i).Child("valueFrom", "fileKeyRef", "volumeName")
			volume := slices.IndexFunc(spec.Volumes, func(v v1.Volume) bool { return v.Name == name })
			if volume < 0 {
				errs = append(errs, field.NotFound(named, name))
			} else if spec.Volumes[volume].EmptyDir == nil {
				errs = append(errs, field.Invalid(named, name, "referenced volume must be of type emptyDir"))
			}
		}
		return true
	})
	return errs
}

// validateObjectFieldSelector checks a field reference: one of known, or one
// entry of a map (metadata.labels['app']).
func validateObjectFieldSelector(ref *v1.ObjectFieldSelector, known sets.Set[string], path *field.Path) field.ErrorList {
	at := path.Child("fieldPath")
	switch {
	case ref.APIVersion == "":
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	case ref.FieldPath == "":
		return field.ErrorList{field.Required(at, "")}
	case ref.APIVersion != "v1":
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: unsupported pod version: "+ref.APIVersion)}
	}
	name, key, subscripted := splitSubscript(ref.FieldPath)
	switch {
	case subscripted && name == "metadata.annotations":
		return rule.QualifiedName(strings.ToLower(key), path)
	case subscripted && name == "metadata.labels":
		return rule.QualifiedName(key, path)
	case subscripted:
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: field label does not support subscript: "+ref.FieldPath)}
	case name == "spec.host": // what spec.nodeName once was
		name = "spec.nodeName"
	case !volumeFields.Has(name) && !envFields.Has(name) && !otherFields.Has(name):
		return field.ErrorList{field.Invalid(at, ref.FieldPath, "error converting fieldPath: field label not supported: "+ref.FieldPath)}
	}
	if known.Has(name) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, name, sets.List(known))}
}

// splitSubscript splits "metadata.labels['app']" into its map and its key.
func splitSubscript(path string) (name, key string, ok bool) {
	rest, found := strings.CutSuffix(path, "']")
	if !found {
		return path, "", false
	}
	name, key, found = strings.Cut(rest, "['")
	if !found || name == "" {
		return path, "", false
	}
	return name, key, true
}

func validateResourceFieldSelector(ref *v1.ResourceFieldSelector, inVolume bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	huge := strings.HasPrefix(ref.Resource, "limits.hugepages-") || strings.HasPrefix(ref.Resource, "requests.hugepages-")
	switch {
	case inVolume && ref.ContainerName == "":
		errs = append(errs, field.Required(path.Child("containerName"), ""))
	case ref.Resource == "":
		errs = append(errs, field.Required(path.Child("resource"), ""))
	case !downwardResources.Has(ref.Resource) && !huge:
		errs = append(errs, field.NotSupported(path.Child("resource"), ref.Resource, sets.List(downwardResources)))
	}
	return append(errs, validateDivisor(ref.Resource, ref.Divisor, huge, path.Child("divisor"))...)
}

var (
	cpuDivisors    = sets.New("1m", "1")
	memoryDivisors = sets.New("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
)

func validateDivisor(name string, divisor resource.Quantity, huge bool, path *field.Path) field.ErrorList {
	if divisor.IsZero() || !huge && !downwardResources.Has(name) {
		return nil
	}
	_, kind, _ := strings.Cut(name, ".")
	switch {
	case kind == "cpu":
		if !cpuDivisors.Has(divisor.String()) {
			return field.ErrorList{field.Invalid(path, name, "only divisor's values 1m and 1 are supported with the cpu resource")}
		}
	case !memoryDivisors.Has(divisor.String()):
		what := "memory"
		if kind == "ephemeral-storage" {
			what = "local ephemeral storage"
		} else if huge {
			what = "hugepages"
		}
		return field.ErrorList{field.Invalid(path, name, "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the "+what+" resource")}
	}
	return nil
}

// ValidateEnvFrom checks the maps a container takes its environment from.
func ValidateEnvFrom(sources []v1.EnvFromSource, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, source := range sources {
		at := path.Index(i)
		if source.Prefix != "" {
			errs = append(errs, rule.All(validation.IsRelaxedEnvVarName(source.Prefix), at.Child("prefix"), source.Prefix)...)
		}
		if ref := source.ConfigMapRef; ref != nil {
			errs = append(errs, validateMapName(ref.Name, at.Child("configMapRef", "name"))...)
		}
		if ref := source.SecretRef; ref != nil {
			errs = append(errs, validateMapName(ref.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case source.ConfigMapRef == nil && source.SecretRef == nil:
			errs = append(errs, field.Invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
		case source.ConfigMapRef != nil && source.SecretRef != nil:
			errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
		}
	}
	return errs
}

// validateMapName takes a name's beginning too ("settings-"): upstream checks here what a generated name starts with.
func validateMapName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return rule.All(apivalidation.NameIsDNSSubdomain(name, true), path, name)
}
