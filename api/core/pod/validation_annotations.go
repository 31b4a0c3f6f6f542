package pod

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Annotations that mean something to a pod; most of them were fields in the making, and are checked still.
const (
	seccompPod       = v1.SeccompPodAnnotationKey
	seccompContainer = v1.SeccompContainerAnnotationKeyPrefix
	appArmor         = v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix
)

func validatePodAnnotations(annotations map[string]string, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if len(annotations) == 0 {
		return nil
	}
	var errs field.ErrorList
	if value, ok := annotations[v1.MirrorPodAnnotationKey]; ok && spec.NodeName == "" {
		errs = append(errs, field.Invalid(path.Key(v1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set"))
	}
	if text := annotations[v1.TolerationsAnnotationKey]; text != "" {
		var tolerations []v1.Toleration
		if err := json.Unmarshal([]byte(text), &tolerations); err != nil {
			errs = append(errs, field.Invalid(path, v1.TolerationsAnnotationKey, err.Error()))
		} else {
			errs = append(errs, ValidateTolerations(tolerations, path.Child(v1.TolerationsAnnotationKey))...)
		}
	}
	if cost, ok := annotations[v1.PodDeletionCost]; ok && !isDeletionCost(cost) {
		errs = append(errs, field.Invalid(path.Key(v1.PodDeletionCost), cost, "must be a 32bit integer"))
	}
	if profile, ok := annotations[seccompPod]; ok {
		errs = append(errs, validateSeccompAnnotation(profile, path.Child(seccompPod))...)
	}
	keys := slices.Sorted(maps.Keys(annotations))
	for _, key := range keys {
		if strings.HasPrefix(key, seccompContainer) {
			errs = append(errs, validateSeccompAnnotation(annotations[key], path.Child(key))...)
		}
	}
	for _, key := range keys {
		if name, ok := strings.CutPrefix(key, appArmor); ok {
			errs = append(errs, validateAppArmorAnnotation(annotations[key], name, spec, path.Key(key))...)
		}
	}
	return errs
}

// isDeletionCost: a number as it is printed, so not "+10" and not "008".
func isDeletionCost(text string) bool {
	if text == "" || text != "0" && text[0] != '-' && (text[0] < '1' || text[0] > '9') {
		return false
	}
	_, err := strconv.ParseInt(text, 10, 32)
	return err == nil
}

func validateSeccompAnnotation(profile string, path *field.Path) field.ErrorList {
	switch profile {
	case v1.SeccompProfileRuntimeDefault, v1.DeprecatedSeccompProfileDockerDefault, v1.SeccompProfileNameUnconfined:
		return nil
	}
	if local, ok := strings.CutPrefix(profile, v1.SeccompLocalhostProfileNamePrefix); ok {
		return validateLocalDescendingPath(local, path)
	}
	return field.ErrorList{field.Invalid(path, profile, "must be a valid seccomp profile")}
}

func validateAppArmorAnnotation(profile, container string, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if VisitContainers(spec, AllContainers, func(c *v1.Container, _ ContainerType) bool { return c.Name != container }) {
		errs = append(errs, field.Invalid(path, container, "container not found"))
	}
	switch {
	case profile == "", profile == v1.DeprecatedAppArmorBetaProfileRuntimeDefault, profile == v1.DeprecatedAppArmorBetaProfileNameUnconfined:
	case !strings.HasPrefix(profile, v1.DeprecatedAppArmorBetaProfileNamePrefix):
		errs = append(errs, field.Invalid(path, profile, "invalid AppArmor profile name: "+strconv.Quote(profile)))
	}
	return errs
}

// validateAnnotationUpdates: who confined a container, and which file a pod stems from, is not changed afterwards.
func validateAnnotationUpdates(pod, old *v1.Pod, path *field.Path) field.ErrorList {
	changed := map[string]string{}
	fixed := func(key string) bool { return key == v1.MirrorPodAnnotationKey || strings.HasPrefix(key, appArmor) }
	for key, was := range old.Annotations {
		if value, ok := pod.Annotations[key]; fixed(key) && (!ok || value != was) {
			changed[key] = "remove or update"
		}
	}
	for key := range pod.Annotations {
		if _, ok := old.Annotations[key]; fixed(key) && !ok {
			changed[key] = "add"
		}
	}
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(changed)) {
		what := " AppArmor annotations"
		if key == v1.MirrorPodAnnotationKey {
			what = " mirror pod annotation"
		}
		errs = append(errs, field.Forbidden(path.Key(key), "may not "+changed[key]+what))
	}
	return append(errs, validatePodAnnotations(pod.Annotations, &pod.Spec, path)...)
}

// validateProfilesMatch: where a profile stands in an annotation and in its field, they say the same.
func validateProfilesMatch(annotations map[string]string, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if len(annotations) == 0 {
		return nil
	}
	var errs field.ErrorList
	sc := spec.SecurityContext
	if value, ok := annotations[seccompPod]; ok && sc != nil {
		errs = append(errs, matchSeccomp(value, sc.SeccompProfile, path.Child("securityContext", "seccompProfile"))...)
	}
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		if value, ok := annotations[seccompContainer+c.Name]; ok && c.SecurityContext != nil {
			errs = append(errs, matchSeccomp(value, c.SecurityContext.SeccompProfile, at.Child("securityContext", "seccompProfile"))...)
		}
		return true
	})
	if spec.OS != nil && spec.OS.Name == v1.Windows {
		return errs
	}
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		var profile *v1.AppArmorProfile
		if sc != nil {
			profile = sc.AppArmorProfile
		}
		if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
			profile = c.SecurityContext.AppArmorProfile
		}
		if value, ok := annotations[appArmor+c.Name]; ok && profile != nil {
			errs = append(errs, matchAppArmor(value, profile, at.Child("securityContext", "appArmorProfile"))...)
		}
		return true
	})
	return errs
}

