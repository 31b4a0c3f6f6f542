package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// onContainerd are the tests of the node that another runtime must pass as well as ours.
var onContainerd = []struct {
	name string
	test func(*testing.T)
}{
	{"Streams", TestStreams}, {"Logs", TestLogs}, {"Debug", TestDebugContainer},
	{"Init", TestInitContainersAndSidecars}, {"Restart", TestRestartPolicies}, {"Hooks", TestHooksAndTermination},
	{"Confined", TestContainerIsConfined}, {"Identity", TestPodsNetworkIdentity}, {"Environment", TestEnvironment},
	{"Probes", TestProbes}, {"Resize", TestResize}, {"Volumes", TestVolumes}, {"Stats", TestStatsSummary},
}

// TestContainerd: the core of the node once more on containerd and runc, set up as
// docs/containerd.md says; what that runtime lacks is said in a pod's status; a
// kill -9 of the cluster leaves containers running; nothing is left behind.
func TestContainerd(t *testing.T) {
	for _, program := range []string{"containerd", "runc", "ctr"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP: no %s: apt-get install --no-install-recommends containerd runc", program)
		}
	}
	stopShared(t)
	daemon := newContainerd(t)
	before := host(t)
	daemon.start(t)
	c, err := start(t.TempDir(), "--container-runtime-endpoint=unix://"+daemon.socket)
	if err != nil {
		t.Fatal(err)
	}
	common, commonErr = c, c.waitReady()
	commonOnce.Do(func() {}) // shared returns this one from now on
	t.Cleanup(func() { stopShared(t) })
	if commonErr != nil {
		t.Fatal(commonErr)
	}
	t.Run("Node", func(t *testing.T) {
		for _, test := range onContainerd {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel() // in a namespace each; most of their time is waiting
				test.test(t)
			})
		}
	})
	t.Run("Service", serviceOnContainerd)
	t.Run("Lacks", whatContainerdLacks)
	t.Run("KillNine", killNineOnContainerd)
	t.Run("nothing is left", func(t *testing.T) {
		stopShared(t)
		if left := daemon.ctr(t, "containers", "ls", "-q"); left != "" {
			t.Errorf("containers: %s", left)
		}
	})
	daemon.stop(t)
	sameHost(t, before, host(t))
}

// containerd is one that runs in the test's own directory.
type containerd struct {
	dir, socket string
	cmd         *exec.Cmd
}

