package endpoints

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	utilnet "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
	"hyperkube/controllers/servicepods"
)

// desiredSubsets groups the pods' addresses by the ports they serve: one subset
// for each set of ports, in an order that depends on nothing but the pods.
func desiredSubsets(service *corev1.Service, pods []*corev1.Pod) []corev1.EndpointSubset {
	subsets := map[string]*corev1.EndpointSubset{}
	for _, pod := range pods {
		if !servicepods.ShouldPodBeInEndpoints(pod, service.Spec.PublishNotReadyAddresses) {
			continue
		}
		address, ok := podToEndpointAddress(pod, service)
		if !ok {
			continue
		}
		ports := endpointPorts(service, pod)
		if len(ports) == 0 && (len(service.Spec.Ports) > 0 || !servicepods.IsHeadless(service)) {
			continue // no port of the Service leads to this pod
		}
		key := portsKey(ports)
		if subsets[key] == nil {
			subsets[key] = &corev1.EndpointSubset{Ports: ports}
		}
		subset := subsets[key]
		if service.Spec.PublishNotReadyAddresses || podutil.IsPodReady(pod) {
			subset.Addresses = append(subset.Addresses, address)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		}
	}
	var sorted []corev1.EndpointSubset
	for _, key := range slices.Sorted(maps.Keys(subsets)) {
		subset := subsets[key]
		slices.SortFunc(subset.Addresses, byIP)
		slices.SortFunc(subset.NotReadyAddresses, byIP)
		sorted = append(sorted, *subset)
	}
	return sorted
}

// podToEndpointAddress takes the pod's address of the Service's first family:
// Endpoints cannot hold two.
func podToEndpointAddress(pod *corev1.Pod, service *corev1.Service) (corev1.EndpointAddress, bool) {
	ip := pod.Status.PodIP
	if len(service.Spec.IPFamilies) > 0 {
		wantIPv6 := service.Spec.IPFamilies[0] == corev1.IPv6Protocol
		if utilnet.IsIPv6String(ip) != wantIPv6 {
			i := slices.IndexFunc(pod.Status.PodIPs, func(p corev1.PodIP) bool { return utilnet.IsIPv6String(p.IP) == wantIPv6 })
			if i < 0 {
				return corev1.EndpointAddress{}, false
			}
			ip = pod.Status.PodIPs[i].IP
		}
	}
	address := corev1.EndpointAddress{
		IP:        ip,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		address.NodeName = ptr.To(pod.Spec.NodeName)
	}
	if servicepods.ShouldSetHostname(pod, service) {
		address.Hostname = pod.Spec.Hostname
	}
	return address, true
}

func endpointPorts(service *corev1.Service, pod *corev1.Pod) []corev1.EndpointPort {
	var ports []corev1.EndpointPort
	for i := range service.Spec.Ports {
		port := &service.Spec.Ports[i]
		number, err := servicepods.FindPort(pod, port)
		if err != nil {
			continue // this pod has no port of that name; others may
		}
		ports = append(ports, corev1.EndpointPort{Name: port.Name, Port: number, Protocol: port.Protocol, AppProtocol: port.AppProtocol})
	}
	slices.SortFunc(ports, func(a, b corev1.EndpointPort) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port), strings.Compare(string(a.Protocol), string(b.Protocol)))
	})
	return ports
}

// truncateEndpoints cuts what is beyond maxCapacity, ready addresses last, and
// reports whether it did.
func truncateEndpoints(endpoints *corev1.Endpoints) bool {
	ready, total := 0, 0
	for _, subset := range endpoints.Subsets {
		ready += len(subset.Addresses)
		total += len(subset.Addresses) + len(subset.NotReadyAddresses)
	}
	if total <= maxCapacity {
		return false
	}
	readyLeft, notReadyLeft := min(ready, maxCapacity), max(0, maxCapacity-ready)
	var kept []corev1.EndpointSubset
	for _, subset := range endpoints.Subsets {
		n := min(len(subset.Addresses), readyLeft)
		m := min(len(subset.NotReadyAddresses), notReadyLeft)
		readyLeft, notReadyLeft = readyLeft-n, notReadyLeft-m
		subset.Addresses, subset.NotReadyAddresses = subset.Addresses[:n], subset.NotReadyAddresses[:m]
		if n+m > 0 {
			kept = append(kept, subset)
		}
	}
	endpoints.Subsets = kept
	return true
}

func byIP(a, b corev1.EndpointAddress) int {
	uid := func(e corev1.EndpointAddress) string { return string(e.TargetRef.UID) }
	return cmp.Or(strings.Compare(a.IP, b.IP), strings.Compare(uid(a), uid(b)))
}

// portsKey is the same for equal ports. (fmt.Sprint of the ports is not: it
// prints the address of AppProtocol.)
func portsKey(ports []corev1.EndpointPort) string {
	var key strings.Builder
	for _, p := range ports {
		fmt.Fprintf(&key, "%s %d %s %s\n", p.Name, p.Port, p.Protocol, ptr.Deref(p.AppProtocol, ""))
	}
	return key.String()
}
