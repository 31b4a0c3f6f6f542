package clients

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/test/integration"
)

// Where the lines of the scripts come from: a kube-apiserver v1.37.1 was asked by
// `go test ./test/clients -run TestKubectlPrintsTheCommittedLines -upstream KUBECONFIG -record`.
var (
	upstream = flag.String("upstream", "", "kubeconfig of a kube-apiserver's administrator: kubectl asks that one instead of ours")
	record   = flag.Bool("record", false, "write down what is printed, instead of judging it")
)

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
	{regexp.MustCompile(`(resourceVersion\\*":\\*"|resource version to be [0-9]+, was )[0-9]+`), "${1}RV"},
	{regexp.MustCompile(`(Too large resource version: [0-9]+, current: )[0-9]+`), "${1}RV"},
	{regexp.MustCompile(`(https://|serverAddress":")[0-9.]+:[0-9]+`), "${1}HOST"},
	{regexp.MustCompile(`Go value of type \[\][a-z]+\.\w+`), "Go value of type []TYPE"},
	{regexp.MustCompile(`Flag --cpu-percent has been deprecated,.*\n`), ""},
}

func mask(text string) string {
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.mask)
	}
	return strings.TrimRight(text, "\n")
}

// step is one command of a script, the comment above it, and what it must print, with its exit status in the last line where that
// is not 0.
type step struct{ comment, command, want string }

// steps reads a script: "$ " starts a command, the lines up to the next are what it prints, stdout before stderr; "# " is a comment
// on the command below it.
func steps(script string) []step {
	var all []step
	comment := ""
	for line := range strings.Lines(script) {
		switch {
		case strings.HasPrefix(line, "# "):
			comment += line
		case strings.HasPrefix(line, "$ "):
			all = append(all, step{comment: comment, command: strings.TrimSpace(line[2:])})
			comment = ""
		case len(all) > 0:
			all[len(all)-1].want += line
		}
	}
	return all
}

// Issue 4: kubectl 1.32 and our own print against this apiserver what is committed, and a kube-apiserver said: stdout, stderr and
// exit status. The scripts are testdata/kubectl/*.txt; each has a server of its own.
func TestKubectlPrintsTheCommittedLines(t *testing.T) {
	files, err := filepath.Glob("testdata/kubectl/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for name, command := range kubectls(t) {
		for _, file := range files {
			t.Run(name+"/"+strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
				if !*record && *upstream == "" {
					t.Parallel()
				}
				runScript(t, file, name, command)
			})
		}
	}
}

func runScript(t *testing.T, file, name, command string) {
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	shell := newShell(t, command, server(t))
	var seen strings.Builder
	for _, step := range steps(string(script)) {
		line, only, isOnly := strings.Cut(step.command, " | only ")
		got, want := strings.TrimRight(step.want, "\n"), strings.TrimRight(step.want, "\n")
		if !isOnly || only == name {
			got = shell.run(line)
		}
		if *record {
			fmt.Fprintf(&seen, "%s$ %s\n%s", step.comment, step.command, got)
			if got != "" {
				seen.WriteByte('\n')
			}
		} else if got != want {
			t.Errorf("$ %s\ngot:\n%s\nwant:\n%s", line, got, want)
		}
	}
	if *record {
		if err := os.WriteFile(file, []byte(seen.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// server returns the kubeconfig of an apiserver with one service account: ours, or that of -upstream.
func server(t *testing.T) string {
	if *upstream != "" {
		return *upstream
	}
	cluster := integration.Start(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := cluster.Client.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return cluster.Kubeconfig()
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
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute) // a kubectl that waits for ever is a difference, not a hang
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-c", `kubectl() { $KUBECTL "$@"; }; `+line)
	command.WaitDelay = time.Second
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
