package podparent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// This page is where a container is created. The parent (begin) makes a new
// process in new namespaces and puts it into its cgroups; that process (born)
// builds the container around itself from the inside, and then becomes the
// container's command. Read it from top to bottom:
//
//	parent: begin                       child: born
//	 Step 1  clone, new namespaces  ──►  Step 4  wait for the word
//	 Step 2  join the cgroups
//	 Step 3  give the word: the spec ─►  Step 5  take the mount namespace apart from the node's
//	                                     Step 6  mount the root filesystem
//	                                     Step 7  open what will be mounted, then pivot_root
//	                                     Step 8  /proc, /dev, /sys, the pod's mounts
//	                                     Step 9  hide and protect parts of /proc and /sys
//	                                     Step 10 terminal
//	                                     Step 11 take on identity and limits of rights
//	 Step 13 learn how it went      ◄──  Step 12 execve
//
// The child is this same program started anew ("podparent init"), since a Go
// program has threads and the kernel gives namespaces and rights to one thread
// at a time: the child locks itself to one thread, and execve keeps that one.
//
// In a pod with a user namespace of its own the child may neither open the node's
// files nor mount an overlay of them: the parent does that (mounts_linux.go), and
// hands the mounts over with the word. And not the parent clones, but its midwife.

// birth is a child between clone and execve, seen from the parent.
type birth struct {
	pid     int
	conn    *Conn     // the socket pair to the child; it closes at the child's execve
	console *os.File  // the terminal's other end, if the spec asked for one
	user    *Identity // who the command runs as
	failure string    // why there is no command
}

// word is what the parent says to the child once it may go on.
type word struct {
	Spec *ContainerSpec `json:"spec"`
	// Given says that the root filesystem and the sources of bind mounts follow, a
	// message with a descriptor each.
	Given bool `json:"given,omitempty"`
}

// newborn is the one message of the child: sent before execve with who it is
// (and the terminal beside it), and again with Error if something failed.
type newborn struct {
	User  *Identity `json:"user,omitempty"`
	Error string    `json:"error,omitempty"`
}

// cloneFlags are the namespaces a container gets for itself. Network, IPC and
// UTS are the pod's: the parent lives in them, and the child inherits them. So is
// a user namespace; only the midwife lives in that one.
func cloneFlags(spec *ContainerSpec) uintptr {
	flags := uintptr(unix.CLONE_NEWNS)
	if spec.PID == PIDContainer {
		flags |= unix.CLONE_NEWPID
	}
	return flags
}

// begin makes the process of a container and returns when that process has
// become the container's command, or with the reason why it could not.
// The caller holds the parent's lock, so that an early death is not reaped
// before the pid is known.
func (p *Parent) begin(spec *ContainerSpec, given *mounts, pidNS *os.File, stdio [3]*os.File) (*birth, error) {
	// Step 1: clone. The child starts in new namespaces, as "podparent init".
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1"},
		Files: []uintptr{stdio[0].Fd(), stdio[1].Fd(), stdio[2].Fd(), theirs.Fd()},
		Sys:   &syscall.SysProcAttr{Cloneflags: cloneFlags(spec), Setsid: true},
	}
	pid, err := p.fork(pidNS, []string{Argv0, "init"}, attr)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("clone: %w", err)
	}
	child := &birth{pid: pid, conn: ours}

	// Step 2: join the cgroups, while the child waits: nothing of the container runs outside its limits.
	err = joinCgroups(spec.Cgroup, pid)
	if err == nil {
		err = setOOMScore(pid, spec.OOMScore)
	}
	// Step 3: give the word, and what has been mounted for the child.
	if err == nil {
		err = ours.Send(word{Spec: spec, Given: given != nil})
	}
	if err == nil && given != nil {
		err = given.hand(ours)
	}
	if err != nil {
		child.abandon()
		return nil, err
	}
	return child, nil
}

// setOOMScore says how soon the kernel is to kill the process for want of memory.
// On a host where root may not lower the score (without CAP_SYS_RESOURCE, as in
// another container) the inherited one stays: a pod that runs with less
// protection is better than none.
func setOOMScore(pid, score int) error {
	err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(score)), 0)
	if errors.Is(err, os.ErrPermission) && score < 0 {
		return nil
	}
	return err
}

// await is Step 13: the child's socket closes at execve; before that it has
// said who it became, and after that nothing but a failure.
func (b *birth) await() (err error) {
	defer func() {
		if err != nil {
			b.failure = err.Error()
		}
		b.conn.Close()
	}()
	for {
		var said newborn
		fds, err := b.conn.Receive(&said)
		if err == io.EOF && b.user != nil {
			return nil // execve closed the socket: the command runs
		}
		if err != nil {
			return fmt.Errorf("the container's process ended before its command started: %w", err)
		}
		if said.Error != "" {
			closeAll(fds)
			return errors.New(said.Error)
		}
		b.user = said.User
		if len(fds) > 0 {
			unix.SetNonblock(fds[0], true)
			b.console = os.NewFile(uintptr(fds[0]), "console")
		}
	}
}

// abandon ends a child that was not given the word.
func (b *birth) abandon() {
	unix.Kill(b.pid, unix.SIGKILL)
	b.conn.Close()
}

// born is the child. It never returns: it becomes the container's command, or
// says why not and exits.
func born() {
	parent := &Conn{os.NewFile(3, "parent")}
	unix.CloseOnExec(3)
	err := bear(parent)
	parent.Send(newborn{Error: err.Error()})
	os.Exit(startFailCode)
}

