package cri

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ownUsers gives a pod a user namespace whose 0 is first on the node.
func ownUsers(config *runtimeapi.PodSandboxConfig, first uint32) []*runtimeapi.IDMapping {
	maps := []*runtimeapi.IDMapping{{HostId: first, ContainerId: 0, Length: 65536}}
	config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_POD, Uids: maps, Gids: maps}
	return maps
}

// needUserNS skips on a host whose kernel has no user namespaces or ID-mapped mounts.
func (n *node) needUserNS() {
	n.t.Helper()
	resp, err := n.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		n.t.Fatal(err)
	}
	if !resp.RuntimeHandlers[0].Features.UserNamespaces {
		n.t.Skip("SKIP: this host makes no user namespaces with ID-mapped mounts")
	}
}

// hostUsers: false (KEP-127): root in the pod is nobody on the node, and files keep
// on disk the owners that the pod sees.
func TestPodHasUsersOfItsOwn(t *testing.T) {
	n := startNode(t)
	n.needUserNS()
	config := n.podConfig("p")
	maps := ownUsers(config, 7*65536)
	pod := n.runPod(config)
	volume := filepath.Join(n.cfg.Root, "volume")
	if err := os.MkdirAll(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(volume, "given"), []byte("by the node's root"), 0o600)
	c := tools("wait")
	c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/data", HostPath: volume, UidMappings: maps, GidMappings: maps}}
	id := n.run(pod, config, c)
	if got := strings.Fields(n.exec(id, "tool", "cat", "/proc/self/uid_map")); strings.Join(got, " ") != "0 458752 65536" {
		t.Errorf("uid_map %v", got)
	}
	if got := n.exec(id, "tool", "cat", "/data/given"); got != "by the node's root" {
		t.Errorf("a volume's file: %q", got)
	}
	n.exec(id, "tool", "write", "/data/taken", "x")
	n.exec(id, "tool", "write", "/etc/new", "x")
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(volume, "taken"), &st); err != nil || st.Uid != 0 {
		t.Errorf("the pod's root wrote a file that is %d's on disk, %v", st.Uid, err)
	}
	pid := statusPid(t, n, id)
	process, err := os.Stat("/proc/" + pid)
	if err != nil || process.Sys().(*syscall.Stat_t).Uid != 7*65536 {
		t.Errorf("on the node the process is of %d, %v", process.Sys().(*syscall.Stat_t).Uid, err)
	}
	if got := n.exec(id, "tool", "mount"); strings.Contains(got, "<nil>") {
		t.Errorf("the pod's root may mount: %q", got)
	}
	// Another user, a log, an exit code.
	other := tools("cat", "/proc/self/gid_map")
	other.Metadata = &runtimeapi.ContainerMetadata{Name: "other"}
	other.Linux = &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
		RunAsUser: &runtimeapi.Int64Value{Value: 1000}, NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}
	second := n.run(pod, config, other)
	if st := n.ended(second); st.ExitCode != 0 || !strings.Contains(n.log(second), "458752") {
		t.Errorf("as another user: %v, %q", st, n.log(second))
	}
	// It outlives the runtime, and the next life can enter it.
	n.halt()
	n.start()
	if got := n.exec(id, "tool", "say", "still"); got != "still\n" {
		t.Errorf("after a restart of the runtime: %q", got)
	}
}

func statusPid(t *testing.T, n *node, id string) string {
	t.Helper()
	resp, err := n.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(resp.Info["info"], `"pid":`)
	pid, _, _ := strings.Cut(rest, ",")
	return pid
}

// All containers of a pod share its user namespace, also with a shared PID namespace.
func TestUsersOfItsOwnWithASharedPIDNamespace(t *testing.T) {
	n := startNode(t)
	n.needUserNS()
	config := n.podConfig("p")
	ownUsers(config, 9*65536)
	config.Linux.SecurityContext.NamespaceOptions.Pid = runtimeapi.NamespaceMode_POD
	pod := n.runPod(config)
	c := tools("wait")
	c.Linux = &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
		ReadonlyRootfs: true, NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_POD}}}
	id := n.run(pod, config, c)
	if got := n.exec(id, "tool", "cat", "/proc/1/comm"); got != "podparent\n" && !strings.HasPrefix(got, "exe") && got != "cri.test\n" {
		t.Errorf("process 1 of the pod is %q", got)
	}
	resp, err := n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"tool", "write", "/etc/x", "x"}})
	if err != nil || resp.ExitCode == 0 {
		t.Errorf("writing to a read-only root: %v %v", resp, err)
	}
}

