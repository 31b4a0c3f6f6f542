package podparent

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary plays three parts: the tests, in namespaces of their own; the
// pod's parent, when argv[0] says so; and the program in the containers, "/tool".
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == Argv0:
		os.Exit(Main(os.Args[1:]))
	case os.Args[0] == "/tool":
		os.Exit(tool(os.Args[1:]))
	case os.Getuid() != 0:
		fmt.Println("SKIP: these tests make namespaces and mounts, which needs root")
		os.Exit(0)
	case dynamicallyLinked():
		fmt.Println("SKIP: this test binary needs libc, which containers lack: run with CGO_ENABLED=0")
		os.Exit(0)
	case os.Getenv("PODPARENT_TEST_INSIDE") == "":
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "PODPARENT_TEST_INSIDE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
		if err := cmd.Run(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// dynamicallyLinked says whether this program needs a loader.
func dynamicallyLinked() bool {
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Section(".interp") != nil
}

// tool is the program that the containers run.
func tool(args []string) int {
	switch args[0] {
	case "say":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "exit":
		code, _ := strconv.Atoi(args[1])
		return code
	case "wait": // for SIGTERM
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println("waiting")
		<-term
		return 7
	case "cat":
		io.Copy(os.Stdout, os.Stdin)
	case "listen":
		l, err := net.Listen("tcp", "127.0.0.1:"+args[1])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("listening")
		conn, _ := l.Accept()
		conn.Write([]byte("hello"))
		conn.Close()
	case "look":
		host, _ := os.Hostname()
		groups, _ := os.Getgroups()
		status, _ := os.ReadFile("/proc/self/status")
		fmt.Println("host", host, "pid", os.Getpid(), "uid", os.Getuid(), "gid", os.Getgid(), "groups", groups)
		for _, line := range strings.Split(string(status), "\n") {
			for _, name := range []string{"CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"} {
				if strings.HasPrefix(line, name) {
					fmt.Println(strings.Join(strings.Fields(line), " "))
				}
			}
		}
		for _, path := range args[1:] {
			_, err := os.ReadFile(path)
			fmt.Println("read", path, err)
			fmt.Println("write", path, os.WriteFile(path, []byte("x"), 0o644))
		}
		_, err := os.Stat("/dev/pts/0")
		fmt.Println("terminal", err == nil)
	}
	return 0
}

// pod starts a parent in a directory of the test's own, and ends it with the test.
func pod(t *testing.T, spec PodSpec) *Client {
	t.Helper()
	dir := t.TempDir()
	pid, err := Launch(context.Background(), "/proc/self/exe", dir, &spec)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{Dir: dir}
	t.Cleanup(func() {
		if _, alive, _ := c.State(); alive {
			if err := c.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "the parent ends", func() bool { return zombie(pid) })
	})
	return c
}

// makeSpec is a container that runs the tool on an overlay of an almost empty layer.
func makeSpec(t *testing.T, c *Client, id string, args ...string) *ContainerSpec {
	t.Helper()
	dir := filepath.Join(c.Dir, ContainersDir, id)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"layer/etc", "rootfs", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	passwd := "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n"
	if err := os.WriteFile(filepath.Join(dir, "layer/etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "layer/etc/group"), []byte("root:x:0:\nlogs:x:77:web\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return &ContainerSpec{ID: id, Args: append([]string{"/tool"}, args...), Cwd: "/", LogPath: filepath.Join(dir, "log"),
		Root:   RootSpec{Path: dir + "/rootfs", LayersDir: dir, Layers: []string{"layer"}, Upper: dir + "/upper", Work: dir + "/work"},
		Mounts: []Mount{{Type: "bind", Source: exe, Target: "/tool", Flags: unix.MS_RDONLY}}}
}

func startContainer(t *testing.T, c *Client, spec *ContainerSpec) {
	t.Helper()
	if err := c.WriteSpec(spec); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(context.Background(), spec.ID); err != nil {
		t.Fatal(err)
	}
}

// ended waits for a container's end and returns its status and its log without times.
func ended(t *testing.T, c *Client, spec *ContainerSpec) (*ContainerStatus, string) {
	t.Helper()
	var status *ContainerStatus
	eventually(t, "container "+spec.ID+" ends", func() bool {
		s, err := c.ReadStatus(spec.ID)
		status = s
		return err == nil && s.Exited()
	})
	return status, logText(t, spec.LogPath)
}

func logText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		at, rest, _ := strings.Cut(lines.Text(), " ")
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
			t.Errorf("log entry without a time: %q", lines.Text())
		}
		text.WriteString(rest + "\n")
	}
	return text.String()
}

