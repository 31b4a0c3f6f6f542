package cri

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/podparent"
)

// The test binary plays several parts by argv[0]: the tests, in a mount and a
// network namespace of their own; the pods' parents; and, as "box", all tools of
// the demo image. So the tests need no image, and touch nothing of the machine
// but a cgroup of their own.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	switch {
	case name == podparent.Argv0:
		os.Exit(podparent.Main(os.Args[1:]))
	case name == "box" && len(os.Args) > 1 && os.Args[1] == "--list":
		fmt.Println("serve\ntool")
	case name == "serve" || name == "tool":
		os.Exit(tool(os.Args[1:]))
	case os.Getuid() != 0:
		fmt.Println("SKIP: these tests run containers, which needs root")
	case dynamicallyLinked():
		fmt.Println("SKIP: this test binary needs libc, which containers lack: run with CGO_ENABLED=0")
	case os.Getenv("CRI_TEST_INSIDE") == "":
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "CRI_TEST_INSIDE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
		err := cmd.Run()
		os.RemoveAll(filepath.Join(os.TempDir(), fmt.Sprintf("cri-test-images-%d", os.Getpid())))
		if err != nil {
			os.Exit(1)
		}
	default:
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Printf("%s %v\n", out, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
}

// dynamicallyLinked says whether this program needs a loader.
func dynamicallyLinked() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Section(".interp") != nil
}

// tool is what containers run in these tests; without arguments it is a server.
func tool(args []string) int {
	if len(args) == 0 {
		http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _ := os.Hostname()
			fmt.Fprintln(w, host, r.RemoteAddr)
		}))
		return 1
	}
	switch args[0] {
	case "say":
		fmt.Println(strings.Join(args[1:], " "))
	case "exit":
		code, _ := strconv.Atoi(args[1])
		return code
	case "cat":
		if len(args) == 1 {
			io.Copy(os.Stdout, os.Stdin)
			return 0
		}
		for _, path := range args[1:] {
			data, err := os.ReadFile(path)
			if err != nil {
				fmt.Println(err)
				return 1
			}
			os.Stdout.Write(data)
		}
	case "write":
		if err := os.WriteFile(args[1], []byte(args[2]), 0o644); err != nil {
			fmt.Println(err)
			return 1
		}
	case "env":
		fmt.Println(os.Getenv(args[1]))
	case "get":
		client := http.Client{Timeout: 5 * time.Second}
		resp, err := client.Get(args[1])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		io.Copy(os.Stdout, resp.Body)
	case "mount": // forbidden to an ordinary container
		fmt.Println(unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	case "unshare": // stopped by seccomp
		fmt.Println(unix.Unshare(unix.CLONE_NEWUTS))
	case "eat": // memory, until stopped
		for b := [][]byte{}; ; b = append(b, bytes.Repeat([]byte{1}, 1<<20)) {
			_ = b
		}
	case "nest": // what systemd and Docker do in a container: a group below the container's for its processes
		if err := nest(); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("nested")
		time.Sleep(time.Hour)
	case "wait":
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("waiting")
		<-term
		return 7
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ignoring")
		time.Sleep(time.Hour)
	}
	return 0
}

// node is a running runtime, and a client of it.
type node struct {
	t   *testing.T
	cfg Config
	runtimeapi.RuntimeServiceClient
	images runtimeapi.ImageServiceClient
	within *CRI // the same, without the socket
	halt   func()
	logs   int // how many containers have been given a log
}

// startNode runs a runtime in a directory of the test's own. At the end of the
// test everything is cleaned up, and that nothing is left is checked.
func startNode(t *testing.T) *node {
	t.Helper()
	cfg := Config{Root: filepath.Join(t.TempDir(), "cri"), NodeName: "n", PodCIDR: "10.244.7.0/24",
		CgroupRoot: fmt.Sprintf("hyperkube-test-%d", os.Getpid()), SelfExe: "/proc/self/exe", Box: "/proc/self/exe"}
	n := &node{t: t, cfg: cfg}
	n.shareImages()
	n.start()
	t.Cleanup(func() {
		n.halt()
		if err := CleanUp(context.Background(), n.cfg); err != nil {
			t.Error(err)
		}
		if err := CleanUp(context.Background(), n.cfg); err != nil {
			t.Errorf("a second clean-up: %v", err)
		}
		n.checkNothingLeft()
	})
	return n
}

// shareImages gives a node the image store that the first node made, as hard
// links: the demo image of these tests is large, being the test binary.
func (n *node) shareImages() {
	n.t.Helper()
	template := filepath.Join(os.TempDir(), fmt.Sprintf("cri-test-images-%d", os.Getppid()))
	if _, err := os.Stat(template); err != nil {
		n.start()
		n.halt()
		if out, err := exec.Command("cp", "-al", filepath.Join(n.cfg.Root, "images"), template).CombinedOutput(); err != nil {
			n.t.Fatalf("%s %v", out, err)
		}
		return
	}
	if err := os.MkdirAll(n.cfg.Root, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-al", template, filepath.Join(n.cfg.Root, "images")).CombinedOutput(); err != nil {
		n.t.Fatalf("%s %v", out, err)
	}
}

