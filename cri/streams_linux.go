package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"hyperkube/cri/podparent"
)

const (
	// execOutputLimit bounds what ExecSync collects: an answer must fit into a message.
	execOutputLimit = maxMessage / 2
	// execDrain is how long output is waited for after an exec session's process
	// has ended: something it left behind may hold its pipes.
	execDrain = 2 * time.Second
)

// running finds a container that runs.
func (c *CRI) running(id string) (*container, error) {
	k, err := c.findContainer(id)
	if err != nil {
		return nil, err
	}
	if state := k.state(); state != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Errorf(codes.FailedPrecondition, "container %s is not running (%s)", k.id, state)
	}
	return k, nil
}

// execSpec is a process with the container's own identity and rights.
func (k *container) execSpec(command []string, tty bool) *podparent.ExecSpec {
	env := k.spec.Env
	if tty && !k.spec.Terminal {
		env = append(env[:len(env):len(env)], "TERM=xterm")
	}
	return &podparent.ExecSpec{Args: command, Env: env, Cwd: k.spec.Cwd, Terminal: tty, Process: k.spec.Process, CgroupNS: k.spec.CgroupNS}
}

// ExecSync runs a command in a container and collects its output.
func (c *CRI) ExecSync(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	k, err := c.running(req.ContainerId)
	if err != nil {
		return nil, err
	}
	if req.Timeout > 0 {
		limit := time.Duration(req.Timeout) * time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, status.Errorf(codes.DeadlineExceeded, "command %q timed out after %s", req.Cmd, limit))
		defer cancel()
	}
	stdout, stderr := &limitedBuffer{left: execOutputLimit}, &limitedBuffer{left: execOutputLimit}
	code, err := k.exec(ctx, k.execSpec(req.Cmd, false), &stdStreams{out: stdout, err: stderr}, nil)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), ExitCode: int32(code)}, nil
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct {
	bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.Buffer.Write(p[:keep])
	return len(p), nil
}

// stdStreams are the ends of a session that the client holds. Any may be nil.
type stdStreams struct {
	in       io.Reader
	out, err io.Writer
}

// exec runs a process in the container and carries its streams until it ends.
func (k *container) exec(ctx context.Context, spec *podparent.ExecSpec, std *stdStreams, resize <-chan remotecommand.TerminalSize) (code int, err error) {
	pipes, err := openPipes(spec.Terminal, std)
	if err != nil {
		return 0, err
	}
	defer pipes.close()
	session, err := k.sb.parent.Exec(ctx, k.id, spec, pipes.theirs...)
	pipes.closeTheirs()
	if err != nil {
		return 0, fmt.Errorf("failed to exec in container %s: %w", k.id, err)
	}
	defer session.Close()
	if spec.Terminal {
		pipes.in, pipes.out = session.Console, session.Console
		go followSize(session.Console, resize)
	}
	// The client's reader cannot be interrupted: that goroutine ends when the client's connection does.
	if std.in != nil {
		go func() {
			io.Copy(pipes.in, std.in)
			if !spec.Terminal {
				pipes.in.Close()
			}
		}()
	}
	copies := pipes.copyOut(std)
	stop := context.AfterFunc(ctx, session.Close)
	code, err = session.Wait()
	stop()
	if cause := context.Cause(ctx); cause != nil {
		return 0, cause
	}
	select {
	case <-copies:
	case <-time.After(execDrain):
	}
	return code, err
}

// pipes connect a session's process with us.
type pipes struct {
	theirs       []*os.File
	in, out, err *os.File // ours
}

func openPipes(terminal bool, std *stdStreams) (*pipes, error) {
	p := &pipes{}
	if terminal {
		return p, nil // the terminal comes from inside
	}
	var theirs [3]*os.File
	var errs [3]error
	if std.in != nil {
		theirs[0], p.in, errs[0] = os.Pipe()
	} else {
		theirs[0], errs[0] = os.Open(os.DevNull)
	}
	p.out, theirs[1], errs[1] = os.Pipe()
	p.err, theirs[2], errs[2] = os.Pipe()
	p.theirs = theirs[:]
	if err := errors.Join(errs[:]...); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// copyOut carries output to the client; the channel is closed when all is there.
func (p *pipes) copyOut(std *stdStreams) <-chan struct{} {
	var wg sync.WaitGroup
	carry := func(to io.Writer, from *os.File) {
		if from == nil {
			return
		}
		if to == nil {
			to = io.Discard
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			io.Copy(to, from)
		}()
	}
	carry(std.out, p.out)
	carry(std.err, p.err)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	return done
}

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs {
		if f != nil {
			f.Close()
		}
	}
	p.theirs = nil
}