// eventually polls: what it waits for is another process's doing.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// S0-29: a container is a process in namespaces of its own, on the image's files.
func TestContainerRunsInItsNamespaces(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "web-1"})
	secret := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(secret, []byte("s"), 0o600)
	spec := makeSpec(t, c, "c1", "look", "/proc/meminfo", "/proc/sys/kernel/shmmax", secret, "/etc/new")
	spec.Masked = []string{"/proc/meminfo", "/proc/no-such-thing"}
	spec.Readonly = []string{"/proc/sys"}
	spec.Process = Process{NoNewPrivs: true, User: User{Name: "web", Groups: []int{99}},
		Capabilities: Caps{Bounding: 1 << unix.CAP_CHOWN}}
	startContainer(t, c, spec)
	status, log := ended(t, c, spec)
	if status.ExitCode != 0 || status.Reason != "Completed" {
		t.Errorf("status %+v", status)
	}
	for _, want := range []string{
		"host web-1 pid 1 uid 33 gid 34 groups [34 77 99]",
		"CapEff: 0000000000000000", "CapBnd: 0000000000000001", "NoNewPrivs: 1",
		"read /proc/meminfo <nil>",                                     // /dev/null
		"write /proc/sys/kernel/shmmax open /proc/sys/kernel/shmmax: ", // read-only, or not the user's
		"read " + secret + " open " + secret + ": no such file or directory",
		"write /etc/new open /etc/new: permission denied",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	if left, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(left, []byte(c.Dir)) {
		t.Errorf("the container's mounts are seen on the node:\n%s", left)
	}
}

func TestReadonlyRootAndWritableRoot(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	for _, readonly := range []bool{false, true} {
		spec := makeSpec(t, c, fmt.Sprint("c", readonly), "look", "/etc/new")
		spec.Root.Readonly = readonly
		startContainer(t, c, spec)
		_, log := ended(t, c, spec)
		if got := strings.Contains(log, "read-only file system"); got != readonly {
			t.Errorf("readonly %v: log\n%s", readonly, log)
		}
		_, err := os.Stat(filepath.Join(c.Dir, ContainersDir, spec.ID, "upper/etc/new"))
		if written := err == nil; written == readonly {
			t.Errorf("readonly %v: written to the upper directory: %v", readonly, written)
		}
	}
}

// R71: exit codes are on disk; logs are in the CRI format, told apart by stream.
func TestExitCodesAndLogs(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	said := makeSpec(t, c, "said", "say")
	startContainer(t, c, said)
	_, log := ended(t, c, said)
	if !strings.Contains(log, "stdout F to stdout\n") || !strings.Contains(log, "stderr F to stderr\n") {
		t.Errorf("log:\n%s", log)
	}
	exits := makeSpec(t, c, "exits", "exit", "3")
	startContainer(t, c, exits)
	if status, _ := ended(t, c, exits); status.ExitCode != 3 || status.Reason != "Error" {
		t.Errorf("status %+v", status)
	}
	killed := makeSpec(t, c, "killed", "wait")
	startContainer(t, c, killed)
	if err := c.Signal(context.Background(), "killed", int(unix.SIGKILL), false); err != nil {
		t.Fatal(err)
	}
	if status, _ := ended(t, c, killed); status.ExitCode != 137 {
		t.Errorf("status %+v", status)
	}
}

func TestStopSignalReachesTheProcess(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	spec := makeSpec(t, c, "c", "wait")
	startContainer(t, c, spec)
	eventually(t, "it waits", func() bool { return strings.Contains(logText(t, spec.LogPath), "waiting") })
	if err := c.Signal(context.Background(), "c", int(unix.SIGTERM), false); err != nil {
		t.Fatal(err)
	}
	if status, _ := ended(t, c, spec); status.ExitCode != 7 {
		t.Errorf("status %+v", status)
	}
}

func TestCommandThatCannotStartIsAnError(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	cases := []struct {
		name   string
		change func(*ContainerSpec)
		want   string
	}{
		{"missing", func(s *ContainerSpec) { s.Args = []string{"no-such-command"} }, `exec: "no-such-command": executable file not found in $PATH`},
		{"absent", func(s *ContainerSpec) { s.Args = []string{"/absent"} }, `exec: "/absent": no such file or directory`},
		{"plain", func(s *ContainerSpec) { s.Args = []string{"/etc/passwd"} }, `exec: "/etc/passwd": permission denied`},
		{"user", func(s *ContainerSpec) { s.Process.User.Name = "nobody" }, "unable to find user nobody"},
		{"cwd", func(s *ContainerSpec) { s.Cwd = "/etc/passwd/x" }, "working directory /etc/passwd/x"},
		{"mount", func(s *ContainerSpec) {
			s.Mounts = append(s.Mounts, Mount{Type: "bind", Source: "/no/such", Target: "/x"})
		}, "mount source /no/such"},
	}
	for _, tc := range cases {
		spec := makeSpec(t, c, tc.name, "say")
		tc.change(spec)
		if err := c.WriteSpec(spec); err != nil {
			t.Fatal(err)
		}
		_, err := c.Start(context.Background(), tc.name)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
		if status, _ := ended(t, c, spec); status.ExitCode != 128 || status.Reason != "StartError" {
			t.Errorf("%s: status %+v", tc.name, status)
		}
	}
}

func TestExecEntersTheContainer(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	spec := makeSpec(t, c, "c", "wait")
	startContainer(t, c, spec)
	for _, terminal := range []bool{false, true} {
		r, w, _ := os.Pipe()
		exec := &ExecSpec{Args: []string{"/tool", "look", "/etc/passwd"}, Cwd: "/etc", Terminal: terminal, Process: Process{User: User{UID: 5}}}
		var files []*os.File
		if !terminal {
			files = []*os.File{r, w, w} // stdin is never read
		}
		session, err := c.Exec(context.Background(), "c", exec, files...)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		from := r
		if terminal {
			from = session.Console
		}
		out, _ := io.ReadAll(from)
		code, err := session.Wait()
		if err != nil || code != 0 {
			t.Errorf("terminal %v: code %d, %v", terminal, code, err)
		}
		for _, want := range []string{"host h ", "uid 5", "read /etc/passwd <nil>", fmt.Sprint("terminal ", terminal)} {
			if !strings.Contains(string(out), want) {
				t.Errorf("terminal %v: output lacks %q:\n%s", terminal, want, out)
			}
		}
		from.Close()
		session.Close()
	}
	_, err := c.Exec(context.Background(), "c", &ExecSpec{Args: []string{"nothing"}, Cwd: "/"})
	if err == nil || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("exec of a missing command: %v", err)
	}
}

func TestAttachReadsOutputAndWritesInput(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	for _, terminal := range []bool{false, true} {
		spec := makeSpec(t, c, fmt.Sprint("c", terminal), "cat")
		spec.Stdin, spec.Terminal = true, terminal
		startContainer(t, c, spec)
		outR, outW, _ := os.Pipe()
		errR, errW, _ := os.Pipe()
		a, err := c.Attach(context.Background(), spec.ID, outW, errW)
		if err != nil {
			t.Fatal(err)
		}
		outW.Close()
		errW.Close()
		if _, err := a.Stdin.Write([]byte("ping\n")); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(outR).ReadString('\n')
		if strings.TrimSpace(line) != "ping" {
			t.Errorf("terminal %v: got %q, %v", terminal, line, err)
		}
		if terminal {
			a.Stdin.Write([]byte{4}) // Ctrl-D
		} else if err := c.CloseStdin(context.Background(), spec.ID); err != nil {
			t.Error(err)
		}
		a.Stdin.Close()
		status, log := ended(t, c, spec)
		if status.ExitCode != 0 || !strings.Contains(log, "stdout F ping") {
			t.Errorf("terminal %v: %+v\n%s", terminal, status, log)
		}
		a.Wait()
		a.Close()
		outR.Close()
		errR.Close()
	}
}

func TestReopenedLogGoesOnInANewFile(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	spec := makeSpec(t, c, "c", "cat")
	spec.Stdin = true
	startContainer(t, c, spec)
	outR, outW, _ := os.Pipe()
	defer outR.Close()
	a, err := c.Attach(context.Background(), "c", outW, outW)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	a.Stdin.Write([]byte("old\n"))
	eventually(t, "the first line is logged", func() bool { return strings.Contains(logText(t, spec.LogPath), "old") })
	os.Rename(spec.LogPath, spec.LogPath+".1")
	if err := c.ReopenLog(context.Background(), "c"); err != nil {
		t.Fatal(err)
	}
	a.Stdin.Write([]byte("new\n"))
	eventually(t, "the second line is logged", func() bool { return logText(t, spec.LogPath) == "stdout F new\n" })
}

// The pod's containers share its PID namespace; process 1 is not a container.
func TestSharedPIDNamespace(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h", SharePID: true})
	spec := makeSpec(t, c, "c", "look")
	spec.PID = PIDPod
	startContainer(t, c, spec)
	if _, log := ended(t, c, spec); strings.Contains(log, " pid 1 ") || !strings.Contains(log, " pid ") {
		t.Errorf("log:\n%s", log)
	}
}

func TestDialReachesThePodsLoopback(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	spec := makeSpec(t, c, "c", "listen", "8080")
	startContainer(t, c, spec)
	eventually(t, "it listens", func() bool { return strings.Contains(logText(t, spec.LogPath), "listening") })
	f, err := c.Dial(context.Background(), 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, _ := io.ReadAll(f); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	if _, err := c.Dial(context.Background(), 8081); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("closed port: %v", err)
	}
}

// R71: a watch begins with what is, and tells what happens; a new one finds the same.
func TestWatchTellsTheEnd(t *testing.T) {
	c := pod(t, PodSpec{ID: "p", Hostname: "h"})
	spec := makeSpec(t, c, "c", "wait")
	startContainer(t, c, spec)
	w, first, err := c.Watch(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if len(first) != 1 || first[0].Pid == 0 {
		t.Fatalf("first %+v", first)
	}
	c.Signal(context.Background(), "c", int(unix.SIGKILL), true)
	c.Signal(context.Background(), "c", int(unix.SIGKILL), false)
	for {
		statuses, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if statuses[0].Exited() {
			break
		}
	}
	if err := c.Forget(context.Background(), "c"); err != nil {
		t.Error(err)
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	w := lineWriter{out: &output{log: log}, tag: stdoutTag}
	w.write(bytes.Repeat([]byte("a"), logLineLimit+1))
	w.write([]byte("b\n\nend"))
	w.flush()
	want := "stdout P " + strings.Repeat("a", logLineLimit) + "\nstdout F ab\nstdout F \nstdout P end\n"
	if got := logText(t, path); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

// A pid that is used again is not taken for the process that had it before.
func TestStartTimeTellsProcessesApart(t *testing.T) {
	if StartTime(os.Getpid()) == 0 || StartTime(1<<22+1) != 0 {
		t.Error("start times: ", StartTime(os.Getpid()), StartTime(1<<22+1))
	}
}
