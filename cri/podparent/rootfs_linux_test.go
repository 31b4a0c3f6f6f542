package podparent

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// Bidirectional and HostToContainer on the mount that the container's root lies on too, as on most nodes: the first is in the same
// peer group as the node's, so that mounts go both ways, the second a slave of it.
func TestPropagation(t *testing.T) {
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, "") })
	both := t.TempDir()
	late := filepath.Join(both, "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	spec := makeSpec(t, c, "c", "wait")
	spec.Mounts = append(spec.Mounts,
		Mount{Type: "bind", Source: both, Target: "/both", Propagation: "rshared"},
		Mount{Type: "bind", Source: both, Target: "/in", Propagation: "rslave"})
	if err := c.WriteSpec(spec); err != nil {
		t.Fatal(err)
	}
	pid, err := c.Start(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("late", late, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(late, unix.MNT_DETACH) })
	group := peers(t, "self", late, "shared")
	for target, kind := range map[string]string{"/both/late": "shared", "/in/late": "master"} {
		if got := peers(t, fmt.Sprint(pid), target, kind); got == "" || got != group {
			t.Errorf("%s is %s:%q, want %q", target, kind, got, group)
		}
	}
	if root := peers(t, "self", spec.Root.Path, "shared"); root != "" {
		t.Errorf("the container's root is seen on the node")
	}
}

// peers is the group that a process' mount is shared with, or a slave of.
func peers(t *testing.T, pid, target, kind string) string {
	t.Helper()
	table, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(` ` + regexp.QuoteMeta(target) + ` .*\b` + kind + `:(\d+)`).FindSubmatch(table)
	if found == nil {
		return ""
	}
	return string(found[1])
}
