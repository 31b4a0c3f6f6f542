package podparent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is how long a container that has ended is given for output still
// in its pipes. Who holds them open longer has left the container.
const drainTimeout = 2 * time.Second

// container is one container of the pod in the parent's hands.
type container struct {
	spec   *ContainerSpec
	dir    string
	status ContainerStatus // guarded by Parent.mu; Pid is 0 before the start and after the end
	killed bool            // it was ended before its command ran; guarded by Parent.mu
	out    *output
	stdin  *os.File      // what the container reads; nil without stdin. The terminal if there is one
	done   chan struct{} // closed when the end is on disk
}

// start brings a container to life.
func (p *Parent) start(conn *Conn, id string) error {
	dir := filepath.Join(p.dir, ContainersDir, id)
	spec, err := readSpec(dir)
	if err != nil {
		return err
	}
	log, err := openLog(spec.LogPath)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	c := &container{spec: spec, dir: dir, out: &output{log: log, clients: map[*client]struct{}{}}, done: make(chan struct{})}
	c.status = ContainerStatus{ID: id}
	child, err := p.bringUp(c)
	if err != nil {
		c.out.close()
		return errors.Join(err, p.stillborn(c, err))
	}
	err = child.await()
	if child.console != nil {
		c.stdin = child.console
		c.out.copyFrom(child.console, stdoutTag)
	}
	p.mu.Lock()
	c.status.User = child.user
	p.mu.Unlock()
	close(c.out.started) // end, and those who attach, wait for this
	if err != nil {
		<-c.done // the end, as StartError, is on disk
		return err
	}
	if err := p.record(c); err != nil {
		return err
	}
	return conn.Send(Response{Pid: child.pid})
}

// errStartedBefore is no end of the container that it was said to.
var errStartedBefore = errors.New("was started before")

// stillborn writes down the end of a container that never had a process. Otherwise
// it would look as if nobody had tried to start it, and be tried without any back-off.
func (p *Parent) stillborn(c *container, cause error) error {
	if errors.Is(cause, errStartedBefore) {
		return nil
	}
	p.mu.Lock()
	c.status.FinishedAt = time.Now().UnixNano()
	c.status.ExitCode, c.status.Reason, c.status.Message = startFailCode, "StartError", cause.Error()
	p.mu.Unlock()
	return p.record(c)
}

// bringUp clones the container's process and enters it into the books.
func (p *Parent) bringUp(c *container) (*birth, error) {
	stdio, closeTheirs, err := c.makeStdio()
	if err != nil {
		return nil, err
	}
	defer closeTheirs()
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.containers[c.spec.ID]; old != nil {
		return nil, fmt.Errorf("container %s %w", c.spec.ID, errStartedBefore)
	}
	pidNS, release, err := p.pidNamespace(c.spec)
	if err != nil {
		return nil, err
	}
	defer release()
	given, err := p.mountsFor(c.spec)
	if err != nil {
		return nil, err
	}
	defer given.close()
	p.giveStreams(stdio[:])
	child, err := p.begin(c.spec, given, pidNS, stdio)
	if err != nil {
		return nil, err
	}
	c.status.Pid, c.status.StartedAt = child.pid, time.Now().UnixNano()
	p.containers[c.spec.ID] = c
	p.children[child.pid] = func(status syscall.WaitStatus) {
		c.status.Pid = 0
		go p.end(c, child, status)
	}
	return child, nil
}

// makeStdio makes the pipes of a container without a terminal; with one, the
// terminal comes from inside. The second result closes the container's ends.
func (c *container) makeStdio() (stdio [3]*os.File, closeTheirs func(), err error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return stdio, nil, err
	}
	stdio = [3]*os.File{null, null, null}
	closeTheirs = func() {
		for _, f := range stdio {
			f.Close()
		}
	}
	c.out.started = make(chan struct{})
	if c.spec.Terminal {
		return stdio, closeTheirs, nil
	}
	for fd, tag := range map[int]string{1: stdoutTag, 2: stderrTag} {
		r, w, err := os.Pipe()
		if err != nil {
			closeTheirs()
			return stdio, nil, err
		}
		stdio[fd] = w
		c.out.copyFrom(r, tag)
	}
	if c.spec.Stdin {
		r, w, err := os.Pipe()
		if err != nil {
			closeTheirs()
			return stdio, nil, err
		}
		stdio[0], c.stdin = r, w
	}
	return stdio, closeTheirs, nil
}

