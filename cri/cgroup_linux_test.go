package cri

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/cgroups"
	"hyperkube/cri/podparent"
)

// A container sees its own cgroups and cannot change them. In cgroup v2 it sees itself as the root.
func TestCgroupsFromInside(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	id := n.run(n.runPod(config), config, tools("wait"))
	dir := "/sys/fs/cgroup"
	if !hostCgroups(t).V2() {
		dir += "/pids"
	} else if got := n.exec(id, "tool", "cat", "/proc/self/cgroup"); got != "0::/\n" {
		t.Errorf("/proc/self/cgroup is %q", got)
	}
	// An exec session is in the container's groups too.
	if pids := strings.Fields(n.exec(id, "tool", "cat", dir+"/cgroup.procs")); len(pids) != 2 || slices.Contains(pids, "0") {
		t.Errorf("in the container's group are %q, want the container's process and this one", pids)
	}
	resp, err := n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"tool", "write", dir + "/pids.max", "100"}})
	if err != nil || resp.ExitCode != 1 || !strings.Contains(string(resp.Stdout), "read-only") {
		t.Errorf("writing a limit: %v %v", resp, err)
	}
}

// A privileged container has the node's own mount of the cgroups. A mount of its own would change the options of the node's:
// without nsdelegate any container with a writable tree may change its own limits.
func TestPrivilegedContainerLeavesTheNodesCgroupsAlone(t *testing.T) {
	n := startNode(t)
	before := cgroupMountsOfHost(t)
	config := n.podConfig("p")
	config.Linux.SecurityContext = &runtimeapi.LinuxSandboxSecurityContext{Privileged: true}
	c := tools("nest")
	c.Linux = &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{Privileged: true}}
	id := n.run(n.runPod(config), config, c)
	n.eventually("the container is in a group below its own", func() bool {
		return strings.Contains(n.log(id), "nested")
	})
	// Its own group holds no processes now, and in v2 can hold none; an exec session goes where its first process is.
	if got := n.exec(id, "tool", "say", "still", "entered"); got != "still entered\n" {
		t.Errorf("exec said %q", got)
	}
	if after := cgroupMountsOfHost(t); after != before {
		t.Errorf("the node's cgroup mounts were\n%sand are\n%s", before, after)
	}
}

// How long containers and pods waited is told where the kernel tells it (KEP-4205).
func TestPressureIsMeasured(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	id := n.run(pod, config, tools("wait"))
	_, err := os.ReadFile("/proc/pressure/cpu") // there, and not readable, when switched off
	kept := hostCgroups(t).V2() && err == nil
	container, err := n.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil {
		t.Fatal(err)
	}
	sandbox, err := n.PodSandboxStats(ctx, &runtimeapi.PodSandboxStatsRequest{PodSandboxId: pod})
	if err != nil {
		t.Fatal(err)
	}
	c, p := container.Stats, sandbox.Stats.Linux
	for what, got := range map[string]*runtimeapi.PsiStats{"container's CPU": c.Cpu.Psi, "container's memory": c.Memory.Psi, "container's disks": c.Io.GetPsi(),
		"pod's CPU": p.Cpu.Psi, "pod's memory": p.Memory.Psi, "pod's disks": p.Io.GetPsi()} {
		if (got != nil) != kept {
			t.Errorf("pressure of the %s is %v; that the kernel keeps it: %t", what, got, kept)
		}
	}
}

// What a container is shown of the cgroups, by layout and by privilege.
func TestCgroupMounts(t *testing.T) {
	mounts := func(host *cgroups.Host, privileged bool) []podparent.Mount {
		config := &runtimeapi.ContainerConfig{Linux: &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{Privileged: privileged}}}
		return (&specBuilder{c: &CRI{cgroups: host}, k: &container{rec: containerRecord{Cgroup: "/p/c"}}, config: config}).cgroupMounts()
	}
	v2 := &cgroups.Host{Unified: "/cg"}
	if m := mounts(v2, false); len(m) != 1 || m[0].Type != "cgroup2" || m[0].Flags&unix.MS_RDONLY == 0 {
		t.Errorf("v2: %+v, want its own tree, read-only", m)
	}
	if m := mounts(v2, true); len(m) != 1 || m[0].Type != "bind" || m[0].Source != "/cg" || m[0].Flags&unix.MS_RDONLY != 0 {
		t.Errorf("v2, privileged: %+v, want the node's mount, writable", m)
	}
	v1 := &cgroups.Host{Trees: map[string]string{"cpu": "/cg/cpu,cpuacct", "memory": "/cg/memory"}}
	if m := mounts(v1, false); len(m) != 3 || m[1].Source != "/cg/cpu,cpuacct/p/c" || m[1].Target != "/sys/fs/cgroup/cpu,cpuacct" || m[1].Flags&unix.MS_RDONLY == 0 {
		t.Errorf("v1: %+v, want its own group of each tree, read-only", m)
	}
}

func hostCgroups(t *testing.T) *cgroups.Host {
	t.Helper()
	host, err := cgroups.Detect()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// cgroupMountsOfHost are the lines of /proc/mounts, with their options.
func cgroupMountsOfHost(t *testing.T) (found string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " cgroup") {
			found += line
		}
	}
	return found
}

// nest moves this process into a new group below its own, and hands a controller down, after which v2 lets no process
// into the group above. Without v2 there is no such rule, and nothing to do.
func nest() error {
	host, err := cgroups.Detect()
	if err != nil || !host.V2() {
		return err
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	own := filepath.Join(host.Unified, strings.TrimPrefix(strings.TrimSpace(string(data)), "0::"))
	if err := os.Mkdir(filepath.Join(own, "inner"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(own, "inner/cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(own, "cgroup.subtree_control"), []byte("+pids"), 0)
}
