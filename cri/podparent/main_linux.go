package podparent

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Main is the program "podparent". args are those after argv[0]:
//
//	launch DIR   started by cri: starts "serve" in the pod's namespaces, and ends
//	serve DIR    the parent of a pod
//	settle DIR   the parent of a pod with a user namespace of its own, before it is "serve DIR FD PID"
//	midwife      the process in that user namespace, which bears the parent's children
//	init         a container's process, before it becomes the container's command
//	exec         an exec session's process, likewise
//	pause        process 1 of a PID namespace shared by a pod's containers
func Main(args []string) int {
	// A thread's namespaces and rights are what execve keeps.
	lockThread()
	var err error
	switch {
	case len(args) == 2 && args[0] == "launch":
		err = launch(args[1])
	case len(args) == 2 && args[0] == "serve":
		// A parent allocates little; a small heap matters more than a rare collection.
		debug.SetGCPercent(20)
		err = serve(args[1], nil)
	case len(args) == 2 && args[0] == "settle":
		err = settle(args[1])
	case len(args) == 4 && args[0] == "serve":
		debug.SetGCPercent(20)
		err = serveWithMidwife(args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "midwife":
		err = attend()
	case len(args) == 1 && args[0] == "init":
		born()
	case len(args) == 1 && args[0] == "exec":
		entered()
	case len(args) == 1 && args[0] == "pause":
		err = pause()
	default:
		err = fmt.Errorf("podparent is started by hyperkube cri, one for each pod; usage: podparent launch|serve|init DIR")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "podparent:", err)
		return 1
	}
	return 0
}

// launch starts the parent in new namespaces and a session of its own, waits
// until it serves, prints its pid, and ends: the parent is then a child of
// process 1 (or the nearest subreaper), and no end of cri ends it.
func launch(dir string) error {
	pod, err := readPodSpec(dir)
	if err != nil {
		return err
	}
	flags, part := uintptr(0), "serve"
	if len(pod.UIDs) > 0 {
		part = "settle" // whose midwife makes the namespaces: they must belong to the user namespace
	} else if !pod.HostNetwork {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS
	}
	if !pod.HostIPC && part == "serve" {
		flags |= unix.CLONE_NEWIPC
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=2"}, Files: []uintptr{0, 2, 2, w.Fd()},
		Sys: &syscall.SysProcAttr{Cloneflags: flags, Setsid: true}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{Argv0, part, dir}, attr)
	w.Close()
	if err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	said, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if string(said) != readyMessage {
		return fmt.Errorf("%s", said)
	}
	_, err = os.Stdout.WriteString(strconv.Itoa(pid))
	return err
}
