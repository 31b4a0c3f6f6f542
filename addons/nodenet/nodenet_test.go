package nodenet

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, address, podCIDR string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: podCIDR},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}}}
}

// Each node has a way to the pods of every other: to the machine's over the bridge, whatever address the machine tells;
// none to its own, to a node without pods yet, or to one that is elsewhere (a simulated one).
func TestWantedRoutes(t *testing.T) {
	network := Network{ID: "test", Ranges: []Range{{Nodes: netip.MustParsePrefix("172.30.254.0/24")}}}
	nodes := []*corev1.Node{
		node("host", "192.0.2.10", "10.244.0.0/24"), node("node-2", "172.30.254.2", "10.244.1.0/24"), node("node-3", "172.30.254.3", "10.244.2.0/24"),
		node("node-4", "172.30.254.4", ""), node("fake-1", "192.0.2.10", "100.64.0.0/24"),
	}
	for in, want := range map[string]string{
		"host":   "[10.244.1.0/24 via 172.30.254.2 src 192.0.2.10 10.244.2.0/24 via 172.30.254.3 src 192.0.2.10 172.30.254.0/24 src 192.0.2.10]",
		"node-2": "[10.244.0.0/24 via 172.30.254.1 10.244.2.0/24 via 172.30.254.3]",
		"node-4": "[10.244.0.0/24 via 172.30.254.1 10.244.1.0/24 via 172.30.254.2 10.244.2.0/24 via 172.30.254.3]",
	} {
		if got := fmt.Sprint(wantedRoutes(network, nodes, "host", in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// Of two families each has its own ways; the machine speaks from the address that its Node tells, and from the bridge's
// where it tells none.
func TestWantedRoutesOfTwoFamilies(t *testing.T) {
	network := Network{ID: "test", Ranges: []Range{{Nodes: netip.MustParsePrefix("172.30.254.0/24")}, {Nodes: netip.MustParsePrefix("fd00:254::/64")}}}
	host, second := node("host", "192.0.2.10", "10.244.0.0/24"), node("node-2", "172.30.254.2", "10.244.1.0/24")
	host.Spec.PodCIDRs, second.Spec.PodCIDRs = []string{"10.244.0.0/24", "fd00:10::/64"}, []string{"10.244.1.0/24", "fd00:10:0:1::/64"}
	second.Status.Addresses = append(second.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00:254::2"})
	nodes := []*corev1.Node{host, second}
	four := "10.244.1.0/24 via 172.30.254.2 src 192.0.2.10 172.30.254.0/24 src 192.0.2.10"
	if got, want := fmt.Sprint(wantedRoutes(network, nodes, "host", "host")), "["+four+" fd00:10:0:1::/64 via fd00:254::2 src fd00:254::1 fd00:254::/64 src fd00:254::1]"; got != want {
		t.Errorf("the machine, without an address: %s, want %s", got, want)
	}
	host.Status.Addresses = append(host.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "2001:db8::10"})
	if got, want := fmt.Sprint(wantedRoutes(network, nodes, "host", "host")), "["+four+" fd00:10:0:1::/64 via fd00:254::2 src 2001:db8::10 fd00:254::/64 src 2001:db8::10]"; got != want {
		t.Errorf("the machine: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(wantedRoutes(network, nodes, "host", "node-2")), "[10.244.0.0/24 via 172.30.254.1 fd00:10::/64 via fd00:254::1]"; got != want {
		t.Errorf("node-2: %s, want %s", got, want)
	}
}

// Names fit the kernel's 15 letters, and two clusters share none.
func TestNamesOfNetworks(t *testing.T) {
	one, other := Network{ID: "hyperkube", Ranges: []Range{{Nodes: netip.MustParsePrefix("172.30.254.0/24")}}}, Network{ID: "hyperkube-a1b2c3"}
	if name := one.link(254); len(name) > 15 || one.Bridge() == other.Bridge() || one.Namespace("node-2") == other.Namespace("node-2") {
		t.Errorf("%s, %s and %s", name, one.Bridge(), other.Bridge())
	}
	if got := one.Room(); got != 254 || one.Ranges[0].Address(got).String() != "172.30.254.254" {
		t.Errorf("%d nodes, the last at %s", got, one.Ranges[0].Address(got))
	}
}
