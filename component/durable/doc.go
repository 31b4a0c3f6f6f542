// Package durable writes small files so that a power cut leaves the old content or the new, and, once it has said so, the new.
//
//	data ─► .name-123 ─► fsync ─► rename to name ─► fsync of the directory ─► "written"
//
// The steps, and what is lost without each:
//
//	Step 1: write a file beside it. To write into the file itself would leave half of it.
//	Step 2: fsync it. Otherwise the new name may come to disk before the content: an empty file.
//	Step 3: rename it. A reader sees one or the other.
//	Step 4: fsync the directory. Otherwise the rename itself may be undone by a power cut, after the caller has built upon it: a
//	        CA that signed certificates and is not there any more.
//
// What is made anew at each start, and what does not outlive the machine's uptime anyway (the state of running containers), needs
// only steps 1 to 3, or less.
//
// Invariant: every write is one of these steps through a system, so that a test can cut the power after each of them.
//
// Read first: `component/durable/durable.go:WriteFile`, and durable_test.go, which is the power cut.
//
// In Kubernetes: pkg/util/filesystem and pkg/kubelet/checkpointmanager's FileStore, which stop after step 3; etcd's fileutil does all
// four.
package durable
