// Package storage gives a plain cluster volumes: it makes a directory on the node for each claim of the StorageClass
// local, which is the default one, and removes it when the claim is gone.
//
//	claim with storage-provisioner: hyperkube.local/storage, and selected-node ──► provision: DIR/nodes/NODE/volumes/PV, and the PV
//	volume of ours, Released, reclaim policy Delete ─────────────────────────────► delete: the directory, then the PV
//	claim that asks for more than it has ────────────────────────────────────────► resize: the PV's and the claim's capacity
//
// Around it, one claim's life:
//
//  1. The claim is created; the class says WaitForFirstConsumer, so nothing happens.
//  2. A pod that mounts it is scheduled: the scheduler writes its node on the claim (package volumebinding).
//  3. The binder (package persistentvolume) writes on it whose turn it is: ours.
//  4. We make the directory, then the volume, which names the claim and can be reached from that node only.
//  5. The binder completes the binding, the scheduler binds the pod, the kubelet mounts the directory.
//  6. The claim is deleted; when no pod has it any more the binder calls the volume Released, and we delete it.
//
// Nouns: one process serves the nodes whose folder lies in its data directory. In a cluster of several machines each
// runs its own; a claim for a node elsewhere is not ours.
//
// Invariants: a volume's path is computed, never taken from the object: what is deleted is DIR/nodes/NODE/volumes/NAME
// of a volume that was provisioned by us, whatever its path says. The directory goes before the object: after a
// crash in between the object brings us back. Nothing enforces a volume's size: it is a directory on the node's disk.
//
// Read first: `addons/storage/storage.go:Provisioner.syncClaim`, `addons/storage/provision.go:Provisioner.provision`.
//
// # In Kubernetes
//
// There is no such part in Kubernetes itself. The form is that of every CSI driver's sidecars external-provisioner and
// external-resizer (kubernetes-csi; sigs.k8s.io/sig-storage-lib-external-provisioner); the job is that of rancher's
// local-path-provisioner in k3s and kind, which starts a pod for each directory. Left out: volumes as block devices, quotas,
// snapshots, CSI itself. Without the finalizer on the volumes, one that is deleted by hand before its claim would leave
// its directory behind.
package storage
