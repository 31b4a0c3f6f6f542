package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestKillNineAtRandomMoments: kill -9 amid a rolling update, a deletion, a
// scaling or a start. Afterwards what ran undisturbed has the same containers,
// what changed converges, and nothing is left over: not while the cluster runs,
// and not after Ctrl-C (R71). HYPERKUBE_SEED repeats a run.
func TestKillNineAtRandomMoments(t *testing.T) {
	stopShared(t)
	before := host(t)
	random := rand.New(rand.NewPCG(seed(t), 0))
	c := startOwn(t)
	for _, name := range []string{"steady", "churn"} {
		c.kubectl(t, "create", "deployment", name, "--image=hyperkube.local/demo", "--replicas=3")
		c.kubectl(t, "rollout", "status", "deployment/"+name, "--timeout=90s")
	}
	const query = `jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{"\n"}{end}`
	steady := c.kubectl(t, "get", "pods", "-l", "app=steady", "--sort-by=.metadata.name", "-o", query)
	actions := [][]string{
		{"set", "env", "deployment/churn", "ROUND=0"},
		{"delete", "pods", "-l", "app=churn", "--wait=false", "--grace-period=1"},
		{"scale", "deployment/churn", "--replicas=6"},
		{"set", "env", "deployment/churn", "ROUND=1"},
		{"scale", "deployment/churn", "--replicas=1"},
	}
	for round, action := range actions {
		acted := make(chan struct{})
		go func() {
			defer close(acted)
			c.try(action...) // the kill may cut it short, and the cluster may still be starting
		}()
		moment := time.Duration(random.IntN(1500)) * time.Millisecond
		<-time.After(moment) // no wait for anything: the moment is what is tested
		c.kill()
		<-acted
		t.Logf("killed %s after %v", moment, action)
		again, err := start(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { again.interrupt() })
		if c = again; round%2 == 0 { // the other kills come amid a start
			if err := c.waitReady(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.waitReady(); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "scale", "deployment/churn", "--replicas=2")
	c.kubectl(t, "set", "env", "deployment/churn", "ROUND=last")
	c.kubectl(t, "rollout", "status", "deployment/churn", "--timeout=90s")
	eventually(t, "only the wanted pods are left", func() error {
		pods := strings.Fields(c.kubectl(t, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}"))
		if parents := podParents(t); len(pods) != 5 || len(parents) != 5 {
			return fmt.Errorf("%d pods %v, %d pod parents", len(pods), pods, len(parents))
		}
		return nil
	})
	if got := c.kubectl(t, "get", "pods", "-l", "app=steady", "--sort-by=.metadata.name", "-o", query); got != steady {
		t.Errorf("pods that nobody touched:\n%s\nbefore:\n%s", got, steady)
	}
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

// seed is HYPERKUBE_SEED, or a new one, which is printed.
func seed(t *testing.T) uint64 {
	value, err := strconv.ParseUint(os.Getenv("HYPERKUBE_SEED"), 10, 64)
	if err != nil {
		value = rand.Uint64()
	}
	t.Logf("HYPERKUBE_SEED=%d repeats this run", value)
	return value
}
