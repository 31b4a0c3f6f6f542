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
	output, err := command.CombinedOutput()
	if err != nil {
		t.Logf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return string(output)
}

// The kubectl that happens to be on the machine is content: what it prints is what upstream would make it print.
func TestKubectl(t *testing.T) {
	c := Start(t)
	kubeconfig := c.Kubeconfig()
	for _, step := range []struct{ args, input, want string }{
		{"get ns", "", "kube-node-lease   Active"},
		{"create configmap c --from-literal=a=b", "", "configmap/c created\n"},
		{"get cm c -o jsonpath={.data.a}", "", "b"},
		{"get cm", "", "NAME   DATA   AGE\nc      1"},
		{"delete cm c", "", `configmap "c" deleted`},
		{"api-resources", "", "configmaps "},
	} {
		output := kubectl(t, kubeconfig, step.input, strings.Fields(step.args)...)
		if !strings.Contains(output, step.want) {
			t.Errorf("kubectl %s: %s\nwant %q", step.args, output, step.want)
		}
		t.Logf("$ kubectl %s\n%s", step.args, output)
	}
}