// end is run once, after the container's first process has been reaped:
//
//	Step 1: end what is left of the container, which a PID namespace of its own has done already.
//	Step 2: wait for the rest of its output.
//	Step 3: write its status to disk, then tell those who watch.
func (p *Parent) end(c *container, child *birth, status syscall.WaitStatus) {
	finished := time.Now()
	killCgroup(c.spec.Cgroup, unix.SIGKILL)
	<-c.out.started // it may be reaped before start has read what it said last
	c.out.drain(drainTimeout)

	p.mu.Lock()
	s := &c.status
	s.FinishedAt = finished.UnixNano()
	s.ExitCode = exitCode(status)
	switch {
	case c.killed && status.Signaled():
		s.Reason = "Error" // not StartError: nothing was wrong with it
	case child.user == nil || child.failure != "":
		s.ExitCode, s.Reason, s.Message = startFailCode, "StartError", child.failure
	case s.ExitCode != 0 && oomKilled(c.spec.Cgroup):
		s.Reason = "OOMKilled"
	case s.ExitCode != 0:
		s.Reason = "Error"
	default:
		s.Reason = "Completed"
	}
	p.mu.Unlock()
	if err := p.record(c); err != nil {
		fmt.Fprintln(os.Stderr, "status of", c.spec.ID, err)
	}
	c.out.close()
	if c.stdin != nil {
		c.stdin.Close()
	}
	close(c.done)
}

// signal sends one to the container's first process, with mu held. Before that has become the command it cannot be asked to end,
// as it is our own code still: it is ended.
func (c *container) signal(number unix.Signal) error {
	if c.status.Pid == 0 {
		return nil // reaped: a reused pid is never hit
	}
	select {
	case <-c.out.started:
	default:
		c.killed, number = true, unix.SIGKILL
	}
	if err := unix.Kill(c.status.Pid, number); err != unix.ESRCH {
		return err
	}
	return nil
}

// record writes a container's status to disk and tells the watchers.
func (p *Parent) record(c *container) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := writeJSON(filepath.Join(c.dir, StatusName), c.status)
	for w := range p.watchers {
		w.tell(c.status)
	}
	return err
}

// exitCode is what a shell would report: 128 + the signal for one that was killed.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// oomKilled asks the kernel whether it killed a process of this cgroup for want
// of memory: memory.events in cgroup v2, memory.oom_control in v1. The count
// stays until the cgroup is removed.
func oomKilled(dirs []string) bool {
	for _, dir := range dirs {
		for _, name := range []string{"memory.events", "memory.oom_control"} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			for _, line := range strings.Split(string(data), "\n") {
				if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
					n, _ := strconv.Atoi(strings.TrimSpace(count))
					return n > 0
				}
			}
		}
	}
	return false
}

// exec lets a process enter a running container, and stays until it has ended.
func (p *Parent) exec(conn *Conn, req *Request, fds []int) error {
	if req.Exec == nil || len(req.Exec.Args) == 0 {
		return errors.New("exec: no command")
	}
	c, err := p.find(req.ID)
	if err != nil {
		return err
	}
	ended := make(chan syscall.WaitStatus, 1)
	child, err := p.enter(c, req.Exec, fds, ended)
	if err != nil {
		return err
	}
	if err := child.await(); err != nil {
		<-ended
		return err
	}
	var console []int
	if child.console != nil {
		defer child.console.Close()
		console = []int{int(child.console.Fd())}
	}
	if err := conn.Send(Response{Pid: child.pid}, console...); err != nil {
		unix.Kill(child.pid, unix.SIGKILL)
		<-ended
		return err
	}
	// Who asked may go away, or want the session killed: closing the connection does that.
	gone := make(chan struct{})
	go func() { conn.closeWait(); close(gone) }()
	select {
	case status := <-ended:
		code := exitCode(status)
		return conn.Send(Response{Code: &code})
	case <-gone:
		p.killChild(child.pid)
		<-ended
		return nil
	}
}

