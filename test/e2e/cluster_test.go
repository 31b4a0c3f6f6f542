package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what a cluster should do within moments:
// long, since machines that test are slow, and never slept through.
const patience = 90 * time.Second

// cluster is one `hyperkube all` that runs.
type cluster struct {
	dir string
	cmd *exec.Cmd
	log *lockedBuffer
	// done is closed when the process has ended; err is then what Wait returned.
	done chan struct{}
	err  error
}

// lockedBuffer takes a process's output while a test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var (
	common     *cluster
	commonErr  error
	commonOnce sync.Once
)

// shared returns the cluster that most tests use, started by the first that asks.
func shared(t *testing.T) *cluster {
	t.Helper()
	commonOnce.Do(func() {
		var dir string
		if dir, commonErr = os.MkdirTemp("", "hk-e2e-"); commonErr == nil {
			common, commonErr = start(dir)
		}
		if commonErr == nil {
			commonErr = common.waitReady()
		}
	})
	if commonErr != nil {
		t.Fatalf("the shared cluster: %v", commonErr)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of `all`:\n%s", tail(common.log.String(), 60))
		}
	})
	return common
}

// startOwn starts a cluster that ends with the test.
func startOwn(t *testing.T, args ...string) *cluster {
	t.Helper()
	stopShared(t)
	c, err := start(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of `all`:\n%s", tail(c.log.String(), 60))
		}
		c.interrupt()
	})
	if err := c.waitReady(); err != nil {
		t.Fatal(err)
	}
	return c
}

// stopShared ends the shared cluster: one that a test starts of its own would
// meet its ports and links. It is started again when the next test asks.
func stopShared(t *testing.T) {
	t.Helper()
	if common != nil {
		if err := common.interrupt(); err != nil {
			t.Errorf("stopping the shared cluster: %v", err)
		}
		os.RemoveAll(common.dir)
	}
	common, commonErr, commonOnce = nil, nil, sync.Once{}
}

func start(dir string, args ...string) (*cluster, error) {
	c := &cluster{dir: dir, log: &lockedBuffer{}, done: make(chan struct{})}
	c.cmd = exec.Command(binary, append([]string{"all", "--data-dir=" + dir, "--log-level=2,etcd=warn"}, args...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// waitReady waits until `hyperkube status` says that all is well.
func (c *cluster) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		select {
		case <-c.done: // no use in waiting on
			cancel()
		case <-ctx.Done():
		}
	}()
	out, err := exec.CommandContext(ctx, binary, "status", "--data-dir="+c.dir, "--wait="+patience.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s\noutput of `all`:\n%s", err, out, tail(c.log.String(), 60))
	}
	return nil
}

// interrupt is Ctrl-C: it waits for the end and returns what went wrong.
func (c *cluster) interrupt() error {
	c.cmd.Process.Signal(os.Interrupt)
	select {
	case <-c.done:
		return c.err
	case <-time.After(patience):
		c.cmd.Process.Kill()
		<-c.done
		return fmt.Errorf("did not stop within %s:\n%s", patience, tail(c.log.String(), 40))
	}
}

// kill is kill -9.
func (c *cluster) kill() {
	c.cmd.Process.Signal(syscall.SIGKILL)
	<-c.done
}

// try runs our kubectl on the cluster.
func (c *cluster) try(args ...string) (stdout, stderr string, err error) {
	return c.run(exec.Command(binary, append([]string{"kubectl", "--data-dir=" + c.dir}, args...)...))
}

func (c *cluster) run(cmd *exec.Cmd) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return out.String(), errs.String(), err
}

// kubectl runs our kubectl, which must succeed and say nothing on stderr.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := c.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	if errs != "" {
		t.Errorf("kubectl %s: stderr: %s", strings.Join(args, " "), errs)
	}
	return strings.TrimSpace(out)
}

// apply applies a manifest.
func (c *cluster) apply(t *testing.T, manifest string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "apply", "-f", file)
}

// namespace makes a namespace for the test, and deletes it at its end.
func (c *cluster) namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	c.kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		if !t.Failed() {
			c.try("delete", "namespace", name, "--wait=true", "--timeout=90s")
		}
	})
	return name
}

// eventually waits for a condition; what names it in the failure.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-ticker.C
	}
}

// get is curl.
func get(url string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(body), err
}

// podIn returns the pod's name from an answer of the demo image.
func podIn(answer string) string {
	for _, line := range strings.Split(answer, "\n") {
		if name, ok := strings.CutPrefix(line, "pod: "); ok {
			return name
		}
	}
	return ""
}

func tail(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
