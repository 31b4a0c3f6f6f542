package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// spread is a Deployment whose pods are each on another node, and leave a dead one at once.
const spread = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 2
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: spread}}}
      containers:
      - {name: demo, image: hyperkube.local/demo}
---
apiVersion: v1
kind: Service
metadata: {name: spread}
spec: {type: NodePort, selector: {app: spread}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
`

// podOn is a pod of a Deployment on a node.
type podOn struct{ name, ip, id string }

func (c *cluster) podsByNode(t *testing.T) map[string]podOn {
	t.Helper()
	found := map[string]podOn{}
	out := c.kubectl(t, "get", "pods", "-l", "app=spread", "--field-selector=status.phase=Running", "-o",
		`jsonpath={range .items[*]}{.spec.nodeName} {.metadata.name} {.status.podIP} {.status.containerStatuses[0].containerID}{"\n"}{end}`)
	for _, line := range strings.Split(out, "\n") {
		if f := strings.Fields(line); len(f) == 4 {
			found[f[0]] = podOn{f[1], f[2], f[3]}
		}
	}
	return found
}

// shades are pods on the fake nodes, which leave a dead one after two seconds.
const shades = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shades}
spec:
  replicas: 3
  selector: {matchLabels: {app: shades}}
  template:
    metadata: {labels: {app: shades}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {hyperkube.local/fake-node: "true"}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, nodeTaintsPolicy: Honor, labelSelector: {matchLabels: {app: shades}}}
      tolerations:
      - {key: fake, operator: Exists}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 2}
      containers:
      - {name: demo, image: hyperkube.local/demo}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: fake, operator: Exists}]
      containers:
      - {name: demo, image: hyperkube.local/demo}
`

// networkNamespaces are those that have a name.
func networkNamespaces() []string {
	names, err := filepath.Glob("/run/netns/*")
	if err != nil {
		return nil
	}
	return names
}

// TestTwoNodes: a second real node on one machine. Its pods are reached from the first's and the other way, by address
// and by name; exec and logs work; a kill -9 of all loses no container; a node that is cut off is found out, its pods
// go elsewhere, and come to an end when it is back; Ctrl-C leaves nothing (DESIGN section 3).
func TestTwoNodes(t *testing.T) {
	stopShared(t)
	before, names := host(t), networkNamespaces()
	args := []string{"--nodes=2", "--controller-manager-arg=node-monitor-grace-period=14s", "--controller-manager-arg=node-monitor-period=1s", "--kubelet-arg=max-pods=50",
		"--fake-nodes=3", "--fakenodes-arg=register-with-taints=fake=yes:NoSchedule"}
	c := startOwn(t, args...)
	if got := c.kubectl(t, "get", "node", "node-2", "-o", "jsonpath={.status.addresses[0].address} {.status.capacity.pods}"); got != "172.30.254.2 50" {
		t.Errorf("node-2: %s", got)
	}
	c.apply(t, spread)
	c.kubectl(t, "rollout", "status", "deployment/spread", "--timeout=60s")
	pods := c.podsByNode(t)
	if len(pods) != 2 || pods["node-2"].name == "" {
		t.Fatalf("two pods that avoid each other are on %v", pods)
	}
	t.Run("pods reach each other, and Services", func(t *testing.T) { crossNodes(t, c, pods) })
	t.Run("commands show both nodes", func(t *testing.T) { bothShown(t, c) })
	t.Cleanup(func() { c.interrupt() })
	t.Run("kill -9 loses no container", func(t *testing.T) {
		c.kill()
		again, err := start(c.dir, args[1:]...) // how many nodes is remembered
		if err != nil {
			t.Fatal(err)
		}
		c = again
		if err := c.waitReady(); err != nil {
			t.Fatal(err)
		}
		if after := c.podsByNode(t); !reflect.DeepEqual(after, pods) {
			t.Errorf("after a kill -9: %v, before: %v", after, pods)
		}
	})
	c.apply(t, shades)
	c.kubectl(t, "rollout", "status", "deployment/shades", "--timeout=60s")
	c.kubectl(t, "rollout", "status", "daemonset/everywhere", "--timeout=60s")
	t.Run("a node that is cut off", func(t *testing.T) { cutOff(t, c, pods) })
	if err := c.interrupt(); err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is left", func() error {
		if after := host(t); !reflect.DeepEqual(before, after) {
			return fmt.Errorf("before: %v\nafter: %v", before, after)
		}
		if left := networkNamespaces(); !slices.Equal(names, left) {
			return fmt.Errorf("network namespaces %v", left)
		}
		return nil
	})
}

