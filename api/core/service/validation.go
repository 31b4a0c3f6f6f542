package service

import (
	"fmt"
	"net/netip"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/endpoints"
	"hyperkube/api/rule"
)

// Validate checks a service on its own.
func Validate(s *v1.Service) field.ErrorList {
	path := field.NewPath("spec")
	if hints, mode := s.Annotations[v1.DeprecatedAnnotationTopologyAwareHints], s.Annotations[v1.AnnotationTopologyMode]; hints != "" && mode != "" && hints != mode {
		at := field.NewPath("metadata", "annotations").Key(v1.AnnotationTopologyMode)
		return field.ErrorList{field.Invalid(at, mode, fmt.Sprintf("must match annotations[%s] when both are specified", v1.DeprecatedAnnotationTopologyAwareHints))}
	}
	errs := rule.Supported(s.Spec.Type, path.Child("type"),
		v1.ServiceTypeExternalName, v1.ServiceTypeClusterIP, v1.ServiceTypeNodePort, v1.ServiceTypeLoadBalancer)
	errs = append(errs, validateType(s, path)...)
	errs = append(errs, validatePorts(s, path.Child("ports"))...)
	errs = append(errs, metav1validation.ValidateLabels(s.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateAffinity(&s.Spec, path)...)
	errs = append(errs, validateClusterIPs(s, path)...)
	errs = append(errs, validateTrafficPolicies(s, path)...)
	for i, ip := range s.Spec.ExternalIPs {
		at := path.Child("externalIPs").Index(i)
		errs = append(errs, rule.IP(ip, at)...)
		errs = append(errs, endpoints.ValidateIP(ip, at)...)
	}
	return append(errs, validateLoadBalancer(s, path)...)
}

// validateType checks what a type asks for, or rules out.
func validateType(s *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch s.Spec.Type {
	case v1.ServiceTypeLoadBalancer:
		for i := range s.Spec.Ports {
			if s.Spec.Ports[i].Port == 10250 {
				errs = append(errs, field.Invalid(path.Child("ports").Index(i), s.Spec.Ports[i].Port, "may not expose port 10250 externally since it is used by kubelet"))
			}
		}
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), s.Spec.ClusterIP, "may not be set to 'None' for LoadBalancer services"))
		}
	case v1.ServiceTypeNodePort:
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), s.Spec.ClusterIP, "may not be set to 'None' for NodePort services"))
		}
	case v1.ServiceTypeExternalName:
		const message = "may not be set for ExternalName services"
		if len(s.Spec.ClusterIPs) > 0 {
			errs = append(errs, field.Forbidden(path.Child("clusterIPs"), message))
		}
		if len(s.Spec.IPFamilies) > 0 {
			errs = append(errs, field.Forbidden(path.Child("ipFamilies"), message))
		}
		if s.Spec.IPFamilyPolicy != nil {
			errs = append(errs, field.Forbidden(path.Child("ipFamilyPolicy"), message))
		}
		// A trailing dot is what DNS writes; it is no part of the name.
		if name := strings.TrimSuffix(s.Spec.ExternalName, "."); name != "" {
			errs = append(errs, rule.DNSSubdomain(name, path.Child("externalName"))...)
		} else {
			errs = append(errs, field.Required(path.Child("externalName"), ""))
		}
	}
	return errs
}

func validatePorts(s *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(s.Spec.Ports) == 0 && !IsHeadless(s) && s.Spec.Type != v1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path, ""))
	}
	type key struct {
		protocol v1.Protocol
		number   int32
	}
	names, ports, nodePorts := sets.New[string](), sets.New[key](), sets.New[key]()
	for i := range s.Spec.Ports {
		port, at := &s.Spec.Ports[i], path.Index(i)
		errs = append(errs, validatePort(port, len(s.Spec.Ports) > 1, at)...)
		if port.Name != "" && names.Has(port.Name) {
			errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
		}
		names.Insert(port.Name)
		k := key{port.Protocol, port.Port}
		if ports.Has(k) {
			errs = append(errs, field.Duplicate(at, v1.ServicePort{Protocol: port.Protocol, Port: port.Port}))
		}
		ports.Insert(k)
		if port.NodePort == 0 {
			continue
		}
		if !MayHaveNodePort(s) {
			errs = append(errs, field.Forbidden(at.Child("nodePort"), fmt.Sprintf("may not be used when `type` is '%s'", s.Spec.Type)))
			continue
		}
		k = key{port.Protocol, port.NodePort}
		if nodePorts.Has(k) {
			errs = append(errs, field.Duplicate(at.Child("nodePort"), port.NodePort))
		}
		nodePorts.Insert(k)
	}
	return errs
}

