package podparent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The stream names of the CRI log format.
const (
	stdoutTag = "stdout"
	stderrTag = "stderr"
)

// clientPatience is how long an attached client may leave its pipe full before
// it is let go. Otherwise it would stop the container's output for all.
const clientPatience = 10 * time.Second

// output is where a container's output goes: its log, and whoever is attached.
type output struct {
	copies  sync.WaitGroup
	started chan struct{} // closed when no more sources are added

	mu      sync.Mutex
	sources []*os.File
	log     *os.File // nil: discarded
	clients map[*client]struct{}
	closed  bool
}

// client is one attached listener.
type client struct {
	pipes map[string]*os.File // by stream
	gone  chan struct{}       // closed when it is let go
	once  sync.Once
}

func (c *client) letGo() {
	c.once.Do(func() {
		for _, f := range c.pipes {
			f.Close()
		}
		close(c.gone)
	})
}

// copyFrom reads a stream to its end, line by line.
func (o *output) copyFrom(r *os.File, tag string) {
	o.mu.Lock()
	o.sources = append(o.sources, r)
	o.mu.Unlock()
	o.copies.Add(1)
	go func() {
		defer o.copies.Done()
		lines := lineWriter{out: o, tag: tag}
		buf := make([]byte, 4096)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				o.toClients(tag, buf[:n])
				lines.write(buf[:n])
			}
			if err != nil { // io.EOF; EIO from a terminal whose last user is gone
				lines.flush()
				return
			}
		}
	}()
}

// lineWriter turns a stream into log entries: complete lines are tagged F,
// pieces of longer ones P.
type lineWriter struct {
	out  *output
	tag  string
	rest []byte
}

func (l *lineWriter) write(data []byte) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			l.rest = append(l.rest, data...)
			data = nil
		} else {
			l.rest = append(l.rest, data[:end]...)
			data = data[end+1:]
		}
		for len(l.rest) > logLineLimit {
			l.out.entry(l.tag, 'P', l.rest[:logLineLimit])
			l.rest = l.rest[logLineLimit:]
		}
		if end >= 0 {
			l.out.entry(l.tag, 'F', l.rest)
			l.rest = l.rest[:0]
		}
	}
}

func (l *lineWriter) flush() {
	if len(l.rest) > 0 {
		l.out.entry(l.tag, 'P', l.rest)
	}
}

// entry writes "<RFC 3339 time with nanoseconds> <stream> <P or F> <text>", in
// one call, so that a reader sees whole entries.
func (o *output) entry(tag string, kind byte, text []byte) {
	line := make([]byte, 0, len(text)+64)
	line = time.Now().UTC().AppendFormat(line, "2006-01-02T15:04:05.000000000Z07:00")
	line = append(line, ' ')
	line = append(line, tag...)
	line = append(line, ' ', kind, ' ')
	line = append(line, text...)
	line = append(line, '\n')
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.log != nil {
		o.log.Write(line) // a full disk loses lines; it must not stop the container
	}
}

func (o *output) toClients(tag string, data []byte) {
	o.mu.Lock()
	var to []*client
	for c := range o.clients {
		to = append(to, c)
	}
	o.mu.Unlock()
	for _, c := range to {
		pipe := c.pipes[tag]
		if pipe == nil {
			continue
		}
		pipe.SetWriteDeadline(time.Now().Add(clientPatience))
		if _, err := pipe.Write(data); err != nil {
			o.drop(c)
		}
	}
}

func (o *output) drop(c *client) {
	o.mu.Lock()
	delete(o.clients, c)
	o.mu.Unlock()
	c.letGo()
}

// drain waits until all output has been copied, or the time is over.
func (o *output) drain(timeout time.Duration) {
	done := make(chan struct{})
	go func() { o.copies.Wait(); close(done) }()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, r := range o.sources {
			r.SetReadDeadline(time.Now())
		}
	}
}

