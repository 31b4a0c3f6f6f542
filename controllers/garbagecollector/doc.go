// Package garbagecollector deletes objects whose owners are gone. A Deployment
// that is deleted takes its ReplicaSets along, and they their pods, only because
// of this.
//
//	discovery ─► one metadata informer a kind ─► graph (owner ⇄ dependents)
//	                                               │ UIDs to look at
//	                                               ▼
//	                            attemptToDeleteItem · attemptToOrphan ─► API
//
// In steps, for `kubectl delete deployment web`:
//
//  1. The informer says that the Deployment went. Its node leaves the graph; its
//     dependents are enqueued.
//  2. For each, attemptToDeleteItem asks the API, not the graph, for the object and
//     for its owners: the graph may be behind, and a deletion cannot be undone.
//  3. No owner is left: the object is deleted, and its dependents' turn comes. If
//     one owner is left, only the references to the others are removed.
//
// The three ways to delete: background (the default) is the above. Foreground: the
// API keeps the owner, with a finalizer, until all dependents that block it are
// gone; attemptToDeleteItem deletes those first. Orphan: the owner waits until
// attemptToOrphan has removed the references to it.
//
// Nouns: a node of the graph stands for an object, by UID. A virtual node stands
// for an owner that was named by a dependent but not seen yet: its existence is
// asked, since no informer will ever say that it does not exist.
//
// Invariants: nothing is deleted on the graph's word alone; every deletion
// carries the UID, and that of an owner check the resource version too. An
// owner of another namespace is none: references do not cross namespaces.
// Finalizers are removed only when all informers have listed; otherwise a
// dependent not yet known would be forgotten. Events, which come by the thousand
// and go by themselves, are not looked at.
//
// Read first: `controllers/garbagecollector/graph.go:graph.observe`,
// `controllers/garbagecollector/garbagecollector.go:GarbageCollector.attemptToDeleteItem`,
// `controllers/garbagecollector/monitors.go:GarbageCollector.syncMonitors`.
//
// # In Kubernetes
//
// pkg/controller/garbagecollector: garbagecollector.go, graph_builder.go, graph.go,
// operations.go. Left out: the queue between informers and graph (a lock does the
// same), three queues instead of one, and the /debug graph. Without virtual
// nodes an object created after its owner's deletion would stay for ever.
package garbagecollector
