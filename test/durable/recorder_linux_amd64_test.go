package durable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

type kind string

const (
	create   kind = "create"
	write    kind = "write"
	truncate kind = "truncate" // to size
	grow     kind = "grow"     // to size at least
	rename   kind = "rename"   // path to to
	remove   kind = "remove"
	syncFile kind = "sync"
	syncDir  kind = "sync directory"
)

// op is one change below the recorder's root, as the kernel made it. Files are known by inode, for
// a name may change between a call and our look at it.
type op struct {
	kind     kind
	inode    uint64
	path, to string
	offset   int64 // of a write
	data     []byte
	size     int64
}

func (o *op) isSync() bool { return o.kind == syncFile || o.kind == syncDir }

// recorder follows a process and all its threads from call to call.
type recorder struct {
	root string
	pid  int
	mem  *os.File // the process's memory
	new  map[int]bool

	mu  sync.Mutex
	ops []op
}

// startRecorder starts a command, which begins stopped. All use of ptrace must come from one thread:
// start and follow are called from one goroutine that is locked to it.
func startRecorder(root string, argv, env []string) (*recorder, error) {
	runtime.LockOSThread()
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Env: env, Files: []*os.File{nil, os.Stderr, os.Stderr},
		Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return nil, err
	}
	r := &recorder{root: root, pid: process.Pid, new: map[int]bool{}}
	var status unix.WaitStatus
	if _, err := unix.Wait4(r.pid, &status, unix.WALL, nil); err != nil {
		return nil, fmt.Errorf("waiting for the first stop: %w", err)
	}
	if err := unix.PtraceSetOptions(r.pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if r.mem, err = os.Open(fmt.Sprintf("/proc/%d/mem", r.pid)); err != nil {
		return nil, err
	}
	return r, nil
}

// follow lets the process run until it has ended.
func (r *recorder) follow() error {
	defer r.mem.Close()
	if err := unix.PtraceSyscall(r.pid, 0); err != nil {
		return err
	}
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case status.Exited() || status.Signaled():
			if tid == r.pid {
				return nil
			}
			continue
		}
		signal := 0
		switch stop := status.StopSignal(); {
		case stop == unix.SIGTRAP|0x80: // a system call begins or ends
			if err := r.look(tid); err != nil {
				return err
			}
		case stop == unix.SIGTRAP: // a thread was made
		case stop == unix.SIGSTOP && tid != r.pid && !r.new[tid]:
			r.new[tid] = true // so each thread begins
		default:
			signal = int(stop)
		}
		if err := unix.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
}

// look notes what a system call has done, at its end.
func (r *recorder) look(tid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	result := int64(regs.Rax)
	if result < 0 {
		return nil // it begins (ENOSYS), or has failed
	}
	o := op{offset: -1}
	fd := int(regs.Rdi)
	switch regs.Orig_rax {
	case unix.SYS_OPENAT:
		if regs.Rdx&unix.O_CREAT == 0 && regs.Rdx&unix.O_TRUNC == 0 {
			return nil
		}
		fd, o.kind = int(result), create
		if regs.Rdx&unix.O_TRUNC != 0 {
			o.kind = truncate
		}
	case unix.SYS_WRITE:
		o.kind, o.size = write, result
	case unix.SYS_PWRITE64:
		o.kind, o.size, o.offset = write, result, int64(regs.R10)
	case unix.SYS_FTRUNCATE:
		o.kind, o.size = truncate, int64(regs.Rsi)
	case unix.SYS_FALLOCATE:
		if regs.Rsi != 0 {
			return nil // KEEP_SIZE: nothing to be seen
		}
		o.kind, o.size = grow, int64(regs.Rdx+regs.R10)
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		o.kind = syncFile
	case unix.SYS_RENAMEAT:
		return r.note(op{kind: rename, path: r.text(regs.Rsi), to: r.text(regs.R10)})
	case unix.SYS_RENAMEAT2:
		return r.note(op{kind: rename, path: r.text(regs.Rsi), to: r.text(regs.R10)})
	case unix.SYS_UNLINKAT:
		return r.note(op{kind: remove, path: r.text(regs.Rsi)})
	default:
		return nil
	}
	return r.lookAt(tid, fd, o, uint64(regs.Rsi))
}

// lookAt fills in the file behind fd and what was written to it from address.
func (r *recorder) lookAt(tid, fd int, o op, address uint64) error {
	link := fmt.Sprintf("/proc/%d/fd/%d", tid, fd)
	path, err := os.Readlink(link)
	if err != nil || !strings.HasPrefix(path, r.root) {
		return nil // a socket, a terminal, or closed since
	}
	info, err := os.Stat(link)
	if err != nil {
		return nil
	}
	o.path, o.inode = path, info.Sys().(*syscall.Stat_t).Ino
	if info.IsDir() && o.kind == syncFile {
		o.kind = syncDir
	}
	if o.kind == write {
		if o.offset < 0 {
			if o.offset, err = position(tid, fd); err != nil {
				return err
			}
			o.offset -= o.size
		}
		o.data = make([]byte, o.size)
		if _, err := r.mem.ReadAt(o.data, int64(address)); err != nil {
			return fmt.Errorf("reading what was written to %s: %w", path, err)
		}
	}
	return r.note(o)
}

// position is where the next write to fd goes.
func position(tid, fd int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, fd))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), "pos:")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// text is a path in the process's memory.
func (r *recorder) text(address uint64) string {
	buffer := make([]byte, unix.PathMax)
	n, _ := r.mem.ReadAt(buffer, int64(address)) // the end of a mapping may come before that of the buffer
	text, _, _ := bytes.Cut(buffer[:n], []byte{0})
	return filepath.Clean(string(text))
}

func (r *recorder) note(o op) error {
	if strings.HasPrefix(o.path, r.root) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ops = append(r.ops, o)
	}
	return nil
}

// now is how many operations there are so far.
func (r *recorder) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ops)
}
