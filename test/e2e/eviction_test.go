package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// withKubelet starts a cluster whose kubelet is a process of its own, with flags;
// prepare may do something to the node's directory before.
func withKubelet(t *testing.T, prepare func(nodeDir string), flags ...string) *cluster {
	t.Helper()
	stopShared(t)
	dir := t.TempDir()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(dir, "nodes", strings.ToLower(name))
	if prepare != nil {
		prepare(node)
	}
	c, err := start(dir, "--disable=kubelet,cri") // a kubelet alone brings up its runtime
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.interrupt(); err != nil {
			t.Errorf("stopping the cluster: %v", err)
		}
		syscall.Unmount(node, syscall.MNT_DETACH) // a disk that prepare has put there; else there is nothing to unmount
		// A runtime that ends alone leaves its bridge, whose route would take the next cluster's packets.
		if out, err := exec.Command(binary, "reset", "--data-dir="+dir).CombinedOutput(); err != nil {
			t.Errorf("reset: %v: %s", err, out)
		}
	})
	kubelet := &cluster{dir: dir, log: &lockedBuffer{}, done: make(chan struct{})}
	kubelet.cmd = exec.Command(binary, append([]string{"kubelet", "--data-dir=" + dir, "--log-level=2"}, flags...)...)
	kubelet.cmd.Stdout, kubelet.cmd.Stderr = kubelet.log, kubelet.log
	if err := kubelet.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		kubelet.err = kubelet.cmd.Wait()
		close(kubelet.done)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of the kubelet:\n%s", tail(kubelet.log.String(), 60))
		}
		// A kubelet that ends alone leaves its pods running and their volumes mounted: they go first.
		if _, _, err := c.try("delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--timeout=60s"); err != nil {
			t.Error(err)
		}
		if err := kubelet.interrupt(); err != nil {
			t.Errorf("stopping the kubelet: %v", err)
		}
	})
	eventually(t, "the node is Ready", func() error {
		if out, _, err := c.try("get", "nodes", "-o", `jsonpath={.items[0].status.conditions[?(@.type=="Ready")].status}`); err != nil || out != "True" {
			return fmt.Errorf("%s %v", out, err)
		}
		return nil
	})
	return c
}

