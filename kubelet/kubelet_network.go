package kubelet

import (
	"fmt"
	"net"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	kubecontainer "hyperkube/kubelet/container"
)

// What the C library reads of a resolv.conf.
const (
	maxNameservers    = 3
	maxSearchDomains  = 32
	maxSearchListSize = 2048
)

// systemdResolvConf names the servers behind systemd-resolved's 127.0.0.53.
const systemdResolvConf = "/run/systemd/resolve/resolv.conf"

// GetPodDNS makes a pod's resolv.conf from its policy.
func (kl *Kubelet) GetPodDNS(pod *v1.Pod) (*runtimeapi.DNSConfig, error) {
	host, warnings, err := hostDNS(kl.ResolvConf)
	if err != nil {
		return nil, fmt.Errorf("reading the node's resolver configuration: %w", err)
	}
	config, more := podDNS(pod, host, kl.ClusterDNS, kl.ClusterDomain)
	for _, warning := range append(warnings, more...) {
		kl.recorder.Event(kubecontainer.GeneratePodRef(pod), v1.EventTypeWarning, warning.reason, warning.message)
	}
	return config, nil
}

// resolver is what a resolv.conf says.
type resolver struct{ servers, searches, options []string }

type dnsWarning struct{ reason, message string }

// podDNS applies the pod's DNS policy. It is pure.
func podDNS(pod *v1.Pod, host resolver, clusterDNS []string, clusterDomain string) (*runtimeapi.DNSConfig, []dnsWarning) {
	var warnings []dnsWarning
	config := &runtimeapi.DNSConfig{}
	fromNode := func() {
		config.Servers = append(config.Servers, host.servers...)
		config.Searches = append(config.Searches, host.searches...)
		config.Options = append(config.Options, host.options...)
	}
	policy := pod.Spec.DNSPolicy
	if policy == v1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = v1.DNSDefault
	}
	switch policy {
	case v1.DNSNone:
	case v1.DNSDefault:
		fromNode()
	default: // ClusterFirst, ClusterFirstWithHostNet
		if len(clusterDNS) == 0 {
			warnings = append(warnings, dnsWarning{"MissingClusterDNS", fmt.Sprintf("pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod using %q policy. Falling back to %q policy.", pod.Namespace+"/"+pod.Name, policy, v1.DNSDefault)})
			fromNode()
			break
		}
		config.Servers = append(config.Servers, clusterDNS...)
		config.Searches = append([]string{pod.Namespace + ".svc." + clusterDomain, "svc." + clusterDomain, clusterDomain}, host.searches...)
		config.Options = []string{"ndots:5"}
	}
	if extra := pod.Spec.DNSConfig; extra != nil {
		config.Servers = unique(append(config.Servers, extra.Nameservers...))
		config.Searches = unique(append(config.Searches, extra.Searches...))
		config.Options = mergeOptions(config.Options, extra.Options)
	}
	return limitDNS(config, warnings)
}

// limitDNS cuts what resolvers would ignore, and says so (R57).
func limitDNS(config *runtimeapi.DNSConfig, warnings []dnsWarning) (*runtimeapi.DNSConfig, []dnsWarning) {
	config.Searches = unique(config.Searches)
	if len(config.Servers) > maxNameservers {
		config.Servers = config.Servers[:maxNameservers]
		warnings = append(warnings, dnsWarning{"DNSConfigForming", "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: " + strings.Join(config.Servers, " ")})
	}
	cut := false
	if len(config.Searches) > maxSearchDomains {
		config.Searches, cut = config.Searches[:maxSearchDomains], true
	}
	for len(strings.Join(config.Searches, " ")) > maxSearchListSize {
		config.Searches, cut = config.Searches[:len(config.Searches)-1], true
	}
	if cut {
		warnings = append(warnings, dnsWarning{"DNSConfigForming", "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: " + strings.Join(config.Searches, " ")})
	}
	return config, warnings
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var result []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			result = append(result, s)
		}
	}
	return result
}

// mergeOptions lets the pod's option replace one of the same name.
func mergeOptions(options []string, extra []v1.PodDNSConfigOption) []string {
	var order []string
	values := map[string]string{}
	add := func(name, text string) {
		if _, known := values[name]; !known {
			order = append(order, name)
		}
		values[name] = text
	}
	for _, option := range options {
		name, _, _ := strings.Cut(option, ":")
		add(name, option)
	}
	for _, option := range extra {
		text := option.Name
		if option.Value != nil {
			text += ":" + *option.Value
		}
		add(option.Name, text)
	}
	var result []string
	for _, name := range order {
		result = append(result, values[name])
	}
	return result
}

// hostDNS reads the node's resolver configuration. A loopback server is left
// out: within a pod it would be the pod itself (R57). If all were loopback,
// systemd-resolved's own list of servers takes their place.
func hostDNS(path string) (resolver, []dnsWarning, error) {
	chosen := path
	if path == "" {
		chosen = "/etc/resolv.conf"
	}
	config, loopback, err := parseResolvConf(chosen)
	if err != nil {
		return config, nil, err
	}
	if loopback > 0 && len(config.servers) == 0 && chosen != systemdResolvConf {
		if real, _, err := parseResolvConf(systemdResolvConf); err == nil && len(real.servers) > 0 {
			return real, nil, nil
		}
		return config, []dnsWarning{{"DNSConfigForming", fmt.Sprintf("%s names only loopback nameservers, which a pod cannot use; the pod gets none of the node's", chosen)}}, nil
	}
	return config, nil, nil
}

// parseResolvConf returns the servers that others than this host can use, and how many it left out.
func parseResolvConf(path string) (config resolver, loopback int, err error) {
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return config, 0, nil
	}
	if err != nil {
		return config, 0, err
	}
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.HasPrefix(fields[0], ";") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if ip := net.ParseIP(fields[1]); ip != nil && ip.IsLoopback() {
				loopback++
				continue
			}
			config.servers = append(config.servers, fields[1])
		case "search", "domain":
			config.searches = nil // the last line counts
			for _, domain := range fields[1:] {
				if domain != "." {
					config.searches = append(config.searches, strings.TrimSuffix(domain, "."))
				}
			}
		case "options":
			config.options = fields[1:]
		}
	}
	return config, loopback, nil
}

// GeneratePodHostNameAndDomain is the pod's name to itself: spec.hostname, else
// its name, cut to what a host name may be.
func (kl *Kubelet) GeneratePodHostNameAndDomain(pod *v1.Pod) (hostname, domain string) {
	if pod.Spec.HostnameOverride != nil {
		return *pod.Spec.HostnameOverride, ""
	}
	hostname = pod.Name
	if pod.Spec.Hostname != "" && len(validation.IsDNS1123Label(pod.Spec.Hostname)) == 0 {
		hostname = pod.Spec.Hostname
	}
	if len(hostname) > 63 {
		hostname = strings.TrimRight(hostname[:63], "-.")
	}
	if pod.Spec.Subdomain != "" {
		domain = fmt.Sprintf("%s.%s.svc.%s", pod.Spec.Subdomain, pod.Namespace, kl.ClusterDomain)
		if pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN && !pod.Spec.HostNetwork {
			return hostname + "." + domain, domain
		}
	}
	return hostname, domain
}
