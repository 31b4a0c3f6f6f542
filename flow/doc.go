// Package flow is the memory of a cluster: what was asked of the apiserver, what it
// wrote, who was told, and what they did about it.
//
//	 kubectl ──POST──► apiserver ──► store @412
//	                      │ │
//	              Request ▼ └─ watch events ──► controller: sync(web)
//	                   ┌──────┐   delivery         │
//	   hyperkube trace │Record│◄── Flow-Cause: ADDED Deployment default/web@412
//	◄──────────────────│      │    Flow-Source: controllers/deployment/sync.go:106 getNewReplicaSet
//	                   └──────┘◄── effects: containers made, rules added, a node chosen
//
// Components meet only in the apiserver, so the apiserver sees every arrow between
// them. What it cannot see is why: that the components say themselves, in two headers
// which their transport (client/) adds to every request. An object's resourceVersion is
// the revision of the write that made it, unique in the cluster: it is all that is
// needed to find the write that caused another.
//
// In steps:
//
//  1. The handler chain begins a Request; who passes it on fills in the user, the
//     admission plugins, and each Write that etcd commits.
//  2. When it has been answered, it enters the Record's ring, and pushes out the oldest
//     entries if there is no room.
//  3. A watch notes the revisions it sends, and adds them to the deliveries with each
//     flush.
//  4. Components post Effects.
//  5. Trace reads all of that: it hangs each write under the newest of its causes, picks
//     what concerns an object, compares values, and returns a tree.
//  6. Story.Print makes siblings that look alike one line and a count.
//
// Because a component acts on nothing but what it is told, it can also be held there
// (`hyperkube step`), one step at a time:
//
//	store ──► watch events ──► gate ──► component       watchGate: one revision is one step
//	                 informer ──► queue ──► gate ──► sync    reconcile.Turnstile: one key is
//
// A gate is of a name, not of a process: it waits for one that is not there, and holds
// two of the same name together. A held component stands at a revision; a list, or a
// watch that begins anew, tells it the state at that revision, and nothing passes by
// a restart. Leases and Nodes are never held, nor the time of its watches counted, so
// that it keeps its leadership for as long as somebody looks. Its own requests go through:
// a component that is started anew in the past acts on the past, and finds its writes
// refused where the store has gone on. So hold a controller at its queue rather than the
// whole controller-manager over a restart, or over the five minutes after which a
// ReplicaSet's expectations end: it would make pods that it has not been told of again.
//
// Nouns: a cause is an object at a resource version that made a loop run. A source is
// the line of code that made a request. A delivery is a watch event sent to one client. A
// link is observed (a component said so), inferred (the client had been told of that
// version, or names it), or claimed (a client that is no component said so).
//
// A gate is closed, stepped and opened; the line is the revision at which its client
// stands; what waits there are GateEvents. A GateLink carries wishes to a process that
// holds its own controllers, and reports back.
//
// Invariants: recording never waits for reading. Values are kept as they are stored,
// without a copy, and are decoded and compared only when somebody reads. The record
// holds at most the bytes it was given, says what it dropped, and is gone with the
// process. Headers decide nothing: they are shown, and a cause is believed only if it
// names the object that was written at that revision. A gate never goes back; with none
// closed it costs a watch one atomic load a batch. Gates are memory: they open when the
// apiserver restarts. The data of Secrets never leaves
// this package; effects carry no environment, command or token. This package knows no
// component.
//
// Read first: `flow/record.go:Record`, `flow/request.go:Request`,
// `flow/trace.go:Record.Trace`, `flow/gate.go:watchGate`.
//
// Traces: names are those of W3C Trace Context. A run of a loop is a trace of its own
// (`reconcile/tracecontext.go:Trace`); its requests carry it as traceparent, its log lines as
// traceID; a request without one has its audit id. What KEP-5915 proposes is the same form:
// a reconcile begins a new root span that is linked to the one which changed the object. It
// keeps the link in an annotation, tracing.k8s.io/traceparent; here the resourceVersion leads to the
// write, so that no object is changed for the sake of being watched. Spans makes spans with links of the
// record, and flow/otlp sends them (--tracing-endpoint).
//
// # In Kubernetes
//
// Nothing has this job. Audit logs tell who wrote what, without what made them; Events tell
// what a controller thought worth saying; OpenTelemetry spans (KEP-647) end at the
// apiserver, because what crosses a watch has lost its context. The objects' revisions
// bridge that gap here. Upstream's components can be watched, too: their writes are
// hung by inference. Left out: sampling, and anything that outlives the process.
package flow
