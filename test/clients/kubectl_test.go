package clients

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/test/integration"
)

//go:embed testdata/kubectl.txt
var script string

// What differs from run to run is masked before it is compared.
var masks = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UID"},
	{regexp.MustCompile(`\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+Z?( \+0000)?`), "TIME"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "}, // columns are as wide as what stands in them
	{regexp.MustCompile(`(?m)  [0-9]+(s|m)(  |$)`), "  AGE$2"},
	{regexp.MustCompile(`X509SHA256=[0-9a-f]+`), "X509SHA256=HASH"},
	{regexp.MustCompile(`/\S*/(LIVE|MERGED)-[0-9]+/`), "$1/"},
	{regexp.MustCompile(`/\S*/kubectl-edit-[0-9]+\.yaml`), "EDITED"},
	{regexp.MustCompile(`10\.96\.[0-9]+\.[0-9]+`), "CLUSTERIP"},
	{regexp.MustCompile(`(?m)[ \t]+$`), ""},
	// What newer ones say besides.
	{regexp.MustCompile(`(deleted) from \S+ namespace`), "$1"},
	{regexp.MustCompile(`Flag --cpu-percent has been deprecated,.*\n`), ""},
}

func mask(text string) string {
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.mask)
	}
	return strings.TrimRight(text, "\n")
}

// step is one command of the script, what it must print, and its exit status in the last line where that is not 0.
type step struct{ command, want string }

// steps reads testdata/kubectl.txt: "$ " starts a command, the lines up to the next are what it prints, stdout before
// stderr; "# " is a comment.
func steps(script string) []step {
	var all []step
	for _, line := range strings.SplitAfter(script, "\n") {
		switch {
		case strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "$ "):
			all = append(all, step{command: strings.TrimSpace(line[2:])})
		case len(all) > 0:
			all[len(all)-1].want += line
		}
	}
	return all
}

// Issue 4: kubectl 1.32 and our own print against this apiserver what is committed: stdout, stderr and
// exit status. The script is testdata/kubectl.txt; HYPERKUBE_UPDATE=1 prints what was seen instead of judging it.
func TestKubectlPrintsTheCommittedLines(t *testing.T) {
	for name, command := range kubectls(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := integration.Start(t)
			if _, err := cluster.Client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			shell := newShell(t, command, cluster.Kubeconfig())
			for _, step := range steps(script) {
				only, rest, isOnly := strings.Cut(step.command, " | only ")
				if isOnly && rest != name {
					continue
				}
				got := shell.run(only)
				if os.Getenv("HYPERKUBE_UPDATE") != "" {
					fmt.Printf("$ %s\n%s\n", step.command, got)
				} else if want := strings.TrimRight(step.want, "\n"); got != want {
					t.Errorf("$ %s\ngot:\n%s\nwant:\n%s", only, got, want)
				}
			}
		})
	}
}

// kubectls are the machine's, and ours if it has been built.
func kubectls(t *testing.T) map[string]string {
	all := map[string]string{}
	if path, err := exec.LookPath("kubectl"); err == nil {
		all["1.32"] = path
	}
	if ours, err := filepath.Abs("../../bin/hyperkube"); err == nil {
		if _, err := os.Stat(ours); err == nil {
			all["1.37"] = ours + " kubectl"
		}
	}
	if len(all) == 0 {
		t.Skip("no kubectl on this machine, and no bin/hyperkube: run `make build`")
	}
	return all
}

// shell runs the lines of the script in a directory of its own, with kubectl as a function.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

func newShell(t *testing.T, command, kubeconfig string) *shell {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return &shell{t: t, dir: dir, env: append(os.Environ(), "KUBECONFIG="+kubeconfig, "KUBECTL="+command, "KUBECACHEDIR="+t.TempDir(), "TMP="+t.TempDir(), "LC_ALL=C")}
}

// run returns what a line prints, masked, and its exit status where that is not 0.
func (s *shell) run(line string) string {
	var stdout, stderr bytes.Buffer
	command := exec.Command("bash", "-c", `kubectl() { $KUBECTL "$@"; }; `+line)
	command.Dir, command.Env, command.Stdout, command.Stderr = s.dir, s.env, &stdout, &stderr
	err := command.Run()
	out := mask(stdout.String() + stderr.String())
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return strings.TrimLeft(out+fmt.Sprintf("\n[%d]", exit.ExitCode()), "\n")
	case err != nil:
		s.t.Fatal(err)
	}
	return out
}
