package e2e

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// kills is how often TestKillNineAtRandomMoments kills. CI has few minutes; by hand:
//
//	go test ./test/e2e -run TestKillNineAtRandomMoments -kills=50 -v -timeout 20m
var kills = flag.Int("kills", 6, "how many times TestKillNineAtRandomMoments kills the cluster")

// crashPods stay as they are while the cluster is killed: each start of a
// container leaves a line in a volume, and each tick a number.
const crashPods = `
apiVersion: v1
kind: Pod
metadata: {name: counter, labels: {steady: "yes"}}
spec:
  containers:
  - {name: c, image: hyperkube.local/demo, command: [sh, -c, 'echo start >>/data/starts; n=0; while true; do n=$((n+1)); echo $n >/data/n.new; mv /data/n.new /data/n; sleep 0.2; done'], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: sidecar, labels: {steady: "yes"}}
spec:
  initContainers:
  - {name: first, image: hyperkube.local/demo, command: [sh, -c, 'echo first >>/data/starts'], volumeMounts: [{name: data, mountPath: /data}]}
  - {name: side, image: hyperkube.local/demo, restartPolicy: Always, command: [sh, -c, 'echo side >>/data/starts; sleep 1000'], volumeMounts: [{name: data, mountPath: /data}]}
  containers:
  - {name: c, image: hyperkube.local/demo, command: [sh, -c, 'echo main >>/data/starts; sleep 1000'], volumeMounts: [{name: data, mountPath: /data}]}
  volumes: [{name: data, emptyDir: {medium: Memory}}]
`

// once is a pod that ends by itself, perhaps while nobody looks.
const once = `
apiVersion: v1
kind: Pod
metadata: {name: once-%d, labels: {app: once}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, 'sleep %s; exit 3']}]
`

// TestKillNineAtRandomMoments: kill -9 amid a rolling update, a deletion, a
// scaling, the end of a container, or a start. Afterwards what ran undisturbed has
// the same containers and has counted on, what ended meanwhile has its exit code,
// what changed converges, and the node holds for pods what the API says, no more:
// not while the cluster runs, not when the pods are deleted, and not after Ctrl-C
// (R71, issue 5). HYPERKUBE_SEED repeats a run.
func TestKillNineAtRandomMoments(t *testing.T) {
	stopShared(t)
	before := host(t)
	random := rand.New(rand.NewPCG(seed(t), 0))
	c := startOwn(t)
	empty := c.held(t)
	for _, name := range []string{"steady", "churn"} {
		c.kubectl(t, "create", "deployment", name, "--image=hyperkube.local/demo", "--replicas=2")
	}
	c.apply(t, crashPods)
	c.kubectl(t, "label", "pods", "-l", "app=steady", "steady=yes")
	c.kubectl(t, "rollout", "status", "deployment/churn", "--timeout=90s")
	c.kubectl(t, "wait", "--for=condition=Ready", "pods", "-l", "steady=yes", "--timeout=90s")
	steady := c.steady(t)
	for round := range *kills {
		c = c.killAmid(t, random, round)
	}
	if err := c.waitReady(); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "scale", "deployment/churn", "--replicas=2")
	c.kubectl(t, "set", "env", "deployment/churn", "ROUND=last")
	c.kubectl(t, "rollout", "status", "deployment/churn", "--timeout=90s")
	c.endedAsTheyShould(t)
	eventually(t, "the node holds what the API says", func() error { return c.holdsWhatTheAPISays(t) })
	if got := c.steady(t); got != steady {
		t.Errorf("pods that nobody touched:\n%s\nbefore:\n%s", got, steady)
	}
	c.countedOn(t)
	c.kubectl(t, "delete", "deployments", "--all")
	c.kubectl(t, "delete", "pods", "--all", "--grace-period=1")
	eventually(t, "without pods the node holds nothing for pods", func() error {
		if now := c.held(t); fmt.Sprint(now) != fmt.Sprint(empty) {
			return fmt.Errorf("held: %+v, before the first pod: %+v", now, empty)
		}
		return nil
	})
	rules := host(t)["rules of iptables-save"]
	for i, rule := range rules {
		if strings.HasPrefix(rule, "-A POSTROUTING") && slices.Contains(rules[:i], rule) {
			t.Errorf("twice: %s", rule)
		}
	}
	if err := c.interrupt(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	sameHost(t, before, host(t))
}

// killAmid lets something begin, kills the cluster at a moment of that, and starts
// it again. Every other time it waits until all is well; the kill that follows
// the others comes amid a start.
func (c *cluster) killAmid(t *testing.T, random *rand.Rand, round int) *cluster {
	t.Helper()
	actions := [][]string{
		{"set", "env", "deployment/churn", fmt.Sprintf("ROUND=%d", round)},
		{"delete", "pods", "-l", "app=churn", "--wait=false", "--grace-period=1"},
		{"scale", "deployment/churn", "--replicas=5"},
		{"apply", "-f", c.file(t, fmt.Sprintf(once, round, strconv.FormatFloat(random.Float64()*3, 'f', 2, 64)))},
		{"scale", "deployment/churn", "--replicas=1"},
	}
	action := actions[random.IntN(len(actions))]
	acted := make(chan struct{})
	go func() {
		defer close(acted)
		c.try(action...) // the kill may cut it short, and the cluster may still be starting
	}()
	moment := time.Duration(random.IntN(1500)) * time.Millisecond
	<-time.After(moment) // no wait for anything: the moment is what is tested
	c.kill()
	<-acted
	t.Logf("kill %d, %v after %v", round+1, moment, action)
	again, err := start(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of `all` after kill %d:\n%s", round+1, tail(again.log.String(), 30))
		}
		again.interrupt()
	})
	if round%2 == 0 {
		if err := again.waitReady(); err != nil {
			t.Fatal(err)
		}
	}
	return again
}

