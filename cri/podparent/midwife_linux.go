package podparent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A pod with a user namespace of its own (hostUsers: false) has one process more.
// Its parent stays a process of the node: it writes logs, joins cgroups and reads
// directories that the pod's root, who is nobody on the node, may not. But then it
// cannot bear children into the user namespace: setns refuses a process with
// threads, and a Go program has some before main begins. So the first thing
// cloned into the user namespace is a midwife:
//
//	launch ──► settle ──clone(user, net, ipc, uts)──► midwife
//	             │ setns(net, ipc, uts), execve          ▲ │
//	             ▼                                asks, with│ │ clone(mnt, pid, PARENT)
//	           serve ─────descriptors over a socket────────┘ ▼
//	             └──────── is the parent of ────────────► init, exec, pause
//
// CLONE_PARENT makes what the midwife bears the parent's children: it reaps them
// as if it had cloned them itself, and nothing else differs.
//
// The network, IPC and UTS namespaces are made together with the user namespace,
// so that they belong to it. Otherwise the pod's root could not mount sysfs or
// mqueue, nor use a capability on its own network.

// readyFD is where a parent says that it serves.
const readyFD = 3

// midwife is the process in the pod's user namespace, seen from the parent. Its
// calls are made with Parent.mu held, one at a time.
type midwife struct {
	conn *Conn
	pid  int
}

// order is what the midwife is asked to start; with it come the PID namespace to
// start it in, if PidNS, and its files.
type order struct {
	Args  []string `json:"args"`
	Flags uintptr  `json:"flags"`
	PidNS bool     `json:"pidNS"`
}

// settle takes the place of launch's child: it starts the midwife in a new user
// namespace, follows it into its other namespaces, and becomes the parent.
//
//	Step 1: join the pod's cgroup, so that the midwife is in it.
//	Step 2: clone the midwife.
//	Step 3: follow it into the network, IPC and UTS namespaces.
//	Step 4: execve: only a new program has all its threads there.
func settle(dir string) (err error) {
	unix.CloseOnExec(readyFD) // or the midwife would hold it open
	ready := os.NewFile(readyFD, "ready")
	defer func() { fmt.Fprint(ready, err) }() // launch waits for a word
	pod, err := readPodSpec(dir)
	if err != nil {
		return err
	}
	// Step 1
	if err := joinCgroups(pod.Cgroup, os.Getpid()); err != nil {
		return err
	}
	// Step 2
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []uintptr{0, 1, 2, theirs.Fd()},
		Sys: inUserNamespace(pod.UIDs, pod.GIDs, unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS)}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{Argv0, "midwife"}, attr)
	if err != nil {
		return fmt.Errorf("clone into a new user namespace: %w", err)
	}
	theirs.Close()
	// Step 3
	for kind, flag := range map[string]int{"net": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS} {
		ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
		if err != nil {
			return err
		}
		if err := unix.Setns(int(ns.Fd()), flag); err != nil {
			return fmt.Errorf("%s namespace: %w", kind, err)
		}
		ns.Close()
	}
	// Step 4
	kept, err := unix.FcntlInt(ours.file.Fd(), unix.F_DUPFD, 0)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(readyFD, unix.F_SETFD, 0); err != nil {
		return err
	}
	err = unix.Exec("/proc/self/exe", []string{Argv0, "serve", dir, strconv.Itoa(kept), strconv.Itoa(pid)}, os.Environ())
	return fmt.Errorf("execve: %w", err)
}

// inUserNamespace are the attributes of a child that is root of a new user namespace.
func inUserNamespace(uids, gids []IDMap, more uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | more, UidMappings: sysMaps(uids), GidMappings: sysMaps(gids),
		GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{Uid: 0, Gid: 0}, Setsid: true}
}

func sysMaps(maps []IDMap) (out []syscall.SysProcIDMap) {
	for _, m := range maps {
		out = append(out, syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Size)})
	}
	return out
}

// serveWithMidwife is the main of a parent that settle has become.
func serveWithMidwife(dir, fd, pid string) error {
	conn, err1 := strconv.Atoi(fd)
	helper, err2 := strconv.Atoi(pid)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	unix.CloseOnExec(conn)
	if err := unix.SetNonblock(conn, true); err != nil {
		return err
	}
	return serve(dir, &midwife{conn: &Conn{os.NewFile(uintptr(conn), "midwife")}, pid: helper})
}

