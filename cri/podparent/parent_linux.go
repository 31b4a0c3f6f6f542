package podparent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Parent is the process that holds one pod together: it lives in the pod's
// namespaces, starts the containers in it, writes their logs and keeps their
// exit codes. cri may come and go.
type Parent struct {
	dir string
	pod *PodSpec

	// mu is held from a clone until the new pid is in children: otherwise the
	// reaper could collect an exit that nobody has asked for yet.
	mu         sync.Mutex
	children   map[int]func(syscall.WaitStatus) // by pid: what to do at its end
	containers map[string]*container
	watchers   map[*watcher]struct{}
	midwife    *midwife // bears the children of a pod with a user namespace of its own; else nil
	pauseNS    *os.File // the shared PID namespace
	pausePid   int
	stopped    chan struct{}
}

// serve is the parent's main: it never returns before the pod is stopped.
func serve(dir string, helper *midwife) error {
	ready := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	p := &Parent{dir: dir, children: map[int]func(syscall.WaitStatus){}, containers: map[string]*container{},
		watchers: map[*watcher]struct{}{}, stopped: make(chan struct{}), midwife: helper}
	if helper != nil {
		// Without it nothing can enter the pod any more. cri sees our end, ends the containers, and the pod is made anew.
		p.children[helper.pid] = func(syscall.WaitStatus) { os.Exit(1) }
	}
	listener, err := p.prepare()
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, syscall.SIGCHLD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	go p.acceptLoop(listener)
	fmt.Fprint(ready, readyMessage)
	ready.Close()
	for {
		select {
		case <-exits:
			p.reap()
		case <-p.stopped:
			os.Remove(filepath.Join(dir, SocketName))
			return nil
		}
	}
}

// prepare makes this process the parent of its pod:
//
//	Step 1: become the one to whom the containers' orphans return.
//	Step 2: leave cri's cgroup, which may be killed as a whole.
//	Step 3: set up the namespaces it was cloned into: loopback, host name, sysctls.
//	Step 4: start the holder of the shared PID namespace, if the pod has one.
//	Step 5: listen, and say on disk who it is.
func (p *Parent) prepare() (listener *os.File, err error) {
	if p.pod, err = readPodSpec(p.dir); err != nil {
		return nil, err
	}
	// Step 1
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("subreaper: %w", err)
	}
	// Step 2
	if err := joinCgroups(p.pod.Cgroup, os.Getpid()); err != nil {
		return nil, err
	}
	// The kernel is to look elsewhere for memory first. Not being allowed to say so is no failure.
	os.WriteFile("/proc/self/oom_score_adj", []byte("-998"), 0)
	// Step 3
	if err := setUpNamespaces(p.pod); err != nil {
		return nil, err
	}
	// Step 4
	if p.pod.SharePID {
		if err := p.startPause(); err != nil {
			return nil, fmt.Errorf("shared PID namespace: %w", err)
		}
	}
	// Step 5
	if listener, err = listen(p.dir); err != nil {
		return nil, err
	}
	state := PodState{Pid: os.Getpid(), StartTime: StartTime(os.Getpid()), PausePid: p.pausePid}
	return listener, writeJSON(filepath.Join(p.dir, StateName), state)
}

func setUpNamespaces(pod *PodSpec) error {
	if !pod.HostNetwork {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("loopback: %w", err)
		}
		if err := unix.Sethostname([]byte(pod.Hostname)); err != nil {
			return fmt.Errorf("host name %s: %w", pod.Hostname, err)
		}
	}
	for name, value := range pod.Sysctls {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
		}
	}
	return nil
}

// loopbackUp sets the lo interface up, as ip link set lo up does.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// startPause starts process 1 of the shared PID namespace: it only reaps.
func (p *Parent) startPause() error {
	attr := &syscall.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Setsid: true}}
	pid, err := p.fork(nil, []string{Argv0, "pause"}, attr)
	if err != nil {
		return err
	}
	p.pausePid = pid
	p.pauseNS, err = os.Open("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	return err
}

// pause is the main of process 1 of a shared PID namespace. It ignores what
// would end it; the kernel ends it, and all others there, with SIGKILL.
func pause() error {
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, syscall.SIGCHLD)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	for range exits {
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && err != syscall.EINTR {
				break
			}
		}
	}
	return nil
}

// reap collects every child that has ended.
func (p *Parent) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 {
			return
		}
		if ended := p.children[pid]; ended != nil {
			delete(p.children, pid)
			ended(status)
		}
	}
}

func (p *Parent) acceptLoop(listener *os.File) {
	for {
		conn, err := accept(listener)
		if err != nil {
			fmt.Fprintln(os.Stderr, "accept:", err)
			time.Sleep(100 * time.Millisecond) // out of descriptors: better late than never
			continue
		}
		go p.handle(conn)
	}
}