// Without the process that bears its others, a pod could be entered by nobody: its
// sandbox is broken, and the kubelet makes another.
func TestDeathOfTheMidwifeBreaksTheSandbox(t *testing.T) {
	n := startNode(t)
	n.needUserNS()
	config := n.podConfig("p")
	ownUsers(config, 11*65536)
	pod := n.runPod(config)
	id := n.run(pod, config, tools("stubborn"))
	midwife := 0
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		if group, _ := os.ReadFile(dir + "/cgroup"); string(args) == "podparent\x00midwife\x00" && strings.Contains(string(group), pod) {
			midwife, _ = strconv.Atoi(filepath.Base(dir))
		}
	}
	if midwife == 0 {
		t.Fatal("no midwife is seen")
	}
	unix.Kill(midwife, unix.SIGKILL)
	n.eventually("the sandbox is not ready", func() bool {
		resp, err := n.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
		return err == nil && resp.Status.State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	})
	if st := n.ended(id); st.ExitCode == 0 {
		t.Errorf("its container: %v", st)
	}
}

func TestImpossibleUserNamespacesAreRefused(t *testing.T) {
	n := startNode(t)
	n.needUserNS()
	for name, change := range map[string]func(*runtimeapi.NamespaceOption){
		"the node's network": func(o *runtimeapi.NamespaceOption) { o.Network = runtimeapi.NamespaceMode_NODE },
		"mode CONTAINER":     func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Mode = runtimeapi.NamespaceMode_CONTAINER },
		"no numbers":         func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Uids = nil },
		"the node's root":    func(o *runtimeapi.NamespaceOption) { o.UsernsOptions.Uids[0].HostId = 0 },
	} {
		config := n.podConfig("p")
		ownUsers(config, 65536)
		change(config.Linux.SecurityContext.NamespaceOptions)
		if _, err := n.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An image as a volume (KEP-4639), for pods with and without users of their own.
func TestImageIsAVolume(t *testing.T) {
	n := startNode(t)
	for name, own := range map[string]bool{"users of the node": false, "users of its own": true} {
		t.Run(name, func(t *testing.T) {
			config := n.podConfig("p")
			if own {
				n.needUserNS()
				ownUsers(config, 65536)
			}
			pod := n.runPod(config)
			c := tools("wait")
			image := &runtimeapi.ImageSpec{Image: "hyperkube.local/demo"}
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/image", Image: image, Readonly: true}, {ContainerPath: "/part", Image: image, Readonly: true, ImageSubPath: "etc"}}
			id := n.run(pod, config, c)
			whole, part := n.exec(id, "tool", "cat", "/image/etc/passwd"), n.exec(id, "tool", "cat", "/part/passwd")
			if whole == "" || whole != part {
				t.Errorf("in the image %q, in its part %q", whole, part)
			}
			resp, err := n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"tool", "write", "/image/x", "x"}})
			if err != nil || resp.ExitCode == 0 {
				t.Errorf("writing to it: %v %v", resp, err)
			}
			mounts := n.status(id).Mounts
			if len(mounts) != 2 || mounts[0].Image.ImageRef == "" {
				t.Errorf("reported: %v", mounts)
			}
			c = tools("wait")
			c.Image, c.Metadata = image, &runtimeapi.ContainerMetadata{Name: "d"}
			c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/part", Image: image, Readonly: true, ImageSubPath: "not/there"}}
			if _, err := n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: c, SandboxConfig: config}); err == nil || !strings.Contains(err.Error(), "not/there") {
				t.Errorf("a part that is not there: %v", err)
			}
		})
	}
}
