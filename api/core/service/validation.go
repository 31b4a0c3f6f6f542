package service

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/endpoints"
	"hyperkube/api/rule"
)

// Validate checks a new service.
func Validate(s *v1.Service) field.ErrorList { return validate(s, nil) }

// validate checks a service on its own; addresses that old has already were let in under fewer rules, and may stay.
func validate(s, old *v1.Service) field.ErrorList {
	path := field.NewPath("spec")
	if old == nil {
		old = &v1.Service{}
	}
	errs := validateHints(s)
	if len(s.Spec.Ports) == 0 && !IsHeadless(s) && s.Spec.Type != v1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	errs = append(errs, validateType(s, path)...)
	names := sets.New[string]()
	for i := range s.Spec.Ports {
		errs = append(errs, validatePort(&s.Spec.Ports[i], len(s.Spec.Ports) > 1, names, path.Child("ports").Index(i))...)
	}
	errs = append(errs, metav1validation.ValidateLabels(s.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateAffinity(&s.Spec, path)...)
	errs = append(errs, ValidateClusterIPs(s, old)...)
	for i, ip := range s.Spec.ExternalIPs {
		at := path.Child("externalIPs").Index(i)
		if wrong := rule.IP(ip, at, old.Spec.ExternalIPs...); len(wrong) > 0 {
			errs = append(errs, wrong...)
		} else {
			errs = append(errs, endpoints.ValidateIP(ip, at)...)
		}
	}
	errs = append(errs, rule.Supported(s.Spec.Type, path.Child("type"),
		v1.ServiceTypeExternalName, v1.ServiceTypeClusterIP, v1.ServiceTypeNodePort, v1.ServiceTypeLoadBalancer)...)
	errs = append(errs, validateNumbers(s, path.Child("ports"))...)
	errs = append(errs, validateLoadBalancer(s, old, path)...)
	return append(errs, validateTrafficPolicies(s, path)...)
}

// validateHints: the old and the new name of one annotation must not contradict each other.
func validateHints(s *v1.Service) field.ErrorList {
	hints, old := s.Annotations[v1.DeprecatedAnnotationTopologyAwareHints]
	mode, new := s.Annotations[v1.AnnotationTopologyMode]
	if !old || !new || hints == mode {
		return nil
	}
	at := field.NewPath("metadata", "annotations").Key(v1.AnnotationTopologyMode)
	return field.ErrorList{field.Invalid(at, mode, fmt.Sprintf("must match annotations[%s] when both are specified", v1.DeprecatedAnnotationTopologyAwareHints))}
}

// validateType checks what a type asks for, or rules out.
func validateType(s *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch s.Spec.Type {
	case v1.ServiceTypeLoadBalancer, v1.ServiceTypeNodePort:
		if IsHeadless(s) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), v1.ClusterIPNone, fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type)))
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

// validateNumbers: a number stands once for each protocol, inside and outside.
func validateNumbers(s *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	type key struct {
		protocol v1.Protocol
		number   int32
	}
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].NodePort != 0 && s.Spec.Type == v1.ServiceTypeClusterIP { // of an ExternalName it is left alone, as ever
			errs = append(errs, field.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
	}
	outside, inside := sets.New[key](), sets.New[key]()
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		k := key{port.Protocol, port.NodePort}
		if port.NodePort != 0 && outside.Has(k) {
			errs = append(errs, field.Duplicate(path.Index(i).Child("nodePort"), port.NodePort))
		}
		outside.Insert(k)
	}
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		k := key{port.Protocol, port.Port}
		if inside.Has(k) {
			errs = append(errs, field.Duplicate(path.Index(i), rule.Untagged(v1.ServicePort{Protocol: port.Protocol, Port: port.Port})))
		}
		inside.Insert(k)
	}
	return errs
}

