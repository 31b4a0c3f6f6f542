// Package endpointslice lists, for every Service with a selector, the addresses
// of its pods, in EndpointSlices of at most a hundred each. Proxies and DNS read
// these and never the pods.
//
//	Service ───────┐
//	Pod ───────────┼─► key of the Service ─► syncService
//	EndpointSlice ─┘        desired endpoints, by address family and ports
//	                        existing slices
//	                        ─► reconcileByPorts ─► plan{create, update, delete} ─► API
//
// In steps:
//
//  1. Each pod that the selector matches and that has an address is an endpoint,
//     with the conditions ready, serving and terminating, and hints for whom it is near
//     where the Service asks for them.
//  2. Endpoints are grouped by address family and by the port numbers that the
//     Service's ports lead to: named ports may differ from pod to pod.
//  3. In each group, existing slices keep what they have and is still wanted; what
//     is new fills the slices that change anyway, then new ones, then another with
//     room. A slice left empty goes.
//  4. The plan is carried out: creations first, deletions last, so that no reader
//     sees fewer endpoints than there are.
//
// Nouns: ready is "send new connections"; serving is ready, asked also of a pod
// that is going; terminating is "going". A hint names the zone or node whose proxies
// should prefer the endpoint. A placeholder is the one empty slice of
// a Service without endpoints, by which readers know that there are none.
//
// Invariants: a slice has one address family and one set of ports, and at most
// MaxEndpointsPerSlice endpoints. A turn never acts on a cache that is older than
// our own last write (`controllers/endpointslice/tracker.go:tracker`); otherwise
// an endpoint would stand in two slices.
//
// A Service without a selector is not looked at: its endpoints belong to who wrote them. When
// that was done in the older form, as an Endpoints object, a second controller copies it into
// slices (`controllers/endpointslice/mirroring_controller.go:MirroringController.syncEndpoints`);
// it plans in its own way and writes through the same writer and tracker.
//
// Read first: `controllers/endpointslice/endpointslice_controller.go:Controller.syncService`,
// `controllers/endpointslice/reconciler.go:reconcileByPorts`,
// `controllers/endpointslice/endpoints.go:podToEndpoint`.
//
// # In Kubernetes
//
// pkg/controller/endpointslice/endpointslice_controller.go and
// staging/src/k8s.io/endpointslice (reconciler.go, utils.go, util/, topologycache/,
// trafficdist/); pkg/controller/endpointslicemirroring. Left out: the annotation with the time
// of the change, and for hints by CPU the memory of earlier ones, by which upstream moves
// fewer when zones change. Without filling slices that change anyway, every pod of a rollout
// would rewrite a different slice, and each write goes to every node.
package endpointslice
