// Package etcd runs etcd inside this process: a single member that keeps the
// cluster's data in one directory. It is a thin frame around the real server; any
// etcd client, etcdctl too, can speak to it.
//
//	          apiserver, etcdctl
//	               │ gRPC, TLS, client certificates; or, in the
//	               ▼ same process, function calls (Local)
//	DataDir/lock   ListenAddress ── etcd ──► DataDir/member/wal    every write, fsynced
//	                                    └──► DataDir/member/snap   the B+tree of all keys
//
// Run in steps: take the directory's lock; look whether its database can be
// opened; start the server and wait until it has elected itself; serve; and at the
// end let clients go, then close the log and the store.
//
// Invariants:
//   - A write is answered after it is on disk: fsync stays on.
//   - One process uses a data directory.
//   - etcd never ends the process: what it cannot go on with is Run's error.
//   - Nothing of etcd is said at the default log level unless it went wrong.
//   - It compacts nothing by itself: the apiserver knows which history it needs.
//
// What may surprise: metrics of the library are process-wide, so that two members
// in one process would show the same ones. A single member has a peer address, as
// part of its identity, though nobody listens there. HTTP (/metrics, /health) is
// on a port of its own, because a port for gRPC alone is served twice as fast.
//
// Read first: `etcd/etcd.go:Config`, `etcd/etcd.go:Etcd.Run`,
// `etcd/etcd.go:Etcd.embedConfig`.
//
// # In Kubernetes
//
// There etcd is a program of its own, in a static pod or on machines of its own;
// nothing of it is in kubernetes/kubernetes, whose contract with it is the client
// protocol and the keys below /registry. Here as there the apiserver finds it by
// an address (--etcd-servers) and never otherwise, so that an external etcd can
// take its place; only when the server at that address is in the same process do
// the protocol's messages go to it without a wire (Local). Left out are clusters of several members: for those, run
// etcd itself. Without it there is no cluster: all other components can be
// restarted from what it holds.
package etcd
