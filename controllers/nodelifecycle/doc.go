// Package nodelifecycle finds out that a node no longer answers, says so in the
// node's conditions, and keeps pods away from it with taints.
//
//	Lease renewed ─┐                 ┌► conditions Unknown      (kubelet silent for 50 s)
//	Node written ──┼─► syncNode ─────┼► taints by conditions    (NoSchedule, NoExecute)
//	every 5 s ─────┘                 └► its pods not Ready      (Services stop using them)
//
// The timers, from a kubelet that stops to its pods' end: 10 s between its lease
// renewals; 50 s (NodeMonitorGracePeriod) without one until the node is NotReady
// and tainted; 300 s that pods tolerate the taint by default; then package
// tainteviction deletes them.
//
// In steps, for one node:
//
//  1. Note when its lease or its heartbeat last changed, by our own clock: the
//     clocks of nodes are not compared.
//  2. If that is too long ago, set its conditions to Unknown.
//  3. Make its taints follow its conditions.
//  4. If it is not ready, mark its pods not ready.
//
// Nouns: the probe time is when we last saw a sign of life. A turn is one node's
// sync; each node has one at least every NodeMonitorPeriod.
//
// Invariants: silence is only held against a node while we were listening: when
// no turn has happened for some periods, because the process was stopped, in a
// debugger, or the machine asleep, every probe time starts anew (R74). Taints that
// are not ours are never touched. Where no node of several is ready, none gets
// a NoExecute taint: then the fault is more likely ours, and to evict everything
// from everywhere helps nobody. Pods are never deleted here.
//
// Read first: `controllers/nodelifecycle/node_lifecycle_controller.go:Controller.syncNode`,
// `controllers/nodelifecycle/health.go:healthMap.observe`,
// `controllers/nodelifecycle/taints.go:desiredTaints`.
//
// # In Kubernetes
//
// pkg/controller/nodelifecycle/node_lifecycle_controller.go (monitorNodeHealth,
// tryUpdateNodeHealth, doNoScheduleTaintingPass, processTaintBaseEviction). Left
// out: zones, and the rate at which their nodes are tainted (one every ten
// seconds). Two things differ: upstream holds back NoExecute in a cluster of one
// node too, so that there a stopped kubelet's pods are never evicted; and it takes
// its own sleep for the nodes' silence.
package nodelifecycle
