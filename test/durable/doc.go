// Package durable shows what a kill -9 cannot: that what etcd has acknowledged is on the disk, and
// not only in the kernel's memory, when the power goes.
//
//	a child process runs our etcd ──system calls──▶ recorder (ptrace) ──▶ operations, in order
//	the test writes keys ◀──answers── the child            └─ each answer is marked where it came
//	operations up to a cut ──▶ platter: only what was synced ──▶ an etcd started on it has every answered key
//
// In steps: record a run; for each sync, take the disk as it is if the power goes before the next one;
// start etcd on that; ask it for all that had been answered by then.
//
// The platter forgets as ext4 does in its default mode: data that no fsync of its file
// followed is gone, and so is a name, unless its file or its directory was synced since. That is the
// worst case: a real disk may have more.
//
// Invariants: the recorder has seen everything (after a run, its operations make the directory
// that the child left); the check can fail (without the syncs of the log it finds losses).
//
// Files of our own are tested where they are written: `component/durable/durable.go:WriteFile`.
//
// In Kubernetes there is nothing like it; etcd's robustness tests use LazyFS, a file system in user
// space that drops what was not synced.
package durable
