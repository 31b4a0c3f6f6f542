// Package extender lets a program outside of the scheduler take part in its decisions, by HTTP:
// webhooks for scheduling, older than the framework of plugins and still in use where a program
// must not be compiled in.
//
//	filters passed ──nodes──▶ POST <urlPrefix>/<filterVerb>      which of them fit?
//	plugins scored ──nodes──▶ POST <urlPrefix>/<prioritizeVerb>  0 to 10 for each, times weight
//	victims chosen ──map────▶ POST <urlPrefix>/<preemptVerb>     which of these nodes, and victims, are right?
//	node chosen    ──pod────▶ POST <urlPrefix>/<bindVerb>        the extender binds the pod itself
//
// A step is one POST of JSON (k8s.io/kube-scheduler/extender/v1) and its answer. Extenders are
// asked in the order of the file, each about what the one before left over. An ignorable
// one that fails is passed over, any other fails the attempt; scores are never worth a failure.
//
// Nouns: a managed resource is an extended resource that the extender knows about: with some in
// its list, it is asked only about pods that want one of them. A binder binds. An extender
// that is node cache capable gets names instead of whole nodes.
//
// Invariants: nothing is cached here; an extender sees a pod once per step and attempt; it cannot
// bring a node back that a filter has refused. It knows nothing of the scheduler's queue and cache.
//
// Read first: New, Extender.Filter, `scheduler/extenders.go:Scheduler.findNodesThatPassExtenders`.
//
// # In Kubernetes
//
// pkg/scheduler/extender.go (HTTPExtender); the wire format is the same. A pod that an extender
// refused is tried again after any event, since nobody knows which could help it.
package extender
