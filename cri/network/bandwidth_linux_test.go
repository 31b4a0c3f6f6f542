package network

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestParseBandwidth(t *testing.T) {
	for _, test := range []struct{ ingress, egress, want string }{
		{"", "", ""},
		{"10M", "1k", ""},
		{"1P", "", ""},
		{"999", "", `annotation kubernetes.io/ingress-bandwidth="999": resource is unreasonably small (< 1kbit)`},
		{"", "2P", `annotation kubernetes.io/egress-bandwidth="2P": resource is unreasonably large (> 1Pbit)`},
		{"fast", "", `annotation kubernetes.io/ingress-bandwidth="fast": quantities must match`},
	} {
		annotations := map[string]string{}
		if test.ingress != "" {
			annotations[IngressBandwidth] = test.ingress
		}
		if test.egress != "" {
			annotations[EgressBandwidth] = test.egress
		}
		limits, err := ParseBandwidth(annotations)
		if test.want != "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v: %v lacks %q", annotations, err, test.want)
			}
			continue
		}
		if err != nil || (limits == nil) != (len(annotations) == 0) {
			t.Errorf("%v: %v %v", annotations, limits, err)
		}
	}
	limits, err := ParseBandwidth(map[string]string{IngressBandwidth: "100M", EgressBandwidth: "1M"})
	if err != nil || *limits != (Bandwidth{IngressRate: 100e6, IngressBurst: 10e6, EgressRate: 1e6, EgressBurst: 524288}) {
		t.Errorf("%+v %v", limits, err)
	}
}

// The limits are in the kernel's queues: of the pod's port, and of the link through which the pod's packets are led; both
// go with the pod.
func TestBandwidthIsInTheQueues(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	limits, err := ParseBandwidth(map[string]string{IngressBandwidth: "80M", EgressBandwidth: "8M"})
	if err != nil {
		t.Fatal(err)
	}
	pod := &Pod{ID: "limited", NetNS: namespace(t), Bandwidth: limits}
	if _, err := n.Add(t.Context(), pod); err != nil {
		if strings.Contains(err.Error(), "this kernel has no") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	for name, want := range map[string]netlink.Tbf{
		portName(pod.ID): {Rate: 10e6, Limit: 10e6/40 + 1e6},
		ifbName(pod.ID):  {Rate: 1e6, Limit: 1e6/40 + 100e3},
	} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		queues, err := netlink.QdiscList(link)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, queue := range queues {
			if bucket, ok := queue.(*netlink.Tbf); ok {
				found = true
				if bucket.Rate != want.Rate || bucket.Limit != want.Limit {
					t.Errorf("%s: %d bytes a second, limit %d; want %d and %d", name, bucket.Rate, bucket.Limit, want.Rate, want.Limit)
				}
			}
		}
		if !found {
			t.Errorf("%s has no bucket: %v", name, queues)
		}
	}
	port, err := netlink.LinkByName(portName(pod.ID))
	if err != nil {
		t.Fatal(err)
	}
	filters, err := netlink.FilterList(port, netlink.MakeHandle(0xffff, 0))
	if err != nil || len(filters) == 0 {
		t.Errorf("what the pod sends is not led anywhere: %v %v", filters, err)
	}
	if err := n.Check(t.Context(), pod); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := n.Del(t.Context(), &Pod{ID: pod.ID}); err != nil {
			t.Error(err)
		}
	}
	if links, _ := net.Interfaces(); len(links) != 2 { // lo and the bridge
		t.Errorf("links %v", links)
	}
}

// A pod that no DEL was called for, as after a crash, leaves no link behind when the node is cleaned.
func TestCleanUpTakesTheQueuesAlong(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24") // its end is the check: nothing is left
	pod := &Pod{ID: "crashed", NetNS: namespace(t), Bandwidth: &Bandwidth{EgressRate: 1e6, EgressBurst: 1e6}}
	if _, err := n.Add(t.Context(), pod); err != nil {
		if strings.Contains(err.Error(), "this kernel has no") {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	// The port goes with the pod's namespace, at a time of the kernel's choice.
	if err := deleteLink(portName(pod.ID)); err != nil {
		t.Fatal(err)
	}
}
