// Package iptables turns the tracked Services into iptables rules and keeps the
// kernel's rules equal to them.
//
//	Input --ComputeRules--> Ruleset --RestoreText--> iptables-restore --noflush
//	                           ^                        |
//	                           |  Complete?             v
//	                           '------ iptables-save  kernel
//
// ComputeRules decides and touches nothing; SyncProxyRules looks, compares and
// writes. The way of a packet to a cluster IP, in table nat:
//
//	PREROUTING (from pods, from outside) or OUTPUT (from this node)
//	  KUBE-SERVICES       whose address and port is it?
//	    KUBE-SVC-XXX      which endpoint? the i-th of n with probability 1/(n-i)
//	      KUBE-SEP-XXX    change the destination to its address (DNAT)
//	POSTROUTING
//	  KUBE-POSTROUTING    marked by KUBE-MARK-MASQ? change the source to this node's
//
// The kernel remembers the choice (conntrack): only a connection's first packet comes
// here, and replies are changed back without a rule. From outside (NodePort, external
// and load balancer addresses) the way goes through KUBE-EXT-XXX, which marks the
// packet; with policy Local it goes to KUBE-SVL-XXX, this node's endpoints. A
// Service without endpoints is refused in table filter.
//
// # Invariants
//
//   - Only chains with our names are touched, and in built-in chains only the jumps
//     to them; they stand first, in the order of the table in chains.go.
//   - A sync is idempotent: it writes whole chains, never appends to one.
//   - Equal input gives equal text, so that a difference in text is a change.
//   - It knows nothing of the API; and it reads no clock to decide a rule.
//
// Read first: ComputeRules and writePolicyChain in rules.go, SyncProxyRules in
// proxier.go.
//
// # In Kubernetes
//
// pkg/proxy/iptables/proxier.go: syncProxyRules, there one function. Chain names,
// comments and the order of matches are the same. Left out: writing only the
// chains of changed Services (at some thousand endpoints a sync would take seconds
// without), and the counters of packets that localhost NodePorts and INVALID drops see.
package iptables
