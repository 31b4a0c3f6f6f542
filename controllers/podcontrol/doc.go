// Package podcontrol is what the controllers that own pods share: creating and
// deleting them with events, remembering what was asked for until the cache
// shows it, deciding whose a pod is, and choosing which to delete first.
//
//	sync ──► ControllerRefManager.ClaimObjects: mine · adopt · release
//	     ──► Expectations.SatisfiedExpectations? ──no──► wait for the informer
//	     ──► PodControl.CreatePods / DeletePod, in slowStartBatch's doubling steps
//	     ◄── informer: CreationObserved / DeletionObserved
//
// In steps, for a controller that has one pod too few:
//
//  1. ClaimObjects finds the pods that are its own; an orphan that its selector
//     matches is adopted, a pod of its own that no longer matches is released.
//  2. ExpectCreations(1) is noted, then the pod is created.
//  3. Until the informer has shown that pod (CreationObserved), the controller's
//     syncs count but do not create: SatisfiedExpectations is false.
//
// Nouns: an expectation is what a controller asked the API for and has not yet
// seen in its cache. A controller reference is the one owner reference with
// controller=true; it says whose replica a pod is.
//
// Invariants: expectations are set before the request goes out, and taken back
// when it fails. They expire after five minutes, so that a lost event costs time
// and not the controller. An object is adopted only by an owner that, asked
// afresh, still exists with the same UID and is not being deleted. The package
// starts no goroutine that outlives a call.
//
// Read first: `controllers/podcontrol/expectations.go:Expectations`,
// `controllers/podcontrol/controller_ref_manager.go:ControllerRefManager.ClaimObjects`,
// `controllers/podcontrol/pod_control.go:PodControl.CreatePods`.
//
// # In Kubernetes
//
// pkg/controller/controller_utils.go (ControllerExpectations,
// UIDTrackingControllerExpectations, RealPodControl, ActivePodsWithRanks) and
// pkg/controller/controller_ref_manager.go. Left out: one reference manager a
// kind (generics replace them), and the fakes. Without expectations a controller
// whose cache lags by 50 ms would create each pod several times; without the
// UID in deletions a pod deleted and recreated under one name would be counted
// as gone.
package podcontrol
