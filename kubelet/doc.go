// Package kubelet is the agent of a node: it sees to it that the pods bound to
// this node run, and tells the API how they are.
//
//	apiserver watch ─┐                        ┌─► pod worker ─► SyncPod ─► kuberuntime ─► CRI
//	manifest file ───┤                        ├─► pod worker        │
//	manifest URL ────┤                        └─► pod worker        ├─► volumes, cgroups
//	PLEG (runtime) ──┼─► syncLoop ─► handlers ─────────▲            └─► status ─► apiserver
//	probes ──────────┤   (one select)                  │
//	sync ticker ─────┤                         UpdatePod: one message,
//	housekeeping ────┘                         the newest wins
//
// The loop, in steps (`kubelet/kubelet.go:Kubelet.syncLoopIteration`):
//
//  1. Take one event from whichever source has one. All sources stand in one
//     select; each event is logged with its source.
//  2. Hand it to its handler, which works out the pods it concerns.
//  3. Tell each pod's worker. Nothing here waits for a pod.
//
// A worker (`kubelet/pod_workers.go:podWorkers.podWorkerLoop`), one a pod:
//
//  1. Ask the runtime what it has of the pod.
//  2. By where the pod stands on its way: SyncPod, SyncTerminatingPod, or
//     SyncTerminatedPod. It never goes back.
//  3. Decide when to look again: at once, when a back-off lapses, in a minute.
//
// Nouns:
//   - static pod: one from a file or URL; its mirror is its picture in the API.
//   - sandbox: the home of a pod's containers: its namespaces and address.
//   - podActions: what SyncPod is about to do, computed first and logged.
//   - PLEG: the pod lifecycle event generator; it lists what runs and tells what
//     changed.
//
// Folders: config (sources), pod (what should run), container (what runs),
// kuberuntime (making them equal), images, volume, prober, pleg, status, server,
// kubeletconfig (the configuration file), lifecycle (hooks, admission), allocation (what pods are given, resize), eviction
// (a node that runs short), nodeshutdown (a machine that does), stats (its disks), manager (config maps, secrets, tokens), cm
// (cgroups), certificate (renewing its two), envvars, logs, remote (the CRI connection), simulated (a runtime
// without containers).
//
// Invariants:
//   - At most one sync of a pod runs at any time.
//   - A pod's volumes go only after the runtime said that none of its containers
//     runs; the API forgets it only after that.
//   - What the kubelet must know of a container after a restart is annotated on the
//     container. Its one file of state is what it allocated to pods (a refused
//     resize must not pass for a granted one). A kubelet that is killed finds its
//     pods running and leaves them so (R71).
//   - Nothing that runs is taken for an orphan before every source has spoken.
//   - It knows nothing of the runtime but CRI, and nothing of the apiserver but its
//     API: no apiserver calls it to run a pod; it watches.
//
// Log levels: 1 shows loop events, podActions and steps; 2 CRI calls that change
// something and statuses written; 6 every CRI call.
//
// Read first: Kubelet.Run, Kubelet.syncLoopIteration, Kubelet.SyncPod; then
// computePodActions in kuberuntime.
//
// # In Kubernetes
//
// cmd/kubelet and pkg/kubelet: kubelet.go (NewMainKubelet, Run, syncLoop, SyncPod),
// pod_workers.go, kuberuntime/kuberuntime_manager.go. Left out: device plugins and DRA (no
// GPUs), CSI (volumes are the node's own), cAdvisor (figures are
// the runtime's), checkpoints, and the cache between PLEG and workers (here a worker
// asks the runtime itself, so there is no stale view to wait out).
package kubelet
