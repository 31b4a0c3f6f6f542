// Package apiserver is the REST and watch API over etcd: the one place where the
// parts of the cluster meet.
//
//	      kubectl, controllers, scheduler, kubelets, …
//	                      │ HTTP/2, TLS
//	 server.go            ▼
//	┌─ handler_chain.go ──────────────────────────────────────────────┐
//	│ panic recovery → request → timeout → authn → audit →            │
//	│ impersonation → flow control → authz                            │
//	└─────────────────────┬───────────────────────────────────────────┘
//	 mux.go               ▼
//	 /healthz /metrics /version /openapi …   /api, /apis
//	                                            │
//	 endpoints/   one file a verb: decode, ask the store, encode
//	 registry/    the generic store: strategy, admission, validation, managed fields
//	 storage/     watch cache and etcd
//	                      │
//	                      ▼
//	                    etcd, /registry/…
//
// The way of a write, POST /api/v1/namespaces/default/pods:
//
//  1. The chain finds out what is asked for (request.Info) and by whom, and whether they may.
//  2. go-restful matches the route; endpoints.CreateResource decodes the body and applies defaults.
//  3. registry.Store.Create fills in what the server decides (uid, time), lets admission change the
//     object, the strategy prepare it, validation judge it, admission judge it.
//  4. storage writes it to etcd, and the answer is sent only when etcd has committed it.
//  5. etcd's watch brings the change back to the cache, which sends it to every watcher.
//
// Its nouns: a Resource is a line of a group's table (groups.go, registry/<group>): names, types, strategy, columns.
// A Store is its generic store. A Scope is where a verb works: a Resource, its Store, and the subresource if any. The Env is
// what resources may ask of their server: other stores, ranges, keys.
//
// Invariants:
//   - No other component opens a connection to etcd; this one does in storage only.
//   - The apiserver reads itself through its own caches (lister, registry.Env): no loopback client, no second copy in
//     informers. Its own writes go through the stores as system:apiserver.
//   - There is one version of each type inside, the one that is served; what is served in a second one (Event) is
//     converted at the edge (registry.View).
//   - Every refused request is answered with a Status that says why.
//   - After Run's context ends, nothing of it is left: watches, connections and goroutines have ended.
//
// Read first: `apiserver/server.go:Server.Run`, `apiserver/handler_chain.go:Server.buildHandlerChain`,
// `apiserver/groups.go:groups`. Then `apiserver/endpoints/create.go:CreateResource`,
// `apiserver/registry/create.go:Store.createOnce`.
//
// # In Kubernetes
//
// cmd/kube-apiserver/app/server.go (Run), pkg/controlplane (the groups, the kubernetes Service) and
// k8s.io/apiserver/pkg/server (DefaultBuildHandlerChain). There three servers are chained by delegation (aggregator,
// core, CRDs); here CRDs and aggregated APIs will be two more handlers of one mux. Left out so far: webhooks, policies, encryption
// at rest; CORS is off, as by default there. Internal types and conversions are left out for good: with them goes the possibility to store a version that is
// not served.
package apiserver
