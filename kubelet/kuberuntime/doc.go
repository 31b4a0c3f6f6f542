// Package kuberuntime makes what runs of a pod equal to what the pod says, by
// calls to a container runtime:
//
//	pod ───────┐
//	podStatus ─┼─► computePodActions ─► podActions ─► SyncPod ─► CRI
//	probes ────┘        (pure)          (printed)    (7 steps)
//
// Deciding and acting are apart: the decision is a value that the log shows and a
// table test holds; the acting has no decisions left but back-off.
//
// Nouns: a sandbox is the pod's home; its attempt counts how many the pod has had.
// A container's restart count numbers its log file. A hash of a container's name
// and image, annotated on the running container, tells whether it is still the
// one that the pod asks for.
//
// Invariants: at most one instance of a container runs; containers of a pod start
// one after the other; an init container starts only when all before it have done
// their part; nothing about a pod is kept between two calls.
//
// Read first: computePodActions, kubeGenericRuntimeManager.SyncPod, startContainer.
//
// # In Kubernetes
//
// pkg/kubelet/kuberuntime: kuberuntime_manager.go (computePodActions, SyncPod),
// kuberuntime_container.go (startContainer, killContainer), kuberuntime_sandbox.go.
// Left out: Windows, swap. Without the hash a changed image
// would never be rolled out to a running pod; without the annotations a restarted
// kubelet could not run the preStop hook of a pod that is gone from the API.
package kuberuntime
