// Package images keeps the node's images: their configurations, and their layers
// as directories that the kernel stacks into root filesystems.
//
//	registry ──Pull──┐                       ┌─ blobs/<digest>       configurations
//	archive ───Load──┼─► source ──add──► Store ─ layers-overlay/<chain>  unpacked layers
//	box ──EnsureDemo─┘                       └─ images.json          the list: what exists
//
// An image, in steps:
//
//  1. Its configuration names its layers' contents, by digest. One for another
//     processor is refused here, in words (R66), not by the kernel later.
//  2. Layers that are missing are downloaded, in parallel, or read from the archive.
//  3. Each is unpacked into a temporary directory, from the lowest up, its digest
//     compared, and moved to its place under its chain ID: the digest of it and
//     all below it. So images share what they have in common.
//  4. The list is replaced. Only now does the image exist.
//
// Nouns: a layer is a set of changes to those below it; a whiteout marks a file
// of a lower layer as gone, an opaque directory hides all of one; a chain ID
// names a layer with its base; a driver is how root filesystems are made of
// layers: by an overlay, or by copying where overlay cannot be mounted (R60).
//
// Invariants:
//   - A failed or interrupted pull or load leaves nothing that is listed; what it
//     left otherwise is collected.
//   - An archive cannot write outside its directory: unpacking goes through an
//     os.Root, and links are followed as a chroot would.
//   - A layer that may not have reached the disk before a crash is not believed.
//   - Layers that a container stands on are never removed.
//   - Nothing here contacts a registry unasked.
//
// Read first: `cri/images/pull_linux.go:Store.pull`, `cri/images/add_linux.go:Store.makeLayer`,
// `cri/images/layer_linux.go:unpacker`.
//
// # In Kubernetes
//
// containerd's content store, metadata database, snapshotters and unpacker. The
// kubelet's image manager (pkg/kubelet/images) decides when to pull, and the image
// garbage collector which images to remove. Left out: compressed layers kept
// beside unpacked ones (an image cannot be pushed from here), lazy pulling, and
// signature policies. Mirrors are written as k3s has them
// (`cri/images/registries_linux.go:Registries`). Without chain IDs, two images with a common
// base would store it twice.
package images
