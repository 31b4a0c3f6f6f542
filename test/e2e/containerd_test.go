package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hyperkube/test/containerd"
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
	if missing := containerd.Missing(); missing != "" {
		t.Skip("SKIP: " + missing)
	}
	stopShared(t)
	before := host(t)
	daemon := startContainerd(t)
	c, err := start(t.TempDir(), "--container-runtime-endpoint=unix://"+daemon.Socket)
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
		if left, err := daemon.Ctr(t.Context(), "containers", "ls", "-q"); err != nil || left != "" {
			t.Errorf("containers: %s, %v", left, err)
		}
	})
	if err := daemon.Stop(); err != nil {
		t.Error(err)
	}
	sameHost(t, before, host(t))
}

// startContainerd runs the daemon of docs/containerd.md until the test ends.
func startContainerd(t *testing.T) *containerd.Daemon {
	t.Helper()
	dir := t.TempDir()
	daemon, err := containerd.Start(t.Context(), containerd.Config{Dir: dir, Hyperkube: binary, Document: "../../docs/containerd.md"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("containerd's log:\n%s", tail(string(text), 20))
		}
		if err := daemon.Stop(); err != nil {
			t.Error(err)
		}
	})
	return daemon
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
