// Package daemonset runs one pod of a DaemonSet on each node that it is for.
//
//	DaemonSet ─┐
//	Pod ───────┼─► key ─► syncDaemonSet ─► manage: create, delete
//	Node ──────┤                      ├──► rollingUpdate: delete old ones, or add new ones first
//	Revision ──┘                      └──► /status
//
// In steps, one turn:
//
//  1. Find the revision of the template, and the pods by node.
//  2. manage: for each node, the pod that is missing, and those that are too many.
//  3. Of a rolling update, as much as maxUnavailable or maxSurge allows.
//  4. Delete old revisions; write the status.
//
// The scheduler places the pods, as all others: each is made with a node affinity for
// the name of its node, and with tolerations for the taints of nodes in trouble, for a
// daemon belongs on those too.
//
// Nouns: a node should run a pod when its name, its labels and its taints allow one;
// it should continue to run one also when a taint of effect NoSchedule came later.
//
// Invariants: on each node, at most one pod of each revision is wanted. A pod is never
// deleted for an update while as many as maxUnavailable nodes have none available.
//
// Read first: `controllers/daemonset/daemon_controller.go:DaemonSetsController.syncDaemonSet`,
// `controllers/daemonset/nodes.go:nodeShouldRunDaemonPod`,
// `controllers/daemonset/update.go:DaemonSetsController.rollingUpdate`.
//
// # In Kubernetes
//
// pkg/controller/daemon (daemon_controller.go, update.go, util/daemonset_util.go).
// Left out: matching pods by the label pod-template-generation, which upstream tries and
// never does: it compares the label with the address of the number. Without the
// affinity, two pods could land on one node and none on another; without the
// expectations, a slow cache would get each node a second pod.
package daemonset