// killChild kills a child unless it has been reaped already.
func (p *Parent) killChild(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.children[pid] != nil {
		unix.Kill(pid, unix.SIGKILL)
	}
}

// enter clones the process of an exec session. Like begin, but into namespaces
// that exist.
func (p *Parent) enter(c *container, spec *ExecSpec, fds []int, ended chan<- syscall.WaitStatus) (*birth, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.status.Pid == 0 {
		ours.Close()
		return nil, fmt.Errorf("container %s is not running", c.spec.ID)
	}
	var ns [3]*os.File // pid, mnt, cgroup
	for i, kind := range []string{"pid", "mnt", "cgroup"} {
		if ns[i], err = os.Open("/proc/" + strconv.Itoa(c.status.Pid) + "/ns/" + kind); err != nil {
			ours.Close()
			return nil, err
		}
		defer ns[i].Close()
	}
	files := []uintptr{null.Fd(), null.Fd(), null.Fd(), theirs.Fd(), ns[1].Fd(), ns[2].Fd()}
	for i := range fds {
		if i < 3 {
			files[i] = uintptr(fds[i])
			p.giveStreamToRoot(fds[i])
		}
	}
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	pid, err := p.fork(ns[0], []string{Argv0, "exec"}, attr)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("clone: %w", err)
	}
	child := &birth{pid: pid, conn: ours}
	p.children[pid] = func(status syscall.WaitStatus) { ended <- status }
	err = joinCgroups(c.spec.Cgroup, pid)
	if errors.Is(err, unix.EBUSY) {
		// The container has groups of its own below, as systemd and Docker make them: in cgroup v2 its own then holds no processes.
		first, _ := os.ReadFile("/proc/" + strconv.Itoa(c.status.Pid) + "/cgroup")
		err = joinCgroups([]string{groupBelow(c.spec.Cgroup[0], string(first))}, pid)
	}
	if err == nil {
		err = ours.Send(spec)
	}
	if err != nil {
		child.abandon()
	}
	return child, err
}

// groupBelow is the directory of the group in which the first process of a container is, by its /proc/PID/cgroup: the
// container's own directory or one below. It is pure.
func groupBelow(dir, proc string) string {
	for line := range strings.Lines(proc) {
		if path, unified := strings.CutPrefix(strings.TrimSpace(line), "0::"); unified {
			_, below, _ := strings.Cut(path, "/"+filepath.Base(dir))
			return filepath.Join(dir, filepath.Clean("/"+below))
		}
	}
	return dir
}

// entered is the main of an exec session's process, in the pod's namespaces and
// the container's PID namespace: it takes the container's view of files too.
func entered() {
	parent := &Conn{os.NewFile(3, "parent")}
	unix.CloseOnExec(3)
	unix.CloseOnExec(4)
	unix.CloseOnExec(5)
	err := enterMounts(parent)
	parent.Send(newborn{Error: err.Error()})
	os.Exit(startFailCode)
}

func enterMounts(parent *Conn) error {
	var spec ExecSpec
	if _, err := parent.Receive(&spec); err != nil {
		return fmt.Errorf("waiting for the parent: %w", err)
	}
	if spec.CgroupNS {
		if err := unix.Setns(5, unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("cgroup namespace: %w", err)
		}
	}
	// Threads share root and working directory; who changes the mount namespace must not.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(4, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	return become(&spec.Process, &command{spec.Args, spec.Env, spec.Cwd, spec.Terminal}, parent)
}