// start begins a life of the runtime; halt ends it without touching the pods, as
// a crash would.
func (n *node) start() {
	n.t.Helper()
	c, err := New(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	conn, err := grpc.NewClient("unix://"+filepath.Join(n.cfg.Root, "cri.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.within, n.RuntimeServiceClient, n.images = c, runtimeapi.NewRuntimeServiceClient(conn), runtimeapi.NewImageServiceClient(conn)
	halted := false
	n.halt = func() {
		if halted {
			return
		}
		halted = true
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			n.t.Error(err)
		}
	}
	wait, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	if _, err := n.Version(wait, &runtimeapi.VersionRequest{}, grpc.WaitForReady(true)); err != nil {
		select {
		case err = <-ended:
			ended <- nil
		default:
		}
		n.t.Fatal(err)
	}
}

func (n *node) checkNothingLeft() {
	n.t.Helper()
	n.checkMountsAndLinks(0)
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/" + n.cfg.CgroupRoot)
	unified, _ := filepath.Glob("/sys/fs/cgroup/" + n.cfg.CgroupRoot)
	if len(cgroups)+len(unified) > 0 {
		n.t.Errorf("cgroups are left: %v %v", cgroups, unified)
	}
	rules, _ := exec.Command("iptables-save").Output()
	if bytes.Contains(rules, []byte("HK-")) {
		n.t.Errorf("iptables rules are left:\n%s", rules)
	}
}

// checkMountsAndLinks looks for what pods had; some links may stay.
func (n *node) checkMountsAndLinks(allowed int) {
	n.t.Helper()
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if bytes.Contains(mounts, []byte(n.cfg.Root)) {
		n.t.Errorf("mounts are left:\n%s", mounts)
	}
	links, _ := net.Interfaces()
	var left []string
	for _, l := range links {
		if strings.HasPrefix(l.Name, "veth") || strings.HasPrefix(l.Name, "hk") {
			left = append(left, l.Name)
		}
	}
	if len(left) > allowed {
		n.t.Errorf("links are left: %v", left)
	}
}

var ctx = context.Background()

// podConfig is a pod of the test's own name.
func (n *node) podConfig(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "uid-" + name},
		Hostname: name, LogDirectory: filepath.Join(n.cfg.Root, "logs", name), Labels: map[string]string{"app": name},
		DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"default.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Linux:     &runtimeapi.LinuxPodSandboxConfig{SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}}}}
}

func (n *node) runPod(config *runtimeapi.PodSandboxConfig) (id string) {
	n.t.Helper()
	resp, err := n.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.PodSandboxId
}

// create makes a container of the demo image in a pod.
func (n *node) create(pod string, sandbox *runtimeapi.PodSandboxConfig, config *runtimeapi.ContainerConfig) (id string) {
	n.t.Helper()
	if config.Metadata == nil {
		config.Metadata = &runtimeapi.ContainerMetadata{Name: "c"}
	}
	config.Image = &runtimeapi.ImageSpec{Image: "hyperkube.local/demo"}
	n.logs++
	config.LogPath = fmt.Sprintf("%d.log", n.logs)
	if config.Linux.GetSecurityContext().GetNamespaceOptions() == nil {
		if config.Linux.GetSecurityContext() == nil {
			config.Linux = &runtimeapi.LinuxContainerConfig{Resources: config.Linux.GetResources(), SecurityContext: &runtimeapi.LinuxContainerSecurityContext{}}
		}
		config.Linux.SecurityContext.NamespaceOptions = &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	}
	resp, err := n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: config, SandboxConfig: sandbox})
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.ContainerId
}

func (n *node) run(pod string, sandbox *runtimeapi.PodSandboxConfig, config *runtimeapi.ContainerConfig) (id string) {
	n.t.Helper()
	id = n.create(pod, sandbox, config)
	if _, err := n.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		n.t.Fatal(err)
	}
	return id
}

// tools is a container that runs one of the tool's commands.
func tools(args ...string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{Command: []string{"tool"}, Args: args}
}

// ended waits for a container's end.
func (n *node) ended(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	var st *runtimeapi.ContainerStatus
	n.eventually("container "+id+" ends", func() bool {
		st = n.status(id)
		return st.State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	return st
}

func (n *node) status(id string) *runtimeapi.ContainerStatus {
	n.t.Helper()
	resp, err := n.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.Status
}

// log is what a container has written, without times and stream names.
func (n *node) log(id string) string {
	n.t.Helper()
	data, err := os.ReadFile(n.status(id).LogPath)
	if err != nil {
		n.t.Fatal(err)
	}
	var text strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		if fields := strings.SplitN(line, " ", 4); len(fields) == 4 {
			text.WriteString(fields[3] + "\n")
		}
	}
	return text.String()
}

// exec runs a command in a container; it must succeed.
func (n *node) exec(id string, cmd ...string) string {
	n.t.Helper()
	resp, err := n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: 20})
	if err != nil {
		n.t.Fatal(err)
	}
	if resp.ExitCode != 0 {
		n.t.Fatalf("%v: exit code %d: %s%s", cmd, resp.ExitCode, resp.Stdout, resp.Stderr)
	}
	return string(resp.Stdout)
}

// eventually polls: what it waits for is another process's doing.
func (n *node) eventually(what string, done func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (n *node) podIP(id string) string {
	n.t.Helper()
	resp, err := n.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.Status.Network.Ip
}