func matchSeccomp(annotation string, profile *v1.SeccompProfile, path *field.Path) field.ErrorList {
	if profile == nil {
		return nil
	}
	same := true
	switch profile.Type {
	case v1.SeccompProfileTypeUnconfined:
		same = annotation == v1.SeccompProfileNameUnconfined
	case v1.SeccompProfileTypeRuntimeDefault:
		same = annotation == v1.SeccompProfileRuntimeDefault || annotation == v1.DeprecatedSeccompProfileDockerDefault
	case v1.SeccompProfileTypeLocalhost:
		var local string
		local, same = strings.CutPrefix(annotation, v1.SeccompLocalhostProfileNamePrefix)
		if same && (profile.LocalhostProfile == nil || *profile.LocalhostProfile != local) {
			return field.ErrorList{field.Forbidden(path.Child("localhostProfile"), "seccomp profile in annotation and field must match")}
		}
	}
	return forbidden(!same, path.Child("type"), "seccomp type in annotation and field must match")
}

func matchAppArmor(annotation string, profile *v1.AppArmorProfile, path *field.Path) field.ErrorList {
	same := true
	switch profile.Type {
	case v1.AppArmorProfileTypeUnconfined:
		same = annotation == v1.DeprecatedAppArmorBetaProfileNameUnconfined
	case v1.AppArmorProfileTypeRuntimeDefault:
		same = annotation == v1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case v1.AppArmorProfileTypeLocalhost:
		var local string
		local, same = strings.CutPrefix(annotation, v1.DeprecatedAppArmorBetaProfileNamePrefix)
		if same && (profile.LocalhostProfile == nil || *profile.LocalhostProfile != local) {
			return field.ErrorList{field.Forbidden(path.Child("localhostProfile"), "apparmor profile in annotation and field must match")}
		}
	}
	return forbidden(!same, path.Child("type"), "apparmor type in annotation and field must match")
}

// AppArmorFromAnnotation is the profile that an annotation's value stands for, or nil.
func AppArmorFromAnnotation(annotation string) *v1.AppArmorProfile {
	switch annotation {
	case v1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}
	case v1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
	}
	if local, ok := strings.CutPrefix(annotation, v1.DeprecatedAppArmorBetaProfileNamePrefix); ok && local != "" {
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: &local}
	}
	return nil
}

// IsAppArmorProfile: a profile as a pod may have it.
func IsAppArmorProfile(profile *v1.AppArmorProfile) bool {
	return len(validateAppArmorProfile(profile, nil)) == 0
}
