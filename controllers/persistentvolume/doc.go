// Package persistentvolume binds claims and volumes to each other, one to one, and decides what becomes of a
// volume whose claim is gone.
//
//	PersistentVolumeClaim ──┐                        ┌─► syncClaim  ── not bound ─► syncUnboundClaim: find, or ask for, a volume
//	PersistentVolume ───────┼─► "pvc/NS/NAME" ───────┤                └─ bound ───► syncBoundClaim: is it still there?
//	StorageClass, Pod ──────┘   "pv/NAME"            └─► syncVolume ── claim there ► Available or Bound
//	                                                                  └─ gone ─────► Released ─► reclaimVolume: Retain, Delete, Recycle
//
// A binding is two pointers: the volume's spec.claimRef and the claim's spec.volumeName. There is no transaction over
// two objects, so it is made in four writes (`controllers/persistentvolume/bind.go:Controller.bind`), any of which may
// be the last one before a crash:
//
//  1. volume.spec.claimRef: from here on no other claim can have the volume,
//  2. volume.status: Bound,
//  3. claim.spec.volumeName, with the annotation pv.kubernetes.io/bind-completed,
//  4. claim.status: Bound, with the volume's capacity.
//
// Whoever finds a half of it goes on with the next step. A person may make either half beforehand: a claim that names its
// volume, or a volume that names its claim, is pre-bound; the annotation bound-by-controller tells ours from theirs, so
// that what a person wrote is never undone.
//
// Nouns: a claim whose class says WaitForFirstConsumer is bound by the scheduler, which knows the node
// (package volumebinding): it writes the volume's claimRef, or the claim's annotation selected-node, and the rest is done
// here. An external provisioner makes volumes for the classes that name it; all it is told is the claim's annotation
// storage-provisioner. `hyperkube storage` is one.
//
// Invariants: a volume has one claim, and a claim one volume. A volume that had a claim is never given to another,
// unless it is recycled: it holds somebody's data. A claim that has lost its volume is Lost for ever, rather than get
// another, empty one. Before anything is called gone the apiserver is asked, not the cache. One worker: two claims
// would only race for the same volume; the loser's write meets a conflict and it looks again.
//
// Read first: `controllers/persistentvolume/pv_controller.go:Controller.syncUnboundClaim`,
// `controllers/persistentvolume/bind.go:Controller.bind`, `controllers/persistentvolume/sync_volume.go:Controller.syncVolume`.
//
// # In Kubernetes
//
// pkg/controller/volume/persistentvolume (pv_controller.go: syncClaim, syncUnboundClaim, syncBoundClaim, syncVolume;
// index.go; component-helpers' storage/volume, which is used here too). Left out: the volume plugins inside the
// controller manager, which make and delete cloud disks and run a pod to recycle an NFS share: all provisioning is
// external here, Recycle always fails as it does upstream for a volume without a recycler, and so does Delete of a volume
// that nobody has provisioned; the migration of such plugins to CSI; the cache of one's own writes, instead of
// which a stale read ends in a conflict and another look; and the resync of 15 seconds, instead of which the events of
// volumes, classes and pods bring the waiting claims back.
package persistentvolume
