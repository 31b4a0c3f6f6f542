// Package network connects pods, by the Container Network Interface: it reads the
// configuration in force, calls the plugins it names, and is two such plugins
// itself, for a node without a network add-on.
//
//	SetPodCIDR ──► net.d/99-hyperkube.conflist      (any other file there comes first)
//	                          │
//	Add(pod) ──libcni──► hyperkube-bridge ──► bridge, veth pair, addresses, routes, masquerade
//	                 ├─► hyperkube-portmap ─► hostPort rules
//	                 └─► hyperkube-bandwidth► queues that let only so much pass, if the pod's annotations say so
//	Del(pod) ──libcni──► the same, backwards
//
// A pod's way into the network, in steps: see `cri/network/bridge_linux.go:bridge.add`.
//
// Nouns: a plugin is a program that does one part (ADD, DEL, CHECK); a
// configuration list is which plugins, in which order; the bridge is the node's
// switch for pods; a port is a pod's place on it; masquerading is giving packets
// the node's address where the pod's would not be known.
//
// Invariants:
//   - Del may be repeated, also for a pod that was never connected, and when its
//     namespace is gone.
//   - An address is a file that names its owner: what a crash leaves is seen, and
//     given back by the next start.
//   - All chains and the bridge carry names derived from the data directory: two
//     clusters share none, and CleanUp removes all of them and nothing else.
//   - Our plugins run inside this process when we call them, and as programs when
//     others do; they do the same. Those others need a plugin "loopback" too, which we
//     are by that name.
//   - A pod has an address in each family of which the node has a pod CIDR: one, or two.
//     The first is its main one.
//
// Read first: `cri/network/network_linux.go:Network.Add`, `cri/network/bridge_linux.go:bridge`,
// `cri/network/iptables_linux.go:ensureMasquerade`.
//
// # In Kubernetes
//
// The runtime calls libcni as here; the plugins are those of
// github.com/containernetworking/plugins (bridge, host-local, portmap, bandwidth, loopback),
// or an add-on's. Between nodes, an add-on carries packets; here, nodes of one
// machine reach each other by routes, of IPv4 only. Left out: network
// policies. Without a plugin's DEL, addresses run out after as many pods as the
// node's pod CIDR has.
package network
