// Package service is what is true of a Service: its defaults and validation.
// Addresses and node ports are given out by the apiserver's room of services;
// here is only what can be said of one Service alone.
//
// In Kubernetes: SetDefaults_Service, ValidateService* of
// pkg/apis/core/validation, pkg/api/v1/service.
package service

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// SetDefaults fills what the writer of a service left out.
func SetDefaults(s *v1.Service) {
	spec := &s.Spec
	if spec.Type == "" {
		spec.Type = v1.ServiceTypeClusterIP
	}
	setDefaultsAffinity(spec)
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.Protocol == "" {
			port.Protocol = v1.ProtocolTCP
		}
		if port.TargetPort == intstr.FromInt32(0) || port.TargetPort == intstr.FromString("") {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
	}
	if ExternallyAccessible(s) && spec.ExternalTrafficPolicy == "" {
		spec.ExternalTrafficPolicy = v1.ServiceExternalTrafficPolicyCluster
	}
	if spec.InternalTrafficPolicy == nil && spec.Type != v1.ServiceTypeExternalName {
		spec.InternalTrafficPolicy = ptr.To(v1.ServiceInternalTrafficPolicyCluster)
	}
	if spec.Type == v1.ServiceTypeLoadBalancer {
		if spec.AllocateLoadBalancerNodePorts == nil {
			spec.AllocateLoadBalancerNodePorts = ptr.To(true)
		}
		for i := range s.Status.LoadBalancer.Ingress {
			if ingress := &s.Status.LoadBalancer.Ingress[i]; ingress.IP != "" && ingress.IPMode == nil {
				ingress.IPMode = ptr.To(v1.LoadBalancerIPModeVIP)
			}
		}
	}
}

func setDefaultsAffinity(spec *v1.ServiceSpec) {
	if spec.SessionAffinity == "" {
		spec.SessionAffinity = v1.ServiceAffinityNone
	}
	if spec.SessionAffinity == v1.ServiceAffinityNone {
		spec.SessionAffinityConfig = nil
		return
	}
	if c := spec.SessionAffinityConfig; spec.SessionAffinity == v1.ServiceAffinityClientIP && (c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil) {
		spec.SessionAffinityConfig = &v1.SessionAffinityConfig{
			ClientIP: &v1.ClientIPConfig{TimeoutSeconds: ptr.To(v1.DefaultClientIPServiceAffinitySeconds)},
		}
	}
}

// ExternallyAccessible reports whether traffic from outside the cluster can be meant for the service.
func ExternallyAccessible(s *v1.Service) bool {
	return s.Spec.Type == v1.ServiceTypeLoadBalancer || s.Spec.Type == v1.ServiceTypeNodePort ||
		(s.Spec.Type == v1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0)
}

// NeedsHealthCheck reports whether nodes must tell a load balancer if they have endpoints.
func NeedsHealthCheck(s *v1.Service) bool {
	return s.Spec.Type == v1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal
}

// NeedsClusterIP reports whether the type has a cluster address at all (None is one, too).
func NeedsClusterIP(s *v1.Service) bool { return s.Spec.Type != v1.ServiceTypeExternalName }

// NeedsNodePort reports whether the ports of the service get ports of the nodes.
func NeedsNodePort(s *v1.Service) bool {
	return s.Spec.Type == v1.ServiceTypeNodePort ||
		(s.Spec.Type == v1.ServiceTypeLoadBalancer && (s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts))
}

// MayHaveNodePort reports whether the type allows node ports, asked for or given out.
func MayHaveNodePort(s *v1.Service) bool {
	return s.Spec.Type == v1.ServiceTypeNodePort || s.Spec.Type == v1.ServiceTypeLoadBalancer
}

// IsHeadless reports whether the service is a name without an address.
func IsHeadless(s *v1.Service) bool {
	return s.Spec.ClusterIP == v1.ClusterIPNone || (len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == v1.ClusterIPNone)
}
