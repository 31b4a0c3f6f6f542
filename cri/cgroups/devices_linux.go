package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DeviceRule allows devices to a group.
type DeviceRule struct {
	Kind         byte   // 'c' or 'b'; 'a' is both
	Major, Minor int64  // -1 is any
	Access       string // of "rwm": read, write, make the node
}

// StandardDevices are what every container may use: those in its /dev, terminals,
// and making nodes of any kind, which without the right to open them are only names.
func StandardDevices() []DeviceRule {
	rules := []DeviceRule{{'c', -1, -1, "m"}, {'b', -1, -1, "m"}, {'c', 136, -1, "rwm"}, {'c', 5, 0, "rwm"}, {'c', 5, 2, "rwm"}}
	for _, minor := range []int64{3, 5, 7, 8, 9} { // null, zero, full, random, urandom
		rules = append(rules, DeviceRule{'c', 1, minor, "rwm"})
	}
	return rules
}

// AllowDevices limits a group to the given devices; nil leaves it without a
// limit. On v1 the devices controller holds the list, on v2 a program that the
// kernel asks at each open.
func (h *Host) AllowDevices(group string, rules []DeviceRule) error {
	if rules == nil {
		return nil
	}
	if h.V2() {
		return attachDeviceProgram(filepath.Join(h.Unified, group), deviceProgram(rules))
	}
	if h.Trees["devices"] == "" {
		return nil
	}
	dir := filepath.Join(h.Trees["devices"], group)
	if err := write(dir, "devices.deny", "a"); err != nil {
		return err
	}
	for _, r := range rules {
		if err := write(dir, "devices.allow", fmt.Sprintf("%c %s:%s %s", r.Kind, number(r.Major), number(r.Minor), r.Access)); err != nil {
			return err
		}
	}
	return nil
}

func number(n int64) string {
	if n < 0 {
		return "*"
	}
	return fmt.Sprint(n)
}

// instruction is one of eBPF (struct bpf_insn).
type instruction struct {
	code uint8
	regs uint8 // destination in the low half, source in the high half
	off  int16
	imm  int32
}

// The few operations that the program needs (linux/bpf.h).
const (
	loadWord  = 0x61 // dst = *(u32 *)(src + off)
	moveReg   = 0xbf // dst = src
	moveImm   = 0xb7 // dst = imm
	andImm    = 0x57 // dst &= imm
	shiftImm  = 0x77 // dst >>= imm
	jumpNotEq = 0x55 // if dst != imm, skip off
	exit      = 0x95 // return r0
)

// deviceProgram compiles the rules. The kernel passes, behind r1, a struct with
// access<<16|kind, major and minor; a result of 1 allows.
func deviceProgram(rules []DeviceRule) []instruction {
	program := []instruction{
		{loadWord, 2 | 1<<4, 0, 0}, // r2 = access << 16 | kind
		{moveReg, 3 | 2<<4, 0, 0},  // r3 = access
		{shiftImm, 3, 0, 16},
		{andImm, 2, 0, 0xffff},     // r2 = kind
		{loadWord, 4 | 1<<4, 4, 0}, // r4 = major
		{loadWord, 5 | 1<<4, 8, 0}, // r5 = minor
	}
	for _, r := range rules {
		var tests []instruction
		switch r.Kind {
		case 'b':
			tests = append(tests, instruction{jumpNotEq, 2, 0, unix.BPF_DEVCG_DEV_BLOCK})
		case 'c':
			tests = append(tests, instruction{jumpNotEq, 2, 0, unix.BPF_DEVCG_DEV_CHAR})
		}
		if missing := forbidden(r.Access); missing != 0 { // any access beyond the rule's: not this rule
			tests = append(tests, instruction{moveReg, 6 | 3<<4, 0, 0}, instruction{andImm, 6, 0, missing}, instruction{jumpNotEq, 6, 0, 0})
		}
		if r.Major >= 0 {
			tests = append(tests, instruction{jumpNotEq, 4, 0, int32(r.Major)})
		}
		if r.Minor >= 0 {
			tests = append(tests, instruction{jumpNotEq, 5, 0, int32(r.Minor)})
		}
		for i := range tests {
			if tests[i].code == jumpNotEq {
				tests[i].off = int16(len(tests) - i - 1 + 2) // behind the two that allow
			}
		}
		program = append(program, tests...)
		program = append(program, instruction{moveImm, 0, 0, 1}, instruction{exit, 0, 0, 0})
	}
	return append(program, instruction{moveImm, 0, 0, 0}, instruction{exit, 0, 0, 0})
}

// forbidden are the kinds of access that a rule does not allow.
func forbidden(access string) (bits int32) {
	for letter, bit := range map[string]int32{"r": unix.BPF_DEVCG_ACC_READ, "w": unix.BPF_DEVCG_ACC_WRITE, "m": unix.BPF_DEVCG_ACC_MKNOD} {
		if !strings.Contains(access, letter) {
			bits |= bit
		}
	}
	return bits
}

// programLicense is what the kernel is told of the program. The kernel gets its address as a number, so it must not be on a
// stack, which may move.
var programLicense = []byte("Apache-2.0\x00")

// attachDeviceProgram loads a program and makes it decide for a group. It ends
// with the group.
func attachDeviceProgram(dir string, program []instruction) error {
	load := struct {
		kind, count    uint32
		code, license  uint64
		logLevel, size uint32
		log            uint64
		version, flags uint32
		name           [16]byte
	}{kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(program)),
		code: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&programLicense[0])))}
	fd, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if e == unix.EPERM && unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) == nil {
		// Before Linux 5.11 programs count as locked memory, of which root too may have only a little.
		fd, _, e = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	}
	runtime.KeepAlive(program)
	if e != 0 {
		return fmt.Errorf("loading the device program: %w", e)
	}
	defer unix.Close(int(fd))
	group, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cgroup %s is gone", dir)
	}
	if err != nil {
		return err
	}
	defer group.Close()
	attach := struct{ target, program, kind, flags uint32 }{uint32(group.Fd()), uint32(fd), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI}
	if _, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); e != 0 {
		return fmt.Errorf("attaching the device program: %w", e)
	}
	return nil
}
