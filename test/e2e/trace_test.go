package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"hyperkube/flow"
)

// trace prints a story as `hyperkube trace` does.
func (r *room) trace(args ...string) (string, error) {
	out, _, err := r.run(exec.Command(binary, append([]string{"trace", "--data-dir=" + r.dir, "-n", r.ns}, args...)...))
	return out, err
}

// TestTrace follows a Deployment and its Service from kubectl's requests to the containers, the rules
// of the kernel and the names, in a real cluster; and what is cited can be read (issue 3, R21, R30).
func TestTrace(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, tracedObjects)
	r.k(t, "rollout", "status", "deploy/traced", "--timeout=90s")
	pod := r.k(t, "get", "pods", "-l", "app=traced", "-o", "jsonpath={.items[0].metadata.name}")
	address := r.field(t, "pod/"+pod, ".status.podIP")
	r.sh(t, pod, "true unspoken-word")
	r.k(t, "logs", pod)

	t.Run("the story of a Deployment", func(t *testing.T) {
		r.tells(t, "deploy/traced", ": create Deployment "+r.ns+"/traced @", "by kubernetes-admin (client certificate", "allowed: member of system:masters",
			"etcd, ", "told controller-manager", "controller-manager/deployment: create ReplicaSet", "controller-manager/replicaset: create Pod",
			"scheduler: schedule Pod", "scheduler: create binding Pod", "computePodActions", "CRI RunPodSandbox", "pod address Pod "+r.ns+"/"+pod+": "+address,
			"CRI StartContainer", "readiness probe", "success", "update EndpointSlice", "+ -A KUBE-SEP-", "--to-destination "+address+":8080")
	})
	t.Run("of a Service, with its names", func(t *testing.T) {
		r.tells(t, "svc/traced", "names changed Service", "+ traced."+r.ns+".svc.cluster.local A "+r.field(t, "svc/traced", ".spec.clusterIP"))
	})
	t.Run("that somebody looked into a pod, and not with which command", func(t *testing.T) {
		out := r.tells(t, "pod/"+pod, "exec Pod "+r.ns+"/"+pod+" (101", "get log Pod "+r.ns+"/"+pod+" (200")
		if strings.Contains(out, "unspoken-word") {
			t.Errorf("the command of an exec is in\n%s", out)
		}
	})
	t.Run("every line that is cited can be read", func(t *testing.T) { r.citations(t, "deploy/traced", "svc/traced", "pod/"+pod) })
	t.Run("an eviction that a budget refuses", func(t *testing.T) {
		file := r.eviction(t, pod)
		if _, _, err := r.try("create", "--raw", "/api/v1/namespaces/"+r.ns+"/pods/"+pod+"/eviction", "-f", file); err == nil {
			t.Fatal("the pod was evicted")
		}
		r.tells(t, "pod/"+pod, "create eviction Pod "+r.ns+"/"+pod+" (429", "Cannot evict pod as it would violate the pod's disruption budget")
	})
	t.Run("a trace id leads to its story", func(t *testing.T) {
		story := r.story(t, "pod/"+pod)
		id := story.Roots[0].TraceID
		out, err := r.trace("--id", id)
		if err != nil || !strings.Contains(out, "create Deployment "+r.ns+"/traced") {
			t.Errorf("trace --id %s: %v\n%s", id, err, out)
		}
	})
	t.Run("follow prints what comes later", func(t *testing.T) { r.followed(t) })
	t.Run("errors", func(t *testing.T) {
		for _, args := range [][]string{{}, {"nonsense/x"}, {"--id", "zz"}, {"--id", strings.Repeat("0", 32), "pod/x"}} {
			if _, err := r.trace(args...); err == nil {
				t.Errorf("trace %q succeeds", args)
			}
		}
		out, err := r.trace("pod/nobody")
		if err != nil || !strings.Contains(out, "nothing is recorded of Pod "+r.ns+"/nobody since") {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// tells waits until a story holds all of wants, in whatever order: effects come in batches.
func (r *room) tells(t *testing.T, object string, wants ...string) (out string) {
	t.Helper()
	eventually(t, "the story of "+object, func() (err error) {
		if out, err = r.trace("--all", object); err != nil {
			return err
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				return fmt.Errorf("no %q in\n%s", want, out)
			}
		}
		return nil
	})
	return out
}

// story reads -o json.
func (r *room) story(t *testing.T, object string) (story flow.Story) {
	t.Helper()
	out, err := r.trace("-o", "json", object)
	if err == nil {
		err = json.Unmarshal([]byte(out), &story)
	}
	if err == nil && len(story.Roots) == 0 {
		err = errors.New("it has no roots")
	}
	if err != nil {
		t.Fatalf("trace -o json %s: %v", object, err)
	}
	return story
}

// citations: `hyperkube source` prints each file:line of the stories, and it lies in the function that is named.
func (r *room) citations(t *testing.T, objects ...string) {
	t.Helper()
	cited := map[string]string{}
	for _, object := range objects {
		story := r.story(t, object)
		for _, n := range story.Flat() {
			if n.Source.File != "" {
				cited[fmt.Sprintf("%s:%d", n.Source.File, n.Source.Line)] = n.Source.Function
			}
		}
	}
	if len(cited) < 15 {
		t.Errorf("only %d lines are cited", len(cited))
	}
	for place, function := range cited {
		out, _, err := r.run(exec.Command(binary, "source", place))
		name := function[strings.LastIndex(function, ".")+1:]
		if err != nil || !strings.Contains(out, " "+name+"(") {
			t.Errorf("source %s shows no %s: %v\n%s", place, function, err, out)
		}
	}
}

// followed: --follow goes on, and says what a later command caused.
func (r *room) followed(t *testing.T) {
	t.Helper()
	cmd := exec.Command(binary, "trace", "--data-dir="+r.dir, "-n", r.ns, "--follow", "deploy/traced")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	scaled := false
	wants := []string{"patch scale Deployment " + r.ns + "/traced", "controller-manager/deployment: update ReplicaSet", "CRI StartContainer"}
	for line := range lines {
		if !scaled { // the past has begun to come
			scaled = true
			r.k(t, "scale", "deploy/traced", "--replicas=3")
		}
		if len(wants) > 0 && strings.Contains(line, wants[0]) {
			if wants = wants[1:]; len(wants) == 0 {
				cmd.Process.Signal(os.Interrupt)
			}
		}
	}
	if err := cmd.Wait(); err != nil || len(wants) > 0 {
		t.Errorf("trace --follow: %v, without %q", err, wants)
	}
}

// eviction writes an Eviction of a pod into a file.
func (r *room) eviction(t *testing.T, pod string) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]string{"name": pod, "namespace": r.ns}})
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/eviction.json"
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPreemptionIsTold: who made room for whom, and that it was the scheduler, stands in both stories.
func TestPreemptionIsTold(t *testing.T) {
	r := shared(t).room(t)
	r.k(t, "create", "priorityclass", "traced-high", "--value=1000")
	t.Cleanup(func() { r.try("delete", "priorityclass", "traced-high") })
	allocatable, err := resource.ParseQuantity(r.k(t, "get", "nodes", "-o", "jsonpath={.items[0].status.allocatable.cpu}"))
	if err != nil {
		t.Fatal(err)
	}
	share := fmt.Sprintf("%dm", allocatable.MilliValue()*6/10) // two of them find no place
	pod := func(name, class string) string {
		return strings.NewReplacer("NAME", name, "CLASS", class, "CPU", share).Replace(preemptionPod)
	}
	r.create(t, pod("low", `""`))
	r.ready(t, "low")
	r.create(t, pod("vip", "traced-high"))
	r.ready(t, "vip")
	wants := []string{"scheduler: preempt Pod " + r.ns + "/vip: ", "- " + r.ns + "/low, priority 0", "scheduler: delete Pod " + r.ns + "/low", "CRI StopContainer Pod " + r.ns + "/low"}
	r.tells(t, "pod/vip", wants...)
	r.tells(t, "pod/low", slices.Concat(wants[2:], []string{"create Pod " + r.ns + "/vip"})...)
}

const preemptionPod = `
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  priorityClassName: CLASS
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: hyperkube.local/demo
    resources: {requests: {cpu: "CPU"}}
`

const tracedObjects = `
apiVersion: v1
kind: Service
metadata: {name: traced}
spec:
  selector: {app: traced}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: traced}
spec:
  replicas: 2
  selector: {matchLabels: {app: traced}}
  template:
    metadata: {labels: {app: traced}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: hyperkube.local/demo
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: traced}
spec: {minAvailable: 2, selector: {matchLabels: {app: traced}}}
`