func validatePort(port *v1.ServicePort, needName bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if needName && port.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else if port.Name != "" {
		errs = append(errs, rule.DNSLabel(port.Name, path.Child("name"))...)
	}
	errs = append(errs, rule.All(validation.IsValidPortNum(int(port.Port)), path.Child("port"), port.Port)...)
	errs = append(errs, rule.SupportedProtocol(port.Protocol, path.Child("protocol"))...)
	errs = append(errs, rule.PortNumOrName(port.TargetPort, path.Child("targetPort"))...)
	if port.AppProtocol != nil {
		errs = append(errs, rule.QualifiedName(*port.AppProtocol, path.Child("appProtocol"))...)
	}
	return errs
}

const maxAffinitySeconds = 86400

func validateAffinity(spec *v1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := rule.Supported(spec.SessionAffinity, path.Child("sessionAffinity"), v1.ServiceAffinityClientIP, v1.ServiceAffinityNone)
	at := path.Child("sessionAffinityConfig")
	switch c := spec.SessionAffinityConfig; {
	case spec.SessionAffinity == v1.ServiceAffinityNone:
		if c != nil {
			errs = append(errs, field.Forbidden(at, fmt.Sprintf("must not be set when session affinity is %s", v1.ServiceAffinityNone)))
		}
	case spec.SessionAffinity == v1.ServiceAffinityClientIP:
		at = at.Child("clientIP")
		if c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			errs = append(errs, field.Required(at.Child("timeoutSeconds"), fmt.Sprintf("when session affinity is %s", v1.ServiceAffinityClientIP)))
		} else if s := *c.ClientIP.TimeoutSeconds; s <= 0 || s > maxAffinitySeconds {
			errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), s, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	}
	return errs
}

// validateClusterIPs checks addresses and families against each other; whether an
// address is free and in range is known where it is allocated.
func validateClusterIPs(s *v1.Service, path *field.Path) field.ErrorList {
	if s.Spec.Type == v1.ServiceTypeExternalName {
		return nil
	}
	var errs field.ErrorList
	ips, families := s.Spec.ClusterIPs, s.Spec.IPFamilies
	switch {
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Required(path.Child("clusterIP"), "must be set when clusterIPs is also specified"))
	case len(ips) > 0 && ips[0] != s.Spec.ClusterIP:
		errs = append(errs, field.Invalid(path.Child("clusterIPs"), ips, "first value must match `clusterIP`"))
	}
	seen := sets.New[v1.IPFamily]()
	for i, family := range families {
		at := path.Child("ipFamilies").Index(i)
		errs = append(errs, rule.Supported(family, at, v1.IPv4Protocol, v1.IPv6Protocol)...)
		if seen.Has(family) {
			errs = append(errs, field.Duplicate(at, family))
		}
		seen.Insert(family)
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		errs = append(errs, rule.Supported(*p, path.Child("ipFamilyPolicy"), v1.IPFamilyPolicySingleStack, v1.IPFamilyPolicyPreferDualStack, v1.IPFamilyPolicyRequireDualStack)...)
		if *p == v1.IPFamilyPolicySingleStack && len(ips) > 1 {
			errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *p, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
		}
		if *p == v1.IPFamilyPolicySingleStack && len(families) > 1 {
			errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), *p, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
		}
	}
	return append(errs, validateAddresses(ips, families, path)...)
}