// file writes a manifest and returns its name.
func (c *cluster) file(t *testing.T, manifest string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(name, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// steady tells the pods that nothing was done to: their containers and how often these were started.
func (c *cluster) steady(t *testing.T) string {
	t.Helper()
	return c.kubectl(t, "get", "pods", "-l", "steady=yes", "--sort-by=.metadata.name", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.podIP} {range .status.initContainerStatuses[*]}{.containerID} {.restartCount} {end}{range .status.containerStatuses[*]}{.containerID} {.restartCount} {end}{"\n"}{end}`)
}

// endedAsTheyShould waits until each pod that ends by itself has ended, with the
// code that it gave: a container that ended while nobody looked is not forgotten, nor run again.
func (c *cluster) endedAsTheyShould(t *testing.T) {
	t.Helper()
	eventually(t, "pods that end by themselves have ended", func() error {
		out := c.kubectl(t, "get", "pods", "-l", "app=once", "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.containerStatuses[0].state.terminated.exitCode} {.status.containerStatuses[0].restartCount}{"\n"}{end}`)
		for _, line := range strings.Split(out, "\n") {
			if line != "" && !strings.HasSuffix(line, " Failed 3 0") {
				return fmt.Errorf("%s", line)
			}
		}
		return nil
	})
}

// countedOn checks from within the containers that none was started twice, and that they do something.
func (c *cluster) countedOn(t *testing.T) {
	t.Helper()
	if got := c.kubectl(t, "exec", "counter", "--", "cat", "/data/starts"); got != "start" {
		t.Errorf("the counter was started so often: %q", got)
	}
	if got := c.kubectl(t, "exec", "sidecar", "-c", "c", "--", "cat", "/data/starts"); got != "first\nside\nmain" {
		t.Errorf("the sidecar's pod was started so: %q", got)
	}
	n := c.kubectl(t, "exec", "counter", "--", "cat", "/data/n")
	eventually(t, "the counter counts", func() error {
		if now := c.kubectl(t, "exec", "counter", "--", "cat", "/data/n"); now == n {
			return fmt.Errorf("is still at %s", now)
		}
		return nil
	})
}

// held is what the node holds for pods, as the kernel and the disk tell it.
type held struct {
	Parents, Links, Addresses, Mounts, Folders int
	// Cgroups are the UIDs of pods that have one.
	Cgroups []string
}

func (c *cluster) held(t *testing.T) (h held) {
	t.Helper()
	h.Parents = len(podParents(t))
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "veth") {
			h.Links++
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	h.Mounts = strings.Count(string(mounts), " "+c.dir+"/")
	node := firstNode(t)
	h.Addresses = len(glob(t, c.dir+"/nodes/"+node+"/cri/cni/data/*/*.*.*"))
	h.Folders = len(glob(t, c.dir+"/nodes/"+node+"/kubelet/pods/*"))
	roots := slices.Concat(glob(t, "/sys/fs/cgroup/hyperkube*/"+node), glob(t, "/sys/fs/cgroup/memory/hyperkube*/"+node))
	for _, root := range roots {
		filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if uid, ok := strings.CutPrefix(filepath.Base(path), "pod"); ok && err == nil && entry.IsDir() && len(uid) == 36 {
				h.Cgroups = append(h.Cgroups, uid)
				return fs.SkipDir
			}
			return nil // what is gone since it was listed is no longer held
		})
	}
	slices.Sort(h.Cgroups)
	h.Cgroups = slices.Compact(h.Cgroups)
	return h
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// holdsWhatTheAPISays compares the node with the API: each pod that has not ended
// has one parent process, one link, one address, one folder and one cgroup; no other has any.
func (c *cluster) holdsWhatTheAPISays(t *testing.T) error {
	t.Helper()
	var alive, ended []string
	for _, line := range strings.Split(c.kubectl(t, "get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.uid} {.status.phase}{"\n"}{end}`), "\n") {
		uid, phase, _ := strings.Cut(line, " ")
		if phase == "Running" {
			alive = append(alive, uid)
		} else {
			ended = append(ended, uid+" "+phase)
		}
	}
	slices.Sort(alive)
	h, n := c.held(t), len(alive)
	// Two steady ones, two that were rolled, and two bare ones.
	if n != 6 || h.Parents != n || h.Links != n || h.Addresses != n || h.Folders != n || !slices.Equal(h.Cgroups, alive) {
		return fmt.Errorf("in the API %v run and %v do not; held is %+v", alive, ended, h)
	}
	return nil
}

// seed is HYPERKUBE_SEED, or a new one, which is printed.
func seed(t *testing.T) uint64 {
	value, err := strconv.ParseUint(os.Getenv("HYPERKUBE_SEED"), 10, 64)
	if err != nil {
		value = rand.Uint64()
	}
	t.Logf("HYPERKUBE_SEED=%d repeats this run", value)
	return value
}
