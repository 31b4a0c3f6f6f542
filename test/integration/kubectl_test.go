package integration

import (
	"os/exec"
	"strings"
	"testing"
)

// kubectl runs the machine's kubectl, and skips the test where there is none.
func kubectl(t *testing.T, kubeconfig, input string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl on this machine")
	}
	command := exec.Command(path, append([]string{"--kubeconfig", kubeconfig, "--cache-dir", t.TempDir()}, args...)...)
	command.Stdin = strings.NewReader(input)
	output, _ := command.CombinedOutput() // what it says is judged, its status is part of it
	return string(output)
}

const pod = `apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: x}}
spec:
  containers:
  - {name: c, image: i, ports: [{containerPort: 80}]}
`

// The kubectl that happens to be on the machine is content: what it prints is what upstream would make it print.
func TestKubectl(t *testing.T) {
	c := Start(t)
	kubeconfig := c.Kubeconfig()
	typo := strings.Replace(pod, "containerPort", "containerPrt", 1)
	changed := strings.Replace(pod, "image: i", "image: j", 1)
	for _, step := range []struct{ args, input, want string }{
		{"get ns", "", "kube-node-lease   Active"},
		{"create configmap c --from-literal=a=b", "", "configmap/c created\n"},
		{"get cm c -o jsonpath={.data.a}", "", "b"},
		{"get cm c", "", "NAME   DATA   AGE\nc      1"},
		{"delete cm c", "", `configmap "c" deleted`},
		{"get cm c", "", "Error from server (NotFound): configmaps \"c\" not found\n"},
		{"api-resources", "", "configmaps "},
		{"explain pod.spec.containers.ports", "", "FIELD: ports <[]ContainerPort>"},
		{"create serviceaccount default", "", "serviceaccount/default created"},
		{"apply -f -", typo, `strict decoding error: unknown field "spec.containers[0].ports[0].containerPrt"`},
		{"apply -f -", pod, "pod/p created\n"},
		{"apply -f -", pod, "pod/p unchanged\n"},
		{"diff -f -", changed, "+  - image: j"},
		{"apply -f -", changed, "pod/p configured\n"},
		{"apply --server-side --field-manager=other -f -", pod, `conflict with "kubectl-client-side-apply" using v1: .spec.containers[name="c"].image`},
		{"apply --server-side --force-conflicts -f -", pod, "pod/p serverside-applied\n"},
		{"get pod p --show-managed-fields -o yaml", "", "operation: Apply"},
		{"label pod p a=b", "", "pod/p labeled\n"},
		{"get pods -l a=b -o name", "", "pod/p\n"},
		{"get pods --field-selector=status.phase=Pending -o name", "", "pod/p\n"},
		{"get pods --field-selector=spec.x=y", "", "Error from server (BadRequest): Unable to find"},
		{"get pods --chunk-size=1 -A", "", "default     p "},
		{"auth can-i delete pods", "", "yes\n"},
		{"auth whoami", "", "kubernetes-admin"},
		{"patch pod p --type=json -p [{\"op\":\"remove\",\"path\":\"/metadata/labels/a\"}]", "", "pod/p patched\n"},
		{"delete pod p --wait=false", "", `pod "p" deleted`},
		{"create deployment web --image=hyperkube.local/demo --replicas=3", "", "deployment.apps/web created\n"},
		{"get deploy", "", "web    0/3     0            0 "},
		{"scale deployment web --replicas=5", "", "deployment.apps/web scaled\n"},
		{"get deploy web -o jsonpath={.spec.replicas},{.metadata.generation}", "", "5,2"},
		{"set image deployment/web demo=other", "", "deployment.apps/web image updated\n"},
		{"expose deployment web --port=80 --target-port=8080 --type=NodePort", "", "service/web exposed\n"},
		{"get svc web", "", "web    NodePort "},
		{"get svc kubernetes -o jsonpath={.spec.clusterIP}", "", "10.96.0.1"},
		{"get endpointslices", "", "kubernetes   IPv4 "},
		{"get all", "", "deployment.apps/web "},
		{"describe deployment web", "", "StrategyType:           RollingUpdate\n"},
		{"rollout pause deployment/web", "", "deployment.apps/web paused\n"},
		{"delete deployment web", "", "deployment.apps \"web\" deleted"},
		{"create token default", "", "ey"},
		{"explain deployment --recursive", "", "progressDeadlineSeconds"},
		{"get --raw /nothing", "", "Error from server (NotFound): the server could not find the requested resource\n"},
	} {
		output := kubectl(t, kubeconfig, step.input, strings.Fields(step.args)...)
		if !strings.Contains(output, step.want) {
			t.Errorf("kubectl %s: %s\nwant %q", step.args, output, step.want)
		}
	}
}
