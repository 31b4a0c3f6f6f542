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
	family v1.IPFamily
	ports  ServicePortMap
}

// NewServiceChangeTracker returns an empty tracker of the addresses of one family.
func NewServiceChangeTracker(family v1.IPFamily) *ServiceChangeTracker {
	return &ServiceChangeTracker{family: family, ports: ServicePortMap{}}
}

// Update takes a change: previous is nil for an addition, current for a deletion.
// It tells whether there is anything to sync.
func (t *ServiceChangeTracker) Update(previous, current *v1.Service) bool {
	before, after := t.serviceToServiceMap(previous), t.serviceToServiceMap(current)
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
// ExternalName, with no cluster IP of the family, or with another proxy named in a label.
func (t *ServiceChangeTracker) serviceToServiceMap(service *v1.Service) ServicePortMap {
	if service == nil || t.shouldSkipService(service) {
		return nil
	}
	ports := ServicePortMap{}
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		name := ServicePortName{types.NamespacedName{Namespace: service.Namespace, Name: service.Name}, port.Name, port.Protocol}
		ports[name] = t.newServicePort(service, port)
	}
	return ports
}

// LabelServiceProxyName on a Service says that another proxy serves it.
const LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"

func (t *ServiceChangeTracker) shouldSkipService(service *v1.Service) bool {
	_, other := service.Labels[LabelServiceProxyName]
	return other || service.Spec.Type == v1.ServiceTypeExternalName || t.clusterIP(service) == ""
}

// clusterIP returns the cluster IP of the family, or "" for headless Services and those of the other family only.
func (t *ServiceChangeTracker) clusterIP(service *v1.Service) string {
	candidates := service.Spec.ClusterIPs
	if len(candidates) == 0 {
		candidates = []string{service.Spec.ClusterIP}
	}
	if ours := addressesOf(t.family, candidates); len(ours) > 0 {
		return ours[0]
	}
	return ""
}

// addressesOf are those addresses that are of a family.
func addressesOf(family v1.IPFamily, addresses []string) []string {
	var ours []string
	for _, text := range addresses {
		if ip := net.ParseIP(text); ip != nil && (ip.To4() != nil) == (family == v1.IPv4Protocol) {
			ours = append(ours, text)
		}
	}
	return ours
}

func (t *ServiceChangeTracker) newServicePort(service *v1.Service, port *v1.ServicePort) *ServicePort {
	spec := &service.Spec
	info := &ServicePort{
		ClusterIP: t.clusterIP(service), Port: int(port.Port), Protocol: port.Protocol, NodePort: int(port.NodePort),
		ExternalIPs:         addressesOf(t.family, spec.ExternalIPs),
		ExternalPolicyLocal: spec.ExternalTrafficPolicy == v1.ServiceExternalTrafficPolicyLocal,
		InternalPolicyLocal: spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == v1.ServiceInternalTrafficPolicyLocal,
	}
	if spec.SessionAffinity == v1.ServiceAffinityClientIP {
		info.AffinitySeconds = int(v1.DefaultClientIPServiceAffinitySeconds)
		if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
			info.AffinitySeconds = int(*c.ClientIP.TimeoutSeconds)
		}
	}
	if spec.Type != v1.ServiceTypeLoadBalancer {
		return info
	}
	info.HealthCheckNodePort = int(spec.HealthCheckNodePort)
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode == v1.LoadBalancerIPModeVIP {
			info.LoadBalancerIPs = append(info.LoadBalancerIPs, addressesOf(t.family, []string{ingress.IP})...)
		}
	}
	for _, cidr := range spec.LoadBalancerSourceRanges {
		text := strings.TrimSpace(cidr)
		if ip, _, err := net.ParseCIDR(text); err == nil && len(addressesOf(t.family, []string{ip.String()})) > 0 {
			info.SourceRanges = append(info.SourceRanges, text)
		}
	}
	return info
}
