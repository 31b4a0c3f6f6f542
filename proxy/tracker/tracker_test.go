package tracker

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func makeService(change func(*v1.Service)) *v1.Service {
	s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"}, Spec: v1.ServiceSpec{
		ClusterIP: "10.96.0.9", ClusterIPs: []string{"10.96.0.9"}, Ports: []v1.ServicePort{{Name: "http", Port: 80, Protocol: v1.ProtocolTCP}}}}
	if change != nil {
		change(s)
	}
	return s
}

func TestServicesTheProxyHasNoPartIn(t *testing.T) {
	for name, change := range map[string]func(*v1.Service){
		"headless":      func(s *v1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} },
		"external name": func(s *v1.Service) { s.Spec.Type = v1.ServiceTypeExternalName },
		"IPv6 only":     func(s *v1.Service) { s.Spec.ClusterIPs = []string{"fd00::1"} },
		"another proxy": func(s *v1.Service) { s.Labels = map[string]string{LabelServiceProxyName: "x"} },
	} {
		tracker := NewServiceChangeTracker(v1.IPv4Protocol)
		if tracker.Update(nil, makeService(change)) || len(tracker.Ports()) != 0 {
			t.Errorf("%s: tracked", name)
		}
	}
}

func TestOnlyChangesThatMatterCauseASync(t *testing.T) {
	tracker := NewServiceChangeTracker(v1.IPv4Protocol)
	first := makeService(nil)
	if !tracker.Update(nil, first) {
		t.Error("an addition does not matter")
	}
	annotated := makeService(func(s *v1.Service) { s.Annotations = map[string]string{"a": "b"} })
	if tracker.Update(first, annotated) {
		t.Error("an annotation matters")
	}
	renamed := makeService(func(s *v1.Service) { s.Spec.Ports[0].Name = "web" })
	if !tracker.Update(annotated, renamed) || len(tracker.Ports()) != 1 {
		t.Errorf("renaming a port: %v", tracker.Ports())
	}
	if !tracker.Update(renamed, nil) || len(tracker.Ports()) != 0 {
		t.Errorf("after the deletion: %v", tracker.Ports())
	}
}

func TestServicePort(t *testing.T) {
	local, proxied := v1.ServiceInternalTrafficPolicyLocal, v1.LoadBalancerIPModeProxy
	tracker := NewServiceChangeTracker(v1.IPv4Protocol)
	tracker.Update(nil, makeService(func(s *v1.Service) {
		s.Spec.Type, s.Spec.Ports[0].NodePort, s.Spec.HealthCheckNodePort = v1.ServiceTypeLoadBalancer, 30080, 31000
		s.Spec.ExternalIPs = []string{"1.2.3.4", "fd00::1"}
		s.Spec.SessionAffinity = v1.ServiceAffinityClientIP
		s.Spec.ExternalTrafficPolicy, s.Spec.InternalTrafficPolicy = v1.ServiceExternalTrafficPolicyLocal, &local
		s.Spec.LoadBalancerSourceRanges = []string{" 203.0.113.0/24", "fd00::/8"}
		s.Status.LoadBalancer.Ingress = []v1.LoadBalancerIngress{{IP: "5.6.7.8"}, {IP: "5.6.7.9", IPMode: &proxied}, {Hostname: "x"}}
	}))
	for name, port := range tracker.Ports() {
		if name.String() != "ns/web:http" || port.NodePort != 30080 || port.HealthCheckNodePort != 31000 || port.AffinitySeconds != 10800 ||
			!port.ExternalPolicyLocal || !port.InternalPolicyLocal || strings.Join(port.ExternalIPs, ",") != "1.2.3.4" ||
			strings.Join(port.LoadBalancerIPs, ",") != "5.6.7.8" || strings.Join(port.SourceRanges, ",") != "203.0.113.0/24" {
			t.Errorf("%v: %+v", name, port)
		}
	}
}

func makeSlice(name string, endpoints ...discovery.Endpoint) *discovery.EndpointSlice {
	return &discovery.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discovery.LabelServiceName: "web"}},
		AddressType: discovery.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discovery.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(v1.ProtocolTCP)}},
	}
}

func endpoint(ip string, ready bool) discovery.Endpoint {
	return discovery.Endpoint{Addresses: []string{ip}, NodeName: new("here"), Conditions: discovery.EndpointConditions{Ready: &ready}}
}

// addresses lists the endpoints of ns/web:http.
func addresses(tracker *EndpointsChangeTracker) string {
	var list []string
	for _, endpoints := range tracker.Endpoints() {
		for _, e := range endpoints {
			list = append(list, map[bool]string{true: "+", false: "-"}[e.Ready]+e.String())
		}
	}
	return strings.Join(list, " ")
}

func TestSlicesAreUnited(t *testing.T) {
	tracker := NewEndpointsChangeTracker("here", v1.IPv4Protocol)
	tracker.EndpointSliceUpdate(makeSlice("b", endpoint("10.0.0.2", true), endpoint("10.0.0.1", false)), false)
	// 10.0.0.1 moves: for a moment both slices have it.
	tracker.EndpointSliceUpdate(makeSlice("a", endpoint("10.0.0.1", true)), false)
	if got := addresses(tracker); got != "+10.0.0.1:8080 +10.0.0.2:8080" {
		t.Errorf("united: %s", got)
	}
	if tracker.EndpointSliceUpdate(makeSlice("a", endpoint("10.0.0.1", true)), false) {
		t.Error("the same again causes a sync")
	}
	if !tracker.EndpointSliceUpdate(makeSlice("a", endpoint("10.0.0.1", false)), false) || !tracker.EndpointSliceUpdate(makeSlice("a", endpoint("10.0.0.1", true)), false) {
		t.Error("an endpoint that is ready no more, or again, causes no sync")
	}
	if !tracker.EndpointSliceUpdate(makeSlice("a"), true) {
		t.Error("a deletion causes no sync")
	}
	if got := addresses(tracker); got != "-10.0.0.1:8080 +10.0.0.2:8080" {
		t.Errorf("after the deletion: %s", got)
	}
	ipv6 := makeSlice("c", endpoint("fd00::1", true))
	ipv6.AddressType = discovery.AddressTypeIPv6
	if tracker.EndpointSliceUpdate(ipv6, false) {
		t.Error("an IPv6 slice causes a sync")
	}
}

