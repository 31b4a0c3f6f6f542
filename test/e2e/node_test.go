package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNode: its conditions, addresses, capacity, Lease, statistics and metrics (S0-12, S0-16).
func TestNode(t *testing.T) {
	c := shared(t)
	node := c.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	field := func(path string) string {
		t.Helper()
		return c.kubectl(t, "get", "node", node, "-o", "jsonpath={"+path+"}")
	}
	for condition, want := range map[string]string{"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"} {
		if got := field(`.status.conditions[?(@.type=="` + condition + `")].status`); got != want {
			t.Errorf("%s: %s", condition, got)
		}
	}
	for _, path := range []string{".status.capacity.cpu", ".status.capacity.memory", ".status.capacity.pods", ".status.capacity.ephemeral-storage", ".status.allocatable.memory",
		".status.nodeInfo.kernelVersion", ".status.nodeInfo.containerRuntimeVersion", ".status.nodeInfo.bootID", ".status.nodeInfo.osImage",
		".spec.podCIDR", ".status.addresses[?(@.type==\"InternalIP\")].address", ".status.daemonEndpoints.kubeletEndpoint.Port"} {
		if field(path) == "" {
			t.Errorf("no %s", path)
		}
	}
	if got := field(`.metadata.labels.kubernetes\.io/os`); got != "linux" {
		t.Errorf("label kubernetes.io/os: %s", got)
	}
	renewed := func() string {
		return c.kubectl(t, "-n", "kube-node-lease", "get", "lease", node, "-o", "jsonpath={.spec.renewTime}")
	}
	before := renewed()
	eventually(t, "the Lease is renewed", func() error {
		if now := renewed(); now == before {
			return fmt.Errorf("still %s", now)
		}
		return nil
	})
	if holder := c.kubectl(t, "-n", "kube-node-lease", "get", "lease", node, "-o", "jsonpath={.spec.holderIdentity}"); holder != node {
		t.Errorf("the Lease's holder: %s", holder)
	}
	holds(t, c.kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/metrics"), "kubelet_")
	holds(t, c.kubectl(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/healthz"), "ok")
}

// TestStatsSummary: what a container uses is in /stats/summary (S0-16).
func TestStatsSummary(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, streamPods)
	r.ready(t, "web")
	node := r.field(t, "pod/web", ".spec.nodeName")
	eventually(t, "the pod's statistics", func() error {
		var summary struct {
			Node struct {
				CPU    struct{ UsageNanoCores *uint64 }
				Memory struct{ WorkingSetBytes uint64 }
			}
			Pods []struct {
				PodRef     struct{ Name, Namespace string }
				Containers []struct {
					Name   string
					CPU    struct{ UsageCoreNanoSeconds uint64 }
					Memory struct{ WorkingSetBytes uint64 }
				}
			}
		}
		if err := json.Unmarshal([]byte(r.k(t, "get", "--raw", "/api/v1/nodes/"+node+"/proxy/stats/summary")), &summary); err != nil {
			return err
		}
		if summary.Node.Memory.WorkingSetBytes == 0 {
			return errors.New("nothing of the node's memory")
		}
		for _, pod := range summary.Pods {
			if pod.PodRef.Namespace != r.ns || pod.PodRef.Name != "web" || len(pod.Containers) != 1 {
				continue
			}
			if use := pod.Containers[0]; use.Name == "web" && use.CPU.UsageCoreNanoSeconds > 0 && use.Memory.WorkingSetBytes > 0 {
				return nil
			}
		}
		return fmt.Errorf("not there: %+v", summary.Pods)
	})
}

// TestStaticPod: a file among the node's manifests is a pod, with a mirror in the
// API that comes back when deleted, and goes with the file (R15).
func TestStaticPod(t *testing.T) {
	c := shared(t)
	node := c.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	file := filepath.Join(c.dir, "nodes", node, "manifests", "alone.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(staticPod), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	mirror := "alone-" + node
	uid := func() string {
		out, _, _ := c.try("get", "pod", mirror, "-o", `jsonpath={.metadata.uid} {.status.phase} {.status.containerStatuses[0].containerID}`)
		return out
	}
	var first []string
	eventually(t, "the mirror pod runs", func() error {
		if first = strings.Fields(uid()); len(first) != 3 || first[1] != "Running" {
			return fmt.Errorf("%v", first)
		}
		return nil
	})
	holds(t, c.kubectl(t, "get", "pod", mirror, "-o", "jsonpath={.metadata.annotations}"), "kubernetes.io/config.mirror", `"kubernetes.io/config.source":"file"`)
	holds(t, c.kubectl(t, "logs", mirror), "listening")
	c.try("delete", "pod", mirror, "--wait=false")
	eventually(t, "the mirror comes back, its container is the same", func() error {
		now := strings.Fields(uid())
		if len(now) != 3 || now[0] == first[0] {
			return fmt.Errorf("%v", now)
		}
		if now[2] != first[2] {
			t.Errorf("container %s became %s", first[2], now[2])
		}
		return nil
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod and mirror go with the file", func() error {
		if out := uid(); out != "" {
			return errors.New(out)
		}
		return nil
	})
}

const staticPod = `
apiVersion: v1
kind: Pod
metadata: {name: alone}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo}]}
`
