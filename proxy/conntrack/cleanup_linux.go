package conntrack

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// staleFilter picks the flows to remove while netlink walks the table.
type staleFilter struct{ expected Expected }

// MatchConntrackFlow tells whether to remove the flow.
func (s staleFilter) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	return f.Forward.Protocol == unix.IPPROTO_UDP && s.expected.Stale(Flow{
		Dst: f.Forward.DstIP.String(), DstPort: int(f.Forward.DstPort),
		ReplySrc: f.Reverse.SrcIP.String(), ReplySrcPort: int(f.Reverse.SrcPort),
	})
}

// CleanStaleEntries removes stale UDP flows of IPv4, or of IPv6, and returns how many there were.
func CleanStaleEntries(expected Expected, six bool) (int, error) {
	family := netlink.InetFamily(unix.AF_INET)
	if six {
		family = unix.AF_INET6
	}
	removed, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, staleFilter{expected})
	if err != nil {
		return int(removed), fmt.Errorf("removing stale UDP flows: %w", err)
	}
	return int(removed), nil
}
