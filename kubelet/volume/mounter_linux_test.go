package volume

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// An emptyDir of huge pages is a file system of that size of pages, is mounted once, and goes with the pod. The kernel needs no
// pages for it.
func TestHugetlbfs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, mounts := t.TempDir(), kernelMounter{}
	for range 2 {
		err := mounts.hugetlbfs(dir, 2<<20)
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
			t.Skipf("this kernel has no pages of 2 MiB, or lets nobody mount them: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil || stat.Type != unix.HUGETLBFS_MAGIC || stat.Bsize != 2<<20 {
		t.Errorf("file system %#x, blocks of %d, %v", stat.Type, stat.Bsize, err)
	}
	if err := mounts.unmountUnder(dir); err != nil {
		t.Fatal(err)
	}
	if err := unix.Statfs(dir, &stat); err != nil || stat.Type == unix.HUGETLBFS_MAGIC {
		t.Errorf("it is still there: %v", err)
	}
}
