// Package statefulset keeps pods that each have a name, a host name and storage of
// their own: web-0, web-1, web-2.
//
//	StatefulSet ─┐
//	Pod ─────────┼─► key ─► sync ─► updateStatefulSet: create, delete one by one
//	Revision ────┘                             └──► claims, /status
//
// In steps, one turn:
//
//  1. Claim the pods; find the current and the update revision.
//  2. In order of ordinals, make each replica that is missing.
//  3. From the highest down, delete pods beyond the replicas, of unhealthy ones only the lowest.
//  4. From the highest down to the partition, delete pods of an old revision.
//  5. Delete old revisions; write the status.
//
// Steps 2 to 4 stop at the first pod that is not running and ready, unless the pods
// are managed in parallel: the next turn, which that pod's change brings, goes on.
//
// Nouns: an ordinal is the number in a pod's name. The current revision is that from
// before the rollout, the update revision that of the template; they are the same
// when no rollout is under way. A condemned pod has an ordinal that is not wanted.
//
// Invariants: of one name, there is never a second pod before the first is gone from
// the API, which is when its kubelet has said that it stopped. A deletion names the
// pod's UID, so that a slow cache never deletes a successor. A claim is never deleted
// by this package: where a policy wants it gone, it gets an owner, and the garbage
// collector does the rest.
//
// Read first: `controllers/statefulset/stateful_set.go:StatefulSetController.sync`,
// `controllers/statefulset/control.go:StatefulSetController.updateStatefulSet`,
// `controllers/statefulset/pod.go:newVersionedStatefulSetPod`.
//
// # In Kubernetes
//
// pkg/controller/statefulset (stateful_set.go, stateful_set_control.go,
// stateful_pod_control.go, stateful_set_utils.go). Left out: a cache of claims: they
// are read from the API, only for sets that have templates of them. Without the wait
// for one pod before the next, a database would lose two members at once.
package statefulset
