package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// alone is one component in a process of its own.
type alone struct {
	name string
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
}

// startAlone starts a component with --data-dir, which is all that it needs (R12).
func startAlone(t *testing.T, dir, name string, args ...string) *alone {
	t.Helper()
	a := &alone{name: name, log: &lockedBuffer{}, done: make(chan struct{})}
	a.cmd = exec.Command(binary, append([]string{name, "--data-dir=" + dir}, args...)...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		a.cmd.Wait()
		close(a.done)
	}()
	t.Cleanup(func() {
		a.stop(t)
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(a.log.String(), 25))
		}
	})
	return a
}

func (a *alone) stop(t *testing.T) {
	t.Helper()
	a.cmd.Process.Signal(os.Interrupt)
	select {
	case <-a.done:
	case <-time.After(patience):
		a.cmd.Process.Kill()
		t.Errorf("%s did not stop:\n%s", a.name, tail(a.log.String(), 30))
	}
}

// lesson is a cluster whose components are started one by one.
func lesson(t *testing.T) *cluster {
	t.Helper()
	stopShared(t)
	dir := t.TempDir()
	t.Cleanup(func() {
		if out, err := exec.Command(binary, "reset", "--data-dir="+dir).CombinedOutput(); err != nil {
			t.Errorf("reset: %v: %s", err, out)
		}
	})
	return &cluster{dir: dir}
}

// TestOneByOne is the lesson of R11: each component is started alone, and at each step it
// is asserted what works and what is still missing.
func TestOneByOne(t *testing.T) {
	c := lesson(t)
	count := func(t *testing.T, kind string) int {
		t.Helper()
		return len(strings.Fields(c.kubectl(t, "get", kind, "-n", "default", "-l", "app=web", "-o", "name")))
	}

	t.Log("etcd and the apiserver: objects can be stored, nothing happens to them")
	startAlone(t, c.dir, "etcd")
	startAlone(t, c.dir, "apiserver")
	eventually(t, "the API answers", func() error {
		_, _, err := c.try("get", "--raw", "/readyz")
		return err
	})
	c.kubectl(t, "create", "deployment", "web", "--image=hyperkube.local/demo")
	if n := count(t, "deployments"); n != 1 {
		t.Fatalf("%d deployments", n)
	}
	if n := count(t, "replicasets") + count(t, "pods"); n != 0 {
		t.Fatalf("without controllers there are %d replicasets and pods", n)
	}

	t.Log("+ controller-manager: a ReplicaSet and a Pod, which stays Pending")
	startAlone(t, c.dir, "controller-manager")
	eventually(t, "the pod is made", func() error {
		if count(t, "replicasets") != 1 || count(t, "pods") != 1 {
			return errors.New("no replicaset or no pod yet")
		}
		return nil
	})
	phase := func() string {
		return c.kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].status.phase}")
	}
	if got := phase(); got != "Pending" {
		t.Errorf("phase without a scheduler: %s", got)
	}

	t.Log("+ kubelet: a Node, Ready; the pod is still nobody's")
	startAlone(t, c.dir, "kubelet")
	eventually(t, "the node is Ready", func() error {
		out := c.kubectl(t, "get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if out != "True" {
			return fmt.Errorf("Ready: %q", out)
		}
		return nil
	})
	if got := c.kubectl(t, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].spec.nodeName}"); got != "" {
		t.Errorf("bound to %q without a scheduler", got)
	}

	t.Log("+ scheduler: the pod runs")
	startAlone(t, c.dir, "scheduler")
	c.kubectl(t, "rollout", "status", "deployment/web", "--timeout=90s")

	t.Log("a Service without a proxy is an address that nobody answers")
	c.kubectl(t, "expose", "deployment", "web", "--port=80", "--target-port=8080")
	url := "http://" + c.kubectl(t, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}") + "/"
	eventually(t, "the endpoints are there", func() error {
		if out := c.kubectl(t, "get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "jsonpath={.items[*].endpoints[*].addresses[0]}"); out == "" {
			return errors.New("none")
		}
		return nil
	})
	if answer, err := get(url); err == nil {
		t.Errorf("the ClusterIP answers without a proxy: %s", answer)
	}

	t.Log("+ proxy: the Service answers")
	startAlone(t, c.dir, "proxy")
	eventually(t, url+" answers", func() error {
		_, err := get(url)
		return err
	})

	t.Log("+ dns: its name does, from a pod")
	fetch := func() error {
		_, _, err := c.try("exec", "deploy/web", "--", "wget", "-q", "-T", "2", "-O", "-", "http://web/")
		return err
	}
	if fetch() == nil {
		t.Error("the name is known without DNS")
	}
	startAlone(t, c.dir, "dns")
	eventually(t, "http://web/ from a pod", fetch)
}

// TestManualBinding: a pod runs without a scheduler if someone else says where (R16, S0-04).
func TestManualBinding(t *testing.T) {
	c := startOwn(t, "--disable=scheduler,dns,proxy")
	c.kubectl(t, "run", "bare", "--image=hyperkube.local/demo")
	node := strings.TrimPrefix(c.kubectl(t, "get", "nodes", "-o", "name"), "node/")
	file := filepath.Join(t.TempDir(), "binding.json")
	binding := fmt.Sprintf(`{"apiVersion":"v1","kind":"Binding","metadata":{"name":"bare"},"target":{"apiVersion":"v1","kind":"Node","name":%q}}`, node)
	if err := os.WriteFile(file, []byte(binding), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "create", "--raw", "/api/v1/namespaces/default/pods/bare/binding", "-f", file)
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/bare", "--timeout=90s")
	if got := c.kubectl(t, "get", "pod", "bare", "-o", "jsonpath={.metadata.generation}"); got != "1" {
		t.Errorf("generation %s after a Binding, which is no change of the spec by its owner", got)
	}
}

// TestStartOrderDoesNotMatter: components started in random order make the same
// cluster; those that come first wait, and say what for (R17).
func TestStartOrderDoesNotMatter(t *testing.T) {
	c := lesson(t)
	names := []string{"etcd", "apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "dns"}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	t.Logf("order: %v", names)
	for _, name := range names {
		startAlone(t, c.dir, name)
	}
	eventually(t, "the API answers", func() error {
		_, _, err := c.try("get", "--raw", "/readyz")
		return err
	})
	c.kubectl(t, "create", "deployment", "web", "--image=hyperkube.local/demo")
	c.kubectl(t, "rollout", "status", "deployment/web", "--timeout=90s")
}