// attend is the midwife's main: it bears what the parent asks for, until the parent ends.
func attend() error {
	debug.SetGCPercent(20)
	unix.CloseOnExec(3)
	parent := &Conn{os.NewFile(3, "parent")}
	for {
		var asked order
		fds, err := parent.Receive(&asked)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var answer Response
		if answer.Pid, err = deliver(&asked, fds); err != nil {
			answer.Error = err.Error()
		}
		closeAll(fds)
		if err := parent.Send(answer); err != nil {
			return err
		}
	}
}

func deliver(asked *order, fds []int) (pid int, err error) {
	var pidNS *os.File
	if asked.PidNS && len(fds) > 0 {
		copied, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		pidNS = os.NewFile(uintptr(copied), "pid namespace")
		defer pidNS.Close()
		fds = fds[1:]
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"}, Sys: &syscall.SysProcAttr{Cloneflags: asked.Flags | unix.CLONE_PARENT, Setsid: true}}
	for _, fd := range fds {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	return forkInto(pidNS, asked.Args, attr)
}

// fork starts this program anew as a child of this process: itself, or through
// the midwife, in the pod's user namespace.
func (p *Parent) fork(pidNS *os.File, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	if p.midwife == nil {
		return forkInto(pidNS, args, attr)
	}
	var fds []int
	if pidNS != nil {
		fds = append(fds, int(pidNS.Fd()))
	}
	for _, f := range attr.Files {
		fds = append(fds, int(f))
	}
	if err := p.midwife.conn.Send(order{Args: args, Flags: attr.Sys.Cloneflags, PidNS: pidNS != nil}, fds...); err != nil {
		return 0, fmt.Errorf("the process in the pod's user namespace: %w", err)
	}
	var answer Response
	if _, err := p.midwife.conn.Receive(&answer); err != nil {
		return 0, fmt.Errorf("the process in the pod's user namespace: %w", err)
	}
	if answer.Error != "" {
		return 0, errors.New(answer.Error)
	}
	return answer.Pid, nil
}

// giveStreams makes the container's ends of pipes its root's: a user of the node
// means nothing to it, and so it could give them to no other.
func (p *Parent) giveStreams(files []*os.File) {
	for _, f := range files {
		p.giveStreamToRoot(int(f.Fd()))
	}
}

func (p *Parent) giveStreamToRoot(fd int) {
	if p.midwife == nil {
		return
	}
	uid, _ := OnHost(p.pod.UIDs, 0)
	gid, _ := OnHost(p.pod.GIDs, 0)
	giveStream(fd, int(uid), int(gid))
}

// ProbeUserNamespaces tries what a pod with a user namespace needs of the kernel: to
// make one, and to show the files of dir, and those of a tmpfs, through its numbers.
func ProbeUserNamespaces(exe, dir string) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.Close()
	defer theirs.Close()
	// Root of the new namespace may not pass the directories on the way to the program.
	program, err := unix.Open(exe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(program)
	some := []IDMap{{Host: 65536, Size: 65536}}
	attr := &syscall.ProcAttr{Dir: "/", Files: []uintptr{0, 1, 2, theirs.Fd()}, Sys: inUserNamespace(some, some, 0)}
	pid, err := syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(program), []string{Argv0, "midwife"}, attr)
	if err != nil {
		return fmt.Errorf("user namespaces: %w", err)
	}
	defer syscall.Wait4(pid, nil, 0, nil)
	defer unix.Kill(pid, unix.SIGKILL)
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns/user"))
	if err != nil {
		return err
	}
	defer ns.Close()
	fd, err := mappedTree(dir, ns, 0)
	if err != nil {
		return err
	}
	unix.Close(fd)
	return probeMappedTmpfs(ns)
}

// probeMappedTmpfs tries it on a tmpfs, which nearly every pod has: its tokens and secrets are on one.
func probeMappedTmpfs(userNS *os.File) error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("making a tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fsmount tmpfs: %w", err)
	}
	defer unix.Close(fd)
	return mapOwners(fd, "a tmpfs", userNS)
}
