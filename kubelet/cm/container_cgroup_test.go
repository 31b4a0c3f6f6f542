package cm

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// On cgroup v2 a container does not swap and is killed as a whole; v1 has no files for that, and a kernel may account no swap.
func TestContainerCgroup(t *testing.T) {
	root := t.TempDir()
	if got := ContainerCgroup(root, false); got != nil {
		t.Errorf("v1: %v, want none", got)
	}
	touch := func(name string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, single bool, want map[string]string) {
		t.Helper()
		if got := ContainerCgroup(root, single); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	touch("cgroup.controllers")
	check("no swap accounting", false, map[string]string{"memory.oom.group": "1"})
	touch("system.slice/memory.swap.max")
	check("usual", false, map[string]string{"memory.oom.group": "1", "memory.swap.max": "0"})
	check("--single-process-oom-kill", true, map[string]string{"memory.swap.max": "0"})
}
