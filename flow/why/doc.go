// Package why explains on one screen why an object is in the state it is in.
//
//	apiserver: object, events, leases, pods, nodes ─┐
//	the record: attempts, writes, who made them ────┼─► Gatherer ─► facts ─► explain ─► Explanation
//	a proxy's socket: the rules in the kernel ──────┘              (pure functions)       │
//	                                                                    Print, or JSON ◄──┘
//
// In steps:
//
//  1. Gatherer.Why finds the kind that was asked for, and its row in the table of kinds.
//  2. The row's gather function reads the object and what stands around it. What cannot be
//     read is named in the explanation, and the rest goes on without it.
//  3. The row's explain function, which is pure, turns these facts into findings.
//  4. The findings about what is true of every kind are added: who holds a deletion up,
//     and who last changed what.
//  5. They are sorted, what hurts most first, and printed on one screen.
//
// Nouns: a finding is a title (what is the matter), evidence (how one knows) and a
// remedy (what would have to change, as a command where there is one). An obstacle is
// what keeps one pod from one node. An attempt is one turn of the scheduler, as it told
// the record. A change is a write of the object, from the record. A holder is who renews
// the Lease of a component, by which one knows that it runs.
//
// Invariants: nothing is written to the cluster. The functions that decide know no
// client and no clock: what they need is in their facts. The values of Secrets are never
// read, only their names. The record is an extra: against an apiserver of upstream's, or
// with upstream's scheduler, the same findings come from conditions, Events and managed
// fields, and obstacles are computed here. This package knows no component; what the
// scheduler and the proxy say, it reads as JSON.
//
// Read first: `flow/why/why.go:Gatherer.Why`, `flow/why/pod.go:explainPod`,
// `flow/why/obstacles.go:obstacles`.
//
// # In Kubernetes
//
// `kubectl describe` prints an object with its Events and leaves the conclusions to the
// reader. Which nodes a pod was refused by, and how the others scored, upstream's scheduler
// writes only into its log (--v=10); who deleted something is in the audit log, if one is kept;
// which rule leads to a pod, one looks for in iptables-save.
package why
