package tracker

import (
	"fmt"
	"net"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// ServicePortName identifies one port of one Service. Its String stands in every
// rule's comment and is what chain names are hashed from.
type ServicePortName struct {
	types.NamespacedName
	Port     string
	Protocol v1.Protocol
}

// String returns "namespace/name:port", without the colon for an unnamed port.
func (n ServicePortName) String() string {
	if n.Port == "" {
		return n.NamespacedName.String()
	}
	return n.NamespacedName.String() + ":" + n.Port
}

// ServicePort is what the rules need to know of one port of a Service.
type ServicePort struct {
	ClusterIP string
	Port      int
	Protocol  v1.Protocol
	// NodePort is 0 when there is none.
	NodePort int
	// ExternalIPs are spec.externalIPs; LoadBalancerIPs, status.loadBalancer.ingress
	// (those with ipMode VIP: traffic to them must be handled here).
	ExternalIPs     []string
	LoadBalancerIPs []string
	// SourceRanges restrict who may use the load balancer IPs; empty means everybody.
	SourceRanges []string
	// AffinitySeconds keeps a client at its endpoint for so long; 0 means no affinity.
	AffinitySeconds int
	// InternalPolicyLocal, ExternalPolicyLocal: use only endpoints on this node.
	InternalPolicyLocal bool
	ExternalPolicyLocal bool
	// HealthCheckNodePort tells load balancers which nodes have endpoints; 0: none.
	HealthCheckNodePort int
}

// ExternallyAccessible tells whether anything but the cluster IP leads to the port.
func (s *ServicePort) ExternallyAccessible() bool {
	return s.NodePort != 0 || len(s.ExternalIPs) != 0 || len(s.LoadBalancerIPs) != 0
}

// UsesClusterEndpoints tells whether some traffic may go to any node's endpoints.
func (s *ServicePort) UsesClusterEndpoints() bool {
	// With external policy Local, pods and the node itself still go anywhere.
	return !s.InternalPolicyLocal || s.ExternallyAccessible()
}

// UsesLocalEndpoints tells whether some traffic may go to this node's endpoints only.
func (s *ServicePort) UsesLocalEndpoints() bool {
	return s.InternalPolicyLocal || s.ExternalPolicyLocal && s.ExternallyAccessible()
}

// ServicePortMap is every port of every Service that has a cluster IP.
type ServicePortMap map[ServicePortName]*ServicePort

// ServiceChangeTracker collects changes of Services until the next sync takes them.
// It belongs to one goroutine's lock, the proxy's.
type ServiceChangeTracker struct {
	ports ServicePortMap
}

// NewServiceChangeTracker returns an empty tracker.
func NewServiceChangeTracker() *ServiceChangeTracker {
	return &ServiceChangeTracker{ports: ServicePortMap{}}
}

// Update takes a change: previous is nil for an addition, current for a deletion.
// It tells whether there is anything to sync.
func (t *ServiceChangeTracker) Update(previous, current *v1.Service) bool {
	before, after := serviceToServiceMap(previous), serviceToServiceMap(current)
	if equalPorts(before, after) {
		return false
	}
	for name := range before {
		delete(t.ports, name)
	}
	for name, port := range after {
		t.ports[name] = port
	}
	return true
}

// Ports returns the ports as of now. The map may be kept: it is a copy, and
// ServicePorts never change.
func (t *ServiceChangeTracker) Ports() ServicePortMap {
	ports := make(ServicePortMap, len(t.ports))
	for name, port := range t.ports {
		ports[name] = port
	}
	return ports
}

func equalPorts(a, b ServicePortMap) bool {
	if len(a) != len(b) {
		return false
	}
	for name, port := range a {
		other, ok := b[name]
		if !ok || fmt.Sprintf("%+v", *port) != fmt.Sprintf("%+v", *other) {
			return false
		}
	}
	return true
}

// serviceToServiceMap is empty for Services the proxy has no part in: headless,
// ExternalName, or with another proxy named in a label.
func serviceToServiceMap(service *v1.Service) ServicePortMap {
	if service == nil || shouldSkipService(service) {
		return nil
	}
	ports := ServicePortMap{}
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		name := ServicePortName{types.NamespacedName{Namespace: service.Namespace, Name: service.Name}, port.Name, port.Protocol}
		ports[name] = newServicePort(service, port)
	}
	return ports
}

// LabelServiceProxyName on a Service says that another proxy serves it.
const LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"

func shouldSkipService(service *v1.Service) bool {
	_, other := service.Labels[LabelServiceProxyName]
	return other || service.Spec.Type == v1.ServiceTypeExternalName || clusterIPv4(service) == ""
}

// clusterIPv4 returns the IPv4 cluster IP, or "" for headless and IPv6-only Services.
func clusterIPv4(service *v1.Service) string {
	candidates := service.Spec.ClusterIPs
	if len(candidates) == 0 {
		candidates = []string{service.Spec.ClusterIP}
	}
	for _, ip := range candidates {
		if isIPv4(ip) {
			return ip
		}
	}
	return ""
}

func isIPv4(s string) bool {
	ip := net.ParseIP(s)
	return ip != nil && ip.To4() != nil
}

func newServicePort(service *v1.Service, port *v1.ServicePort) *ServicePort {
	spec := &service.Spec
	info := &ServicePort{
		ClusterIP: clusterIPv4(service), Port: int(port.Port), Protocol: port.Protocol, NodePort: int(port.NodePort),
		ExternalPolicyLocal: spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal,
		InternalPolicyLocal: spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == v1.ServiceInternalTrafficPolicyLocal,
	}
	if spec.SessionAffinity == v1.ServiceAffinityClientIP {
		info.AffinitySeconds = int(v1.DefaultClientIPServiceAffinitySeconds)
		if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			info.AffinitySeconds = int(*c.ClientIP.TimeoutSeconds)
		}
	}
	for _, ip := range spec.ExternalIPs {
		if isIPv4(ip) {
			info.ExternalIPs = append(info.ExternalIPs, ip)
		}
	}
	if spec.Type != v1.ServiceTypeLoadBalancer {
		return info
	}
	info.HealthCheckNodePort = int(spec.HealthCheckNodePort)
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if isIPv4(ingress.IP) && (ingress.IPMode == nil || *ingress.IPMode == v1.LoadBalancerIPModeVIP) {
			info.LoadBalancerIPs = append(info.LoadBalancerIPs, ingress.IP)
		}
	}
	for _, cidr := range spec.LoadBalancerSourceRanges {
		if ip, _, err := net.ParseCIDR(strings.TrimSpace(cidr)); err == nil && ip.To4() != nil {
			info.SourceRanges = append(info.SourceRanges, strings.TrimSpace(cidr))
		}
	}
	return info
}
