package cri

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/podparent"
)

// S4-08: RunPodSandbox over a real socket makes a network that really connects.
func TestPodsReachEachOtherAndTheNode(t *testing.T) {
	n := startNode(t)
	web := n.podConfig("web")
	webPod := n.runPod(web)
	n.run(webPod, web, &runtimeapi.ContainerConfig{})
	ip := n.podIP(webPod)
	if !strings.HasPrefix(ip, "10.244.7.") {
		t.Fatalf("address %q", ip)
	}
	var answer []byte
	n.eventually("the server answers the node", func() bool {
		resp, err := http.Get("http://" + ip + ":8080/")
		if err != nil {
			return false
		}
		answer, _ = io.ReadAll(resp.Body)
		return true
	})
	if !strings.HasPrefix(string(answer), "web 10.244.7.1:") {
		t.Errorf("the node got %q", answer)
	}
	client := n.podConfig("client")
	clientPod := n.runPod(client)
	c := n.run(clientPod, client, tools("wait"))
	got := n.exec(c, "tool", "get", "http://"+ip+":8080/")
	// The pod sees the other pod's own address: nothing in between translates it.
	if want := "web " + n.podIP(clientPod) + ":"; !strings.HasPrefix(got, want) {
		t.Errorf("the pod got %q, want %q", got, want)
	}
}

func TestContainerHasWhatItsPodAsksFor(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	volume := filepath.Join(n.cfg.Root, "volume")
	c := tools("wait")
	c.Envs = []*runtimeapi.KeyValue{{Key: "COLOUR", Value: []byte("green")}}
	c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/data", HostPath: volume}, {ContainerPath: "/ro", HostPath: volume, Readonly: true}}
	id := n.run(pod, config, c)
	if got := n.exec(id, "tool", "env", "COLOUR"); got != "green\n" {
		t.Errorf("env %q", got)
	}
	if got := n.exec(id, "tool", "env", "HOSTNAME"); got != "p\n" {
		t.Errorf("HOSTNAME %q", got)
	}
	n.exec(id, "tool", "write", "/data/file", "written")
	if data, _ := os.ReadFile(volume + "/file"); string(data) != "written" {
		t.Errorf("in the volume: %q", data)
	}
	resp, err := n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"tool", "write", "/ro/file", "x"}})
	if err != nil || resp.ExitCode != 1 || !strings.Contains(string(resp.Stdout), "read-only") {
		t.Errorf("writing to a read-only mount: %v %v", resp, err)
	}
	want := "search default.svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
	if got := n.exec(id, "tool", "cat", "/etc/resolv.conf"); got != want {
		t.Errorf("resolv.conf %q", got)
	}
	if got := n.exec(id, "tool", "cat", "/etc/hostname"); got != "p\n" {
		t.Errorf("hostname %q", got)
	}
	st := n.status(id)
	if st.State != runtimeapi.ContainerState_CONTAINER_RUNNING || st.User.GetLinux() == nil || st.StartedAt == 0 {
		t.Errorf("status %v", st)
	}
}

// An ordinary container may neither mount nor make namespaces, whatever it runs as.
func TestSeccompAndCapabilities(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	secure := &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
		Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, NoNewPrivs: true,
		RunAsUser: &runtimeapi.Int64Value{Value: 1000}}}
	plain := tools("wait")
	plain.Linux = secure
	id := n.run(pod, config, plain)
	for _, cmd := range []string{"mount", "unshare"} {
		if got := n.exec(id, "tool", cmd); !strings.Contains(got, "operation not permitted") {
			t.Errorf("%s: %q", cmd, got)
		}
	}
	st := n.exec(id, "tool", "cat", "/proc/self/status")
	for _, want := range []string{"Seccomp:\t2", "NoNewPrivs:\t1", "Uid:\t1000\t1000", "CapBnd:\t00000000a80425fb"} {
		if !strings.Contains(st, want) {
			t.Errorf("status lacks %q:\n%s", want, st)
		}
	}
	privileged := tools("wait")
	privileged.Metadata = &runtimeapi.ContainerMetadata{Name: "privileged"}
	privileged.Linux = &runtimeapi.LinuxContainerConfig{SecurityContext: &runtimeapi.LinuxContainerSecurityContext{Privileged: true}}
	id = n.run(pod, config, privileged)
	if got := n.exec(id, "tool", "mount"); got != "<nil>\n" {
		t.Errorf("mount in a privileged container: %q", got)
	}
}

