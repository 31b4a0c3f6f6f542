package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"hyperkube/proxy/conntrack"
	"hyperkube/proxy/iptables"
	"hyperkube/proxy/tracker"
)

// family is what is kept for the addresses of one family: each has its own Services'
// addresses, endpoints, rules and flows, and knows nothing of the other's.
type family struct {
	kind v1.IPFamily
	// clusterCIDR is the range of pod addresses; "": all are alike.
	clusterCIDR string
	services    *tracker.ServiceChangeTracker
	endpoints   *tracker.EndpointsChangeTracker
	// proxier is nil until Run has found the programs.
	proxier *iptables.Proxier
	// lastUDP is what conntrack was last cleaned for; only the sync uses it.
	lastUDP string
}

func (f *family) six() bool { return f.kind == v1.IPv6Protocol }

// newFamilies makes one for each range of pod addresses; without any, the one of IPv4.
func newFamilies(c *Config) ([]*family, error) {
	var families []*family
	for _, cidr := range strings.Split(c.ClusterCIDR, ",") {
		kind := v1.IPv4Protocol
		if cidr != "" || len(families) > 0 {
			prefix, err := netip.ParsePrefix(cidr)
			if err != nil {
				return nil, fmt.Errorf("proxy: Config.ClusterCIDR: %w", err)
			}
			if prefix.Addr().Is6() {
				kind = v1.IPv6Protocol
			}
		}
		families = append(families, &family{kind: kind, clusterCIDR: cidr,
			services: tracker.NewServiceChangeTracker(kind), endpoints: tracker.NewEndpointsChangeTracker(c.NodeName, kind)})
	}
	if len(families) > 2 || len(families) == 2 && families[0].kind == families[1].kind {
		return nil, fmt.Errorf("proxy: Config.ClusterCIDR %q: two ranges must be of IPv4 and of IPv6", c.ClusterCIDR)
	}
	return families, nil
}

// cleanConntrack comes after the rules: before, a packet in between would be sent
// to the gone endpoint once more, and remembered anew.
func (f *family) cleanConntrack(logger klog.Logger, in iptables.Input, nodeIP string) {
	expected := conntrack.NewExpected(in.Services, in.Endpoints, in.Zone)
	fingerprint := fmt.Sprint(expected)
	if fingerprint == f.lastUDP {
		return
	}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if ipNet, ok := a.(*net.IPNet); ok {
				expected.NodeIPs[ipNet.IP.String()] = true
			}
		}
	}
	if nodeIP != "" {
		expected.NodeIPs[nodeIP] = true
	}
	f.lastUDP = fingerprint
	removed, err := conntrack.CleanStaleEntries(expected, f.six())
	switch {
	case err != nil:
		// Clients of UDP Services may be stuck on gone endpoints; nothing else suffers.
		logger.Error(err, "Cleaning conntrack")
	case removed > 0:
		logger.V(1).Info("Removed UDP flows to endpoints that are gone", "flows", removed)
	}
}