// TestDiskPressure: a pod that fills the node's disk is evicted and another one is
// not; the node says what is short and where (R64).
func TestDiskPressure(t *testing.T) {
	c := withKubelet(t, func(node string) {
		dir := filepath.Join(node, "kubelet")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("disk", dir, "tmpfs", 0, "size=64m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	}, "--eviction-hard=nodefs.available<32Mi,imagefs.available<1Mi", "--eviction-pressure-transition-period=1s")
	r := c.room(t)
	r.create(t, diskPods)
	r.ready(t, "modest", "hog")
	r.sh(t, "hog", "head -c 41943040 /dev/zero > /data/big")
	r.becomes(t, "pod/hog", ".status.reason", "Evicted")
	r.becomes(t, "pod/hog", ".status.phase", "Failed")
	holds(t, r.field(t, "pod/hog", ".status.message"), "The node was low on resource: ephemeral-storage. Threshold quantity: 32Mi, available: ")
	holds(t, r.field(t, "pod/hog", `.status.conditions[?(@.type=="DisruptionTarget")].reason`), "TerminationByKubelet")
	if phase := r.field(t, "pod/modest", ".status.phase"); phase != "Running" {
		t.Errorf("the other pod is %s", phase)
	}
	events := c.kubectl(t, "get", "events", "-A", "-o", "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}")
	holds(t, events, "EvictionThresholdMet: Attempting to reclaim ephemeral-storage", "NodeHasDiskPressure", "Evicted: The node was low")
	node := r.k(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	// The room is there again once the pod's volumes are gone.
	r.becomes(t, "node/"+node, `.status.conditions[?(@.type=="DiskPressure")].status`, "False")
	r.create(t, strings.ReplaceAll(diskPods, "hog", "hog2"))
	r.ready(t, "hog2")
}

// TestMemoryPressure: a node short of memory says so, is tainted, refuses pods that
// asked for none, and evicts others, but no critical ones.
func TestMemoryPressure(t *testing.T) {
	c := withKubelet(t, nil, "--eviction-hard=memory.available<99%", "--node-labels=disk=fast", "--register-with-taints=fresh=yes:PreferNoSchedule", "--kube-reserved=cpu=100m")
	r := c.room(t)
	node := r.k(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	r.becomes(t, "node/"+node, `.status.conditions[?(@.type=="MemoryPressure")].status`, "True")
	holds(t, r.field(t, "node/"+node, `.status.conditions[?(@.type=="MemoryPressure")].message`), "kubelet has insufficient memory available: memory.available is ", "less than the ")
	r.becomes(t, "node/"+node, `.spec.taints[?(@.key=="node.kubernetes.io/memory-pressure")].effect`, "NoSchedule")
	if got := r.field(t, "node/"+node, `.metadata.labels.disk`) + r.field(t, "node/"+node, `.spec.taints[?(@.key=="fresh")].effect`); got != "fastPreferNoSchedule" {
		t.Errorf("label and taint from flags: %s", got)
	}
	if capacity, allocatable := r.field(t, "node/"+node, ".status.capacity.cpu"), r.field(t, "node/"+node, ".status.allocatable.cpu"); capacity == allocatable || !strings.HasSuffix(allocatable, "900m") {
		t.Errorf("capacity %s, allocatable %s: 100m were reserved", capacity, allocatable)
	}
	c.apply(t, fmt.Sprintf(criticalPod, node))
	r.create(t, fmt.Sprintf(pressedPods, node))
	r.becomes(t, "pod/besteffort", ".status.reason", "Evicted")
	holds(t, r.field(t, "pod/besteffort", ".status.message"), "The node had condition: [MemoryPressure].")
	r.becomes(t, "pod/burstable", ".status.reason", "Evicted")
	holds(t, r.field(t, "pod/burstable", ".status.message"), "The node was low on resource: memory. Threshold quantity: ")
	critical := func() string {
		return c.kubectl(t, "-n", "kube-system", "get", "pod", "critical", "-o", "jsonpath={.status.phase} {.status.reason}")
	}
	eventually(t, "the critical pod runs", func() error {
		if got := critical(); got != "Running" {
			return errors.New(got)
		}
		return nil
	})
}

// TestLocalStorageLimits: an emptyDir beyond its sizeLimit and a container beyond
// its ephemeral-storage limit end their pods, whatever room the node has.
func TestLocalStorageLimits(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, localStoragePods)
	r.becomes(t, "pod/volume", ".status.reason", "Evicted")
	holds(t, r.field(t, "pod/volume", ".status.message"), `Usage of EmptyDir volume "data" exceeds the limit "1Mi".`)
	r.becomes(t, "pod/layer", ".status.reason", "Evicted")
	holds(t, r.field(t, "pod/layer", ".status.message"), `Pod ephemeral local storage usage exceeds the total limit of containers 1Mi.`)
	if phase := r.field(t, "pod/within", ".status.phase"); phase != "Running" {
		t.Errorf("the pod within its limits is %s", phase)
	}
}

const diskPods = `
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Pod
metadata: {name: hog}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, emptyDir: {}}]
`

const criticalPod = `
apiVersion: v1
kind: Pod
metadata: {name: critical, namespace: kube-system}
spec:
  nodeName: %s
  priorityClassName: system-node-critical
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo}]
`

const pressedPods = `
apiVersion: v1
kind: Pod
metadata: {name: besteffort}
spec:
  nodeName: %[1]s
  containers: [{name: c, image: hyperkube.local/demo}]
---
apiVersion: v1
kind: Pod
metadata: {name: burstable}
spec:
  nodeName: %[1]s
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, resources: {requests: {memory: 1Mi}}}]
`

const localStoragePods = `
apiVersion: v1
kind: Pod
metadata: {name: volume}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "head -c 3145728 /dev/zero > /data/x; sleep 600"], volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, emptyDir: {sizeLimit: 1Mi}}]
---
apiVersion: v1
kind: Pod
metadata: {name: layer}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "head -c 3145728 /dev/zero > /x; sleep 600"], resources: {limits: {ephemeral-storage: 1Mi}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: within}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "head -c 1048576 /dev/zero > /data/x; sleep 600"], resources: {limits: {ephemeral-storage: 8Mi}}, volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, emptyDir: {sizeLimit: 4Mi}}]
`
