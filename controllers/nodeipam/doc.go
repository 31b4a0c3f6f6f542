// Package nodeipam gives every node a share of the pods' address range, or of
// both in a cluster of two families, in spec.podCIDRs. The node's CNI gives its pods addresses from it.
//
//	Node ─► nodeKeys: has one? note it as taken : key ─► syncNode ─► PATCH spec.podCIDR
//
// The nodes themselves are the only record of what is taken. A share is given
// once and never changed; it is free again when its node has gone.
//
// # In Kubernetes
//
// pkg/controller/nodeipam/ipam/range_allocator.go (RangeAllocator) and
// cidrset/cidr_set.go. Left out: the cloud allocators. Without the search beginning behind the last share given, a node
// that replaces another within a second would get its addresses, and answers
// meant for the dead pods.
package nodeipam