// handle serves one connection: one request.
func (p *Parent) handle(conn *Conn) {
	defer conn.Close()
	var req Request
	fds, err := conn.Receive(&req)
	if err != nil {
		return
	}
	defer func() { closeAll(fds) }()
	switch req.Op {
	case "start":
		err = p.start(conn, req.ID)
	case "exec":
		err = p.exec(conn, &req, fds)
	case "attach":
		fds, err = nil, p.attach(conn, &req, fds)
	case "closein":
		err = p.closeStdin(conn, req.ID)
	case "signal":
		err = p.signal(conn, &req)
	case "reopen":
		err = p.reopen(conn, req.ID)
	case "forget":
		err = p.forget(conn, req.ID)
	case "dial":
		err = dial(conn, req.Port)
	case "watch":
		err = p.watch(conn)
	case "stop":
		err = p.stop(conn)
	default:
		err = fmt.Errorf("unknown operation %q", req.Op)
	}
	if err != nil {
		conn.Send(Response{Error: err.Error()})
	}
}

// find returns the container with this id.
func (p *Parent) find(id string) (*container, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.containers[id]
	if c == nil {
		return nil, fmt.Errorf("container %s is not known to its pod's parent", id)
	}
	return c, nil
}

// pidNamespace opens the PID namespace a new container is to join; nil is none.
// With mu held.
func (p *Parent) pidNamespace(spec *ContainerSpec) (*os.File, func(), error) {
	switch spec.PID {
	case PIDContainer, PIDNode:
		return nil, func() {}, nil
	case PIDPod:
		if p.pauseNS == nil {
			return nil, nil, errors.New("the pod has no shared PID namespace")
		}
		return p.pauseNS, func() {}, nil
	}
	target := p.containers[spec.PID]
	if target == nil || target.status.Pid == 0 {
		return nil, nil, fmt.Errorf("container %s, whose PID namespace is wanted, does not run", spec.PID)
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(target.status.Pid) + "/ns/pid")
	if err != nil {
		return nil, nil, err
	}
	return ns, func() { ns.Close() }, nil
}

func (p *Parent) signal(conn *Conn, req *Request) error {
	c, err := p.find(req.ID)
	if err != nil {
		return err
	}
	p.mu.Lock()
	pid := c.status.Pid
	if !req.All {
		err = c.signal(unix.Signal(req.Signal))
	}
	p.mu.Unlock()
	if req.All {
		killCgroup(c.spec.Cgroup, unix.Signal(req.Signal))
	}
	if err != nil {
		return err
	}
	return conn.Send(Response{Pid: pid})
}

// stop kills all containers, waits for their ends to be on disk, and ends the parent.
func (p *Parent) stop(conn *Conn) error {
	p.mu.Lock()
	var running []*container
	for _, c := range p.containers {
		c.signal(unix.SIGKILL)
		running = append(running, c)
	}
	p.mu.Unlock()
	for _, c := range running {
		killCgroup(c.spec.Cgroup, unix.SIGKILL)
		<-c.done
	}
	if p.pausePid != 0 {
		unix.Kill(p.pausePid, unix.SIGKILL)
	}
	err := conn.Send(Response{})
	close(p.stopped)
	return err
}

func (p *Parent) forget(conn *Conn, id string) error {
	p.mu.Lock()
	c := p.containers[id]
	if c != nil && c.status.Pid != 0 {
		p.mu.Unlock()
		return fmt.Errorf("container %s is running", id)
	}
	delete(p.containers, id)
	p.mu.Unlock()
	return conn.Send(Response{})
}

// dial connects to a port on the pod's loopback, and gives the socket away.
func dial(conn *Conn, port int) error {
	addresses := []unix.Sockaddr{
		&unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}},
		&unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}},
	}
	var first error
	for i, address := range addresses {
		family := []int{unix.AF_INET, unix.AF_INET6}[i]
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			if err = unix.Connect(fd, address); err == nil {
				defer unix.Close(fd)
				return conn.Send(Response{}, fd)
			}
			unix.Close(fd)
		}
		if first == nil {
			first = err
		}
	}
	return fmt.Errorf("connecting to port %d of the pod: %w", port, first)
}

// killCgroup signals every process of a cgroup. It repeats a SIGKILL while
// there are any: they may have forked in between.
func killCgroup(dirs []string, sig syscall.Signal) {
	if len(dirs) == 0 {
		return
	}
	for try := 0; try < 100; try++ {
		data, err := os.ReadFile(filepath.Join(dirs[0], "cgroup.procs"))
		pids := strings.Fields(string(data))
		if err != nil || len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			if n, err := strconv.Atoi(pid); err == nil {
				unix.Kill(n, sig)
			}
		}
		if sig != unix.SIGKILL {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func readPodSpec(dir string) (*PodSpec, error) {
	pod := &PodSpec{}
	return pod, readJSON(filepath.Join(dir, PodSpecName), pod)
}

// StartTime is when a process started, in ticks since boot; 0 if there is none.
func StartTime(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The command name may hold anything, also spaces and parentheses.
	_, rest, _ := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return 0
	}
	start, _ := strconv.ParseUint(fields[19], 10, 64)
	return start
}

// writeJSON replaces a file as a whole: readers, and the next start after a
// crash, see the old content or the new.
func writeJSON(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func readJSON(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
