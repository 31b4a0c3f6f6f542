// Package nodenet is the network between several nodes on one machine: it gives each further node a network
// namespace with an address and a link, and tells every node the way to the pods of the others.
//
//	             the machine (first node)                         node-2 (network namespace)
//	 pods ── bridge ── routing ── node bridge (172.30.254.1) ═══ eth0 (172.30.254.2) ── routing ── bridge ── pods
//	                                   ╚═══════════════════════ eth0 (172.30.254.3) … node-3
//
//	Node objects ──watch──► sync: which pod CIDR is behind which node ──► routes, in every namespace
//
// A node's way into the network, in steps: see `addons/nodenet/link_linux.go:Network.Plug`. The loop, in steps
// (`addons/nodenet/nodenet.go:Router.sync`):
//
//  1. From all Node objects: each node's address and pod CIDR.
//  2. For each namespace: a route to the pods of every other node.
//  3. In each namespace, add what is missing, and remove routes of ours that nobody needs any more.
//
// Nouns: a namespace is a node's own set of links, addresses, routes and rules, named as `ip netns` names them, so that
// `ip netns exec NAME …` looks at a node from inside; a link is the pair of virtual interfaces between a node and the
// bridge; to unplug a node is to take its end of the link down, as pulling a cable would.
//
// Invariants:
//   - All names are derived from Network.ID: two clusters share none, and CleanUp removes all of them and nothing else.
//   - Routes of ours carry a protocol number of their own (`ip route` shows "proto 104"): nobody else's are touched.
//   - Pods' packets keep their address between nodes; only what leaves for the world is masqueraded.
//   - Everything may be repeated; what a kill -9 leaves is found and used again.
//   - The machine speaks to the others from the address of its Node object, so that a pod sees which node asks.
//
// Read first: `addons/nodenet/nodenet.go:Router`, `addons/nodenet/nodenet.go:wantedRoutes`, then Network.Plug.
//
// # In Kubernetes
//
// Nothing: a cluster's network between nodes is an add-on's, or the cloud's (its route controller). What this does is
// flannel's host-gw backend in small; what it does about machines is kind's, where each node is a container. Without
// the routes, pods of one node reach each other and nobody else's.
package nodenet
