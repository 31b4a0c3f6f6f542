package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// webSockets are the environments with which kubectl speaks WebSocket, and SPDY.
var webSockets = []struct {
	name string
	env  []string
}{
	{"WebSocket", []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true", "KUBECTL_PORT_FORWARD_WEBSOCKETS=true"}},
	{"SPDY", []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}},
}

// command is kubectl in the room, not yet started.
func (r *room) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, append([]string{"kubectl", "--data-dir=" + r.dir, "-n", r.ns}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// TestStreams: exec with its exit code, its input and a terminal, attach,
// port-forward and cp, over both protocols (R40, R100).
func TestStreams(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, streamPods)
	r.ready(t, "web", "reader")
	for _, protocol := range webSockets {
		t.Run("exec by "+protocol.name, func(t *testing.T) { execBy(t, r, protocol.env) })
		t.Run("port-forward by "+protocol.name, func(t *testing.T) { portForwardBy(t, r, "web", protocol.env) })
	}
	t.Run("attach", func(t *testing.T) {
		cmd := r.command(nil, "attach", "-i", "reader")
		cmd.Stdin = strings.NewReader("some words\n")
		out, _, err := r.run(cmd)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, out, "heard some words")
	})
	t.Run("cp", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, bytes.Repeat([]byte("hyperkube\n"), 50000), 0o600); err != nil {
			t.Fatal(err)
		}
		r.k(t, "cp", file, "web:/file")
		back := filepath.Join(dir, "back")
		r.k(t, "cp", "web:/file", back)
		if data, err := os.ReadFile(back); err != nil || len(data) != 500000 {
			t.Errorf("%d bytes came back, %v", len(data), err)
		}
	})
}

