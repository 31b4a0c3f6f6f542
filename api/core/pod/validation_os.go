package pod

import (
	"fmt"
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// validateOS: what one system knows, a pod of the other cannot have.
func validateOS(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	switch {
	case spec.OS == nil:
		return nil
	case spec.OS.Name == "":
		return field.ErrorList{field.Required(path.Child("os", "name"), "")}
	case spec.OS.Name == v1.Linux:
		return validateLinux(spec, path)
	case spec.OS.Name == v1.Windows:
		return validateWindows(spec, path)
	}
	return rule.OneOf(spec.OS.Name, path.Child("os"), v1.Linux, v1.Windows)
}

func validateLinux(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	const message = "windows options cannot be set for a linux pod"
	sc := spec.SecurityContext
	errs := forbidden(sc != nil && sc.WindowsOptions != nil, path.Child("securityContext", "windowsOptions"), message)
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		sc := c.SecurityContext
		errs = append(errs, forbidden(sc != nil && sc.WindowsOptions != nil, at.Child("securityContext", "windowsOptions"), message)...)
		return true
	})
	return errs
}

// setting is a field that is set or not.
type setting struct {
	name string
	set  bool
}

func forbidOnWindows(settings []setting, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, s := range settings {
		errs = append(errs, forbidden(s.set, path.Child(s.name), "cannot be set for a windows pod")...)
	}
	return errs
}

func validateWindows(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if sc := spec.SecurityContext; sc != nil {
		errs = forbidOnWindows([]setting{
			{"appArmorProfile", sc.AppArmorProfile != nil}, {"seLinuxOptions", sc.SELinuxOptions != nil}, {"seccompProfile", sc.SeccompProfile != nil},
			{"fsGroup", sc.FSGroup != nil}, {"fsGroupChangePolicy", sc.FSGroupChangePolicy != nil}, {"sysctls", len(sc.Sysctls) > 0},
			{"runAsUser", sc.RunAsUser != nil}, {"runAsGroup", sc.RunAsGroup != nil}, {"supplementalGroups", sc.SupplementalGroups != nil},
			{"supplementalGroupsPolicy", sc.SupplementalGroupsPolicy != nil}, {"seLinuxChangePolicy", sc.SELinuxChangePolicy != nil},
		}, path.Child("securityContext"))
	}
	errs = append(errs, forbidOnWindows([]setting{
		{"hostUsers", spec.HostUsers != nil}, {"hostPID", spec.HostPID}, {"hostIPC", spec.HostIPC}, {"shareProcessNamespace", spec.ShareProcessNamespace != nil},
	}, path)...)
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		if sc := c.SecurityContext; sc != nil {
			errs = append(errs, forbidOnWindows([]setting{
				{"appArmorProfile", sc.AppArmorProfile != nil}, {"seLinuxOptions", sc.SELinuxOptions != nil}, {"seccompProfile", sc.SeccompProfile != nil},
				{"capabilities", sc.Capabilities != nil}, {"readOnlyRootFilesystem", sc.ReadOnlyRootFilesystem != nil}, {"privileged", sc.Privileged != nil},
				{"allowPrivilegeEscalation", sc.AllowPrivilegeEscalation != nil}, {"procMount", sc.ProcMount != nil},
				{"runAsUser", sc.RunAsUser != nil}, {"runAsGroup", sc.RunAsGroup != nil},
			}, at.Child("securityContext"))...)
		}
		return true
	})
	return errs
}

// validateHostProcess: containers that are processes of a Windows host are so all together, and in its network.
func validateHostProcess(spec *v1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	wish := func(options *v1.WindowsSecurityContextOptions) *bool {
		if options == nil {
			return nil
		}
		return options.HostProcess
	}
	var pods *bool
	if sc := spec.SecurityContext; sc != nil {
		pods = wish(sc.WindowsOptions)
	}
	count, host := 0, 0
	VisitContainersWithPath(spec, path, AllContainers, func(c *v1.Container, _ ContainerType, at *field.Path) bool {
		count++
		own := pods
		if sc := c.SecurityContext; sc != nil && wish(sc.WindowsOptions) != nil {
			own = wish(sc.WindowsOptions)
		}
		if pods != nil && *own != *pods {
			errs = append(errs, field.Invalid(at.Child("securityContext", "windowsOptions", "hostProcess"), *own, fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *pods)))
		}
		if own != nil && *own {
			host++
		}
		return true
	})
	if host > 0 && host != count {
		errs = append(errs, field.Invalid(path, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers"))
	}
	if host > 0 && !spec.HostNetwork {
		errs = append(errs, field.Invalid(path.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers"))
	}
	return errs
}

// What Windows takes for a user: DOMAIN\user, the domain by its NetBIOS or by its DNS name.
var (
	controlCharacters = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSDomain     = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	dnsDomain         = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	onlyDotsAndSpaces = regexp.MustCompile(`^[\. ]+$`)
)

const (
	maxCredentialSpec = 64 * 1024 // bytes
	maxWindowsDomain  = 256
	maxWindowsUser    = 104
)

func validateWindowsOptions(options *v1.WindowsSecurityContextOptions, path *field.Path) field.ErrorList {
	if options == nil {
		return nil
	}
	var errs field.ErrorList
	if name := options.GMSACredentialSpecName; name != nil {
		errs = append(errs, rule.DNSSubdomain(*name, path.Child("gmsaCredentialSpecName"))...)
	}
	if text := options.GMSACredentialSpec; text != nil {
		at := path.Child("gmsaCredentialSpec")
		if *text == "" {
			errs = append(errs, field.Invalid(at, *text, "gmsaCredentialSpec cannot be an empty string"))
		} else if len(*text) > maxCredentialSpec {
			errs = append(errs, field.Invalid(at, *text, "gmsaCredentialSpec size must be under 64 KiB"))
		}
	}
	if name := options.RunAsUserName; name != nil {
		for _, message := range windowsUserMessages(*name) {
			errs = append(errs, field.Invalid(path.Child("runAsUserName"), *name, message))
		}
	}
	return errs
}

func windowsUserMessages(name string) []string {
	switch {
	case name == "":
		return []string{"runAsUserName cannot be an empty string"}
	case controlCharacters.MatchString(name):
		return []string{"runAsUserName cannot contain control characters"}
	case strings.Count(name, `\`) > 1:
		return []string{"runAsUserName cannot contain more than one backslash"}
	}
	domain, user, hasDomain := strings.Cut(name, `\`)
	if !hasDomain {
		domain, user = "", name
	}
	var messages []string
	say := func(wrong bool, message string) {
		if wrong {
			messages = append(messages, message)
		}
	}
	say(len(domain) >= maxWindowsDomain, fmt.Sprintf("runAsUserName's Domain length must be under %d characters", maxWindowsDomain))
	say(hasDomain && !netBIOSDomain.MatchString(domain) && !dnsDomain.MatchString(domain), "runAsUserName's Domain doesn't match the NetBios nor the DNS format")
	say(user == "", "runAsUserName's User cannot be empty")
	say(len(user) > maxWindowsUser, fmt.Sprintf("runAsUserName's User length must not be longer than %d characters", maxWindowsUser))
	say(onlyDotsAndSpaces.MatchString(user), "runAsUserName's User cannot contain only periods or spaces")
	say(strings.ContainsAny(user, `"/\:;|=,+*?<>@[]`), `runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	return messages
}
