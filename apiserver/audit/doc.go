// Package audit writes down who did what: one JSON line an event, as a policy says.
//
//	request ──► policy: the first rule that matches ──► level, stages
//	   │
//	   ├─ RequestReceived    before anything is decided
//	   ├─ ResponseStarted    of a watch or a connection, with its first byte
//	   ├─ ResponseComplete   with the code, and at level Request(Response) the bodies
//	   └─ Panic
//
// Levels: None writes nothing; Metadata who, what and the outcome; Request the body too; RequestResponse the answer too. A policy
// that says Metadata of Secrets keeps their contents out of the log: nothing is written that the level does not ask for.
//
// Invariants: an event is in the file before the request goes on; a body is kept only while its request runs, and only at a
// level that asks for it; without a policy this package costs nothing.
//
// Read first: Auditor.Handler, Policy.evaluate, Event.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/audit (policy, context), pkg/apis/audit (the types), endpoints/filters/audit.go and plugin/pkg/audit/log. There
// the handlers hand over decoded objects; here bodies are taken from the wire and turned into JSON. Left out are the webhook,
// batching, and rotation of the file.
package audit
