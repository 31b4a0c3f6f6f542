// Package cache holds the scheduler's view of nodes and the pods on them, and
// hands each scheduling cycle a Snapshot that does not change under it.
//
// Pods come from two sides. The informer says what the apiserver knows (AddPod,
// UpdatePod, RemovePod); the scheduler says what it has decided but not yet seen
// confirmed (AssumePod). Without the second, two cycles in a row would put two pods
// into the same gap. The life of an assumed pod:
//
//	AssumePod --> FinishBinding --> AddPod from the informer: confirmed
//	    |               '--> UnboundPodGone: deleted before the informer saw it bound
//	    '--> ForgetPod: binding failed
//
// # The incremental snapshot
//
// Each NodeInfo has a Generation, a number from a counter that only grows. The
// cache keeps its nodes in a list, the last changed at the head. UpdateSnapshot
// walks the list from the head and stops at the first node whose generation is not
// newer than that of the snapshot: after one pod was placed it copies one node, not
// a thousand.
//
// # Invariants
//
//   - The list is ordered by Generation, descending: whatever changes a NodeInfo
//     moves it to the head.
//   - A pod is counted on exactly one node; an assumed pod that the informer reports
//     on another node moves there.
//   - A NodeInfo without a node object (pods known before their node, or after it) is
//     kept while it has pods, and is never in a snapshot.
//   - Snapshots list nodes zone by zone in turn, so that the sample which large
//     clusters are searched by is spread over zones.
//
// This package knows nothing of plugins or the queue.
//
// Read first: Cache and UpdateSnapshot in cache.go, Snapshot in snapshot.go.
//
// # In Kubernetes
//
// pkg/scheduler/backend/cache (cacheImpl, Snapshot, nodeTree). Left out: lists of
// claims in use by pods, and the debugger; upstream rebuilds its zone order from a
// tree kept up to date, here it is made anew when a node comes or goes, which in
// practice is rare.
package cache
