package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// pair are two processes of one component that compete for a Lease.
type pair struct {
	component, lease string
	lost             string // what one says that has lost the Lease
	processes        map[string]*alone
}

// join starts a process that competes under a name.
func (p *pair) join(t *testing.T, c *cluster, name string) {
	t.Helper()
	p.processes[name] = startAlone(t, c.dir, p.component, "--leader-elect-identity="+name,
		"--leader-elect-lease-duration=5s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=500ms")
}

// leader is who holds the Lease and is one of the processes.
func (p *pair) leader(t *testing.T, c *cluster) string {
	t.Helper()
	var holder string
	eventually(t, "one leads "+p.component, func() error {
		out, _, err := c.try("get", "lease", p.lease, "-n", "kube-system", "-o", "jsonpath={.spec.holderIdentity}")
		if holder = out; err == nil && p.processes[holder] == nil {
			err = fmt.Errorf("the holder is %q", holder)
		}
		return err
	})
	return holder
}

// killLeader ends the leader as a kill for memory would.
func (p *pair) killLeader(t *testing.T, c *cluster) {
	t.Helper()
	name := p.leader(t, c)
	leader := p.processes[name]
	delete(p.processes, name)
	leader.cmd.Process.Signal(syscall.SIGKILL)
	<-leader.done
}

// stopLeader holds the leader as it is, and returns its name.
func (p *pair) stopLeader(t *testing.T, c *cluster) string {
	t.Helper()
	var name string
	eventually(t, "the leader is stopped", func() error {
		name = p.leader(t, c)
		p.processes[name].cmd.Process.Signal(syscall.SIGSTOP)
		if now := p.leader(t, c); now != name { // on a slow machine it lost the Lease meanwhile
			p.processes[name].cmd.Process.Signal(syscall.SIGCONT)
			return fmt.Errorf("%s leads, not %s", now, name)
		}
		return nil
	})
	t.Cleanup(func() { p.processes[name].cmd.Process.Signal(syscall.SIGCONT) }) // or else it could not be ended
	return name
}

// podsSeen counts the names of all pods that there ever were.
func podsSeen(t *testing.T, c *cluster) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	names := &lockedBuffer{}
	watcher := exec.CommandContext(ctx, binary, "kubectl", "--data-dir="+c.dir, "get", "pods", "-l", "app=web", "-o", "name", "--watch")
	watcher.Stdout = names
	if err := watcher.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		watcher.Wait()
	})
	return func() int {
		seen := map[string]bool{}
		for _, name := range strings.Fields(names.String()) {
			seen[name] = true
		}
		return len(seen)
	}
}

const threeFullNodes = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 12
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: hyperkube.local/demo, resources: {requests: {cpu: "1"}}}
`

// R74, two of each as real processes: a leader that is killed is replaced; one that is stopped for longer than its Lease holds, and
// goes on when another leads, does nothing of what it had seen: no pod is made twice, no node gets more than it has room for.
func TestLeadersKilledAndStopped(t *testing.T) {
	c := lesson(t)
	startAlone(t, c.dir, "etcd")
	startAlone(t, c.dir, "apiserver")
	eventually(t, "the API answers", func() error {
		_, _, err := c.try("get", "--raw", "/readyz")
		return err
	})
	startAlone(t, c.dir, "fakenodes", "--count=3", "--cpu=10")
	managers := &pair{"controller-manager", "kube-controller-manager", "Lost the lease", map[string]*alone{}}
	schedulers := &pair{"scheduler", "kube-scheduler", "The lease was lost", map[string]*alone{}}
	pairs := []*pair{managers, schedulers}
	for _, p := range pairs {
		p.join(t, c, "a")
		p.join(t, c, "b")
	}
	seen := podsSeen(t, c)
	placed := func(want, made int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d pods on nodes", want), func() error {
			out, _, err := c.try("get", "pods", "-l", "app=web", "-o", `jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}`)
			if err != nil {
				return err
			}
			on := map[string]int{}
			for _, node := range strings.Split(strings.TrimSpace(out), "\n") {
				if on[node]++; node != "" && on[node] > 10 {
					t.Fatalf("%s has room for ten pods, and has %d", node, on[node])
				}
			}
			total := 0
			for n := range maps.Values(on) {
				total += n
			}
			if on[""] > 0 || total != want || seen() < made {
				return fmt.Errorf("pods on nodes: %v, %d made", on, seen())
			}
			return nil
		})
		if n := seen(); n != made {
			t.Errorf("%d pods were made in all, want %d: some were made twice", n, made)
		}
	}
	scale := func(n int) { t.Helper(); c.kubectl(t, "scale", "deployment/web", fmt.Sprint("--replicas=", n)) }

	c.apply(t, threeFullNodes)
	placed(12, 12)

	t.Log("the leaders are killed")
	for _, p := range pairs {
		p.killLeader(t, c)
	}
	scale(18)
	placed(18, 18)

	t.Log("the leaders are stopped; others lead, and see more pods wanted, then fewer")
	stopped := map[*pair]string{}
	for _, p := range pairs {
		p.join(t, c, "c")
		stopped[p] = p.stopLeader(t, c)
	}
	scale(24)
	placed(24, 24)
	scale(20)
	placed(20, 24)

	t.Log("they go on: first with what they were told last, that there are too few pods")
	for p, name := range stopped {
		p.processes[name].cmd.Process.Signal(syscall.SIGCONT)
		eventually(t, name+" stands down", func() error {
			if !strings.Contains(p.processes[name].log.String(), p.lost) {
				return errors.New("it does not say so")
			}
			return nil
		})
	}
	placed(20, 24)

	t.Log("they lead again when the others end in order")
	for p, name := range stopped {
		for other, process := range p.processes {
			if other != name {
				process.stop(t)
			}
		}
	}
	scale(22)
	placed(22, 26)
}