func TestStopSendsTheSignalThenKills(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	polite := n.run(pod, config, tools("wait"))
	stubborn := n.run(pod, config, tools("stubborn"))
	n.eventually("it ignores SIGTERM", func() bool { return strings.Contains(n.log(stubborn), "ignoring") })
	n.eventually("it listens to SIGTERM", func() bool { return strings.Contains(n.log(polite), "waiting") })
	for id, want := range map[string]int32{polite: 7, stubborn: 137} {
		if _, err := n.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
			t.Fatal(err)
		}
		if st := n.status(id); st.ExitCode != want || st.State != runtimeapi.ContainerState_CONTAINER_EXITED {
			t.Errorf("exit code %d, want %d (%s)", st.ExitCode, want, st.State)
		}
	}
	if _, err := n.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: polite}); err != nil {
		t.Errorf("a second stop: %v", err)
	}
	if _, err := n.StopContainer(ctx, &runtimeapi.StopContainerRequest{ContainerId: "none"}); err != nil {
		t.Errorf("stop of nothing: %v", err)
	}
}

// A container that takes more memory than it may is killed, and that is said.
func TestOutOfMemoryIsToldApart(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	c := tools("eat")
	c.Linux = &runtimeapi.LinuxContainerConfig{Resources: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 64 << 20}}
	id := n.run(pod, config, c)
	if st := n.ended(id); st.Reason != "OOMKilled" || st.ExitCode != 137 {
		t.Errorf("reason %q, exit code %d", st.Reason, st.ExitCode)
	}
}

// R71: after the runtime has gone, its pods run on; the next life finds them, and
// what happened meanwhile.
func TestPodsOutliveTheRuntime(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	lives := n.run(pod, config, tools("wait"))
	before := n.status(lives)
	ends := n.run(pod, config, tools("wait"))
	created := n.create(pod, config, tools("wait"))
	ip := n.podIP(pod)
	n.eventually("it listens to SIGTERM", func() bool { return strings.Contains(n.log(ends), "waiting") })
	n.halt()

	// While nobody looks, a container ends; and there are remains of a crash.
	parent := podparent.Client{Dir: filepath.Join(n.cfg.Root, "pods", pod)}
	if err := parent.Signal(ctx, ends, int(unix.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	rubbish := filepath.Join(n.cfg.Root, "pods", "half-made")
	if err := os.MkdirAll(rubbish, 0o755); err != nil {
		t.Fatal(err)
	}
	n.start()
	if st := n.status(lives); st.State != runtimeapi.ContainerState_CONTAINER_RUNNING || st.StartedAt != before.StartedAt {
		t.Errorf("the container that lives: %v", st)
	}
	if st := n.ended(ends); st.ExitCode != 7 {
		t.Errorf("the container that ended: %v", st)
	}
	if st := n.status(created); st.State != runtimeapi.ContainerState_CONTAINER_CREATED {
		t.Errorf("the container that was not started: %v", st)
	}
	if _, err := os.Stat(rubbish); err == nil {
		t.Error("the half-made pod is still there")
	}
	if got := n.podIP(pod); got != ip {
		t.Errorf("address %s, was %s", got, ip)
	}
	n.exec(lives, "tool", "say", "hello")
	if _, err := n.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: created}); err != nil {
		t.Error(err)
	}
}

