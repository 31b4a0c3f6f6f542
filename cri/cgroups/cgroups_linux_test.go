package cgroups

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// R62: both layouts get the same wishes in their own words.
func TestLimitsInBothLayouts(t *testing.T) {
	l := Limits{CPUShares: 1024, CPUQuota: 50000, CPUPeriod: 100000, Memory: 64 << 20, MemorySwap: 96 << 20, Pids: -1, CPUs: "0-1",
		HugePages: map[string]uint64{"2MB": 0}, Unified: map[string]string{"memory.oom.group": "1"}}
	v1 := []setting{{"cpu", "cpu.shares", "1024"}, {"cpu", "cpu.cfs_period_us", "100000"}, {"cpu", "cpu.cfs_quota_us", "50000"},
		{"memory", "memory.limit_in_bytes", "67108864"}, {"memory", "memory.memsw.limit_in_bytes", "100663296"}, {"pids", "pids.max", "max"},
		{"cpuset", "cpuset.cpus", "0-1"}, {"hugetlb", "hugetlb.2MB.limit_in_bytes", "0"}, {"hugetlb", "hugetlb.2MB.rsvd.limit_in_bytes", "0"}}
	v2 := []setting{{"cpu", "cpu.weight", "100"}, {"cpu", "cpu.max", "50000 100000"}, {"memory", "memory.max", "67108864"},
		{"memory", "memory.swap.max", "33554432"}, {"pids", "pids.max", "max"}, {"cpuset", "cpuset.cpus", "0-1"},
		{"hugetlb", "hugetlb.2MB.max", "0"}, {"hugetlb", "hugetlb.2MB.rsvd.max", "0"}, {"memory", "memory.oom.group", "1"}}
	if got := l.v1(); !reflect.DeepEqual(got, v1) {
		t.Errorf("v1: %v", got)
	}
	if got := l.v2(); !reflect.DeepEqual(got, v2) {
		t.Errorf("v2: %v", got)
	}
	if got := (Limits{}).v1(); len(got) != 0 {
		t.Errorf("nothing asked for: %v", got)
	}
	if got := (Limits{CPUQuota: -1}).v2(); !reflect.DeepEqual(got, []setting{{"cpu", "cpu.max", "max 100000"}}) {
		t.Errorf("no quota: %v", got)
	}
}

func TestWeightMeetsBothDefaults(t *testing.T) {
	for shares, want := range map[int64]int64{0: 1, 2: 1, 102: 17, 1024: 100, 262144: 10000, 1 << 30: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("%d shares: weight %d, want %d", shares, got, want)
		}
	}
}

// layouts are those that this machine has: v1, and v2, also as an empty tree beside v1.
func layouts(t *testing.T) map[string]*Host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("cgroups are made by root")
	}
	found := map[string]*Host{}
	if h, err := Detect(); err == nil {
		found[map[bool]string{true: "v2", false: "v1"}[h.V2()]] = h
	}
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err == nil {
		found["v2"] = &Host{Unified: "/sys/fs/cgroup/unified"}
	}
	if len(found) == 0 {
		t.Skip("no cgroup file system")
	}
	return found
}

func TestGroupsHoldProcessesAndGoAway(t *testing.T) {
	for name, h := range layouts(t) {
		t.Run(name, func(t *testing.T) {
			top := fmt.Sprintf("/hyperkube-cgroups-test-%d", os.Getpid())
			group := top + "/pod/container"
			defer h.Remove(top)
			for range 2 {
				if err := h.Create(group); err != nil {
					t.Fatal(err)
				}
			}
			if err := h.Apply(group, Limits{CPUShares: 512, Memory: 32 << 20, MemorySwap: 32 << 20, Pids: 50}); err != nil {
				t.Error(err)
			}
			if err := h.Apply(group, Limits{Memory: 64 << 20, MemorySwap: 64 << 20}); err != nil {
				t.Errorf("raising: %v", err)
			}
			if err := h.Apply(group, Limits{Memory: 16 << 20, MemorySwap: 16 << 20}); err != nil {
				t.Errorf("lowering: %v", err)
			}
			cmd := exec.Command("sleep", "100")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for _, dir := range h.Dirs(group) {
				if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
					t.Fatal(err)
				}
			}
			if pids := h.Pids(group); len(pids) != 1 || pids[0] != cmd.Process.Pid {
				t.Errorf("processes %v", pids)
			}
			if _, err := h.Measure(group); err != nil {
				t.Error(err)
			}
			go cmd.Wait() // so that the killed process leaves
			for range 2 {
				if err := h.Remove(top); err != nil {
					t.Error(err)
				}
			}
			if h.Exists(top) {
				t.Error("the group is still there")
			}
		})
	}
}

// What is not allowed cannot be opened: by v1's list, and by v2's program.
func TestDevices(t *testing.T) {
	for name, h := range layouts(t) {
		t.Run(name, func(t *testing.T) {
			group := fmt.Sprintf("/hyperkube-devices-test-%d", os.Getpid())
			defer h.Remove(group)
			if err := h.Create(group); err != nil {
				t.Fatal(err)
			}
			rules := append(StandardDevices(), DeviceRule{'c', 10, 235, "r"})
			if err := h.AllowDevices(group, rules); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for node, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "kmsg": unix.Mkdev(1, 11), "readonly": unix.Mkdev(10, 235)} {
				if err := unix.Mknod(filepath.Join(dir, node), unix.S_IFCHR|0o666, int(dev)); err != nil {
					t.Fatal(err)
				}
			}
			script := "echo $$ > /dev/null; read go; for f in null kmsg; do (: < " + dir + "/$f) 2>/dev/null && echo $f yes || echo $f no; done; (: > " + dir + "/readonly) 2>&1 | grep -c 'not permitted'"
			cmd := exec.Command("sh", "-c", script)
			in, _ := cmd.StdinPipe()
			var out strings.Builder
			cmd.Stdout = &out
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for _, d := range h.Dirs(group) {
				if err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
					t.Error(err)
				}
			}
			in.Write([]byte("go\n"))
			cmd.Wait()
			if got := out.String(); got != "null yes\nkmsg no\n1\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestRemoveTakesUnusedTreesAlong: the kubelet and systemd make groups in trees that hold no limits;
// after a kill -9 nobody else removes them (R72).
func TestRemoveTakesUnusedTreesAlong(t *testing.T) {
	memory, systemd := t.TempDir(), t.TempDir()
	h := &Host{Trees: map[string]string{"memory": memory}, others: []string{systemd}}
	for _, dir := range []string{memory, systemd} {
		if err := os.MkdirAll(filepath.Join(dir, "hyperkube/node/kubepods"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Remove("/hyperkube/node"); err != nil {
		t.Fatal(err)
	}
	h.RemoveEmpty("/hyperkube", "/")
	for _, dir := range []string{memory, systemd} {
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}
