package podparent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Client is cri's side: it speaks to the parent of the pod in Dir. Each call is
// a connection of its own, so a client holds nothing and need not be closed.
type Client struct{ Dir string }

// Launch starts the parent of the pod in dir, which must hold a PodSpec, and
// returns its pid once it serves. exe is any program that runs Main when argv[0]
// is "podparent".
func Launch(ctx context.Context, exe, dir string, spec *PodSpec) (pid int, err error) {
	if err := writeJSON(filepath.Join(dir, PodSpecName), spec); err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(dir, LogName), os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, exe)
	cmd.Args = []string{Argv0, "launch", dir}
	cmd.Stdout, cmd.Stderr = &out, log
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(filepath.Join(dir, LogName))
		return 0, fmt.Errorf("starting the pod's parent: %w: %s", err, bytes.TrimSpace(said))
	}
	return strconv.Atoi(out.String())
}

// WriteSpec puts a container's specification where the parent looks for it.
func (c *Client) WriteSpec(spec *ContainerSpec) error {
	dir := filepath.Join(c.Dir, ContainersDir, spec.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, SpecName), spec)
}

// call sends a request and waits for its first response.
func (c *Client) call(ctx context.Context, req *Request, fds ...int) (*Conn, *Response, []int, error) {
	conn, err := dialDir(c.Dir)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the pod's parent: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if err = conn.Send(req, fds...); err == nil {
		var resp Response
		var got []int
		got, err = conn.Receive(&resp)
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err == nil && resp.Error != "" {
			err = errors.New(resp.Error)
		}
		if err == nil {
			return conn, &resp, got, nil
		}
		closeAll(got)
	}
	stop()
	conn.Close()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return nil, nil, nil, err
}

func (c *Client) simple(ctx context.Context, req *Request) (*Response, error) {
	conn, resp, fds, err := c.call(ctx, req)
	if err != nil {
		return nil, err
	}
	closeAll(fds)
	conn.Close()
	return resp, nil
}

// Start brings a container to life; its pid is as the node sees it.
func (c *Client) Start(ctx context.Context, id string) (pid int, err error) {
	resp, err := c.simple(ctx, &Request{Op: "start", ID: id})
	if err != nil {
		return 0, err
	}
	return resp.Pid, nil
}

// Signal signals the first process of a container, or all of them.
func (c *Client) Signal(ctx context.Context, id string, signal int, all bool) error {
	_, err := c.simple(ctx, &Request{Op: "signal", ID: id, Signal: signal, All: all})
	return err
}

// ReopenLog lets a container's log go on in a new file.
func (c *Client) ReopenLog(ctx context.Context, id string) error {
	_, err := c.simple(ctx, &Request{Op: "reopen", ID: id})
	return err
}

// Forget removes an ended container from the parent's books.
func (c *Client) Forget(ctx context.Context, id string) error {
	_, err := c.simple(ctx, &Request{Op: "forget", ID: id})
	return err
}

// Stop kills the pod's containers and ends its parent.
func (c *Client) Stop(ctx context.Context) error {
	_, err := c.simple(ctx, &Request{Op: "stop"})
	return err
}

// Dial connects to a port on the pod's loopback interface.
func (c *Client) Dial(ctx context.Context, port int) (*os.File, error) {
	conn, _, fds, err := c.call(ctx, &Request{Op: "dial", Port: port})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return oneFile(fds, "port "+strconv.Itoa(port))
}

// CloseStdin ends a container's standard input.
func (c *Client) CloseStdin(ctx context.Context, id string) error {
	_, err := c.simple(ctx, &Request{Op: "closein", ID: id})
	return err
}

func oneFile(fds []int, name string) (*os.File, error) {
	if len(fds) != 1 {
		closeAll(fds)
		return nil, fmt.Errorf("%d descriptors arrived for %s", len(fds), name)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), name), nil
}

// Session is a process that entered a container.
type Session struct {
	Pid     int
	Console *os.File // the terminal, if one was asked for; the caller's to close
	conn    *Conn
	once    sync.Once
}

