package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// why waits until the screen of `hyperkube why` holds all of wants: a state comes about by and by. Lines
// are wrapped at 100 columns, so white space does not count.
func (r *room) why(t *testing.T, object string, wants ...string) {
	t.Helper()
	eventually(t, "why "+object, func() error {
		out, errs, err := r.run(exec.Command(binary, "why", "--data-dir="+r.dir, "-n", r.ns, object))
		if err != nil {
			return err
		}
		if n := strings.Count(out, "\n"); n > 40 || errs != "" {
			return fmt.Errorf("%d lines, stderr %q", n, errs)
		}
		folded := strings.Join(strings.Fields(out), " ")
		for _, want := range wants {
			if !strings.Contains(folded, want) {
				return fmt.Errorf("no %q in\n%s", want, out)
			}
		}
		return nil
	})
}

// TestWhy makes the states that people ask about, and checks that one screen names the reason, its
// evidence and the remedy (issue 3).
func TestWhy(t *testing.T) {
	r := shared(t).room(t)
	node := r.k(t, "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
	allocatable := r.field(t, "node/"+node, ".status.allocatable.cpu")
	r.create(t, whyObjects)
	t.Run("pending by selector", func(t *testing.T) {
		r.why(t, "pod/ssd", "Pending, no node", "✗ Pending: none of 1 node takes it (attempt", node+": has no label disktype (wanted: ssd) (NodeAffinity)",
			"kubectl label node "+node+" --overwrite disktype=ssd", "the scheduler: Unschedulable: 0/1 nodes are available")
	})
	t.Run("pending by CPU", func(t *testing.T) {
		r.why(t, "pod/greedy", "Insufficient cpu: it wants 999", "ask for at most "+allocatable+" of cpu")
	})
	t.Run("readiness fails", func(t *testing.T) {
		r.why(t, "pod/unready", "Running, not Ready, on "+node, "✗ Not Ready: the readiness probe of container c has not succeeded", "it runs cat /ready, every 1s",
			"Readiness probe failed: cat: /ready", "without a break since", "On "+node+": the only one of 1 node that fits", "front: ")
	})
	t.Run("crash loop", func(t *testing.T) {
		r.why(t, "pod/crash", "✗ CrashLoopBackOff: container c ended", "last: exit code 3, by itself", "back-off of 10s", "kubectl logs crash -c c --previous")
	})
	t.Run("out of memory", func(t *testing.T) {
		r.why(t, "pod/oom", "exit code 137, out of memory: the kernel killed it, for it had used up its memory limit of 16Mi", "raise resources.limits.memory")
	})
	t.Run("killed by its liveness probe", func(t *testing.T) {
		r.why(t, "pod/live", "killed by the kubelet, for a probe failed", "Container c failed liveness probe", "Liveness probe failed: not well")
	})
	t.Run("bad image", func(t *testing.T) {
		r.why(t, "pod/image", "✗ Container c has no image: registry.invalid/x:1", "Failed to pull image", "pull secret login does not exist in namespace "+r.ns)
	})
	t.Run("a finalizer holds it", func(t *testing.T) {
		r.ready(t, "held")
		r.k(t, "delete", "pod", "held", "--wait=false")
		r.why(t, "pod/held", "✗ Terminating: finalizer example.com/wait holds it", "by kubectl as kubernetes-admin", "kubectl patch pod held")
		r.k(t, "patch", "pod", "held", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`) // the remedy
		r.becomesGone(t, "pod/held")
	})
	t.Run("a Service that selects nothing", func(t *testing.T) {
		r.why(t, "svc/typo", "✗ No endpoints: no pod in "+r.ns+" has the labels of its selector, app=fornt", "its label app is front, not fornt",
			"leads anywhere: connections to it are refused")
	})
	t.Run("a Service with a chain", func(t *testing.T) {
		r.k(t, "rollout", "status", "deploy/web", "--timeout=90s")
		address := r.field(t, "svc/web", ".spec.clusterIP")
		r.why(t, "svc/web", "tcp to "+address+" port 80 → KUBE-SVC-", "with probability 0.500 → KUBE-SEP-", ":8080 (web-", "50 % of all", "web."+r.ns+".svc.cluster.local → "+address)
	})
	t.Run("a Deployment says what its worst pod suffers from", func(t *testing.T) {
		r.k(t, "set", "image", "deploy/web", "c=registry.invalid/web:2")
		r.why(t, "deploy/web", "✗ 2 of 2 pods Ready; not: web-", "has no image: registry.invalid/web:2", "began", "hyperkube.local/demo → registry.invalid/web:2", "by kubectl as kubernetes-admin")
	})
	t.Run("a cordoned node", func(t *testing.T) {
		r.k(t, "cordon", node)
		defer r.k(t, "uncordon", node)
		r.why(t, "node/"+node, "Ready, cordoned", "✗ Cordoned: it gets no new pods", "set by kubectl as kubernetes-admin", "kubectl uncordon "+node, "cpu: ")
	})
	t.Run("JSON, and errors", func(t *testing.T) {
		out, _, err := r.run(exec.Command(binary, "why", "--data-dir="+r.dir, "-n", r.ns, "-o", "json", "pod/ssd"))
		var screen struct {
			Findings []struct{ Weight, Title, Remedy string }
		}
		if err != nil || json.Unmarshal([]byte(out), &screen) != nil || len(screen.Findings) == 0 || screen.Findings[0].Weight != "trouble" || screen.Findings[0].Remedy == "" {
			t.Errorf("%v\n%s", err, out)
		}
		for object, want := range map[string]string{"pod/gone": `pods "gone" not found`, "lease/x": "cannot be explained; these can: po,", "pod": "usage: hyperkube why"} {
			var exit *exec.ExitError
			if _, errs, err := r.run(exec.Command(binary, "why", "--data-dir="+r.dir, "-n", r.ns, object)); !errors.As(err, &exit) || !strings.Contains(errs, want) {
				t.Errorf("%s: %v, %q", object, err, errs)
			}
		}
	})
}

// becomesGone waits until an object is no more.
func (r *room) becomesGone(t *testing.T, object string) {
	t.Helper()
	eventually(t, object+" is gone", func() error {
		if _, errs, err := r.try("-n", r.ns, "get", object); err == nil || !strings.Contains(errs, "NotFound") {
			return fmt.Errorf("%v %s", err, errs)
		}
		return nil
	})
}

const whyObjects = `
apiVersion: v1
kind: Pod
metadata: {name: ssd}
spec: {nodeSelector: {disktype: ssd}, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec: {containers: [{name: c, image: hyperkube.local/demo, resources: {requests: {cpu: "999"}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: unready, labels: {app: front}}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo, readinessProbe: {exec: {command: [cat, /ready]}, periodSeconds: 1}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec: {containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, exit 3]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: oom}
spec: {containers: [{name: c, image: hyperkube.local/demo, command: [sh, -c, "x=aaaaaaaaaaaaaaaa; while true; do x=$x$x; done"], resources: {limits: {memory: 16Mi}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: live}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo, livenessProbe: {exec: {command: [sh, -c, echo not well; exit 1]}, periodSeconds: 1, failureThreshold: 2}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: image}
spec: {imagePullSecrets: [{name: login}], containers: [{name: c, image: "registry.invalid/x:1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: held, finalizers: [example.com/wait]}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: front}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: typo}
spec: {selector: {app: fornt}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: hyperkube.local/demo, ports: [{containerPort: 8080}]}]}
`
