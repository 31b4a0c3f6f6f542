// Package fakenodes is many nodes that are only bookkeeping, kept by one process: for lessons about scheduling, zones
// and taints, drains and node deaths, at a size that no machine has.
//
//	pods bound to any node ──one watch──► sync(pod): Pending → Running → ended; deleted → gone ──► pod status
//	Node objects of ours   ──one watch──► which nodes are there, and which are stopped
//	clock ─────────────────────────────► beat: each node's Lease every 10 s, its status every 5 min, evenly spread
//	kubectl logs, exec ──► one server for all nodes, which says that nothing runs here
//
// The loop over pods, in steps (`kubelet/fakenodes/pods.go:Nodes.sync`):
//
//  1. Is it bound to a node of ours that is not stopped? Others are not our business.
//  2. Decide what becomes of it (`kubelet/fakenodes/pods.go:decide`, a pure function).
//  3. Write its status, or delete it for good.
//
// Nouns: a Group is nodes of one kind (how many, how big, in which zones); a stopped node is one with the annotation
// Stopped: it is silent, as a dead machine is, until the annotation goes.
//
// Invariants:
//   - However many nodes, there are two watches and one server.
//   - A node that somebody deletes stays gone until this starts again, as with a real kubelet.
//   - Pods' addresses are made up, from 100.64.0.0/10; nobody answers there.
//   - Containers begin at once and never fail by themselves, but for what a command says (see package simulated), and
//     then only where the pod is not to be restarted.
//
// Read first: `kubelet/fakenodes/fakenodes.go:Nodes.Run`, then decide.
//
// # In Kubernetes
//
// kubemark's hollow nodes are real kubelets with a runtime that does nothing, some 30 MiB each; KWOK
// (sigs.k8s.io/kwok) is what this is. Left out: probes, volumes, resource usage.
package fakenodes
