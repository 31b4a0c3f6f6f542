package service

import (
	"net/netip"
	"testing"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"hyperkube/apiserver/registry"
)

// Each number is given out once; the lower band and reserved numbers last, or never (KEP-3070).
func TestAllocator(t *testing.T) {
	a := newAllocator(32, ipBand(32), 0, 20)
	if a.band != 16 {
		t.Fatalf("the band is %d", a.band)
	}
	if !a.take(20) || a.take(20) {
		t.Error("a reserved number may be asked for, once")
	}
	a.release(20)
	seen := map[int]bool{}
	for i := range 30 {
		n, err := a.next()
		if err != nil || seen[n] || n == 0 || n == 20 {
			t.Fatalf("number %d: %d, %v", i, n, err)
		}
		if upper := n >= 16; upper != (i < 15) {
			t.Errorf("number %d was %d: the upper band goes first", i, n)
		}
		seen[n] = true
	}
	if n, err := a.next(); err == nil {
		t.Errorf("a full range gave out %d", n)
	}
	a.release(25)
	if n, err := a.next(); n != 25 || err != nil {
		t.Errorf("after a release: %d, %v", n, err)
	}
}

// The bands are KEP-3070's and KEP-3668's: of the default ranges, 256 addresses and 86 ports.
func TestBands(t *testing.T) {
	for _, test := range []struct{ size, ips, ports int }{{15, 0, 0}, {16, 16, 16}, {254, 16, 16}, {1022, 63, 31}, {2768, 173, 86}, {65534, 256, 128}} {
		if ips, ports := ipBand(test.size), portBand(test.size); ips != test.ips || ports != test.ports {
			t.Errorf("of %d: %d addresses and %d ports, want %d and %d", test.size, ips, ports, test.ips, test.ports)
		}
	}
}

func TestOffsets(t *testing.T) {
	a := newAllocation(&registry.Env{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), ClusterDNSAddress: netip.MustParseAddr("10.96.0.10"),
		NodePortRange: utilnet.PortRange{Base: 30000, Size: 2768}, ReservedNodePorts: []int{6443, 30443},
	})
	r := newIPRange(a.env.ServiceCIDR, a.env.ClusterDNSAddress)
	for text, want := range map[string]int{"10.96.0.1": 0, "10.96.1.0": 255, "10.96.255.254": 65533} {
		ip := netip.MustParseAddr(text)
		if n := r.offset(ip); !r.contains(ip) || n != want || r.address(n) != ip {
			t.Errorf("%s: %d, and back %s", text, n, r.address(n))
		}
	}
	for _, text := range []string{"10.96.0.0", "10.96.255.255", "10.97.0.1"} {
		if r.contains(netip.MustParseAddr(text)) {
			t.Errorf("%s is no address of the range", text)
		}
	}
	if len(r.reserved) != 1 || !r.reserved[9] {
		t.Errorf("reserved: %v, want the address of DNS", r.reserved)
	}
	if got := a.reservedPorts(); len(got) != 1 || got[0] != 443 {
		t.Errorf("reserved ports: %v", got)
	}
	six := newIPRange(netip.MustParsePrefix("fd00::/64"), netip.Addr{})
	if ip := six.address(0); ip != netip.MustParseAddr("fd00::1") {
		t.Errorf("the first IPv6 address is %s", ip)
	}
	if far := netip.MustParseAddr("fd00::8000:0:0"); !six.contains(far) || six.address(six.offset(far)) != far {
		t.Errorf("%s is an address of a wide range, too", far)
	}
}