// Exec starts a process in a running container. files are its stdin, stdout and
// stderr, none with a terminal; a nil file is /dev/null up to the last given.
func (c *Client) Exec(ctx context.Context, id string, spec *ExecSpec, files ...*os.File) (*Session, error) {
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	conn, resp, got, err := c.call(ctx, &Request{Op: "exec", ID: id, Exec: spec}, fds...)
	if err != nil {
		return nil, err
	}
	s := &Session{Pid: resp.Pid, conn: conn}
	if spec.Terminal {
		if s.Console, err = oneFile(got, "terminal"); err != nil {
			conn.Close()
			return nil, err
		}
		return s, nil
	}
	closeAll(got)
	return s, nil
}

// Wait returns the exit code of the session's process.
func (s *Session) Wait() (code int, err error) {
	var resp Response
	if _, err := s.conn.Receive(&resp); err != nil {
		return 0, fmt.Errorf("the exec session was cut off: %w", err)
	}
	if resp.Code == nil {
		return 0, errors.New(resp.Error)
	}
	return *resp.Code, nil
}

// Close ends the session; its process is killed if it still runs.
func (s *Session) Close() { s.once.Do(func() { s.conn.Close() }) }

// Attachment is a connection to a running container's input and output.
type Attachment struct {
	Stdin *os.File // nil if the container has none; its terminal, if it has one. The caller's to close
	conn  *Conn
}

// Attach lets the container's output be copied to the given pipes as well.
func (c *Client) Attach(ctx context.Context, id string, stdout, stderr *os.File) (*Attachment, error) {
	conn, _, fds, err := c.call(ctx, &Request{Op: "attach", ID: id}, int(stdout.Fd()), int(stderr.Fd()))
	if err != nil {
		return nil, err
	}
	a := &Attachment{conn: conn}
	if len(fds) > 0 {
		if a.Stdin, err = oneFile(fds, "stdin"); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return a, nil
}

// Wait returns when the container has ended or lets this client go.
func (a *Attachment) Wait() { a.conn.closeWait() }

// Close ends the attachment; the container goes on.
func (a *Attachment) Close() { a.conn.Close() }

// Watch is a stream of what happens to a pod's containers.
type Watch struct{ conn *Conn }

// Watch begins with the statuses of all containers that the parent knows.
func (c *Client) Watch(ctx context.Context) (*Watch, []ContainerStatus, error) {
	conn, resp, fds, err := c.call(ctx, &Request{Op: "watch"})
	if err != nil {
		return nil, nil, err
	}
	closeAll(fds)
	return &Watch{conn}, resp.Statuses, nil
}

// Next waits for the next changes. An error says that the parent is gone, or
// that the watch has been closed or cut off.
func (w *Watch) Next() ([]ContainerStatus, error) {
	var resp Response
	if _, err := w.conn.Receive(&resp); err != nil {
		return nil, err
	}
	if resp.Error != "" {
		return nil, errors.New(resp.Error)
	}
	return resp.Statuses, nil
}

// Close ends the watch.
func (w *Watch) Close() { w.conn.Close() }

// ReadStatus reads what became of a container from disk, where it outlives its parent.
func (c *Client) ReadStatus(id string) (*ContainerStatus, error) {
	status := &ContainerStatus{}
	return status, readJSON(filepath.Join(c.Dir, ContainersDir, id, StatusName), status)
}

// State reads who the parent is, and whether that very process is alive.
func (c *Client) State() (state PodState, alive bool, err error) {
	if err := readJSON(filepath.Join(c.Dir, StateName), &state); err != nil {
		return state, false, err
	}
	return state, state.Pid != 0 && StartTime(state.Pid) == state.StartTime && !zombie(state.Pid), nil
}

// zombie says whether a process has ended and only waits to be collected.
func zombie(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true
	}
	rest := string(data[bytes.LastIndexByte(data, ')')+1:])
	return strings.HasPrefix(rest, " Z") || strings.HasPrefix(rest, " X")
}
