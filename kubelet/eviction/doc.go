// Package eviction ends pods before the node itself runs out of something: memory,
// disk, inodes, process numbers. A pod that goes in order leaves a reason behind;
// what the kernel kills when nothing is left leaves a riddle.
//
//	figures (summary) ─► observe ─► thresholdsMet ─► node conditions ─► taints (controllers)
//	                                      │
//	                                      ▼ grace period over
//	                     reclaim from the node (dead containers, unused images)
//	                                      │ not enough
//	                                      ▼
//	                     rank pods ─► evict the first
//
// A turn (`kubelet/eviction/eviction_manager.go:Manager.synchronize`), every 10 s:
//
//  1. Observe what is left of each resource.
//  2. Find the thresholds that are crossed, or were and are not yet cleared by
//     their minimum reclaim; hard ones count at once, soft ones after a while.
//  3. Tell the node's pressures; they stay for a while after the last crossing.
//  4. Evict pods that use more local storage than they may, whatever the node has.
//  5. If the node is short: free what no pod needs. If that suffices, stop.
//  6. Evict one pod, the first by rank, and wait until it has gone.
//
// Nouns:
//   - signal: what is watched, such as nodefs.available: the disk of the kubelet's
//     directory. imagefs is the disk of images and containers, often the same.
//   - threshold: a signal and the least that has to be left, in bytes or percent.
//
// Ranks: pods that use more than they asked for go first, then those of lower
// priority, then those that use most beyond what they asked for. Process numbers
// cannot be asked for, so there only priority and use count.
//
// Invariants: at most one pod is evicted a turn for the node's sake; a critical pod
// (system-node-critical, a static pod of the system) never is: the node would be the poorer for it.
//
// Read first: Manager.synchronize, Threshold, rank.
//
// # In Kubernetes
//
// pkg/kubelet/eviction: eviction_manager.go (synchronize, localStorageEviction),
// helpers.go (thresholdsMet, rankMemoryPressure …). Left out: the kernel's
// notifications of a memory threshold (here it is looked at every 10 s, so a fast
// leak meets the OOM killer first), a third file system for writable layers, and
// the signal allocatableMemory.available (the cgroup of all pods has no limit of its own).
package eviction
