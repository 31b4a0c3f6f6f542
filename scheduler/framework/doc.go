// Package framework is the language in which the scheduler and its plugins talk:
// the interfaces of the extension points, the Status a plugin answers with, the
// CycleState one scheduling attempt carries along, and the aggregated view of a
// node (NodeInfo) and of a pod (PodInfo) that plugins read.
//
//	QueueSort  PreEnqueue            which pod is next; may it enter the queue
//	    |
//	PreFilter -> Filter -> PostFilter        which nodes can take the pod
//	    |
//	PreScore -> Score -> NormalizeScore      which of them is best (0..100)
//	    |
//	Reserve -> Permit                        claim it; may hold the pod back
//	    |
//	PreBind -> Bind -> PostBind              write the Binding
//
// A plugin is a value with a Name that implements any of these interfaces; the
// package framework/runtime finds out which, and calls them in the order of the
// table in `scheduler/plugins/registry.go:NewInTreeRegistry`.
//
// # Nouns
//
//   - Status: nil means Success. Unschedulable says "not on this node, not now";
//     UnschedulableAndUnresolvable adds "and removing pods from it would not help",
//     which keeps preemption away; Error is a failure of the plugin itself.
//   - CycleState: what a plugin computed once in PreFilter or PreScore, to be read
//     by its Filter or Score for each node.
//   - ClusterEvent, QueueingHint: which change in the cluster could make a pod
//     schedulable that this plugin has rejected. They decide when an unschedulable
//     pod is tried again.
//   - FitError, Diagnosis: why no node fits; its text is what `kubectl describe
//     pod` shows.
//
// # Invariants
//
//   - Filter and Score run for several nodes at once: they may read the CycleState
//     but write to nothing.
//   - A NodeInfo handed to a plugin belongs to the snapshot of this cycle and does
//     not change while the cycle runs.
//   - This package knows nothing of the queue, the cache, or the API.
//
// Read first: Plugin and FilterPlugin in interface.go, Status, NodeInfo.
//
// # In Kubernetes
//
// staging/src/k8s.io/kube-scheduler/framework (interfaces, Status, events) and
// pkg/scheduler/framework (NodeInfo, FitError). Left out: dynamic
// resource allocation, pod groups and opportunistic batching.
package framework
