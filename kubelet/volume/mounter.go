package volume

// mounter is the seam to the kernel: it mounts on Linux as root, and elsewhere
// makes do with plain directories.
type mounter interface {
	// tmpfs mounts a file system in memory at dir, unless one is there; size in
	// bytes, 0 for the kernel's default of half the memory.
	tmpfs(dir string, size int64) error
	// hugetlbfs mounts a file system of huge pages of that size, in bytes, at dir, unless one is there.
	hugetlbfs(dir string, pageSize int64) error
	// device mounts the file system of a block device at dir, unless one is there; an empty device is formatted first.
	device(source, dir, fsType string, options []string) error
	// grow makes the file system of a device, mounted at dir, as large as the device.
	grow(source, dir string) error
	// bindBeneath mounts what root/sub is at target, refusing to leave root by any symlink.
	bindBeneath(root, sub, target string) (path string, err error)
	// unmountUnder unmounts everything at or below dir.
	unmountUnder(dir string) error
}
