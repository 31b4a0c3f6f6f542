package cri

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/podparent"
)

// lives is how many pods TestKilledPodsLeaveNothing has live and die.
const lives = 200

// held is what pods may hold of a node; of nothing more may be there afterwards.
type held struct {
	processes, cgroups, namespaces, addresses []string
	sandboxes                                 int
}

// heldBy looks at the node, not at the runtime's books.
func (n *node) heldBy() (h held) {
	n.t.Helper()
	ours := map[string]bool{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		// A pod's processes are known by their cgroup, their parent by its argument too.
		group, _ := os.ReadFile(dir + "/cgroup")
		args, _ := os.ReadFile(dir + "/cmdline")
		name, _, _ := strings.Cut(string(args), "\x00")
		if !strings.Contains(string(group), n.cfg.CgroupRoot) && !(name == podparent.Argv0 && strings.Contains(string(args), n.cfg.Root)) {
			continue
		}
		status, _ := os.ReadFile(dir + "/stat")
		if strings.Contains(string(status), ") Z") { // collected by whoever is process 1 here
			continue
		}
		h.processes = append(h.processes, filepath.Base(dir)+" "+strings.ReplaceAll(string(args), "\x00", " "))
		for _, kind := range []string{"net", "mnt", "pid", "user"} {
			inode, _ := os.Readlink(dir + "/ns/" + kind)
			if own, _ := os.Readlink("/proc/self/ns/" + kind); inode != own && inode != "" {
				ours[inode] = true
			}
		}
	}
	for inode := range ours {
		h.namespaces = append(h.namespaces, inode)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.cfg.CgroupRoot + "/pods/*")
	unified, _ := filepath.Glob("/sys/fs/cgroup/" + n.cfg.CgroupRoot + "/pods/*")
	for _, group := range slices.Concat(groups, unified) {
		if info, err := os.Stat(group); err == nil && info.IsDir() {
			h.cgroups = append(h.cgroups, group)
		}
	}
	files, _ := filepath.Glob(filepath.Join(n.cfg.Root, "cni", "data", "*", "*"))
	for _, file := range files {
		if strings.Contains(filepath.Base(file), ".") && filepath.Base(file)[0] != '.' {
			h.addresses = append(h.addresses, file)
		}
	}
	all, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	h.sandboxes = len(all.Items)
	return h
}

// Issue 5: over 200 pod lives with random kills the runtime leaks no mount,
// namespace, cgroup, veth, address or process. Killed are containers, pods'
// parents, and, half-way and again, the runtime itself while calls are under way.
func TestKilledPodsLeaveNothing(t *testing.T) {
	n := startNode(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	// What is looked for is seen while a pod has it. Otherwise this test could not fail.
	config := n.podConfig("seen")
	ownUsers(config, 65536)
	n.runPod(config)
	if h := n.heldBy(); len(h.processes) == 0 || len(h.cgroups) == 0 || len(h.namespaces) == 0 || len(h.addresses) == 0 || h.sandboxes != 1 {
		t.Fatalf("a pod is not seen to hold something: %+v", h)
	}
	n.sweep()
	for part := range 2 {
		var wg sync.WaitGroup
		work := make(chan int)
		for range 4 {
			wg.Go(func() {
				for i := range work {
					n.liveAndDie(rand.New(rand.NewPCG(seed, uint64(i))), i)
				}
			})
		}
		for i := range lives / 2 {
			work <- part*lives/2 + i
		}
		close(work)
		if part == 0 { // the runtime's end, with four lives under way
			n.halt()
			wg.Wait()
			n.start()
			continue
		}
		wg.Wait()
	}
	n.halt() // what is left is found by the next life
	n.start()
	n.sweep()
	n.eventually("the last process of a pod ends", func() bool { return len(n.heldBy().processes) == 0 })
	if h := n.heldBy(); len(h.cgroups)+len(h.namespaces)+len(h.addresses)+h.sandboxes > 0 {
		t.Errorf("left: %+v", h)
	}
	n.checkMountsAndLinks(1) // the bridge
	if dirs, _ := os.ReadDir(filepath.Join(n.cfg.Root, "pods")); len(dirs) > 0 {
		t.Errorf("%d directories are left, one of them %s", len(dirs), dirs[0].Name())
	}
}

// liveAndDie is one life. Calls may fail: something was killed, or the runtime is gone.
func (n *node) liveAndDie(dice *rand.Rand, i int) {
	config := n.podConfig(fmt.Sprintf("p%d", i))
	if dice.IntN(4) == 0 {
		ownUsers(config, uint32(i+1)*65536)
	}
	resp, err := n.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		return
	}
	pod := resp.PodSandboxId
	c := tools("stubborn")
	c.Metadata, c.Image = &runtimeapi.ContainerMetadata{Name: "c"}, &runtimeapi.ImageSpec{Image: "hyperkube.local/demo"}
	c.Linux = &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}
	created, err := n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: config})
	if err == nil && dice.IntN(8) > 0 {
		n.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created.ContainerId})
	}
	client := podparent.Client{Dir: filepath.Join(n.cfg.Root, "pods", pod)}
	switch dice.IntN(4) {
	case 0: // the parent, which holds everything together
		if state, alive, _ := client.State(); alive {
			unix.Kill(state.Pid, unix.SIGKILL)
		}
	case 1: // the container
		if created != nil {
			if st, err := client.ReadStatus(created.ContainerId); err == nil && st.Pid > 0 {
				unix.Kill(st.Pid, unix.SIGKILL)
			}
		}
	case 2: // any process of the pod, the midwife among them
		if pids, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.cfg.CgroupRoot + "/pods/" + pod + "/*/cgroup.procs"); len(pids) > 0 {
			data, _ := os.ReadFile(pids[dice.IntN(len(pids))])
			if pid, err := strconv.Atoi(strings.TrimSpace(strings.Split(string(data), "\n")[0])); err == nil {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	if dice.IntN(3) == 0 {
		n.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod})
	}
	n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod})
}

// sweep removes the pods whose lives the runtime's end has cut short.
func (n *node) sweep() {
	n.t.Helper()
	all, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, s := range all.Items {
		if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: s.Id}); err != nil {
			n.t.Errorf("removing %s: %v", s.Id, err)
		}
	}
}