func (p *pipes) close() {
	p.closeTheirs()
	for _, f := range []*os.File{p.in, p.out, p.err} {
		if f != nil {
			f.Close()
		}
	}
}

// followSize gives a terminal the size of the client's window.
func followSize(console *os.File, sizes <-chan remotecommand.TerminalSize) {
	if sizes == nil {
		return // reading from it would never end
	}
	for size := range sizes {
		raw, err := console.SyscallConn()
		if err != nil {
			return
		}
		raw.Control(func(fd uintptr) {
			unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
		})
	}
}

// Exec prepares a streaming exec session: the answer is an address to connect to.
func (c *CRI) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := c.running(req.ContainerId); err != nil {
		return nil, err
	}
	resp, err := c.streams.GetExec(req)
	return c.rememberExec(req, resp, err)
}

// Attach prepares a connection to a running container's own input and output.
func (c *CRI) Attach(_ context.Context, req *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := c.running(req.ContainerId); err != nil {
		return nil, err
	}
	resp, err := c.streams.GetAttach(req)
	return c.rememberAttach(req, resp, err)
}

// PortForward prepares connections to ports of a pod.
func (c *CRI) PortForward(_ context.Context, req *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	s, err := c.findSandbox(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	if s.phase() != ready {
		return nil, status.Errorf(codes.FailedPrecondition, "pod sandbox %s is not running", s.id)
	}
	return c.streams.GetPortForward(req)
}

// streamRuntime is what the stream server calls once a client has connected.
type streamRuntime struct{ c *CRI }

// Exec carries a streaming session. An exit code other than 0 is an error of a
// kind that the client understands.
func (r *streamRuntime) Exec(ctx context.Context, id string, cmd []string, in io.Reader, out, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	k, err := r.c.running(id)
	if err != nil {
		return err
	}
	std := &stdStreams{in: in}
	if out != nil {
		std.out = out
	}
	if stderr != nil {
		std.err = stderr
	}
	code, err := k.exec(ctx, k.execSpec(cmd, tty), std, resize)
	if err == nil && code != 0 {
		err = utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return err
}

// Attach carries a container's own streams, until it ends, the client goes, or the client's input ends.
func (r *streamRuntime) Attach(ctx context.Context, id string, in io.Reader, out, stderr io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	k, err := r.c.running(id)
	if err != nil {
		return err
	}
	std := &stdStreams{}
	if out != nil {
		std.out = out
	}
	if stderr != nil {
		std.err = stderr
	}
	p, err := openPipes(false, std)
	if err != nil {
		return err
	}
	defer p.close()
	attached, err := k.sb.parent.Attach(ctx, k.id, p.theirs[1], p.theirs[2])
	p.closeTheirs()
	if err != nil {
		return fmt.Errorf("attaching to container %s: %w", k.id, err)
	}
	defer attached.Close()
	if attached.Stdin != nil {
		defer attached.Stdin.Close()
		if tty {
			go followSize(attached.Stdin, resize)
		}
		if in != nil {
			go k.feed(ctx, attached, in)
		}
	}
	copies := p.copyOut(std)
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	<-copies // the parent closes its ends when the container has ended
	return nil
}

// feed carries the client's input. If the container was made with stdinOnce, its input ends with this client's, and the
// client stays to see what comes of it. Else the container reads on, so that the client would wait for its end: it is let go
// (`kubectl run -i --leave-stdin-open < file` returns).
func (k *container) feed(ctx context.Context, to *podparent.Attachment, from io.Reader) {
	io.Copy(to.Stdin, from)
	if !k.spec.StdinOnce || k.spec.Terminal {
		to.Close()
		return
	}
	// Both ends that can be written to: ours, and the parent's.
	to.Stdin.Close()
	k.sb.parent.CloseStdin(context.WithoutCancel(ctx), k.id)
}

// PortForward carries one connection to a port on the pod's loopback.
func (r *streamRuntime) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	s, err := r.c.findSandbox(id)
	if err != nil {
		return err
	}
	if port <= 0 || port > 65535 {
		return fmt.Errorf("port %d is no port", port)
	}
	socket, err := s.parent.Dial(ctx, int(port))
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	go func() {
		defer closeWrite(socket)
		io.Copy(socket, stream)
	}()
	_, err = io.Copy(stream, socket)
	return err
}

// closeWrite tells the other side of a socket that nothing more will come.
func closeWrite(socket *os.File) {
	if raw, err := socket.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}
