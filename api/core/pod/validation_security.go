package pod

import (
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// validatePodSecurityContext checks what holds for all containers of the pod.
func validatePodSecurityContext(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	sc := spec.SecurityContext
	errs := validateHostNamespaces(spec, path)
	if sc == nil {
		return errs
	}
	errs = append(errs, validateIDs(sc.RunAsUser, sc.RunAsGroup, path)...)
	if sc.FSGroup != nil {
		errs = append(errs, rule.All(validation.IsValidGroupID(*sc.FSGroup), path.Child("fsGroup"), *sc.FSGroup)...)
	}
	for i, group := range sc.SupplementalGroups {
		errs = append(errs, rule.All(validation.IsValidGroupID(group), path.Child("supplementalGroups").Index(i), group)...)
	}
	if p := sc.SupplementalGroupsPolicy; p != nil {
		errs = append(errs, rule.Supported(*p, path.Child("supplementalGroupsPolicy"), v1.SupplementalGroupsPolicyMerge, v1.SupplementalGroupsPolicyStrict)...)
	}
	if p := sc.FSGroupChangePolicy; p != nil {
		errs = append(errs, rule.Supported(*p, path.Child("fsGroupChangePolicy"), v1.FSGroupChangeAlways, v1.FSGroupChangeOnRootMismatch)...)
	}
	if p := sc.SELinuxChangePolicy; p != nil {
		errs = append(errs, rule.Supported(*p, path.Child("seLinuxChangePolicy"), v1.SELinuxChangePolicyRecursive, v1.SELinuxChangePolicyMountOption)...)
	}
	errs = append(errs, validateSysctls(sc.Sysctls, spec, path.Child("sysctls"))...)
	errs = append(errs, validateSeccompProfile(sc.SeccompProfile, path.Child("seccompProfile"))...)
	return append(errs, validateAppArmorProfile(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
}

// validateHostNamespaces: a pod with users of its own cannot share what belongs to the host's users.
func validateHostNamespaces(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.ShareProcessNamespace != nil && *spec.ShareProcessNamespace && spec.HostPID {
		errs = append(errs, field.Invalid(path.Child("shareProcessNamespace"), *spec.ShareProcessNamespace, "ShareProcessNamespace and HostPID cannot both be enabled"))
	}
	if spec.HostUsers != nil && !*spec.HostUsers {
		errs = append(errs, forbidden(spec.HostNetwork, path.Child("hostNetwork"), "when `hostUsers` is false")...)
		errs = append(errs, forbidden(spec.HostPID, path.Child("HostPID"), "when `hostUsers` is false")...)
		errs = append(errs, forbidden(spec.HostIPC, path.Child("HostIPC"), "when `hostUsers` is false")...)
	}
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
		errs = append(errs, rule.Supported(*p, path.Child("procMount"), v1.DefaultProcMount, v1.UnmaskedProcMount)...)
		if *p == v1.UnmaskedProcMount && (hostUsers == nil || *hostUsers) {
			errs = append(errs, field.Invalid(path.Child("procMount"), *p, "`hostUsers` must be false to use `Unmasked`"))
		}
	}
	errs = append(errs, validateSeccompProfile(sc.SeccompProfile, path.Child("seccompProfile"))...)
	errs = append(errs, validateAppArmorProfile(sc.AppArmorProfile, path.Child("appArmorProfile"))...)
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if sc.Privileged != nil && *sc.Privileged {
			errs = append(errs, field.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
		}
		if sc.Capabilities != nil {
			for _, capability := range sc.Capabilities.Add {
				if capability == "CAP_SYS_ADMIN" {
					errs = append(errs, field.Invalid(path, sc, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
				}
			}
		}
	}
	return errs
}

func validateSeccompProfile(p *v1.SeccompProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := rule.Supported(p.Type, path.Child("type"), v1.SeccompProfileTypeUnconfined, v1.SeccompProfileTypeRuntimeDefault, v1.SeccompProfileTypeLocalhost)
	at := path.Child("localhostProfile")
	if p.Type == v1.SeccompProfileTypeLocalhost {
		if p.LocalhostProfile == nil {
			return append(errs, field.Required(at, "must be set when seccomp type is Localhost"))
		}
		return append(errs, validateLocalDescendingPath(*p.LocalhostProfile, at)...)
	}
	if p.LocalhostProfile != nil {
		errs = append(errs, field.Invalid(at, p, "can only be set when seccomp type is Localhost"))
	}
	return errs
}

func validateAppArmorProfile(p *v1.AppArmorProfile, path *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := rule.Supported(p.Type, path.Child("type"), v1.AppArmorProfileTypeUnconfined, v1.AppArmorProfileTypeRuntimeDefault, v1.AppArmorProfileTypeLocalhost)
	at := path.Child("localhostProfile")
	switch {
	case p.Type != v1.AppArmorProfileTypeLocalhost && p.LocalhostProfile != nil:
		errs = append(errs, field.Invalid(at, p.LocalhostProfile, "can only be set when AppArmor type is Localhost"))
	case p.Type != v1.AppArmorProfileTypeLocalhost:
	case p.LocalhostProfile == nil || strings.TrimSpace(*p.LocalhostProfile) == "":
		errs = append(errs, field.Required(at, "must be set when AppArmor type is Localhost"))
	case len(*p.LocalhostProfile) > 4095:
		errs = append(errs, field.TooLong(at, "", 4095))
	}
	return errs
}

var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

func validateSysctls(sysctls []v1.Sysctl, spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, sysctl := range sysctls {
		at := path.Index(i).Child("name")
		name := strings.ReplaceAll(sysctl.Name, "/", ".")
		switch {
		case sysctl.Name == "":
			errs = append(errs, field.Required(at, ""))
		case len(sysctl.Name) > 253 || !sysctlName.MatchString(sysctl.Name):
			errs = append(errs, field.Invalid(at, sysctl.Name, "must have at most 253 characters and match regex "+sysctlName.String()))
		case seen.Has(name):
			errs = append(errs, field.Duplicate(at, sysctl.Name))
		case spec.HostNetwork && strings.HasPrefix(name, "net."):
			errs = append(errs, field.Invalid(at, sysctl.Name, "may not be specified when 'hostNetwork' is true"))
		case spec.HostIPC && (strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || strings.HasPrefix(name, "fs.mqueue.") || name == "kernel.sem"):
			errs = append(errs, field.Invalid(at, sysctl.Name, "may not be specified when 'hostIPC' is true"))
		}
		seen.Insert(name)
	}
	return errs
}
