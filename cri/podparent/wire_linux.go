package podparent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// messageLimit bounds one message, so that a broken peer cannot make us
// allocate without end.
const messageLimit = 16 << 20

// Conn carries messages: four bytes of length, big-endian, then JSON. File
// descriptors travel with the first byte of a message. Package net is not used:
// it would cost every pod's parent half a megabyte.
type Conn struct{ file *os.File }

// Close ends the connection.
func (c *Conn) Close() error { return c.file.Close() }

// Send writes one message with the given descriptors, which stay open here.
func (c *Conn) Send(message any, fds ...int) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	buf := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(buf, uint32(len(body)))
	buf = append(buf, body...)
	if len(fds) > 0 {
		sent, err := c.sendWithRights(buf, fds)
		if err != nil {
			return err
		}
		// Even an empty write fails when the peer has answered and gone meanwhile.
		if buf = buf[sent:]; len(buf) == 0 {
			return nil
		}
	}
	_, err = c.file.Write(buf)
	return err
}

func (c *Conn) sendWithRights(buf []byte, fds []int) (sent int, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	waitErr := raw.Write(func(fd uintptr) bool {
		sent, err = syscall.SendmsgN(int(fd), buf, syscall.UnixRights(fds...), nil, syscall.MSG_NOSIGNAL)
		return err != syscall.EAGAIN
	})
	return sent, errors.Join(err, waitErr)
}

// Receive reads one message and the descriptors that came with it, which are
// the caller's to close. io.EOF says that the peer has closed.
func (c *Conn) Receive(message any) ([]int, error) {
	var head [4]byte
	n, fds, err := c.receiveWithRights(head[:])
	if err == nil && n == 0 {
		return nil, io.EOF
	}
	if err == nil && n < len(head) {
		_, err = io.ReadFull(c.file, head[n:])
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > messageLimit {
		closeAll(fds)
		return nil, fmt.Errorf("message of %d bytes refused", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.file, body); err != nil {
		closeAll(fds)
		return nil, err
	}
	if err := json.Unmarshal(body, message); err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

func (c *Conn) receiveWithRights(buf []byte) (n int, fds []int, err error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	oob := make([]byte, syscall.CmsgSpace(8*4))
	oobn := 0
	waitErr := raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = syscall.Recvmsg(int(fd), buf, oob, syscall.MSG_CMSG_CLOEXEC)
		return err != syscall.EAGAIN
	})
	if err = errors.Join(err, waitErr); err != nil || oobn == 0 {
		return n, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, nil, err
	}
	for i := range messages {
		if rights, err := syscall.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, rights...)
		}
	}
	return n, fds, nil
}

// closeWait returns when the peer has closed the connection.
func (c *Conn) closeWait() {
	var b [1]byte
	for {
		if n, err := c.file.Read(b[:]); n == 0 || err != nil {
			return
		}
	}
}

// socketPath names the socket through a descriptor of its directory: the path
// of a data directory may be longer than the 107 bytes that a socket address holds.
func socketPath(dir *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + SocketName
}

// listen makes the socket in dir, replacing one left by a dead parent.
func listen(dir string) (*os.File, error) {
	d, err := os.OpenFile(dir, syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	os.Remove(dir + "/" + SocketName)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: socketPath(d)}); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("bind %s/%s: %w", dir, SocketName, err)
	}
	if err := syscall.Listen(fd, 64); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// accept waits for the next client.
func accept(listener *os.File) (*Conn, error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	waitErr := raw.Read(func(l uintptr) bool {
		fd, _, err = syscall.Accept4(int(l), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		return err != syscall.EAGAIN
	})
	if err = errors.Join(err, waitErr); err != nil {
		return nil, err
	}
	return &Conn{os.NewFile(uintptr(fd), "client")}, nil
}

// dialDir connects to the parent that listens in dir.
func dialDir(dir string) (*Conn, error) {
	d, err := os.OpenFile(dir, syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	// Connecting on a local socket does not wait: it succeeds, or the parent is gone.
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: socketPath(d)}); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return &Conn{os.NewFile(uintptr(fd), "parent")}, nil
}

// socketPair is a connection between a process and the child it is about to start.
func socketPair() (ours *Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		closeAll(fds[:])
		return nil, nil, err
	}
	return &Conn{os.NewFile(uintptr(fds[0]), "child")}, os.NewFile(uintptr(fds[1]), "birth"), nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}
