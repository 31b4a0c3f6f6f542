package cgroups

import (
	"os"
	"path/filepath"
	"testing"
)

// Pressure is v2's alone, and nothing where the kernel keeps none.
func TestPressure(t *testing.T) {
	h := &Host{Unified: t.TempDir()}
	if err := os.Mkdir(filepath.Join(h.Unified, "g"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "some avg10=12.50 avg60=3.00 avg300=0.70 total=98765\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=43\n"
	if err := os.WriteFile(filepath.Join(h.Unified, "g/memory.pressure"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	want := Pressure{Some: Stall{Avg10: 12.5, Avg60: 3, Avg300: 0.7, Total: 98765}, Full: Stall{Avg10: 1, Total: 43}}
	if got := h.Pressure("/g", "memory"); got == nil || *got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := h.Pressure("/g", "io"); got != nil {
		t.Errorf("without a file: %+v", got)
	}
	if got := (&Host{Trees: map[string]string{"memory": h.Unified}}).Pressure("/g", "memory"); got != nil {
		t.Errorf("on v1: %+v", got)
	}
}

// Which layout a host has is read from its mounts.
func TestDetect(t *testing.T) {
	const (
		v2     = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
		part   = "90 23 0:26 /machine.slice/a /run/a/cgroup rw - cgroup2 cgroup2 rw\n"
		hybrid = "31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
			"33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	for name, c := range map[string]struct{ mounts, unified, memory string }{
		"v2":                          {v2, "/sys/fs/cgroup", ""},
		"v2, a part of it elsewhere":  {part + v2 + part, "/sys/fs/cgroup", ""},
		"v2, mounted elsewhere alone": {"30 23 0:26 / /cgroup2 rw - cgroup2 none rw\n" + part, "/cgroup2", ""},
		"hybrid is v1":                {hybrid, "", "/sys/fs/cgroup/memory"},
	} {
		h, err := detect(c.mounts)
		if err != nil || h.Unified != c.unified || h.Trees["memory"] != c.memory {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	if _, err := detect("20 1 8:1 / / rw - ext4 /dev/sda rw\n"); err == nil {
		t.Error("a host without cgroups was taken")
	}
}