func validatePort(port *v1.ServicePort, needName bool, names sets.Set[string], path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if needName && port.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else if port.Name != "" {
		errs = append(errs, rule.DNSLabel(port.Name, path.Child("name"))...)
		if names.Has(port.Name) {
			errs = append(errs, field.Duplicate(path.Child("name"), port.Name))
		}
		names.Insert(port.Name)
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
			errs = append(errs, field.Required(at.Child("timeoutSeconds"), fmt.Sprintf("when session affinity type is %s", v1.ServiceAffinityClientIP)))
		} else if s := *c.ClientIP.TimeoutSeconds; s <= 0 || s > maxAffinitySeconds {
			errs = append(errs, field.Invalid(at.Child("timeoutSeconds"), s, fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
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
	if port := s.Spec.HealthCheckNodePort; port != 0 { // 0: one will be given out, where one is needed
		at := path.Child("healthCheckNodePort")
		if !NeedsHealthCheck(s) {
			errs = append(errs, field.Invalid(at, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
		} else {
			errs = append(errs, rule.All(validation.IsValidPortNum(int(port)), at, port)...)
		}
	}
	at := path.Child("internalTrafficPolicy")
	if policy := s.Spec.InternalTrafficPolicy; policy != nil {
		errs = append(errs, rule.OneOf(*policy, at, v1.ServiceInternalTrafficPolicyCluster, v1.ServiceInternalTrafficPolicyLocal)...)
	} else if s.Spec.Type != v1.ServiceTypeExternalName {
		errs = append(errs, field.Required(at, ""))
	}
	if d := s.Spec.TrafficDistribution; d != nil && !slices.Contains(distributions, *d) {
		errs = append(errs, field.NotSupported(path.Child("trafficDistribution"), *d, distributions))
	}
	return errs
}

var distributions = []string{v1.ServiceTrafficDistributionPreferClose, v1.ServiceTrafficDistributionPreferSameZone, v1.ServiceTrafficDistributionPreferSameNode}

func validateLoadBalancer(s, old *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	balanced := s.Spec.Type == v1.ServiceTypeLoadBalancer
	errs = append(errs, validateSourceRanges(s, old, path)...)
	if s.Spec.AllocateLoadBalancerNodePorts != nil && !balanced {
		errs = append(errs, field.Forbidden(path.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		if balanced {
			errs = append(errs, rule.QualifiedName(*class, path.Child("loadBalancerClass"))...)
		} else {
			errs = append(errs, field.Forbidden(path.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
		}
	}
	return errs
}

// validateSourceRanges checks from where a load balancer lets clients in: the field or, without it, its annotation of old.
func validateSourceRanges(s, old *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at, ranges := path.Child("LoadBalancerSourceRanges"), s.Spec.LoadBalancerSourceRanges
	where := func(i int) *field.Path { return at.Index(i) }
	var before []string
	for _, cidr := range old.Spec.LoadBalancerSourceRanges {
		before = append(before, strings.TrimSpace(cidr))
	}
	if len(ranges) == 0 {
		value, annotated := s.Annotations[v1.AnnotationLoadBalancerSourceRangesKey]
		if !annotated {
			return nil
		}
		at = field.NewPath("metadata", "annotations").Key(v1.AnnotationLoadBalancerSourceRangesKey)
		where = func(int) *field.Path { return at }
		before = nil
		if was, ok := old.Annotations[v1.AnnotationLoadBalancerSourceRangesKey]; (!ok || was != value) && strings.TrimSpace(value) != "" {
			ranges = strings.Split(value, ",")
		}
	}
	if s.Spec.Type != v1.ServiceTypeLoadBalancer {
		errs = append(errs, field.Forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
	}
	for i, cidr := range ranges {
		errs = append(errs, validation.IsValidCIDRForLegacyField(where(i), strings.TrimSpace(cidr), true, before)...)
	}
	return errs
}

// ValidateUpdate checks a changed service: an address, once given, stays for as
// long as the type has one; clients have it in their caches.
func ValidateUpdate(s, old *v1.Service) field.ErrorList {
	path := field.NewPath("spec")
	errs := append(validateChangedIPs(s, old, path), validateChangedFamilies(s, old, path)...)
	if s.Spec.Type == v1.ServiceTypeLoadBalancer && old.Spec.Type == v1.ServiceTypeLoadBalancer && !ptr.Equal(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(path.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
	}
	if NeedsHealthCheck(old) && NeedsHealthCheck(s) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(path.Child("healthCheckNodePort"), "field is immutable"))
	}
	return append(errs, validate(s, old)...)
}

// ValidateStatusUpdate checks what a load balancer's controller says.
func ValidateStatusUpdate(s, old *v1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer")
	var errs field.ErrorList
	ingresses := s.Status.LoadBalancer.Ingress
	if s.Spec.Type != v1.ServiceTypeLoadBalancer && len(ingresses) > 0 {
		return append(errs, field.Forbidden(path.Child("ingress"), "may only be used when `spec.type` is 'LoadBalancer'"))
	}
	var before []string
	for _, ingress := range old.Status.LoadBalancer.Ingress {
		before = append(before, ingress.IP)
	}
	for i, ingress := range ingresses {
		at := path.Child("ingress").Index(i)
		if ingress.IP != "" {
			errs = append(errs, rule.IP(ingress.IP, at.Child("ip"), before...)...)
		}
		switch mode := ingress.IPMode; {
		case mode == nil && ingress.IP != "":
			errs = append(errs, field.Required(at.Child("ipMode"), "must be specified when `ip` is set"))
		case mode != nil && ingress.IP == "":
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		case mode != nil:
			errs = append(errs, rule.OneOf(*mode, at.Child("ipMode"), v1.LoadBalancerIPModeVIP, v1.LoadBalancerIPModeProxy)...)
		}
		if ingress.Hostname != "" {
			errs = append(errs, rule.DNSSubdomain(ingress.Hostname, at.Child("hostname"))...)
			if netutils.ParseIPSloppy(ingress.Hostname) != nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), ingress.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
