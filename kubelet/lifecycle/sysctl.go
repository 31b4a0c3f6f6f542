package lifecycle

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// safeSysctls are those whose change stays within the pod: they belong to one of
// its namespaces, and cost the node nothing.
func safeSysctls() []string {
	return []string{"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
		"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
		"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
}

// forbiddenSysctl says why a pod may not have a sysctl that it asks for; "" if it
// may have all: unsafe ones only if the node's owner has allowed them, and none may
// reach through to the node's own namespace.
func forbiddenSysctl(pod *v1.Pod, allowed []string) string {
	if pod.Spec.SecurityContext == nil {
		return ""
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		switch {
		case !slices.Contains(safeSysctls(), name) && !matchesSysctl(allowed, name):
			return fmt.Sprintf("forbidden sysctl: %q not allowlisted", s.Name)
		case strings.HasPrefix(name, "net.") && pod.Spec.HostNetwork:
			return fmt.Sprintf("forbidden sysctl: %q not allowed with host net enabled", s.Name)
		case isOfIPC(name) && pod.Spec.HostIPC:
			return fmt.Sprintf("forbidden sysctl: %q not allowed with host ipc enabled", s.Name)
		}
	}
	return ""
}

// ValidateUnsafeSysctls refuses patterns (a name, or one that ends with *) of sysctls that are not a namespace's
// own: setting one of those in a pod would set it on the node.
func ValidateUnsafeSysctls(patterns []string) error {
	for _, pattern := range patterns {
		name := strings.TrimSuffix(strings.ReplaceAll(pattern, "/", "."), "*")
		if !strings.HasPrefix(name, "net.") && !isOfIPC(name) {
			return fmt.Errorf("--allowed-unsafe-sysctls: the sysctls %q are not known to be namespaced", pattern)
		}
	}
	return nil
}

// isOfIPC: the IPC namespace's, as net.* are the network namespace's.
func isOfIPC(name string) bool {
	return strings.HasPrefix(name, "kernel.shm") || strings.HasPrefix(name, "kernel.msg") || name == "kernel.sem" || strings.HasPrefix(name, "fs.mqueue.")
}

func matchesSysctl(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		prefix, open := strings.CutSuffix(strings.ReplaceAll(pattern, "/", "."), "*")
		return name == prefix || open && strings.HasPrefix(name, prefix)
	})
}