// bear performs the child's steps. It returns only with an error.
func bear(parent *Conn) error {
	// Step 4: wait for the word: the cgroups are joined then.
	var said word
	if _, err := parent.Receive(&said); err != nil {
		return fmt.Errorf("waiting for the parent: %w", err)
	}
	spec := said.Spec
	if spec.CgroupNS {
		// Only now: the namespace's root is the cgroup one is in.
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("cgroup namespace: %w", err)
		}
	}
	// Step 5: what is mounted here from now on is not seen on the node.
	tied, err := partMounts(spec, said.Given)
	if err != nil {
		return err
	}
	// Step 6: the root filesystem: the image's layers, and a writable one on top.
	// Step 7: open the mounts' sources while the node's files can still be named; then the
	// root filesystem becomes "/", and the node's is left behind as an open directory.
	layRoot := layOwn
	if said.Given {
		layRoot = layGiven
	}
	sources, devices, err := layRoot(spec, parent)
	if err != nil {
		return err
	}
	for i, fd := range tied {
		unix.Close(sources[i].fd)
		sources[i].fd, sources[i].mount = fd, true
	}
	nodeRoot, err := pivotRoot(spec.Root.Path)
	if err != nil {
		return err
	}
	// Step 8: mount. Every target is now a path inside the container, whatever links its image has.
	if err := mountAll(spec, sources); err != nil {
		return err
	}
	if err := makeDevices(devices); err != nil {
		return err
	}
	if err := leaveNodeRoot(nodeRoot); err != nil {
		return err
	}
	// Step 9: what would tell too much, or let the node be changed.
	if err := hide(spec); err != nil {
		return err
	}
	return become(&spec.Process, &command{spec.Args, spec.Env, spec.Cwd, spec.Terminal}, parent)
}

// layOwn is steps 6 and 7 of a container whose root is the node's.
func layOwn(spec *ContainerSpec, _ *Conn) (sources []source, devices []node, err error) {
	if err := mountRoot(&spec.Root); err != nil {
		return nil, nil, err
	}
	if sources, err = openSources(spec.Mounts); err != nil {
		return nil, nil, err
	}
	devices, err = statDevices(spec.Devices)
	return sources, devices, err
}

// command is what is executed at the end, by a container or an exec session.
type command struct {
	Args, Env []string
	Cwd       string
	Terminal  bool
}

// become takes on the identity of the process and executes its command. An exec
// session ends with it too.
func become(p *Process, cmd *command, parent *Conn) error {
	who, err := lookUp(p.User)
	if err != nil {
		return err
	}
	// Step 10: the terminal: made from the container's own /dev/pts, so that its name is known there.
	var console []int
	if cmd.Terminal {
		master, err := openConsole(who)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		console = []int{master}
	} else {
		// /dev/stdout is opened anew by its name in many images: the user must own the pipe.
		for fd := 0; fd < 3; fd++ {
			giveStream(fd, int(who.UID), -1)
		}
	}
	if err := parent.Send(newborn{User: who}, console...); err != nil {
		return err
	}
	closeAll(console)

	// Step 11: rights: limits, bounding set, groups and user, capabilities, no_new_privs, seccomp, in that order.
	if err := takeOn(p, who); err != nil {
		return err
	}
	if err := unix.Chdir(cmd.Cwd); err != nil {
		return fmt.Errorf("working directory %s: %w", cmd.Cwd, err)
	}
	env := completeEnv(cmd.Env, who)
	path, err := lookPath(cmd.Args[0], env)
	if err != nil {
		return err
	}
	if err := filterSyscallsLate(p); err != nil {
		return err
	}
	// Step 12: execve. The parent's socket closes with it, which is how the parent knows.
	err = unix.Exec(path, cmd.Args, env)
	return fmt.Errorf("exec %s: %w", path, err)
}

// giveStream makes a pipe or a socket somebody's. Never a device: /dev/null, which
// stands for a stream that nobody wants, is the node's own.
func giveStream(fd, uid, gid int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK) {
		unix.Fchown(fd, uid, gid)
	}
}

// forkInto starts this program anew with attr, as a child in the given PID
// namespace (nil: the one that attr's flags make, or ours).
//
// setns changes the PID namespace of one thread's future children. The thread
// must not serve other goroutines afterwards: the goroutine is never unlocked
// from it, so both end together.
func forkInto(pidNS *os.File, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	if pidNS == nil {
		return syscall.ForkExec("/proc/self/exe", args, attr)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lockThread()
		if err = unix.Setns(int(pidNS.Fd()), unix.CLONE_NEWPID); err == nil {
			pid, err = syscall.ForkExec("/proc/self/exe", args, attr)
		}
	}()
	<-done
	return pid, err
}

// joinCgroups puts a process into a cgroup of each hierarchy.
func joinCgroups(dirs []string, pid int) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("joining cgroup: %w", err)
		}
	}
	return nil
}

func readSpec(dir string) (*ContainerSpec, error) {
	spec := &ContainerSpec{}
	if err := readJSON(filepath.Join(dir, SpecName), spec); err != nil {
		return nil, err
	}
	if len(spec.Args) == 0 {
		return nil, fmt.Errorf("no command: neither the container nor its image names one")
	}
	return spec, nil
}
