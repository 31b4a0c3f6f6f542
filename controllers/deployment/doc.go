// Package deployment rolls out pod templates: it keeps one ReplicaSet for each
// template a Deployment has had, and moves replicas from the old ones to the new.
//
//	Deployment ─┐                     ┌─ paused or resized ─► sync: scale
//	ReplicaSet ─┼─► syncDeployment ───┼─ RollingUpdate ─────► rolloutRolling
//	Pod deleted ┘                     └─ Recreate ──────────► rolloutRecreate
//	                                           each ends in ► syncRolloutStatus
//
// It never touches a pod. All it writes are ReplicaSets (their size, their
// annotations) and its own status; that a pod runs it learns from a ReplicaSet's
// status. In steps, for a changed image:
//
//  1. The template has no ReplicaSet yet: getNewReplicaSet creates one, named after
//     the template's hash, with as many replicas as maxSurge allows.
//  2. Its pods become available; its status says so; that is the next turn.
//  3. reconcileOldReplicaSets takes away so many old replicas as keep the number of
//     available ones at or above replicas − maxUnavailable.
//  4. reconcileNewReplicaSet adds as many as the total then allows; and so on,
//     until the old ones are at zero.
//  5. They stay, at zero, for undo: revisionHistoryLimit of them.
//
// Nouns: the new ReplicaSet is the one whose template equals the Deployment's, but
// for the label pod-template-hash. A revision numbers templates by last use; undo
// gives an old template a new number. Saturated: the new ReplicaSet has all
// replicas, and all are available.
//
// Invariants: the sum of all replicas asked for never exceeds replicas + maxSurge,
// and by our doing the available ones never fall below replicas − maxUnavailable
// (`controllers/deployment/bounds_test.go:TestRolloutKeepsItsBounds`). At most one
// ReplicaSet has the template of the moment. Every decision is made from the
// ReplicaSets alone, so that a controller that was restarted goes on where the
// former stopped.
//
// Read first: `controllers/deployment/deployment_controller.go:DeploymentController.syncDeployment`,
// `controllers/deployment/rolling.go:DeploymentController.rolloutRolling`,
// `controllers/deployment/sync.go:DeploymentController.getNewReplicaSet`.
//
// # In Kubernetes
//
// pkg/controller/deployment: deployment_controller.go, sync.go, rolling.go,
// recreate.go, progress.go and util/deployment_util.go; the functions have the
// same names; rollback.go does what the annotation deprecated.deployment.rollback.to
// asks for (kubectl has done undo itself since apps/v1). Without the proportional scaling in
// scale(), resizing in the middle of a rollout would bet everything on the new,
// unproven template.
package deployment