func execBy(t *testing.T, r *room, env []string) {
	out, errs, err := r.run(r.command(env, "exec", "web", "--", "sh", "-c", "echo to stdout; echo to stderr >&2; exit 7"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit code: %v", err)
	}
	if out != "to stdout\n" || !strings.HasPrefix(errs, "to stderr\n") {
		t.Errorf("stdout %q, stderr %q", out, errs)
	}
	cmd := r.command(env, "exec", "-i", "web", "--", "wc", "-c")
	cmd.Stdin = io.LimitReader(zeros{}, 1<<20)
	if out, _, err := r.run(cmd); err != nil || strings.TrimSpace(out) != "1048576" {
		t.Errorf("1 MiB in: %q, %v", out, err)
	}
	if _, _, err := r.run(r.command(env, "exec", "web", "--", "no-such-program")); err == nil || !strings.Contains(err.Error(), "executable file not found in $PATH") {
		t.Errorf("a command that isn't there: %v", err)
	}
	if _, err := exec.LookPath("script"); err != nil {
		t.Log("no script(1): no terminal to try")
		return
	}
	line := strings.Join(r.command(env, "exec", "-it", "web", "--", "sh", "-c", "'test -t 0 && test -t 1 && echo terminal; exit 5'").Args, " ")
	cmd = exec.Command("script", "-qec", line, "/dev/null")
	cmd.Env = append(os.Environ(), env...)
	out, _, err = r.run(cmd)
	if !errors.As(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(out, "terminal\r\n") {
		t.Errorf("-it: %q, %v", out, err)
	}
}

// zeros is a source of bytes without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func portForwardBy(t *testing.T, r *room, pod string, env []string) {
	cmd := r.command(env, "port-forward", "pod/"+pod, ":8080")
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	address := regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+) -> 8080`)
	var port string
	eventually(t, "port-forward listens", func() error {
		found := address.FindStringSubmatch(output.String())
		if found == nil {
			return errors.New(output.String())
		}
		port = found[1]
		return nil
	})
	for range 3 {
		if answer, err := get("http://" + port + "/"); err != nil || podIn(answer) != pod {
			t.Errorf("answer %q, %v; %s", answer, err, output)
		}
	}
}

// TestLogs: a line's time, the end, since, a container that is gone, all of a label,
// and following until the container ends (R100).
func TestLogs(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, logPods)
	r.becomes(t, "pod/counts", ".status.phase", "Succeeded")
	if out := r.k(t, "logs", "counts", "-c", "a"); out != "1\n2\n3\n4\n5" {
		t.Errorf("logs: %q", out)
	}
	if out := r.k(t, "logs", "counts", "-c", "a", "--tail=2"); out != "4\n5" {
		t.Errorf("--tail: %q", out)
	}
	if out := r.k(t, "logs", "counts", "-c", "a", "--limit-bytes=4"); out != "1\n2" {
		t.Errorf("--limit-bytes: %q", out)
	}
	if out := r.k(t, "logs", "counts", "-c", "a", "--timestamps", "--tail=1"); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) 5$`).MatchString(out) {
		t.Errorf("--timestamps: %q", out)
	}
	if out := r.k(t, "logs", "counts", "-c", "a", "--since-time=2100-01-01T00:00:00Z"); out != "" {
		t.Errorf("--since-time in the future: %q", out)
	}
	if out := r.k(t, "logs", "counts", "-c", "a", "--since=1h"); out != "1\n2\n3\n4\n5" {
		t.Errorf("--since: %q", out)
	}
	holds(t, r.k(t, "logs", "-l", "app=counts", "--all-containers", "--prefix"), "[pod/counts/a] 5", "[pod/counts/b] b to stderr")
	if out := r.k(t, "logs", "-f", "counts", "-c", "b"); !strings.HasSuffix(out, "last") {
		t.Errorf("-f to the end: %q", out)
	}
	if _, _, err := r.try("-n", r.ns, "logs", "counts", "-c", "a", "--previous"); err == nil || !strings.Contains(err.Error(), `previous terminated container "a" in pod "counts" not found`) {
		t.Errorf("--previous without one: %v", err)
	}
	if _, _, err := r.try("-n", r.ns, "logs", "counts", "-c", "zzz"); err == nil || !strings.Contains(err.Error(), "container zzz is not valid for pod counts") {
		t.Errorf("a container that isn't there: %v", err)
	}
}

// TestDebugContainer: kubectl debug adds a container to a running pod, in the
// process namespace of another if asked (S4-11).
func TestDebugContainer(t *testing.T) {
	r := shared(t).room(t)
	r.create(t, streamPods)
	r.ready(t, "web")
	r.k(t, "debug", "web", "--image=hyperkube.local/demo", "--container=look", "--target=web", "--profile=general", "--", "sh", "-c", "ps; hostname; wget -q -O - http://127.0.0.1:8080/")
	eventually(t, "the debug container ends", func() error {
		if reason := r.field(t, "pod/web", ".status.ephemeralContainerStatuses[0].state.terminated.reason"); reason != "Completed" {
			return fmt.Errorf("%q", reason)
		}
		return nil
	})
	holds(t, r.k(t, "logs", "web", "-c", "look"), "/bin/serve", "pod: web")
	if n := r.field(t, "pod/web", ".status.containerStatuses[0].restartCount"); n != "0" {
		t.Errorf("restarts: %s", n)
	}
}

const streamPods = `
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: hyperkube.local/demo}]}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{name: c, image: hyperkube.local/demo, stdin: true, stdinOnce: true, command: [sh, -c, "read line; echo heard $line"]}]
`

const logPods = `
apiVersion: v1
kind: Pod
metadata: {name: counts, labels: {app: counts}}
spec:
  restartPolicy: Never
  containers:
  - {name: a, image: hyperkube.local/demo, command: [sh, -c, "for i in 1 2 3 4 5; do echo $i; done"]}
  - {name: b, image: hyperkube.local/demo, command: [sh, -c, "echo b to stderr >&2; sleep 0.5; echo last"]}
`