func crossNodes(t *testing.T, c *cluster, pods map[string]podOn) {
	for node, from := range pods {
		for other, to := range pods {
			if out := c.kubectl(t, "exec", from.name, "--", "wget", "-q", "-T", "3", "-O", "-", "http://"+to.ip+":8080/"); podIn(out) != to.name {
				t.Errorf("from %s to %s: %s", node, other, out)
			}
		}
		// A node's port leads out of the node again, even to the node where the question came from.
		for _, url := range []string{"http://spread/", "http://172.30.254.1:30080/", "http://172.30.254.2:30080/"} {
			eventually(t, url+" leads from "+node+" to both pods", func() error {
				reached := map[string]bool{}
				for range 20 {
					out, _, err := c.try("exec", from.name, "--", "wget", "-q", "-T", "3", "-O", "-", url)
					if err != nil {
						return err
					}
					if reached[podIn(out)] = true; len(reached) == 2 {
						return nil
					}
				}
				return fmt.Errorf("reached %v", reached)
			})
		}
		if out := c.kubectl(t, "logs", from.name); !strings.Contains(out, "listening") {
			t.Errorf("logs of %s: %s", node, out)
		}
	}
}

// bothShown: what looks at components looks at those of the second node too, and a held one is found.
func bothShown(t *testing.T, c *cluster) {
	for command, want := range map[string][]string{
		"connections":         {"kubelet-node-2", "proxy-node-2", "cri-node-2"},
		"image ls":            {"node-2:"},
		"step proxy-node-2":   {"proxy-node-2 is held"},
		"step kubelet-node-2": {"kubelet-node-2 is held"},
		"trace svc/spread":    {"proxy-node-2: iptables-restore"},
	} {
		out, err := exec.Command(binary, append(strings.Fields(command), "--data-dir="+c.dir)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
			continue
		}
		holds(t, string(out), want...)
		if strings.Contains(string(out), "no proxy-node-2 is connected") {
			t.Errorf("%s: %s", command, out)
		}
	}
	if out, err := exec.Command(binary, "continue", "--data-dir="+c.dir).CombinedOutput(); err != nil {
		t.Errorf("continue: %v: %s", err, out)
	}
}

// cutOff stops node-2 as a machine that loses its network, and a fake node with it.
func cutOff(t *testing.T, c *cluster, pods map[string]podOn) {
	run := func(verb, what string) {
		if out, err := exec.Command(binary, verb, what, "--data-dir="+c.dir).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", verb, what, err, out)
		}
	}
	run("stop", "kubelet-node-2") // a part of a node alone
	run("start", "kubelet-node-2")
	run("stop", "node-2")
	run("stop", "fake-2")
	if _, err := get("http://" + pods["node-2"].ip + ":8080/"); err == nil {
		t.Error("a pod of a node without a network still answers")
	}
	for _, node := range []string{"node-2", "fake-2"} {
		eventually(t, node+" is not Ready, and tainted", func() error {
			got := c.kubectl(t, "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints[?(@.effect=="NoExecute")].key}`)
			if got != "Unknown node.kubernetes.io/unreachable" {
				return errors.New(got)
			}
			return nil
		})
	}
	eventually(t, "the pod of node-2 gives way", func() error {
		if got := c.kubectl(t, "get", "pod", pods["node-2"].name, "-o", "jsonpath={.metadata.deletionTimestamp}"); got == "" {
			return errors.New("the pod is not being deleted")
		}
		return nil
	})
	eventually(t, "another pod runs in place of the one of fake-2", func() error { return settled(t, c, "fake-2", 3) })
	run("start", "node-2")
	run("start", "fake-2")
	eventually(t, "the node is back, with a new pod", func() error {
		now := c.podsByNode(t)
		if len(now) != 2 || now["node-2"].name == pods["node-2"].name {
			return fmt.Errorf("pods %v", now)
		}
		return nil
	})
	if now := c.podsByNode(t); now[firstNode(t)] != pods[firstNode(t)] {
		t.Errorf("the pod of the first node was disturbed: %v, was %v", now, pods)
	}
	// A DaemonSet's pods tolerate the taints for ever.
	eventually(t, "what has stayed on the silent nodes is ready again", func() error {
		got := c.kubectl(t, "get", "daemonset", "everywhere", "-o", "jsonpath={.status.numberReady} of {.status.desiredNumberScheduled}")
		if got != "5 of 5" {
			return errors.New(got)
		}
		return nil
	})
	eventually(t, "nothing is ending any more", func() error { return settled(t, c, "", 3) })
}

// settled: so many shades run and are ready on other nodes than the one named, and those that end are on that one alone.
func settled(t *testing.T, c *cluster, dead string, want int) error {
	t.Helper()
	out := c.kubectl(t, "get", "pods", "-l", "app=shades", "-o",
		`jsonpath={range .items[*]}{.spec.nodeName},{.status.conditions[?(@.type=="Ready")].status},{.metadata.deletionTimestamp}{"\n"}{end}`)
	ready := 0
	for _, line := range strings.Fields(out) {
		f := strings.Split(line, ",")
		switch ending := f[2] != ""; {
		case f[0] == dead && ending: // its kubelet cannot say that it has ended
		case f[0] == dead || ending || f[1] != "True":
			return fmt.Errorf("shades: %s", out)
		default:
			ready++
		}
	}
	if ready != want {
		return fmt.Errorf("%d shades are ready, want %d: %s", ready, want, out)
	}
	return nil
}

func firstNode(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