// close lets all clients go and closes the log.
func (o *output) close() {
	o.mu.Lock()
	clients := o.clients
	o.clients, o.closed = map[*client]struct{}{}, true
	for _, r := range o.sources {
		r.Close()
	}
	if o.log != nil {
		o.log.Close()
		o.log = nil
	}
	o.mu.Unlock()
	for c := range clients {
		c.letGo()
	}
}

// reopenLog lets the log go on in a new file under the old path, after the old
// file has been renamed.
func (o *output) reopenLog(path string) error {
	log, err := openLog(path)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.log != nil {
		o.log.Close()
	}
	o.log = log
	return nil
}

func openLog(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
}

func (p *Parent) reopen(conn *Conn, id string) error {
	c, err := p.find(id)
	if err != nil {
		return err
	}
	p.mu.Lock()
	running := c.status.Pid != 0
	p.mu.Unlock()
	if !running {
		return fmt.Errorf("container %s is not running", id)
	}
	if err := c.out.reopenLog(c.spec.LogPath); err != nil {
		return err
	}
	return conn.Send(Response{})
}

// attach adds a listener to a running container. It answers with the
// container's stdin, if it has one, and ends when the container or the client does.
func (p *Parent) attach(conn *Conn, req *Request, fds []int) error {
	listener := &client{pipes: map[string]*os.File{}, gone: make(chan struct{})}
	defer listener.letGo()
	for i, tag := range []string{stdoutTag, stderrTag} {
		if i < len(fds) {
			unix.SetNonblock(fds[i], true) // so that clientPatience can be kept
			listener.pipes[tag] = os.NewFile(uintptr(fds[i]), tag)
		}
	}
	c, err := p.find(req.ID)
	if err != nil {
		return err
	}
	<-c.out.started
	c.out.mu.Lock()
	if c.out.closed {
		c.out.mu.Unlock()
		return fmt.Errorf("container %s is not running", req.ID)
	}
	c.out.clients[listener] = struct{}{}
	c.out.mu.Unlock()
	defer c.out.drop(listener)
	var stdin []int
	if c.stdin != nil {
		raw, err := c.stdin.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { stdin = []int{int(fd)}; err = conn.Send(Response{}, stdin...) }); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	} else if err := conn.Send(Response{}); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { conn.closeWait(); close(gone) }()
	select {
	case <-listener.gone:
	case <-gone:
	}
	return nil
}

// closeStdin ends the container's standard input. A terminal's is not ended
// that way: its user sends Ctrl-D.
func (p *Parent) closeStdin(conn *Conn, id string) error {
	c, err := p.find(id)
	if err != nil {
		return err
	}
	<-c.out.started
	if c.stdin != nil && !c.spec.Terminal {
		if err := c.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	return conn.Send(Response{})
}

// watcher is one who wants to know every change of a status.
type watcher struct{ statuses chan ContainerStatus }

// tell never waits: who does not keep up is cut off, and asks anew.
func (w *watcher) tell(status ContainerStatus) {
	select {
	case w.statuses <- status:
	default:
		close(w.statuses)
		w.statuses = make(chan ContainerStatus) // nobody reads it: every later tell comes here again
	}
}

func (p *Parent) watch(conn *Conn) error {
	w := &watcher{statuses: make(chan ContainerStatus, 64)}
	changes := w.statuses
	first := Response{Statuses: []ContainerStatus{}}
	p.mu.Lock()
	for _, c := range p.containers {
		first.Statuses = append(first.Statuses, c.status)
	}
	p.watchers[w] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.watchers, w)
		p.mu.Unlock()
	}()
	if err := conn.Send(first); err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { conn.closeWait(); close(gone) }()
	for {
		select {
		case status, ok := <-changes:
			if !ok {
				return io.ErrShortBuffer
			}
			if err := conn.Send(Response{Statuses: []ContainerStatus{status}}); err != nil {
				return err
			}
		case <-gone:
			return nil
		}
	}
}
