// Package proxy makes Services work on one node: it watches Services and
// EndpointSlices, and keeps the kernel's rules such that a packet to a Service's
// address goes to one of its endpoints. No packet passes through the proxy itself;
// when it stops, Services go on working, only they follow no change any more.
//
//	Services       --informer--> ServiceChangeTracker   --.
//	EndpointSlices --informer--> EndpointsChangeTracker ---+--> syncProxyRules --> iptables
//	Node (zone)    --informer------------------------------'          |             rules
//	                                                                  '--> conntrack
//
// # The loop
//
// boundedFrequencyRunner calls syncProxyRules when a handler asks for it, not more
// often than MinSyncPeriod, and every SyncPeriod in any case (somebody may have
// flushed the rules). One turn:
//
//  1. copy what the trackers know;
//  2. decide all rules, compare with the kernel, write (package iptables), for each
//     family of addresses;
//  3. tell load balancers, at the Services' health check ports, and at the node's own (10256);
//  4. remove UDP flows to endpoints that are gone (package conntrack).
//
// # Nouns
//
//   - ServicePortName: one port of one Service, "default/web:http"
//   - chain KUBE-SVC-…: the choice among endpoints; KUBE-SEP-…: one endpoint
//   - masquerade: rewriting the source address, so that the reply comes back by here
//   - hairpin: a pod that reaches itself through its Service
//
// # Invariants
//
//   - Before all Services and endpoints are known, no rule is written.
//   - Rules outlive the process; CleanUp takes them away, and nothing else does.
//   - What it changes on the host it lists and can set back: chains of ours, and the
//     sysctls of ChangedSysctls. A read-only /proc/sys is not fatal.
//   - It polls nothing: S0-13 of the sketch this project began with says so, wrongly.
//
// # Pods on one bridge
//
// Two pods on a bridge answer each other directly, past iptables: the reply of a
// Service then carries the pod's address instead of the Service's, and the client
// drops it. The embedded runtime isolates the ports, so that all packets are
// routed. For other runtimes see Config.PlainBridge.
//
// Read first: Run and syncProxyRules in proxy.go, then ComputeRules in package
// iptables.
//
// # In Kubernetes
//
// cmd/kube-proxy/app/server.go and pkg/proxy. Rules of IPv6 are made only where pods have
// such addresses; upstream makes them wherever the programs are. Left out: the modes ipvs and
// nftables, and choosing which of the node's addresses NodePorts listen on: all do.
package proxy