func TestCategorizeEndpoints(t *testing.T) {
	ready := func(ip string, local bool) Endpoint {
		return Endpoint{IP: ip, Ready: true, Serving: true, IsLocal: local}
	}
	leaving := func(ip string, local bool) Endpoint {
		return Endpoint{IP: ip, Serving: true, Terminating: true, IsLocal: local}
	}
	hinted := func(ip string, zones ...string) Endpoint { return Endpoint{IP: ip, Ready: true, ZoneHints: zones} }
	internal, external := ServicePort{InternalPolicyLocal: true}, ServicePort{ExternalPolicyLocal: true, NodePort: 1}
	for name, test := range map[string]struct {
		port           ServicePort
		endpoints      []Endpoint
		cluster, local string
		hasAny         bool
	}{
		"ready ones":                      {ServicePort{}, []Endpoint{ready("a", true), leaving("b", false), {IP: "c"}}, "a", "", true},
		"none ready: those that leave":    {ServicePort{}, []Endpoint{leaving("b", false), {IP: "c"}}, "b", "", true},
		"none at all":                     {ServicePort{}, []Endpoint{{IP: "c"}}, "", "", false},
		"internal policy Local":           {internal, []Endpoint{ready("a", true), ready("b", false)}, "", "a", true},
		"internal Local, none here":       {internal, []Endpoint{ready("b", false)}, "", "", true},
		"external Local keeps both":       {external, []Endpoint{ready("a", true), ready("b", false)}, "a b", "a", true},
		"here only one that leaves":       {external, []Endpoint{leaving("a", true), ready("b", false)}, "b", "a", true},
		"hints for this zone":             {ServicePort{}, []Endpoint{hinted("a", "z1"), hinted("b", "z2")}, "a", "", true},
		"hints for other zones only":      {ServicePort{}, []Endpoint{hinted("a", "z2"), hinted("b", "z2")}, "a b", "", true},
		"one without a hint: none counts": {ServicePort{}, []Endpoint{hinted("a", "z1"), ready("b", false)}, "a b", "", true},
	} {
		join := func(endpoints []Endpoint) string {
			var ips []string
			for _, e := range endpoints {
				ips = append(ips, e.IP)
			}
			return strings.Join(ips, " ")
		}
		cluster, local, hasAny := CategorizeEndpoints(test.endpoints, &test.port, "z1")
		if join(cluster) != test.cluster || join(local) != test.local || hasAny != test.hasAny {
			t.Errorf("%s: cluster %q, local %q, any %v", name, join(cluster), join(local), hasAny)
		}
	}
}

// Each family's tracker takes its own addresses of a Service of two, and none of a Service of the other.
func TestFamilies(t *testing.T) {
	both := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "both"}, Spec: v1.ServiceSpec{
		Type: v1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5", "fd00::5"}, ExternalIPs: []string{"192.0.2.5", "2001:db8::5"},
		LoadBalancerSourceRanges: []string{"198.51.100.0/24", "2001:db8:1::/48"}, Ports: []v1.ServicePort{{Port: 80, Protocol: v1.ProtocolTCP}}},
		Status: v1.ServiceStatus{LoadBalancer: v1.LoadBalancerStatus{Ingress: []v1.LoadBalancerIngress{{IP: "192.0.2.6"}, {IP: "2001:db8::6"}}}}}
	four := both.DeepCopy()
	four.Name, four.Spec.ClusterIPs = "four", []string{"10.96.0.6"}
	slice := func(kind discovery.AddressType, address string) *discovery.EndpointSlice {
		port, protocol := int32(8080), v1.ProtocolTCP
		return &discovery.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: string(kind), Labels: map[string]string{discovery.LabelServiceName: "both"}},
			AddressType: kind, Endpoints: []discovery.Endpoint{{Addresses: []string{address}}}, Ports: []discovery.EndpointPort{{Port: &port, Protocol: &protocol}}}
	}
	for family, want := range map[v1.IPFamily]string{
		v1.IPv4Protocol: "10.96.0.5 [192.0.2.5] [192.0.2.6] [198.51.100.0/24] 10.244.0.2:8080",
		v1.IPv6Protocol: "fd00::5 [2001:db8::5] [2001:db8::6] [2001:db8:1::/48] [fd00::2]:8080",
	} {
		services, endpoints := NewServiceChangeTracker(family), NewEndpointsChangeTracker("here", family)
		if services.Update(nil, four) != (family == v1.IPv4Protocol) {
			t.Errorf("%s: a Service of IPv4 only", family)
		}
		services.Update(four, nil)
		services.Update(nil, both)
		for _, s := range []*discovery.EndpointSlice{slice(discovery.AddressTypeIPv4, "10.244.0.2"), slice(discovery.AddressTypeIPv6, "fd00::2")} {
			endpoints.EndpointSliceUpdate(s, false)
		}
		got := ""
		for name, p := range services.Ports() {
			got += fmt.Sprint(p.ClusterIP, " ", p.ExternalIPs, " ", p.LoadBalancerIPs, " ", p.SourceRanges, " ", endpoints.Endpoints()[name][0])
		}
		if got != want {
			t.Errorf("%s: %s, want %s", family, got, want)
		}
	}
}
