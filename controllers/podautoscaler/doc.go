// Package podautoscaler is the HorizontalPodAutoscaler: every fifteen seconds it asks what
// the pods of a workload use, and writes into the workload's scale how many there should be.
//
//	HorizontalPodAutoscaler ─► key ─► reconcileAutoscaler
//	scale subresource ──────────────────►│ how many there are, and which pods they are
//	metrics.k8s.io          ─┐           │
//	custom.metrics.k8s.io   ─┼─► one proposal a metric ─► the highest ─► normalize ─► scale
//	external.metrics.k8s.io ─┘                                              │
//	                                            history: what was wanted, what was done
//
// In steps:
//
//  1. Read the target's scale, of whatever kind that is: a kind that has a scale
//     subresource can be autoscaled, custom resources too.
//  2. Decide. A target at zero replicas is left alone, unless it was this controller that
//     took it there; one outside of [minReplicas, maxReplicas] is brought inside. Else each
//     metric proposes a number, and the highest wins. A metric that fails is passed over
//     when the others want more pods; when they want fewer, nothing is done at all.
//  3. Slow down: what was recommended lately (stabilization), and how much was changed
//     lately (policies), bound the step. This is normalize.
//  4. Write the scale, then the status, whose three conditions tell the story: AbleToScale
//     (the scale could be read and written), ScalingActive (the metrics could), and
//     ScalingLimited (a bound holds the number back).
//
// Nouns: the ratio is usage divided by target; 1.1 means ten percent more pods. Within the
// tolerance it counts as 1. A missing pod has no metric; an unready one has none that counts,
// since a starting program's CPU says nothing of its load. Both are assumed to use whatever
// makes the step smaller, so that what is not known never makes it larger.
//
// Invariants: the history of an autoscaler lives in this process only; after a restart the
// first recommendation is the present size, so that nothing shrinks at once. A pod is never
// counted by two autoscalers: where selectors overlap, all of them stop. The package never
// looks at what kind its target is.
//
// Read first: `controllers/podautoscaler/horizontal.go:HorizontalController.reconcileAutoscaler`,
// `controllers/podautoscaler/replica_calculator.go:podMetricReplicas`,
// `controllers/podautoscaler/normalize.go:normalize`.
//
// # In Kubernetes
//
// pkg/controller/podautoscaler (horizontal.go, replica_calculator.go, metrics/client.go).
// Upstream calculates utilization and plain values in two long functions that differ in a
// ratio; here the ratio is a parameter. Left out: its own metrics. It first looks at an
// autoscaler fifteen seconds after it came or changed; here it is looked at once then, and
// every fifteen seconds. Without the stabilization, a load that goes up and down within
// minutes would create and delete the same pods all the time.
package podautoscaler
