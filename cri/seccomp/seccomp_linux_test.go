package seccomp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"hyperkube/cri/podparent"
)

// run asks a filter about a call, as the kernel would.
func run(t *testing.T, program []podparent.Filter, call string, arg0 uint64) uint32 {
	t.Helper()
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	number, ok := info.SyscallNames[call]
	if !ok {
		t.Fatalf("no call %s here", call)
	}
	// struct seccomp_data: number, architecture, instruction pointer, arguments. The
	// interpreter reads big-endian words, the kernel its own; so they are turned here.
	data := make([]byte, 64)
	word := func(at int, v uint32) {
		data[at], data[at+1], data[at+2], data[at+3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	}
	word(0, uint32(number))
	word(4, uint32(info.ID))
	word(16, uint32(arg0))
	word(20, uint32(arg0>>32))
	raw := make([]bpf.RawInstruction, len(program))
	for i, f := range program {
		raw[i] = bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program cannot be read")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	result, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(result)
}

const (
	allow = uint32(unix.SECCOMP_RET_ALLOW)
	eperm = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
)

func TestDefaultProfile(t *testing.T) {
	plain, err := Default(1 << unix.CAP_CHOWN)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := Default(1 << unix.CAP_SYS_ADMIN)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		prog []podparent.Filter
		call string
		arg  uint64
		want uint32
	}{
		{"ordinary", plain, "openat", 0, allow},
		{"last of the list", plain, "shmget", 0, allow},
		{"mount", plain, "mount", 0, eperm},
		{"mount with the capability", admin, "mount", 0, allow},
		{"kexec", admin, "kexec_load", 0, eperm},
		{"thread", plain, "clone", unix.CLONE_VM | unix.CLONE_THREAD, allow},
		{"user namespace", plain, "clone", unix.CLONE_NEWUSER, eperm},
		{"clone3 is unknown", plain, "clone3", 0, uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)},
		{"clone3 with the capability", admin, "clone3", 0, allow},
		{"socket", plain, "socket", unix.AF_INET, allow},
		{"socket to the hypervisor", plain, "socket", unix.AF_VSOCK, eperm},
		{"usual personality", plain, "personality", 0xffffffff, allow},
		{"unusual personality", plain, "personality", 0x40000, eperm},
	} {
		if got := run(t, c.prog, c.call, c.arg); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
}

func TestProfileFromAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	text := `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[{"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW"},
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},{"names":["write"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := FromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		call string
		arg  uint64
		want uint32
	}{{"read", 0, allow}, {"socket", 1, allow}, {"socket", 2, uint32(unix.SECCOMP_RET_ERRNO) | 38}, {"write", 0, uint32(unix.SECCOMP_RET_ERRNO) | 13}} {
		if got := run(t, program, c.call, c.arg); got != c.want {
			t.Errorf("%s(%d): %#x, want %#x", c.call, c.arg, got, c.want)
		}
	}
	os.WriteFile(path, []byte(`{"defaultAction":"SCMP_ACT_NONSENSE"}`), 0o600)
	for path, want := range map[string]string{path: "is not supported", "/no/such": "no such file", "relative": "absolute"} {
		if _, err := FromFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
