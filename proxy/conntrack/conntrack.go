// Package conntrack removes the kernel's memory of UDP flows that lead to endpoints
// which are gone.
//
// A UDP client that keeps using one socket has no connection to break: the kernel
// goes on sending its packets to the endpoint it once chose, for as long as they
// keep coming. A DNS client would talk to a dead pod for ever. TCP needs no such
// help: its connection ends, and the next one is placed anew.
//
// Upstream's package of the same name (pkg/proxy/conntrack) does it the same way
// since v1.33: compare the whole table with what should be.
package conntrack

import (
	"net"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"hyperkube/proxy/tracker"
)

// Flow is the part of a conntrack entry that matters: where the client's packets
// are addressed to, and who answers them.
type Flow struct {
	Dst      string
	DstPort  int
	ReplySrc string
	// ReplySrcPort is the endpoint's port.
	ReplySrcPort int
}

// Expected says who may answer a flow: the endpoints per "ip:port" that UDP Services
// own, and per NodePort.
type Expected struct {
	Addresses map[string]map[string]bool
	NodePorts map[int]map[string]bool
	// NodeIPs are this node's addresses; a NodePort is meant only there.
	NodeIPs map[string]bool
}

// NewExpected collects the UDP ports of all Services.
func NewExpected(services tracker.ServicePortMap, endpoints tracker.EndpointsMap, zone string) Expected {
	e := Expected{Addresses: map[string]map[string]bool{}, NodePorts: map[int]map[string]bool{}, NodeIPs: map[string]bool{}}
	for name, port := range services {
		if name.Protocol != v1.ProtocolUDP {
			continue
		}
		answers := map[string]bool{}
		cluster, local, _ := tracker.CategorizeEndpoints(endpoints[name], port, zone)
		for _, list := range [][]tracker.Endpoint{cluster, local} {
			for _, endpoint := range list {
				answers[endpoint.String()] = true
			}
		}
		for _, ips := range [][]string{{port.ClusterIP}, port.ExternalIPs, port.LoadBalancerIPs} {
			for _, ip := range ips {
				e.Addresses[address(ip, port.Port)] = answers
			}
		}
		if port.NodePort != 0 {
			e.NodePorts[port.NodePort] = answers
		}
	}
	return e
}

// Stale tells whether a flow leads to an endpoint that may not answer it.
func (e Expected) Stale(f Flow) bool {
	answers, ours := e.Addresses[address(f.Dst, f.DstPort)]
	if !ours && e.NodeIPs[f.Dst] {
		answers, ours = e.NodePorts[f.DstPort]
	}
	return ours && !answers[address(f.ReplySrc, f.ReplySrcPort)]
}

func address(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }
