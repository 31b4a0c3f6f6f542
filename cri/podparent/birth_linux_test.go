package podparent

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A container that is stopped while it is being born has been killed, whatever the signal: what runs until the command does is our
// own code. StartError would say that something was wrong with it, as it does of one that dies by itself.
func TestStoppedBeforeItsCommandRan(t *testing.T) {
	for name, test := range map[string]struct {
		stopped bool
		want    ContainerStatus
	}{
		"stopped":        {true, ContainerStatus{ExitCode: 137, Reason: "Error"}},
		"died by itself": {false, ContainerStatus{ExitCode: startFailCode, Reason: "StartError", Message: "EOF"}},
	} {
		t.Run(name, func(t *testing.T) {
			child := exec.Cmd{Path: "/proc/self/exe", Args: []string{"/tool", "wait"}}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			c := &container{spec: &ContainerSpec{ID: "c"}, dir: t.TempDir(), out: &output{started: make(chan struct{})}, done: make(chan struct{})}
			c.status = ContainerStatus{ID: "c", Pid: child.Process.Pid}
			if test.stopped {
				if err := c.signal(unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else {
				child.Process.Kill()
			}
			child.Wait()
			c.status.Pid = 0
			close(c.out.started)
			(&Parent{}).end(c, &birth{failure: "EOF"}, child.ProcessState.Sys().(syscall.WaitStatus))

			var got ContainerStatus
			text, err := os.ReadFile(filepath.Join(c.dir, StatusName))
			if err != nil || json.Unmarshal(text, &got) != nil {
				t.Fatalf("%s, %v", text, err)
			}
			if got.ExitCode != test.want.ExitCode || got.Reason != test.want.Reason || got.Message != test.want.Message {
				t.Errorf("%+v, want %+v", got, test.want)
			}
		})
	}
}

// A container that has groups of its own below is entered where its first process is.
func TestGroupBelow(t *testing.T) {
	const dir = "/sys/fs/cgroup/hyperkube/n/pod1/abc"
	for proc, want := range map[string]string{
		"0::/hyperkube/n/pod1/abc\n":                                   dir,
		"0::/hyperkube/n/pod1/abc/init.scope\n":                        dir + "/init.scope",
		"0::/hyperkube/n/pod1/abc/a/b\n":                               dir + "/a/b",
		"12:pids:/x\n0::/hyperkube/n/pod1/abc/init\n":                  dir + "/init",
		"0::/elsewhere\n":                                              dir,
		"0::/hyperkube/n/pod1/abc/../../../../../system.slice/other\n": dir + "/system.slice/other",
		"": dir,
	} {
		if got := groupBelow(dir, proc); got != want {
			t.Errorf("groupBelow(%q) = %s, want %s", proc, got, want)
		}
	}
}
