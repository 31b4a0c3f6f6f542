// Package controllers is the controller manager: the programs that make what is
// true of the cluster what its objects say should be true.
//
//	      Lease kube-system/kube-controller-manager
//	                     │ held
//	                     ▼
//	table ──► term: informers (one cache a kind, shared) ──► controllers/<name>
//	          events, metadata client                         each a reconcile.Loop
//	                                                             │ list, watch, write
//	                                                             ▼
//	                                                          apiserver
//
// In steps:
//
//  1. Run waits for the apiserver, and competes for the Lease.
//  2. A term begins: every enabled controller of the table is built. They ask one
//     factory for their informers, so that each kind is watched once.
//  3. The informers list and watch; each loop begins when its own have listed.
//  4. When the Lease is lost, or the process stops, the loops end, the term's
//     caches are thrown away, and only then the Lease is given back. Lost and not
//     stopped: back to 1.
//
// Nouns: a controller is a folder here and a line in the table
// (`controllers/table.go:table`). A term is the time between winning and losing
// the Lease.
//
// Invariants: no controller knows another. They meet in the objects only:
// deployment writes a ReplicaSet, replicaset sees it and writes pods, and neither
// would notice if the other were a person with kubectl. All knowledge is in the
// API: a manager that is killed at any instruction and started again goes on where
// it stopped. Nothing survives a term. To lose the Lease never ends the process. A process that was
// stopped for longer than its Lease holds writes nothing of what it saw before (client.WithFence).
//
// Read first: `controllers/manager.go:Manager.runTerm`,
// `controllers/table.go:table`, then one controller, best
// `controllers/replicaset/replica_set.go:ReplicaSetController.syncReplicaSet`.
//
// # In Kubernetes
//
// cmd/kube-controller-manager/app/controllermanager.go (Run, NewControllerDescriptors)
// and its core.go, apps.go and so on, with the controllers under pkg/controller.
// Left out: the cloud's controllers, and separate credentials for each controller.
// Upstream exits when it loses the Lease, and relies on being started again; what
// would break without that here is the rule that a paused single-node cluster
// goes on.
package controllers
