// Package registry is the description of every resource, and the generic store
// that all of them share.
//
//	endpoints ──► Store.Create / Update / Delete / Get / List / Watch
//	                │
//	                ├─ metadata the server decides    create.go, update.go
//	                ├─ managed fields                 managedfields.go
//	                ├─ admission                      request.Admission
//	                ├─ Strategy                       registry/<group>/<resource>
//	                ├─ deletion rules                 delete.go: decideDeletion
//	                ▼
//	            storage.Interface
//
// A resource is a line: a Resource value in its group's table (registry/<group>). What it decides for
// itself is its Strategy; what it holds outside of its object (a ClusterIP, a node port) its
// Hooks; what else lies below its path its Subresources. Everything else is the Store's, and
// the same for all.
//
// Invariants:
//   - What a Store returns is shared with all readers and never changed.
//   - Admission and validation have seen an object exactly as it is stored.
//   - A write that changes nothing is no write: its resourceVersion stays.
//   - An object is removed only when it is past its grace period, has no finalizer, and nothing holds it (Hooks.Held).
//
// Read first: `apiserver/registry/registry.go:Resource`, `apiserver/registry/create.go:Store.createOnce`,
// `apiserver/registry/delete.go:Store.decideDeletion`.
//
// In Kubernetes: k8s.io/apiserver/pkg/registry/generic/registry/store.go (Store) and registry/rest
// (BeforeCreate, BeforeUpdate, BeforeDelete; the strategies' interfaces), pkg/registry for the rooms. There a Store is a
// struct of two dozen function fields which each resource fills in; the steps of a write are spread over
// handler, rest and store.
package registry
