// Package nodeshutdown ends the node's pods in order when the machine shuts down.
//
//		logind ──PrepareForShutdown──► Manager ──► NotReady, no new pods
//		   ▲                              │
//		   │                              ├─► pods of the lowest priority, all at once ── ended, or time is up
//		   │                              ├─► … the next …
//		   └──── inhibitor let go ◄───────┴─► critical pods
//
//	 1. Take a delay inhibitor at systemd-logind: the machine waits with its shutdown until it is
//	    let go, at most InhibitDelayMaxSec, which is raised if it is less than the pods may need.
//	 2. At PrepareForShutdown(true): say so in the node's Ready condition, refuse new pods, end
//	    the others, a group of priorities at a time, each within its own grace period.
//	 3. Let go of the inhibitor.
//	 4. At PrepareForShutdown(false) somebody has changed their mind: take the inhibitor again,
//	    and pods are welcome.
//
// Off unless grace periods are given. Without systemd it says so once, and a
// shutdown is as abrupt as it was.
//
// Nouns: a group is the pods whose priorities share a grace period. An inhibitor is
// logind's lock: a file descriptor that delays the shutdown while it is open.
//
// Invariants: the inhibitor is let go on every path, or the machine would wait for nothing.
// A group never waits longer than its grace period for its pods.
//
// Read first: `kubelet/nodeshutdown/nodeshutdown_manager.go:Manager.Run`, `kubelet/nodeshutdown/nodeshutdown_manager.go:groupByPriority`.
//
// # In Kubernetes
//
// pkg/kubelet/nodeshutdown (KEP-2000, KEP-2712): nodeshutdown_manager_linux.go and systemd/inhibit_linux.go. Left
// out: the file that remembers when the last shutdown began and ended, with its two metrics, and Windows.
package nodeshutdown
