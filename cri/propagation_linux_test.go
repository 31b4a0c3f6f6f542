package cri

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A wish for propagation that the node's own mount cannot fulfil is refused when the container is made: the kernel would
// accept it, and nothing would ever come through.
func TestPropagationNeedsPeers(t *testing.T) {
	const in, both = runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL
	mountWith := func(flags ...uintptr) string {
		t.Helper()
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("volume", dir, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		for _, f := range flags {
			if err := unix.Mount("", dir, "", f, ""); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	private, shared := mountWith(unix.MS_PRIVATE), mountWith(unix.MS_SHARED)
	// A mount is a slave of peers: a copy of a shared one.
	slave := mountWith(unix.MS_PRIVATE)
	if err := unix.Mount(shared, slave, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(slave, unix.MNT_DETACH) })
	if err := unix.Mount("", slave, "", unix.MS_SLAVE, ""); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(private, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path    string
		wish    runtimeapi.MountPropagation
		want    string
		refused string
	}{
		{private, runtimeapi.MountPropagation_PROPAGATION_PRIVATE, "", ""},
		{private, in, "", `path "` + private + `" is mounted on "` + private + `" but it is not a shared or slave mount`},
		{private, both, "", `path "` + private + `" is mounted on "` + private + `" but it is not a shared mount`},
		{link, both, "", `path "` + link + `" is mounted on "` + private + `" but it is not a shared mount`},
		{shared, in, "rslave", ""},
		{shared, both, "rshared", ""},
		{slave, in, "rslave", ""},
		{slave, both, "", "but it is not a shared mount"},
	} {
		got, err := propagate(c.path, c.wish)
		if c.refused == "" && (err != nil || got != c.want) {
			t.Errorf("%s, %s: got %q, %v; want %q", c.path, c.wish, got, err, c.want)
		}
		if c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s, %s: got %v, want an error that says: %s", c.path, c.wish, err, c.refused)
		}
	}
}