// newContainerd writes the files of docs/containerd.md, with other directories.
func newContainerd(t *testing.T) *containerd {
	t.Helper()
	d := &containerd{dir: t.TempDir()}
	d.socket = filepath.Join(d.dir, "containerd.sock")
	document, err := os.ReadFile("../../docs/containerd.md")
	if err != nil {
		t.Fatal(err)
	}
	place := strings.NewReplacer("/usr/lib/cni", d.dir+"/cni", "/etc/cni/net.d", d.dir+"/net.d", "/etc/containerd", d.dir, "/var/lib/cni", d.dir,
		"version = 2\n", fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\n  address = %q\n[plugins.\"io.containerd.internal.v1.opt\"]\n  path = %q\n",
			d.dir+"/root", d.dir+"/state", d.socket, d.dir+"/opt"))
	for file, language := range map[string]string{"config.toml": "toml", "hyperkube-network.template": "json"} {
		_, rest, _ := strings.Cut(string(document), "```"+language+"\n")
		block, _, found := strings.Cut(rest, "```")
		if !found {
			t.Fatalf("docs/containerd.md has no block of %s", language)
		}
		if err := os.WriteFile(filepath.Join(d.dir, file), []byte(place.Replace(block)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, plugin := range []string{"hyperkube-bridge", "hyperkube-portmap", "loopback"} {
		if err := os.MkdirAll(d.dir+"/cni", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(binary, d.dir+"/cni/"+plugin); err != nil {
			t.Fatal(err)
		}
	}
	// The shims' sockets, runc's state and the pods' network namespaces have fixed places.
	for _, dir := range []string{"/run/containerd", "/run/netns"} {
		if _, err := os.Stat(dir); err != nil {
			t.Cleanup(func() { os.Remove(dir) })
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	}
	return d
}

// start runs the daemon and gives it the images that come with hyperkube.
func (d *containerd) start(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command("containerd", "--config="+filepath.Join(d.dir, "config.toml"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("containerd's log:\n%s", tail(string(text), 20))
		}
		d.stop(t)
	})
	archive := filepath.Join(d.dir, "images.tar")
	if out, err := exec.Command(binary, "image", "save", archive).CombinedOutput(); err != nil {
		t.Fatalf("image save: %v: %s", err, out)
	}
	eventually(t, "containerd answers", func() error {
		return exec.Command("ctr", "--address="+d.socket, "version").Run()
	})
	d.ctr(t, "images", "import", archive)
}

func (d *containerd) ctr(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ctr", append([]string{"--address=" + d.socket, "--namespace=k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ctr %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (d *containerd) stop(t *testing.T) {
	t.Helper()
	if d.cmd == nil {
		return
	}
	d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("containerd: %v", err)
	}
	d.cmd = nil
	for _, command := range []string{"ip link delete hk-containerd", "iptables-save | grep -v -e -ctrd | iptables-restore"} {
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil { // as docs/containerd.md says
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
}

// serviceOnContainerd: a Deployment of the demo image, whose policy says Always,
// behind a Service, by its name and from a pod; the node says which runtime it has.
func serviceOnContainerd(t *testing.T) {
	r := shared(t).room(t)
	holds(t, r.field(t, "nodes", ".items[0].status.nodeInfo.containerRuntimeVersion"), "containerd://")
	r.k(t, "create", "deployment", "web", "--image=hyperkube.local/demo", "--replicas=2")
	r.k(t, "expose", "deployment", "web", "--port=80", "--target-port=8080")
	r.k(t, "rollout", "status", "deployment/web", "--timeout=90s")
	seen := map[string]bool{}
	eventually(t, "both pods answer at the Service's name", func() error {
		answer, err := r.command(nil, "exec", "deployment/web", "--", "wget", "-q", "-O", "-", "http://web/").Output()
		if err != nil {
			return err
		}
		if seen[podIn(string(answer))] = true; len(seen) < 2 {
			return fmt.Errorf("only %v", seen)
		}
		return nil
	})
	r.create(t, "{apiVersion: v1, kind: Pod, metadata: {name: port}, spec: {containers: [{name: c, image: hyperkube.local/demo, ports: [{containerPort: 8080, hostPort: 8099}]}]}}")
	r.ready(t, "port")
	eventually(t, "a port of the node leads to the pod", func() error {
		answer, err := get("http://192.0.2.10:8099/")
		if err == nil && podIn(answer) != "port" {
			err = fmt.Errorf("answer of %q", answer)
		}
		return err
	})
}

// whatContainerdLacks: each is named where the pod's owner looks.
func whatContainerdLacks(t *testing.T) {
	r := shared(t).room(t)
	if !strings.Contains(r.field(t, "nodes", ".items[0].status.nodeInfo.containerRuntimeVersion"), "://1.") {
		t.Skip("SKIP: this containerd can do more than 1.x")
	}
	r.create(t, lackingPods)
	r.becomes(t, "pod/strict", ".status.reason", "SupplementalGroupsPolicyNotSupported")
	r.becomes(t, "pod/recursive", ".status.containerStatuses[0].state.waiting.reason", "CreateContainerConfigError")
	for pod, want := range map[string]string{
		"users":     "can't set `spec.hostUsers: false`, runtime does not support user namespaces",
		"image":     "which its runtime may not know",
		"recursive": `failed to resolve recursive read-only mode: volume "v" requested recursive read-only mode, but it is not supported by the runtime`,
	} {
		eventually(t, pod+" says why", func() error {
			if events := r.k(t, "get", "events", "--field-selector=involvedObject.name="+pod); !strings.Contains(events, want) {
				return fmt.Errorf("no %q in\n%s", want, events)
			}
			return nil
		})
	}
	r.ready(t, "possible")
	r.k(t, "delete", "pods", "--all", "--grace-period=1")
}

const lackingPods = `
{apiVersion: v1, kind: Pod, metadata: {name: users}, spec: {hostUsers: false, containers: [{name: c, image: hyperkube.local/demo}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: strict}, spec: {securityContext: {supplementalGroupsPolicy: Strict}, containers: [{name: c, image: hyperkube.local/demo}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: image}, spec: {volumes: [{name: v, image: {reference: hyperkube.local/demo}}],
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: recursive}, spec: {volumes: [{name: v, emptyDir: {}}],
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: possible}, spec: {volumes: [{name: v, emptyDir: {}}],
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: IfPossible}]}]}}
`

// killNineOnContainerd: the containers are found again, none is restarted, and who
// is deleted ends.
func killNineOnContainerd(t *testing.T) {
	c := shared(t)
	c.kubectl(t, "create", "deployment", "steady", "--image=hyperkube.local/demo", "--replicas=2")
	c.kubectl(t, "rollout", "status", "deployment/steady", "--timeout=90s")
	const query = `jsonpath={range .items[*]}{.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`
	ids := func() []string {
		list := strings.Split(c.kubectl(t, "get", "pods", "-o", query), "\n")
		slices.Sort(list)
		return list
	}
	was := ids()
	c.kill()
	again, err := start(c.dir, c.cmd.Args[4:]...)
	if err != nil {
		t.Fatal(err)
	}
	common, c = again, again
	if err := c.waitReady(); err != nil {
		t.Fatal(err)
	}
	// A new pod passes the whole path: what follows it is no remnant of the time before.
	c.kubectl(t, "run", "probe", "--image=hyperkube.local/demo")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/probe", "--timeout=90s")
	c.kubectl(t, "delete", "pod", "probe", "--grace-period=1")
	if now := ids(); !slices.Equal(now, was) {
		t.Errorf("containers %v, before the kill %v", now, was)
	}
}
