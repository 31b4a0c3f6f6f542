package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestResize: a running pod is given more and less, in place or by a restart, and a
// wish that the node cannot fulfil waits (KEP-1287).
func TestResize(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, resizePods)
	r.ready(t, "web")
	status := `.status.containerStatuses[0].`
	id := r.field(t, "pod/web", status+"containerID")
	resize := func(container, resources string) {
		t.Helper()
		r.k(t, "patch", "pod", "web", "--subresource=resize", "-p", fmt.Sprintf(`{"spec":{"containers":[{"name":%q,"resources":%s}]}}`, container, resources))
	}
	quota := func() string {
		t.Helper()
		return strings.Fields(r.sh(t, "web", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max"))[0]
	}
	memory := func() string {
		t.Helper()
		return r.sh(t, "web", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max")
	}
	if got := quota() + " " + memory(); got != "20000 67108864" {
		t.Fatalf("before: quota and memory limit %s", got)
	}
	// More of both, then less of both: the container runs on.
	for _, step := range []struct{ cpu, memory, kernel string }{{"400m", "128Mi", "40000 134217728"}, {"100m", "64Mi", "10000 67108864"}} {
		resize("web", fmt.Sprintf(`{"requests":{"cpu":"50m"},"limits":{"cpu":%q,"memory":%q}}`, step.cpu, step.memory))
		r.becomes(t, "pod/web", status+"resources.limits.memory", step.memory)
		r.becomes(t, "pod/web", status+"resources.limits.cpu", step.cpu)
		r.becomes(t, "pod/web", status+"allocatedResources.cpu", "50m")
		if got := quota() + " " + memory(); got != step.kernel {
			t.Errorf("the kernel has %s, want %s", got, step.kernel)
		}
		r.becomes(t, "pod/web", `.status.conditions[?(@.type=="PodResizeInProgress")].status`, "")
	}
	if now := r.field(t, "pod/web", status+"containerID") + r.field(t, "pod/web", status+"restartCount"); now != id+"0" {
		t.Errorf("container %s became %s: it was to be resized in place", id, now)
	}
	// The second container's memory policy is RestartContainer.
	resize("worker", `{"requests":{"memory":"48Mi"},"limits":{"memory":"48Mi"}}`)
	r.becomes(t, "pod/web", `.status.containerStatuses[?(@.name=="worker")].restartCount`, "1")
	r.becomes(t, "pod/web", `.status.containerStatuses[?(@.name=="worker")].resources.limits.memory`, "48Mi")
	// What no node like this has.
	resize("web", `{"requests":{"cpu":"900"},"limits":{"cpu":"1000"}}`)
	r.becomes(t, "pod/web", `.status.conditions[?(@.type=="PodResizePending")].reason`, "Infeasible")
	holds(t, r.field(t, "pod/web", `.status.conditions[?(@.type=="PodResizePending")].message`), "Node didn't have enough capacity: cpu, requested: 900")
	if got := r.field(t, "pod/web", status+"allocatedResources.cpu"); got != "50m" {
		t.Errorf("allocated %s of a wish that was refused", got)
	}
	resize("web", `{"requests":{"cpu":"50m"},"limits":{"cpu":"100m"}}`)
	r.becomes(t, "pod/web", `.status.conditions[?(@.type=="PodResizePending")].reason`, "")
	events := r.k(t, "get", "events", "-o", "jsonpath={.items[*].reason}")
	holds(t, events, "ResizeStarted", "ResizeCompleted", "ResizeInfeasible")
}

// TestResizeDeferred: a wish for what another pod has is granted when that pod goes.
func TestResizeDeferred(t *testing.T) {
	r := shared(t).room(t)
	node := r.k(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	cpus := r.k(t, "get", "node", node, "-o", "jsonpath={.status.allocatable.cpu}")
	var milli int
	if fmt.Sscanf(cpus, "%d", &milli); !strings.HasSuffix(cpus, "m") {
		milli *= 1000
	}
	// One has six tenths of the node; the other asks for seven, which the node has, but not beside it.
	r.create(t, fmt.Sprintf(sharers, milli*6/10))
	r.ready(t, "big", "small")
	r.k(t, "patch", "pod", "small", "--subresource=resize", "-p", fmt.Sprintf(`{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"%dm"}}}]}}`, milli*7/10))
	r.becomes(t, "pod/small", `.status.conditions[?(@.type=="PodResizePending")].reason`, "Deferred")
	holds(t, r.field(t, "pod/small", `.status.conditions[?(@.type=="PodResizePending")].message`), "Node didn't have enough resource: cpu")
	r.k(t, "delete", "pod", "big")
	r.becomes(t, "pod/small", ".status.containerStatuses[0].allocatedResources.cpu", fmt.Sprintf("%dm", milli*7/10))
	r.becomes(t, "pod/small", `.status.conditions[?(@.type=="PodResizePending")].reason`, "")
}

// TestPodLevelResources: a limit of the pod as a whole holds all its containers (KEP-2837).
func TestPodLevelResources(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, wholePod)
	r.ready(t, "whole")
	got := r.sh(t, "whole", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max")
	if got != "67108864" {
		t.Errorf("a container without a limit of its own has %s, want its pod's 67108864", got)
	}
	if class := r.field(t, "pod/whole", ".status.qosClass"); class != "Guaranteed" {
		t.Errorf("class %s", class)
	}
}

const resizePods = `
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: hyperkube.local/demo
    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {cpu: 200m, memory: 64Mi}}
  - name: worker
    image: hyperkube.local/demo
    command: [sleep, "3600"]
    resources: {requests: {memory: 32Mi}, limits: {memory: 32Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
`

const sharers = `
apiVersion: v1
kind: Pod
metadata: {name: big}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, resources: {requests: {cpu: %dm}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: small}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, resources: {requests: {cpu: 10m}}}]
`

const wholePod = `
apiVersion: v1
kind: Pod
metadata: {name: whole}
spec:
  terminationGracePeriodSeconds: 1
  resources: {requests: {cpu: 200m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}
  containers: [{name: a, image: hyperkube.local/demo}, {name: b, image: hyperkube.local/demo, command: [sleep, "3600"]}]
`
