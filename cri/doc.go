// Package cri is the container runtime of a node: what makes processes into
// containers, behind the Container Runtime Interface, the gRPC socket by which
// the kubelet (ours, upstream's, or crictl) asks for them.
//
//	kubelet ──RunPodSandbox, CreateContainer, StartContainer…──► cri.sock
//	                                                              │
//	   images.Store   cgroups.Host   network.Network (CNI)  ◄── CRI ──► streams (exec, attach, port-forward)
//	                                                              │ parent.sock, one a pod
//	                                             podparent ◄──────┘
//	                                              ├─ container (namespaces, cgroup, image layers)
//	                                              └─ container
//
// A pod, in steps:
//
//  1. RunPodSandbox: a directory, a cgroup, the pod's parent process in the
//     pod's namespaces, a network. There is no pause image.
//  2. CreateContainer: everything about the container is decided and written
//     down as spec.json (`cri/spec_linux.go:specBuilder`). No process yet.
//  3. StartContainer: the parent makes the process; the page to read is
//     `cri/podparent/birth_linux.go:Parent.begin`.
//  4. The parent writes the container's log, waits for its end, and writes the
//     exit code to disk. It tells us, if we are there.
//  5. StopPodSandbox gives back all that the pod holds of the node;
//     RemovePodSandbox removes the directory.
//
// On disk, below Root: pods/<id>/ is a sandbox (sandbox.json, parent.json,
// parent.sock, state.json, resolv.conf, shm/), pods/<id>/containers/<id>/ a
// container (container.json, spec.json, status.json, upper/), images/ the image
// store, bin/ the small programs, cni/ configurations, plugins and addresses.
//
// Nouns. A sandbox is a pod's surroundings, a container what runs in them. The
// parent is the process that holds a pod together. A record is what we have
// written down; a status is what the parent has.
//
// Invariants:
//   - The disk comes first: a sandbox is recorded as being made before anything
//     of it exists, and its record is removed before its directory. So whatever a
//     kill -9 leaves is found by the next start, adopted or taken apart (R71).
//   - Everything that is made for a pod on the node is undone by one function,
//     `cri/sandbox_linux.go:CRI.takeApart`, whose steps may all be repeated.
//   - Containers' root filesystems are mounted in their own mount namespaces
//     only: nothing has to be unmounted when they end.
//   - The runtime never asks whether a process is still there by its pid alone.
//   - This package knows no Kubernetes object: no pod spec, no API server.
//
// Read first: `cri/cri_linux.go:CRI.Run`, `cri/sandbox_linux.go:CRI.RunPodSandbox`,
// `cri/podparent/birth_linux.go:Parent.begin`.
//
// # In Kubernetes
//
// The runtime is another project: containerd (internal/cri/server:
// RunPodSandbox, CreateContainer) or CRI-O, which call runc for what birth does,
// and run a shim process for each pod, as podparent is here. Left out:
// snapshotters other than overlay and copy, sandboxes as virtual machines,
// runtime handlers, SELinux labels, checkpoints, NRI plugins, and CDI devices with
// hooks (a container that asks for one is refused by name: hooks look for their
// container in an OCI bundle, which is not made here). Without the shim's
// counterpart, a restart of the runtime would end every container of the node.
package cri