func validateAddresses(ips []string, families []v1.IPFamily, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(path.Child("clusterIPs"), ips, "may only hold up to 2 values"))
	}
	for i, ip := range ips {
		at := path.Child("clusterIPs").Index(i)
		if ip == v1.ClusterIPNone {
			if len(ips) > 1 {
				errs = append(errs, field.Invalid(path.Child("clusterIPs"), ips, "'None' must be the first and only value"))
			}
			return errs
		}
		found := rule.IP(ip, at)
		errs = append(errs, found...)
		if len(found) > 0 || i >= len(families) {
			continue
		}
		if addr, err := netip.ParseAddr(ip); err == nil && addr.Is4() != (families[i] == v1.IPv4Protocol) {
			errs = append(errs, field.Invalid(at, ip, fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", families[i], i)))
		}
	}
	return errs
}

func validateTrafficPolicies(s *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	external := s.Spec.ExternalTrafficPolicy
	if ExternallyAccessible(s) {
		errs = append(errs, rule.Supported(external, path.Child("externalTrafficPolicy"), v1.ServiceExternalTrafficPolicyCluster, v1.ServiceExternalTrafficPolicyLocal)...)
	} else if external != "" {
		errs = append(errs, field.Invalid(path.Child("externalTrafficPolicy"), external, "may only be set for externally-accessible services"))
	}
	if !NeedsHealthCheck(s) && s.Spec.HealthCheckNodePort != 0 {
		errs = append(errs, field.Invalid(path.Child("healthCheckNodePort"), s.Spec.HealthCheckNodePort, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	if s.Spec.Type != v1.ServiceTypeExternalName {
		at := path.Child("internalTrafficPolicy")
		if s.Spec.InternalTrafficPolicy == nil {
			errs = append(errs, field.Required(at, ""))
		} else {
			errs = append(errs, rule.Supported(*s.Spec.InternalTrafficPolicy, at, v1.ServiceInternalTrafficPolicyCluster, v1.ServiceInternalTrafficPolicyLocal)...)
		}
	}
	if d := s.Spec.TrafficDistribution; d != nil {
		errs = append(errs, rule.Supported(*d, path.Child("trafficDistribution"), v1.ServiceTrafficDistributionPreferClose, v1.ServiceTrafficDistributionPreferSameZone, v1.ServiceTrafficDistributionPreferSameNode)...)
	}
	return errs
}

func validateLoadBalancer(s *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	balanced := s.Spec.Type == v1.ServiceTypeLoadBalancer
	if len(s.Spec.LoadBalancerSourceRanges) > 0 {
		at := path.Child("LoadBalancerSourceRanges")
		if !balanced {
			errs = append(errs, field.Forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
		}
		for i, cidr := range s.Spec.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), strings.TrimSpace(cidr), false, nil)...)
		}
	}
	if s.Spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		if !balanced {
			errs = append(errs, field.Forbidden(path.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
		}
		errs = append(errs, rule.QualifiedName(*class, path.Child("loadBalancerClass"))...)
	}
	return errs
}

// ValidateUpdate checks a changed service: an address, once given, stays for as
// long as the type has one; clients have it in their caches.
func ValidateUpdate(s, old *v1.Service) field.ErrorList {
	path := field.NewPath("spec")
	errs := Validate(s)
	if NeedsClusterIP(s) && NeedsClusterIP(old) {
		for i, was := range old.Spec.ClusterIPs {
			if i < len(s.Spec.ClusterIPs) && s.Spec.ClusterIPs[i] != was {
				errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(i), s.Spec.ClusterIPs, "may not change once set"))
			}
		}
		if len(old.Spec.ClusterIPs) > 0 && len(s.Spec.ClusterIPs) == 0 {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), s.Spec.ClusterIPs, "primary clusterIP can not be unset"))
		}
		if len(old.Spec.IPFamilies) > 0 && len(s.Spec.IPFamilies) > 0 && old.Spec.IPFamilies[0] != s.Spec.IPFamilies[0] {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(0), s.Spec.IPFamilies, "may not change once set"))
		}
	}
	if NeedsHealthCheck(old) && NeedsHealthCheck(s) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(path.Child("healthCheckNodePort"), "field is immutable"))
	}
	if old.Spec.Type == v1.ServiceTypeLoadBalancer && s.Spec.Type == v1.ServiceTypeLoadBalancer && old.Spec.LoadBalancerClass != nil {
		errs = append(errs, rule.Immutable(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass, path.Child("loadBalancerClass"))...)
	}
	return errs
}

// ValidateStatusUpdate checks what a load balancer's controller says.
func ValidateStatusUpdate(s, old *v1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer")
	var errs field.ErrorList
	ingresses := s.Status.LoadBalancer.Ingress
	if s.Spec.Type != v1.ServiceTypeLoadBalancer && len(ingresses) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ingress"), "may only be used when `spec.type` is LoadBalancer"))
	}
	for i, ingress := range ingresses {
		at := path.Child("ingress").Index(i)
		if ingress.IP != "" {
			errs = append(errs, rule.IP(ingress.IP, at.Child("ip"))...)
		}
		if ingress.IPMode != nil {
			errs = append(errs, rule.Supported(*ingress.IPMode, at.Child("ipMode"), v1.LoadBalancerIPModeVIP, v1.LoadBalancerIPModeProxy)...)
			if ingress.IP == "" {
				errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
			}
		}
		if ingress.Hostname != "" {
			errs = append(errs, rule.DNSSubdomain(ingress.Hostname, at.Child("hostname"))...)
			if _, err := netip.ParseAddr(ingress.Hostname); err == nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), ingress.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
