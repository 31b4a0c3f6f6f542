// Package seccomp compiles system call filters: the default one, and profiles in
// the JSON form that Docker introduced and Kubernetes names Localhost. The result
// is a program that the kernel interprets at each call; the pod's parent only
// hands it to the kernel, and so needs no compiler.
//
// A profile names calls and what to do with them; the first match counts. In the
// default profile what is not allowed fails with EPERM, as if rights were missing.
//
// In Kubernetes: containerd's contrib/seccomp and libseccomp. Left out: other
// architectures on the same kernel (32-bit programs), whose calls fail.
package seccomp

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	lib "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"hyperkube/cri/podparent"
)

const (
	denied  = lib.ActionErrno | lib.Action(unix.EPERM)
	unknown = lib.ActionErrno | lib.Action(unix.ENOSYS) // programs then try the older call
)

// namespaceFlags of clone make new namespaces (CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET).
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// compiled keeps the default filters by capabilities: almost all containers have the same.
var compiled sync.Map

// Default is the filter of RuntimeDefault. Some calls are allowed only with the
// capability that they serve.
func Default(capabilities uint64) ([]podparent.Filter, error) {
	if have, ok := compiled.Load(capabilities); ok {
		return have.([]podparent.Filter), nil
	}
	allowed := append([]string{}, always...)
	for capability, calls := range withCapability {
		if capabilities&(1<<capability) != 0 {
			allowed = append(allowed, calls...)
		}
	}
	groups := []lib.SyscallGroup{{Action: lib.ActionAllow, Names: known(allowed)}}
	if capabilities&(1<<unix.CAP_SYS_ADMIN) == 0 {
		groups = append(groups,
			// clone3's flags are in memory, where a filter cannot look.
			lib.SyscallGroup{Action: unknown, Names: known([]string{"clone3"})},
			lib.SyscallGroup{Action: lib.ActionAllow, NamesWithCondtions: []lib.NameWithConditions{
				{Name: "clone", Conditions: lib.ArgumentConditions{{Argument: 0, Operation: lib.BitsNotSet, Value: namespaceFlags}}}}})
	}
	groups = append(groups, lib.SyscallGroup{Action: lib.ActionAllow, NamesWithCondtions: conditional()})
	program, err := compile(denied, groups)
	if err == nil {
		compiled.Store(capabilities, program)
	}
	return program, err
}

// conditional are calls that depend on an argument.
func conditional() (list []lib.NameWithConditions) {
	// personality: the usual ones only, and the question which it is.
	for _, persona := range []uint64{0, 8, 0x20000, 0x20008, 0xffffffff} {
		list = append(list, lib.NameWithConditions{Name: "personality", Conditions: lib.ArgumentConditions{{Argument: 0, Operation: lib.Equal, Value: persona}}})
	}
	// Not to the hypervisor.
	return append(list, lib.NameWithConditions{Name: "socket", Conditions: lib.ArgumentConditions{{Argument: 0, Operation: lib.NotEqual, Value: unix.AF_VSOCK}}})
}

// known leaves out the calls that this architecture does not have, and doubles.
func known(names []string) (here []string) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil
	}
	seen := map[int]bool{}
	for _, name := range names {
		if number, ok := info.SyscallNames[name]; ok && !seen[number] {
			seen[number] = true
			here = append(here, name)
		}
	}
	return here
}

// compile makes the program. The library takes plain actions as default only;
// so the errno is put in here, in the place where the default is returned.
func compile(otherwise lib.Action, groups []lib.SyscallGroup) ([]podparent.Filter, error) {
	plain := otherwise &^ 0xffff
	policy := lib.Policy{DefaultAction: plain, Syscalls: groups}
	instructions, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("seccomp filter: %w", err)
	}
	for i, ins := range instructions {
		if ret, ok := ins.(bpf.RetConstant); ok && i == len(instructions)-1 {
			ret.Val = uint32(otherwise)
			instructions[i] = ret
		}
	}
	raw, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, fmt.Errorf("seccomp filter: %w", err)
	}
	program := make([]podparent.Filter, len(raw))
	for i, r := range raw {
		program[i] = podparent.Filter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return program, nil
}

// profile is a Localhost profile's file.
type profile struct {
	DefaultAction   string `json:"defaultAction"`
	DefaultErrnoRet *uint  `json:"defaultErrnoRet"`
	Syscalls        []struct {
		Names    []string `json:"names"`
		Action   string   `json:"action"`
		ErrnoRet *uint    `json:"errnoRet"`
		Args     []struct {
			Index uint32 `json:"index"`
			Value uint64 `json:"value"`
			Op    string `json:"op"`
		} `json:"args"`
	} `json:"syscalls"`
}

// FromFile compiles a profile; path is absolute.
func FromFile(path string) ([]podparent.Filter, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("seccomp profile %q must be an absolute path", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	var p profile
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	otherwise, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	groups, err := p.groups()
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	if len(groups) == 0 {
		// The library wants at least one: one that changes nothing.
		groups = []lib.SyscallGroup{{Action: otherwise, Names: known([]string{"read"})}}
	}
	return compile(otherwise, groups)
}

func (p *profile) groups() (groups []lib.SyscallGroup, err error) {
	operations := map[string]lib.Operation{"SCMP_CMP_EQ": lib.Equal, "SCMP_CMP_NE": lib.NotEqual, "SCMP_CMP_GT": lib.GreaterThan,
		"SCMP_CMP_LT": lib.LessThan, "SCMP_CMP_GE": lib.GreaterOrEqual, "SCMP_CMP_LE": lib.LessOrEqual}
	for _, s := range p.Syscalls {
		group := lib.SyscallGroup{}
		if group.Action, err = action(s.Action, s.ErrnoRet); err != nil {
			return nil, err
		}
		if len(s.Args) == 0 {
			group.Names = known(s.Names)
		}
		for _, name := range known(s.Names) {
			var conditions lib.ArgumentConditions
			for _, arg := range s.Args {
				operation, ok := operations[arg.Op]
				if !ok {
					return nil, fmt.Errorf("comparison %s is not supported", arg.Op)
				}
				conditions = append(conditions, lib.Condition{Argument: arg.Index, Operation: operation, Value: arg.Value})
			}
			if len(conditions) > 0 {
				group.NamesWithCondtions = append(group.NamesWithCondtions, lib.NameWithConditions{Name: name, Conditions: conditions})
			}
		}
		if len(group.Names)+len(group.NamesWithCondtions) > 0 {
			groups = append(groups, group)
		}
	}
	return groups, nil
}

func action(name string, errno *uint) (lib.Action, error) {
	switch name {
	case "SCMP_ACT_ALLOW":
		return lib.ActionAllow, nil
	case "SCMP_ACT_LOG":
		return lib.ActionLog, nil
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return lib.ActionKillThread, nil
	case "SCMP_ACT_KILL_PROCESS":
		return lib.ActionKillProcess, nil
	case "SCMP_ACT_TRAP":
		return lib.ActionTrap, nil
	case "SCMP_ACT_ERRNO":
		if errno != nil {
			return lib.ActionErrno | lib.Action(*errno&0xfff), nil
		}
		return denied, nil
	}
	return 0, fmt.Errorf("action %q is not supported", name)
}
