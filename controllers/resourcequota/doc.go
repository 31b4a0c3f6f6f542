// Package resourcequota recounts what each ResourceQuota has used. Admission only ever charges; whatever is freed, or was
// charged for a write that failed, is given back here.
//
//	ResourceQuota ──────────────────────┐
//	Pod ended, Service, claim changed ──┼─► quota ─► syncResourceQuota ─► list, measure, sum ─► status.hard, status.used
//	counted object deleted ─────────────┘
//
// One turn:
//
//  1. List the objects of the kinds that spec.hard names, and add up what the evaluators say of those in scope.
//  2. What is used by now more than was charged is written at once.
//  3. What is used less is written only when the quota has rested: a charge comes before its object, so that a count taken
//     between the two lacks the object. Written back, it would let one more in than the quota allows.
//
// The nouns: an evaluator measures one resource (api/core/resourcequota, which admission charges by too); a counter holds the
// metadata of a resource whose objects are only counted, from the first quota on that counts them.
//
// Invariants: status.used never sinks while a charge may be on its way; the status is written only upon the version that
// was read, so that a charge that came between makes the turn begin anew.
//
// Read first: `controllers/resourcequota/resource_quota_controller.go:Controller.syncResourceQuota`.
//
// # In Kubernetes
//
// pkg/controller/resourcequota (Controller.syncResourceQuota, QuotaMonitor) and pkg/quota/v1. There every resource of the cluster is
// watched whether or not a quota counts it; and a recount may be lower than what was just charged, which is a known
// race. Without the recount every five minutes a quota would stay wrong after a missed event.
package resourcequota
