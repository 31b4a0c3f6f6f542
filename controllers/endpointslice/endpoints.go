package endpointslice

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
	"hyperkube/controllers/servicepods"
)

// podToEndpoint is what the Service shows of the pod, for one address family. A
// pod without an address of that family gives false.
func podToEndpoint(pod *corev1.Pod, service *corev1.Service, family discovery.AddressType, zone string) (discovery.Endpoint, bool) {
	addresses := addressesOf(pod, family)
	if len(addresses) == 0 {
		return discovery.Endpoint{}, false
	}
	serving := podutil.IsPodReady(pod)
	terminating := pod.DeletionTimestamp != nil
	// For compatibility with readers that know only one condition, ready is false
	// for a pod that is going; who wants to drain it looks at serving.
	ready := service.Spec.PublishNotReadyAddresses || serving && !terminating
	endpoint := discovery.Endpoint{
		Addresses: addresses,
		Conditions: discovery.EndpointConditions{
			Ready: &ready, Serving: &serving, Terminating: &terminating,
		},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		endpoint.NodeName = ptr.To(pod.Spec.NodeName)
	}
	if zone != "" {
		endpoint.Zone = ptr.To(zone)
	}
	if servicepods.ShouldSetHostname(pod, service) {
		endpoint.Hostname = ptr.To(pod.Spec.Hostname)
	}
	return endpoint, true
}

func addressesOf(pod *corev1.Pod, family discovery.AddressType) []string {
	ips := pod.Status.PodIPs
	if len(ips) == 0 && pod.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: pod.Status.PodIP}}
	}
	var addresses []string
	for _, ip := range ips {
		if addr, err := netip.ParseAddr(ip.IP); err == nil && addr.Is6() == (family == discovery.AddressTypeIPv6) {
			addresses = append(addresses, ip.IP)
		}
	}
	return addresses
}

// getEndpointPorts are the ports of the pod that the Service's ports lead to. A
// named port that the pod lacks is left out, for this pod only.
func getEndpointPorts(service *corev1.Service, pod *corev1.Pod) []discovery.EndpointPort {
	ports := []discovery.EndpointPort{}
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		number, err := servicepods.FindPort(pod, port)
		if err != nil {
			continue
		}
		ports = append(ports, discovery.EndpointPort{
			Name: ptr.To(port.Name), Port: ptr.To(number), Protocol: ptr.To(port.Protocol), AppProtocol: port.AppProtocol,
		})
	}
	return ports
}

// portsKey is the same for equal sets of ports.
func portsKey(ports []discovery.EndpointPort) string {
	keys := make([]string, len(ports))
	for i, p := range ports {
		keys[i] = strings.Join([]string{
			ptr.Deref(p.Name, ""), string(ptr.Deref(p.Protocol, "")), portNumber(p.Port), ptr.Deref(p.AppProtocol, ""),
		}, "\x00")
	}
	slices.Sort(keys)
	return strings.Join(keys, "\x01")
}

func portNumber(port *int32) string {
	if port == nil {
		return ""
	}
	return strconv.Itoa(int(*port))
}

// endpointKey identifies an endpoint across versions of its pod.
func endpointKey(e *discovery.Endpoint) string {
	uid := ""
	if e.TargetRef != nil {
		uid = string(e.TargetRef.UID)
	}
	return uid + "\x00" + strings.Join(e.Addresses, ",")
}

// reserved are the labels that are not taken over from the Service.
var reserved = []string{discovery.LabelServiceName, discovery.LabelManagedBy, corev1.IsHeadlessService}

// sliceLabels are the labels of all slices of the Service.
func sliceLabels(service *corev1.Service) map[string]string {
	result := map[string]string{discovery.LabelServiceName: service.Name, discovery.LabelManagedBy: controllerName}
	if servicepods.IsHeadless(service) {
		result[corev1.IsHeadlessService] = ""
	}
	maps.Copy(result, withoutReserved(service.Labels))
	return result
}

func withoutReserved(set map[string]string) map[string]string {
	set = maps.Clone(set)
	maps.DeleteFunc(set, func(key, _ string) bool { return slices.Contains(reserved, key) })
	return set
}

// newEndpointSlice is an empty slice of the Service.
func newEndpointSlice(service *corev1.Service, family discovery.AddressType, ports []discovery.EndpointPort) *discovery.EndpointSlice {
	return &discovery.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, GenerateName: namePrefix(service.Name), Labels: sliceLabels(service),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(service, corev1.SchemeGroupVersion.WithKind("Service"))},
		},
		AddressType: family, Ports: ports, Endpoints: []discovery.Endpoint{},
	}
}

// namePrefix is what the names of slices begin with: a dash behind, if that still makes a name.
func namePrefix(service string) string {
	if prefix := service + "-"; len(validation.IsDNS1123Subdomain(prefix+"x")) == 0 {
		return prefix
	}
	return service
}