// R71: a kill -9 in the middle of RunPodSandbox leaves a parent, a network and a
// cgroup that nobody was told of: the next start takes them apart.
func TestHalfMadeSandboxIsTakenApart(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	id := n.run(pod, config, tools("wait"))
	record := filepath.Join(n.cfg.Root, "pods", pod, sandboxFile)
	client := &podparent.Client{Dir: filepath.Dir(record)}
	n.halt()
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, bytes.Replace(data, []byte(`"phase": "ready"`), []byte(`"phase": "creating"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	if pods, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{}); err != nil || len(pods.Items) != 0 {
		t.Errorf("pods %v %v", pods, err)
	}
	if _, err := n.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: id}); status.Code(err) != codes.NotFound {
		t.Errorf("its container: %v", err)
	}
	if _, alive, _ := client.State(); alive {
		t.Error("its parent lives")
	}
	n.halt()
	n.checkMountsAndLinks(1) // the bridge stays
}

// A parent that is killed takes its containers along, and the kubelet learns it.
func TestDeadParentBreaksTheSandbox(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	id := n.run(pod, config, tools("wait"))
	state, _, err := (&podparent.Client{Dir: filepath.Join(n.cfg.Root, "pods", pod)}).State()
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(state.Pid, unix.SIGKILL)
	if st := n.ended(id); st.ExitCode != 255 {
		t.Errorf("status %v", st)
	}
	n.eventually("the sandbox is not ready", func() bool {
		resp, err := n.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
		return err == nil && resp.Status.State == runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	})
	for range 2 {
		if _, err := n.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Error(err)
		}
		if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsNameTheCause(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	c := tools("x")
	c.Command = []string{"no-such-command"}
	id := n.create(pod, config, c)
	_, err := n.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: id})
	if err == nil || !strings.Contains(err.Error(), "executable file not found in $PATH") {
		t.Errorf("start: %v", err)
	}
	if st := n.ended(id); st.Reason != "StartError" || st.ExitCode != 128 {
		t.Errorf("status %v", st)
	}
	_, err = n.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{PodSandboxId: pod, SandboxConfig: config, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "c"}, Image: &runtimeapi.ImageSpec{Image: "none"}}})
	if status.Code(err) != codes.NotFound {
		t.Errorf("image that is not here: %v", err)
	}
	if _, err := n.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("no container: %v", err)
	}
	id = n.run(pod, config, tools("wait"))
	_, err = n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"tool", "stubborn"}, Timeout: 1})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("exec that takes too long: %v", err)
	}
	resp, err := n.ExecSync(ctx, &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: []string{"tool", "exit", "9"}})
	if err != nil || resp.ExitCode != 9 {
		t.Errorf("exec with an exit code: %v, %v", resp, err)
	}
	conflicting := n.cfg
	other, err := New(conflicting)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another runtime serves on") {
		t.Errorf("a second runtime on the socket: %v", err)
	}
}

func TestStatsEventsAndLists(t *testing.T) {
	n := startNode(t)
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := n.GetContainerEvents(streamCtx, &runtimeapi.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	config := n.podConfig("p")
	pod := n.runPod(config)
	id := n.run(pod, config, tools("wait"))
	stats, err := n.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: id})
	if err != nil || stats.Stats.Memory.GetWorkingSetBytes().GetValue() == 0 || stats.Stats.Cpu.GetUsageCoreNanoSeconds().GetValue() == 0 {
		t.Errorf("stats %v %v", stats, err)
	}
	podStats, err := n.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	if err != nil || len(podStats.Stats) != 1 || podStats.Stats[0].Linux.Network.GetDefaultInterface().GetName() != "eth0" {
		t.Errorf("pod stats %v %v", podStats, err)
	}
	list, err := n.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: pod,
		State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}})
	if err != nil || len(list.Containers) != 1 || list.Containers[0].Id != id {
		t.Errorf("list %v %v", list, err)
	}
	pods, err := n.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{Filter: &runtimeapi.PodSandboxFilter{LabelSelector: map[string]string{"app": "other"}}})
	if err != nil || len(pods.Items) != 0 {
		t.Errorf("pods of another label: %v %v", pods, err)
	}
	if _, err := n.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: id,
		Linux: &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 128 << 20, CpuShares: 512}}); err != nil {
		t.Error(err)
	}
	if st := n.status(id); st.Resources.Linux.MemoryLimitInBytes != 128<<20 {
		t.Errorf("resources %v", st.Resources)
	}
	if _, err := n.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: pod}); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for len(kinds) < 7 {
		event, err := events.Recv()
		if err != nil {
			t.Fatal(err)
		}
		who := "container "
		if event.ContainerId == pod {
			who = "pod "
		}
		kinds = append(kinds, who+strings.TrimSuffix(strings.TrimPrefix(event.ContainerEventType.String(), "CONTAINER_"), "_EVENT"))
	}
	got := strings.Join(kinds, ", ")
	for _, want := range []string{"pod CREATED, pod STARTED, container CREATED, container STARTED", "container STOPPED", "pod STOPPED", "container DELETED"} {
		if !strings.Contains(got, want) {
			t.Errorf("events %s lack %s", got, want)
		}
	}
	streamed, err := n.StreamPodSandboxes(ctx, &runtimeapi.StreamPodSandboxesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streamed.Recv(); err != io.EOF {
		t.Errorf("a stream of no sandboxes: %v", err)
	}
	filesystems, err := n.images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil || filesystems.ImageFilesystems[0].UsedBytes.Value == 0 {
		t.Errorf("file systems %v %v", filesystems, err)
	}
}

// R41: exec over the stream server, as the kubelet proxies it for kubectl.
func TestStreamingExecAttachAndPortForward(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("p")
	pod := n.runPod(config)
	cat := tools("cat")
	cat.Stdin, cat.StdinOnce = true, true
	id := n.run(pod, config, cat)
	resp, err := n.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"tool", "cat"}, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = stream(t, resp.Url, remotecommand.StreamOptions{Stdin: strings.NewReader("through exec"), Stdout: &out, Stderr: io.Discard})
	if err != nil || out.String() != "through exec" {
		t.Errorf("exec: %q %v", out.String(), err)
	}
	resp, err = n.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"tool", "exit", "3"}, Stdout: true, Tty: true})
	if err != nil {
		t.Fatal(err)
	}
	err = stream(t, resp.Url, remotecommand.StreamOptions{Stdout: io.Discard, Tty: true})
	if err == nil || !strings.Contains(err.Error(), "exit code 3") {
		t.Errorf("exec with a terminal and an exit code: %v", err)
	}
	// Over WebSocket, as crictl and critest do it: input that ends, and an exit code.
	resp, err = n.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"tool", "cat"}, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	err = streamByWebSocket(t, resp.Url, remotecommand.StreamOptions{Stdin: strings.NewReader("through a WebSocket"), Stdout: &out, Stderr: io.Discard})
	if err != nil || out.String() != "through a WebSocket" {
		t.Errorf("exec over WebSocket: %q %v", out.String(), err)
	}
	if resp, err = n.Exec(ctx, &runtimeapi.ExecRequest{ContainerId: id, Cmd: []string{"tool", "exit", "4"}, Stdout: true}); err != nil {
		t.Fatal(err)
	}
	if err = streamByWebSocket(t, resp.Url, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "exit code 4") {
		t.Errorf("an exit code over WebSocket: %v", err)
	}
	if err = streamByWebSocket(t, resp.Url, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || strings.Contains(err.Error(), "exit code") {
		t.Errorf("an address was good for twice: %v", err)
	}
	attach, err := n.Attach(ctx, &runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	out.Reset()
	err = stream(t, attach.Url, remotecommand.StreamOptions{Stdin: strings.NewReader("through attach\n"), Stdout: &out, Stderr: io.Discard})
	if err != nil || out.String() != "through attach\n" {
		t.Errorf("attach: %q %v", out.String(), err)
	}
	// stdinOnce: the first client's end was the input's end.
	if st := n.ended(id); st.ExitCode != 0 || n.log(id) != "through attach\n" {
		t.Errorf("after attach: %v, log %q", st, n.log(id))
	}
	// Without it, the client goes and the container reads on.
	stays := tools("cat")
	stays.Stdin = true
	id = n.run(pod, config, stays)
	for _, line := range []string{"one\n", "two\n"} {
		if attach, err = n.Attach(ctx, &runtimeapi.AttachRequest{ContainerId: id, Stdin: true, Stdout: true, Stderr: true}); err != nil {
			t.Fatal(err)
		}
		if err = stream(t, attach.Url, remotecommand.StreamOptions{Stdin: strings.NewReader(line), Stdout: io.Discard, Stderr: io.Discard}); err != nil {
			t.Errorf("the client was not let go: %v", err)
		}
	}
	n.eventually("both clients' input was read", func() bool { return n.log(id) == "one\ntwo\n" })
	n.run(pod, config, &runtimeapi.ContainerConfig{})
	s := &streamRuntime{&CRI{sandboxes: map[string]*sandbox{pod: {id: pod, parent: podparent.Client{Dir: filepath.Join(n.cfg.Root, "pods", pod)}}}}}
	var answer *http.Response
	n.eventually("the forwarded port answers", func() bool {
		near, far := net.Pipe()
		go func() {
			s.PortForward(ctx, pod, 8080, far)
			far.Close() // as the stream server does
		}()
		defer near.Close()
		near.SetDeadline(time.Now().Add(time.Minute))
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }}}
		answer, err = client.Get("http://pod/")
		return err == nil
	})
	if answer.StatusCode != 200 {
		t.Errorf("forwarded: %v", answer)
	}
}

func streamByWebSocket(t *testing.T, address string, options remotecommand.StreamOptions) error {
	t.Helper()
	executor, err := remotecommand.NewWebSocketExecutor(&rest.Config{}, "GET", address)
	if err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return executor.StreamWithContext(limit, options)
}

func stream(t *testing.T, address string, options remotecommand.StreamOptions) error {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: u.Host}, "POST", u)
	if err != nil {
		t.Fatal(err)
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return executor.StreamWithContext(limited, options)
}

// S0-15: host network pods take the node's addresses; ports of the node lead to pods.
func TestHostNetworkAndHostPort(t *testing.T) {
	n := startNode(t)
	config := n.podConfig("host")
	config.Linux.SecurityContext.NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE
	pod := n.runPod(config)
	if ip := n.podIP(pod); ip != "" {
		t.Errorf("a pod in the node's network has the address %s of its own", ip)
	}
	ported := n.podConfig("ported")
	ported.PortMappings = []*runtimeapi.PortMapping{{HostPort: 18080, ContainerPort: 8080}}
	pod = n.runPod(ported)
	n.run(pod, ported, &runtimeapi.ContainerConfig{})
	n.eventually("the port of the node leads to the pod", func() bool {
		resp, err := http.Get("http://127.0.0.1:18080/")
		if err != nil {
			return false
		}
		answer, _ := io.ReadAll(resp.Body)
		return strings.HasPrefix(string(answer), "ported ")
	})
}
