package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDeploymentBehindService is the main job: three real containers behind a real
// Service, reached in every way, healed and rolled (S0-19, S1-02, S1-03, S1-05, R52).
func TestDeploymentBehindService(t *testing.T) {
	c := shared(t)
	ns := c.namespace(t)
	k := func(args ...string) string { t.Helper(); return c.kubectl(t, append([]string{"-n", ns}, args...)...) }

	k("create", "deployment", "web", "--image=hyperkube.local/demo", "--replicas=3")
	k("rollout", "status", "deployment/web", "--timeout=90s")
	k("expose", "deployment", "web", "--port=80", "--target-port=8080", "--type=NodePort")
	clusterIP := k("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	nodePort := k("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}")
	nodeIP := k("get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)

	t.Run("the answer names pod, node and address", func(t *testing.T) {
		node := strings.TrimPrefix(c.kubectl(t, "get", "nodes", "-o", "name"), "node/")
		eventually(t, "an answer", func() error {
			answer, err := get("http://" + clusterIP + "/")
			if err != nil {
				return err
			}
			for _, want := range []string{"pod: web-", "node: " + node + "\n", "address: 10.244.", "GET / HTTP/1.1"} {
				if !strings.Contains(answer, want) {
					t.Errorf("no %q in:\n%s", want, answer)
				}
			}
			return nil
		})
	})

	spread := func(t *testing.T, url string) {
		t.Helper()
		seen := map[string]bool{}
		eventually(t, url+" answers from three pods", func() error {
			answer, err := get(url)
			if err != nil {
				return err
			}
			seen[podIn(answer)] = true
			if len(seen) < 3 {
				return fmt.Errorf("only from %v", seen)
			}
			return nil
		})
	}
	t.Run("ClusterIP from the host", func(t *testing.T) { spread(t, "http://"+clusterIP+"/") })
	t.Run("NodePort on the node's address", func(t *testing.T) { spread(t, "http://"+nodeIP+":"+nodePort+"/") })
	t.Run("NodePort on 127.0.0.1", func(t *testing.T) { spread(t, "http://127.0.0.1:"+nodePort+"/") })

	k("run", "client", "--image=hyperkube.local/demo", "--command", "--", "sleep", "3600")
	k("wait", "--for=condition=Ready", "pod/client", "--timeout=90s")
	fromPod := func(t *testing.T, url string) {
		t.Helper()
		eventually(t, url+" from a pod", func() error {
			out, _, err := c.try("-n", ns, "exec", "client", "--", "wget", "-q", "-T", "3", "-O", "-", url)
			if err == nil && podIn(out) == "" {
				err = fmt.Errorf("answer: %q", out)
			}
			return err
		})
	}
	t.Run("ClusterIP from a pod", func(t *testing.T) { fromPod(t, "http://"+clusterIP+"/") })
	t.Run("DNS name from a pod", func(t *testing.T) {
		fromPod(t, "http://web/")
		fromPod(t, "http://web."+ns+".svc.cluster.local/")
	})
	t.Run("a pod reaches itself through its Service", func(t *testing.T) {
		k("scale", "deployment", "web", "--replicas=1")
		k("rollout", "status", "deployment/web", "--timeout=90s")
		eventually(t, "one endpoint is left", func() error {
			if out := k("get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", "jsonpath={.items[*].endpoints[*].addresses[0]}"); len(strings.Fields(out)) != 1 {
				return fmt.Errorf("endpoints: %s", out)
			}
			return nil
		})
		eventually(t, "hairpin", func() error {
			_, _, err := c.try("-n", ns, "exec", "deploy/web", "--", "wget", "-q", "-T", "3", "-O", "-", "http://"+clusterIP+"/")
			return err
		})
		k("scale", "deployment", "web", "--replicas=3")
		k("rollout", "status", "deployment/web", "--timeout=90s")
	})
	t.Run("a deleted pod is replaced and the Service goes on", func(t *testing.T) {
		victim := strings.Fields(k("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))[0]
		k("delete", "pod", victim)
		k("rollout", "status", "deployment/web", "--timeout=90s")
		names := strings.Fields(k("get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].metadata.name}"))
		if len(names) != 3 || strings.Contains(strings.Join(names, " "), victim) {
			t.Errorf("pods after %s was deleted: %v", victim, names)
		}
		spread(t, "http://"+clusterIP+"/")
	})
	t.Run("rollout and undo", func(t *testing.T) {
		k("set", "env", "deployment/web", "VERSION=2")
		k("rollout", "status", "deployment/web", "--timeout=90s")
		eventually(t, "the new version answers", func() error {
			answer, err := get("http://" + clusterIP + "/env/VERSION")
			if err == nil && answer != "2\n" {
				err = fmt.Errorf("got %q", answer)
			}
			return err
		})
		k("rollout", "undo", "deployment/web")
		k("rollout", "status", "deployment/web", "--timeout=90s")
		if out := k("rollout", "history", "deployment/web"); !strings.Contains(out, "3") {
			t.Errorf("history: %s", out)
		}
		if out := k("get", "deployment", "web", "-o", "jsonpath={.spec.template.spec.containers[0].env}"); out != "" {
			t.Errorf("env after undo: %s", out)
		}
	})
}

// TestKubectlVerbs runs what a first day with kubectl brings, with our kubectl and
// with the one on the machine; stderr stays empty (R40).
func TestKubectlVerbs(t *testing.T) {
	c := shared(t)
	for name, program := range kubectls(c) {
		t.Run(name, func(t *testing.T) {
			ns := c.namespace(t)
			k := func(args ...string) string {
				t.Helper()
				cmd := exec.Command(program[0], append(append(program[1:], "-n", ns), args...)...)
				out, errs, err := c.run(cmd)
				if err != nil {
					t.Fatal(err)
				}
				if errs != "" {
					t.Errorf("%s: stderr: %s", strings.Join(args, " "), errs)
				}
				return out
			}
			manifest := filepath.Join(t.TempDir(), "web.yaml")
			write := func(replicas int) {
				text := fmt.Sprintf(deploymentManifest, replicas)
				if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(1)
			k("apply", "-f", manifest)
			write(2)
			if out, _, err := c.run(exec.Command(program[0], append(append(program[1:], "-n", ns), "diff", "-f", manifest)...)); err == nil || !strings.Contains(out, "+  replicas: 2") {
				t.Errorf("diff: %v: %s", err, out)
			}
			k("apply", "-f", manifest)
			k("rollout", "status", "deployment/web", "--timeout=90s")
			k("apply", "--server-side", "--force-conflicts", "-f", manifest)
			k("set", "image", "deployment/web", "demo=hyperkube.local/demo:latest")
			k("rollout", "status", "deployment/web", "--timeout=90s")
			for _, want := range []struct{ args, text string }{
				{"get all", "deployment.apps/web"},
				{"get pods -o wide", "NOMINATED NODE"},
				{"get deployment web -o yaml", "kind: Deployment"},
				{"get deployment web -o jsonpath={.spec.replicas}", "2"},
				{"describe deployment web", "ScalingReplicaSet"},
				{"get events --field-selector=reason=Scheduled", "Successfully assigned"},
				{"explain pod.spec.containers", "FIELD: containers"},
				{"api-resources", "deployments"},
				{"logs -l app=web", "listening on port 8080"},
				{"exec deploy/web -- hostname", "web-"},
				{"auth can-i create pods", "yes"},
				{"label deployment web tier=front", "labeled"},
				{"annotate deployment web note=x", "annotated"},
				{"patch deployment web -p {\"spec\":{\"replicas\":1}}", "patched"},
				{"patch deployment web --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":2}]", "patched"},
				{"patch deployment web --type=merge -p {\"spec\":{\"replicas\":1}}", "patched"},
				{"delete deployment web", "deleted"},
			} {
				if out := k(strings.Split(want.args, " ")...); !strings.Contains(out, want.text) {
					t.Errorf("kubectl %s: no %q in:\n%s", want.args, want.text, out)
				}
			}
		})
	}
}

// kubectls are the programs to try: ours, and the machine's if it has one.
func kubectls(c *cluster) map[string][]string {
	all := map[string][]string{"hyperkube kubectl": {binary, "kubectl", "--data-dir=" + c.dir}}
	if path, err := exec.LookPath("kubectl"); err == nil {
		all["kubectl of the machine"] = []string{path, "--kubeconfig=" + filepath.Join(c.dir, "admin.kubeconfig")}
	}
	return all
}

const deploymentManifest = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: demo
        image: hyperkube.local/demo
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`
