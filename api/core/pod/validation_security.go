package pod

import (
	"fmt"
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-helpers/node/util/sysctl"

	"hyperkube/api/rule"
)

// validatePodSecurityContext checks what holds for all containers of the pod.
func validatePodSecurityContext(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	sc := spec.SecurityContext
	if sc == nil {
		return nil
	}
	var errs field.ErrorList
	if sc.FSGroup != nil {
		errs = append(errs, rule.All(validation.IsValidGroupID(*sc.FSGroup), path.Child("fsGroup"), *sc.FSGroup)...)
	}
	errs = append(errs, validateIDs(sc.RunAsUser, sc.RunAsGroup, path)...)
	for i, group := range sc.SupplementalGroups {
		errs = append(errs, rule.All(validation.IsValidGroupID(group), path.Child("supplementalGroups").Index(i), group)...)
	}
	errs = append(errs, validateSysctls(sc.Sysctls, spec, path.Child("sysctls"))...)
	if p := sc.FSGroupChangePolicy; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("fsGroupChangePolicy"), v1.FSGroupChangeAlways, v1.FSGroupChangeOnRootMismatch)...)
	}
	errs = append(errs, validateSeccompProfile(sc.SeccompProfile, path.Child("seccompProfile"))...)
	errs = append(errs, validateWindowsOptions(sc.WindowsOptions, path.Child("windowsOptions"))...)
	errs = append(errs, validateAppArmorProfile(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
	if p := sc.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("supplementalGroupsPolicy"), v1.SupplementalGroupsPolicyMerge, v1.SupplementalGroupsPolicyStrict)...)
	}
	if p := sc.SELinuxChangePolicy; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("seLinuxChangePolicy"), v1.SELinuxChangePolicyRecursive, v1.SELinuxChangePolicyMountOption)...)
	}
	return errs
}

// validateHostUsers: a pod with users of its own cannot share what belongs to the host's users.
func validateHostUsers(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	if spec.HostUsers == nil || *spec.HostUsers {
		return nil
	}
	const message = "when `hostUsers` is false"
	errs := forbidden(spec.HostNetwork, path.Child("hostNetwork"), message)
	errs = append(errs, forbidden(spec.HostPID, path.Child("HostPID"), message)...)
	errs = append(errs, forbidden(spec.HostIPC, path.Child("HostIPC"), message)...)
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		errs = append(errs, forbidden(len(c.VolumeDevices) > 0, at.Child("volumeDevices"), message)...)
		return true
	})
	return errs
}

func validateIDs(user, group *int64, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if user != nil {
		errs = append(errs, rule.All(validation.IsValidUserID(*user), path.Child("runAsUser"), *user)...)
	}
	if group != nil {
		errs = append(errs, rule.All(validation.IsValidGroupID(*group), path.Child("runAsGroup"), *group)...)
	}
	return errs
}

// validateSecurityContext checks a container's own.
func validateSecurityContext(sc *v1.SecurityContext, hostUsers *bool, path *field.Path) field.ErrorList {
	if sc == nil {
		return nil
	}
	errs := validateIDs(sc.RunAsUser, sc.RunAsGroup, path)
	if p := sc.ProcMount; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("procMount"), v1.DefaultProcMount, v1.UnmaskedProcMount)...)
		if *p == v1.UnmaskedProcMount && (hostUsers == nil || *hostUsers) {
			errs = append(errs, field.Invalid(path.Child("procMount"), *p, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateSeccompProfile(sc.SeccompProfile, path.Child("seccompProfile"))...)
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if sc.Privileged != nil && *sc.Privileged {
			errs = append(errs, field.Invalid(path, rule.Untagged(sc), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil {
			for _, capability := range sc.Capabilities.Add {
				if capability == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(path, rule.Untagged(sc), "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	errs = append(errs, validateWindowsOptions(sc.WindowsOptions, path.Child("windowsOptions"))...)
	return append(errs, validateAppArmorProfile(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
}

func validateSeccompProfile(p *v1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	if p.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "type is required when seccompProfile is set"))
	} else {
		errs = rule.OneOf(p.Type, path.Child("type"), v1.SeccompProfileTypeLocalhost, v1.SeccompProfileTypeRuntimeDefault, v1.SeccompProfileTypeUnconfined)
	}
	at := path.Child("localhostProfile")
	switch local := p.Type == v1.SeccompProfileTypeLocalhost; {
	case local && p.LocalhostProfile == nil:
		errs = append(errs, field.Required(at, "must be set when seccomp type is Localhost"))
	case local:
		errs = append(errs, validateLocalDescendingPath(*p.LocalhostProfile, at)...)
	case p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(at, rule.Untagged(p), "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmorProfile(p *v1.AppArmorProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	at := path.Child("localhostProfile")
	switch {
	case p.Type == "":
		return field.ErrorList{field.Required(path.Child("type"), "type is required when appArmorProfile is set")}
	case p.Type == v1.AppArmorProfileTypeLocalhost:
		return validateAppArmorFile(p.LocalhostProfile, at)
	case p.Type != v1.AppArmorProfileTypeRuntimeDefault && p.Type != v1.AppArmorProfileTypeUnconfined:
		return rule.OneOf(p.Type, path.Child("type"), v1.AppArmorProfileTypeLocalhost, v1.AppArmorProfileTypeRuntimeDefault, v1.AppArmorProfileTypeUnconfined)
	case p.LocalhostProfile != nil:
		return field.ErrorList{field.Invalid(at, p.LocalhostProfile, "can only be set when AppArmor type is Localhost")}
	}
	return nil
}

func validateAppArmorFile(name *string, path *field.Path) field.ErrorList {
	if name == nil {
		return field.ErrorList{field.Required(path, "must be set when AppArmor type is Localhost")}
	}
	var errs field.ErrorList
	if strings.TrimSpace(*name) != *name {
		errs = append(errs, field.Invalid(path, *name, "must not be padded with whitespace"))
	} else if *name == "" {
		errs = append(errs, field.Required(path, "must be set when AppArmor type is Localhost"))
	}
	if len(*name) > 4095 { // a path's most, without its end
		errs = append(errs, field.TooLong(path, "", 4095))
	}
	return errs
}

var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

func validateSysctls(sysctls []v1.Sysctl, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, s := range sysctls {
		at := path.Index(i).Child("name")
		switch {
		case s.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(s.Name) > 253 || !sysctlName.MatchString(s.Name):
			errs = append(errs, field.Invalid(at, s.Name, fmt.Sprintf("must have at most 253 characters and match regex %s", sysctlName)))
		case seen.Has(s.Name):
			errs = append(errs, field.Duplicate(at, s.Name))
		}
		switch namespace, _, _ := sysctl.GetNamespace(s.Name); {
		case spec.HostNetwork && namespace == sysctl.NetNamespace:
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostNetwork' is true"))
		case spec.HostIPC && namespace == sysctl.IPCNamespace:
			errs = append(errs, field.Invalid(at, s.Name, "may not be specified when 'hostIPC' is true"))
		}
		seen.Insert(s.Name)
	}
	return errs
}
