package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// step runs `hyperkube step` or `hyperkube continue`.
func (c *cluster) step(t *testing.T, args ...string) string {
	t.Helper()
	stdout, err := c.tryStep(args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	return stdout
}

func (c *cluster) tryStep(args ...string) (string, error) {
	stdout, _, err := c.run(exec.Command(binary, append(args, "--data-dir="+c.dir)...))
	return stdout, err
}

// A session in which the scheduler, and then a controller, is stepped through from the
// command line (issue 3).
func TestStepFromTheCommandLine(t *testing.T) {
	c := startOwn(t)
	holds(t, c.step(t, "step"), "nobody is held")
	holds(t, c.step(t, "step", "kube-scheduler"), "scheduler is held", "hyperkube step --one scheduler")
	c.kubectl(t, "run", "web", "--image=hyperkube.local/demo")
	eventually(t, "the event at the gate", func() error {
		if shown := c.step(t, "step"); !strings.Contains(shown, "ADDED Pod default/web @") {
			return errors.New(shown)
		}
		return nil
	})
	holds(t, c.step(t, "status"), "gate/scheduler", "next ADDED Pod default/web")
	if node := c.kubectl(t, "get", "pod", "web", "-o", "jsonpath={.spec.nodeName}"); node != "" {
		t.Fatalf("web is on %s, though the scheduler has not been told of it", node)
	}
	passed := c.step(t, "step", "--one")
	if !regexp.MustCompile(`^scheduler ◄ ADDED Pod default/web @\d+ \(kubectl: create pods\)\n$`).MatchString(passed) {
		t.Errorf("let through: %q", passed)
	}
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/web", "--timeout=60s")

	// A scheduler that starts anew stands where it stood.
	c.kubectl(t, "run", "second", "--image=hyperkube.local/demo")
	c.step(t, "stop", "scheduler")
	holds(t, c.step(t, "step"), "no scheduler is connected: the gate waits for it")
	c.step(t, "start", "scheduler")
	eventually(t, "the gate of the new scheduler", func() error {
		if shown := c.step(t, "step"); strings.Contains(shown, "no scheduler") || !strings.Contains(shown, "MODIFIED Pod default/web") {
			return errors.New(shown)
		}
		return nil
	})
	if node := c.kubectl(t, "get", "pod", "second", "-o", "jsonpath={.spec.nodeName}"); node != "" {
		t.Fatalf("second is on %s: the restart leaked past the gate", node)
	}
	holds(t, c.step(t, "continue", "scheduler"), "scheduler goes on")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/second", "--timeout=60s")

	// One controller of many.
	if _, err := c.tryStep("step", "controller-manager/deploy"); err == nil || !strings.Contains(err.Error(), "it runs") {
		t.Errorf("a controller that is not there: %v", err)
	}
	c.step(t, "step", "controller-manager/deployment")
	c.kubectl(t, "create", "deployment", "d", "--image=hyperkube.local/demo")
	eventually(t, "the key at the gate", func() error {
		if shown := c.step(t, "step"); !strings.Contains(shown, "SYNC Deployment default/d @") {
			return errors.New(shown)
		}
		return nil
	})
	if sets := c.kubectl(t, "get", "replicasets", "-o", "name"); sets != "" {
		t.Errorf("there is a ReplicaSet already: %s", sets)
	}
	holds(t, c.step(t, "step", "--one"), "controller-manager/deployment ◄ SYNC Deployment default/d")
	eventually(t, "the ReplicaSet", func() error {
		if sets := c.kubectl(t, "get", "replicasets", "-o", "name"); !strings.Contains(sets, "replicaset.apps/d-") {
			return fmt.Errorf("replicasets: %q", sets)
		}
		return nil
	})

	// Gates are the apiserver's memory: its restart opens them, in the other components too.
	c.step(t, "stop", "apiserver")
	c.step(t, "start", "apiserver")
	eventually(t, "the apiserver", func() error {
		_, err := c.tryStep("step")
		return err
	})
	holds(t, c.step(t, "step"), "nobody is held")
	c.kubectl(t, "rollout", "status", "deployment/d", "--timeout=60s")
}
