// Package job runs a Job's pods until enough of them have succeeded, or too many
// have failed.
//
//	Job ─┐                    ┌─► manageJob ─► create | delete pods
//	Pod ─┴─► key ─► syncJob ──┤
//	         timer ──┘        └─► trackJobStatusAndRemoveFinalizers ─► /status, pods' finalizers
//
// In steps, one turn:
//
//  1. Claim the pods, and count them by how they are.
//  2. Decide whether the Job has ended: policies, backoff limit, deadline, enough
//     successes.
//  3. Ended: delete what still runs. Not ended: create or delete pods.
//  4. Count the pods that ended and let them go; write the status.
//
// Counting exactly once is the hard part, for a pod that has ended may be deleted by
// anyone. Each pod carries the finalizer batch.kubernetes.io/job-tracking, so that it
// cannot go before it is counted:
//
//	pod ended, has finalizer ─► uid in status.uncountedTerminatedPods ─► finalizer removed
//	                                     ─► uid out, status.succeeded or .failed + 1
//
// Killed between any two arrows, the next turn goes on: a uid in the list whose pod
// has no finalizer any more is counted, one whose pod still has it is not counted again.
//
// Nouns: an index is the place of a pod in an Indexed Job; its successes are kept as
// a list of indexes ("0-3,7") instead of a number. An interim condition
// (SuccessCriteriaMet, FailureTarget) says that the end is decided; the final one
// (Complete, Failed) comes when no pod is left running and all are counted.
//
// Invariants: a Job with a final condition is never touched again, but for
// finalizers that are left. A turn never works on a Job that is older than what the
// last turn wrote. Indexes are never recorded as both succeeded and failed.
//
// Read first: `controllers/job/job_controller.go:Controller.syncJob`,
// `controllers/job/manage.go:Controller.manageJob`,
// `controllers/job/tracking.go:Controller.trackJobStatusAndRemoveFinalizers`.
//
// # In Kubernetes
//
// pkg/controller/job (Controller.syncJob in job_controller.go, indexed_job_utils.go,
// pod_failure_policy.go, success_policy.go, backoff_utils.go). Left out: the queue of
// its own for orphaned pods, which here are met by the turn of the Job that is gone,
// the one-second batching of pod events, and the metrics. Without the finalizer, a
// pod deleted by the pod garbage collector before it was counted would be run again.
package job
