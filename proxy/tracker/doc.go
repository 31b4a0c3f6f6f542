// Package tracker turns Services and EndpointSlices, as the informers deliver them,
// into two plain maps that rules can be made from: ServicePortMap (what each port of
// each Service is) and EndpointsMap (which addresses are behind it).
//
//	Service       --> ServiceChangeTracker.Update              --> ServicePortMap
//	EndpointSlice --> EndpointsChangeTracker.EndpointSliceUpdate --> EndpointsMap
//	both, a port  --> CategorizeEndpoints --> endpoints to use, cluster-wide and local
//
// Update tells whether a change matters for rules at all; annotations, heartbeats
// and the like do not, and cause no sync.
//
// # Nouns
//
//   - ServicePortName: one port of one Service; what rules are made for
//   - ready, serving, terminating: the three conditions of an endpoint; those that
//     leave are used only when none is ready
//   - local: on this node
//
// # Invariants
//
//   - Only IPv4 is tracked.
//   - Equal objects give equal maps, in equal order, however they arrived.
//   - It knows nothing of iptables, nor of the API beyond the two types.
//
// Read first: ServicePort in service.go, CategorizeEndpoints in topology.go.
//
// The trackers are not safe for concurrent use: the proxy's lock guards them.
//
// # In Kubernetes
//
// pkg/proxy: ServiceChangeTracker, EndpointsChangeTracker, endpointSliceCache,
// CategorizeEndpoints. Left out: the second address family, and lists of what
// changed since the last sync: a sync here writes all rules, which the kernel takes
// in milliseconds up to some thousand endpoints. Beyond that, upstream writes only
// the chains of Services that changed.
package tracker
