// Package endpoints is the verbs of the API: one file each, plain functions of a Scope.
//
//	GET    collection      list.go    ListResource      ?watch=1: watch.go
//	POST   collection      create.go  CreateResource
//	DELETE collection      delete.go  DeleteCollection
//	GET    object          get.go     GetResource
//	PUT    object          update.go  UpdateResource
//	PATCH  object          patch.go   PatchResource     apply.go
//	DELETE object          delete.go  DeleteResource
//	any    object/exec …   connect.go ConnectResource
//
// Each does the same: negotiate the form of the answer (negotiation.go), read options (options.go) and body
// (decode.go), ask the store, write (write.go, encode.go; table.go for kubectl's columns). A verb returns
// its error; Scope.Handle answers it as a Status.
//
// installer.go binds verbs to go-restful routes, for the kinds that are compiled in. A wildcard handler may call
// the same functions with a Scope it looked up.
//
// # How reads are fast
//
// An object of the store is encoded at most once per media type (storage.Object): GET, LIST and WATCH
// copy the same bytes, and a LIST is a concatenation of them behind a small head (ListResource). JSON is
// not even kept: it is the value in etcd with two holes filled in. Large answers are compressed, small ones not.
//
// Invariants:
//   - Objects from the store are shared: a verb changes only copies.
//   - An answer begins only when it can be given: errors after the first byte are the connection's.
//   - A watch never holds up the store: what the client does not take in time, the store cuts. What a gate holds
//     (watch_gate.go) is taken from the store all the same.
//   - A client that is held hears, by watch or list, of nothing after the revision where it stands.
//
// Read first: ListResource, `apiserver/endpoints/patch.go:patcher`, eventStream.
//
// # In Kubernetes
//
// k8s.io/apiserver/pkg/endpoints: installer.go (registerResourceHandlers, 844 lines), handlers/ (a file a verb, as
// here), handlers/negotiation, handlers/responsewriters, discovery/. There verbs ask a rest.Storage by type assertions what it
// can do; here a Resource says it in its fields. Left out: internal versions.
// CBOR is behind a gate there, and served here.
package endpoints
