package podparent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func lockThread() { runtime.LockOSThread() }

// lookUp turns a User into numbers with the container's own /etc/passwd and
// /etc/group. "/" is the container's already.
func lookUp(u User) (*Identity, error) {
	name, group, _ := strings.Cut(u.Name, ":")
	who := &Identity{UID: u.UID, Home: "/"}
	if name != "" {
		uid, err := strconv.ParseUint(name, 10, 32)
		who.UID = uint32(uid)
		if err != nil && !findUser(who, func(p []string) bool { return p[0] == name }) {
			return nil, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
		}
		if err == nil {
			name = ""
		}
	}
	if name == "" {
		name = findUID(who)
	}
	if group != "" {
		gid, err := findGroup(group)
		if err != nil {
			return nil, err
		}
		who.GID = gid
	}
	if u.GID != nil {
		who.GID = uint32(*u.GID)
	}
	who.Groups = append(who.Groups, int(who.GID))
	if !u.Strict && name != "" && group == "" {
		who.Groups = append(who.Groups, groupsOf(name, int(who.GID))...)
	}
	for _, gid := range u.Groups {
		who.Groups = appendOnce(who.Groups, gid)
	}
	return who, nil
}

// findUID fills in what /etc/passwd says about who.UID, and returns the name.
func findUID(who *Identity) (name string) {
	uid := strconv.FormatUint(uint64(who.UID), 10)
	findUser(who, func(p []string) bool {
		if len(p) > 2 && p[2] == uid {
			name = p[0]
			return true
		}
		return false
	})
	return name
}

func findUser(who *Identity, match func([]string) bool) (found bool) {
	readColumns("/etc/passwd", func(p []string) {
		if found || len(p) < 6 || !match(p) {
			return
		}
		uid, err1 := strconv.ParseUint(p[2], 10, 32)
		gid, err2 := strconv.ParseUint(p[3], 10, 32)
		if err1 != nil || err2 != nil {
			return
		}
		found, who.UID, who.GID, who.Home = true, uint32(uid), uint32(gid), p[5]
	})
	return found
}

func findGroup(group string) (uint32, error) {
	if gid, err := strconv.ParseUint(group, 10, 32); err == nil {
		return uint32(gid), nil
	}
	result, found := uint64(0), false
	readColumns("/etc/group", func(g []string) {
		if len(g) > 2 && g[0] == group && !found {
			gid, err := strconv.ParseUint(g[2], 10, 32)
			result, found = gid, err == nil
		}
	})
	if !found {
		return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", group)
	}
	return uint32(result), nil
}

func groupsOf(name string, primary int) (groups []int) {
	readColumns("/etc/group", func(g []string) {
		if len(g) < 4 {
			return
		}
		for _, member := range strings.Split(g[3], ",") {
			if gid, err := strconv.Atoi(g[2]); member == name && err == nil && gid != primary {
				groups = appendOnce(groups, gid)
			}
		}
	})
	return groups
}

func appendOnce(list []int, n int) []int {
	for _, have := range list {
		if have == n {
			return list
		}
	}
	return append(list, n)
}

// takeOn gives this thread, and so the command it becomes, its limits and rights.
func takeOn(p *Process, who *Identity) error {
	for _, l := range p.Rlimits {
		if err := unix.Prlimit(0, l.Type, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return fmt.Errorf("rlimit %d: %w", l.Type, err)
		}
	}
	unix.Umask(0o022)
	if p.AppArmor != "" {
		if err := os.WriteFile("/proc/thread-self/attr/exec", []byte("exec "+p.AppArmor), 0); err != nil {
			return fmt.Errorf("apparmor profile %s: %w", p.AppArmor, err)
		}
	}
	// Without no_new_privs, only who may administrate the system may install a filter: now, or never.
	if !p.NoNewPrivs {
		if err := filterSyscalls(p.Seccomp); err != nil {
			return err
		}
	}
	if err := setUser(p, who); err != nil {
		return err
	}
	if err := setCapabilities(&p.Capabilities); err != nil {
		return err
	}
	if p.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
	}
	return nil
}

// setUser drops the bounding set and changes groups and user. The raw calls
// change this thread only, which is the one that stays.
func setUser(p *Process, who *Identity) error {
	for c := uintptr(0); c <= 63; c++ {
		if p.Capabilities.Bounding&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // past the last capability of this kernel
		} else if err != nil {
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	// Permitted capabilities are to survive the change of user; setCapabilities says which.
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	groups := make([]uint32, len(who.Groups))
	for i, g := range who.Groups {
		groups[i] = uint32(g)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); e != 0 {
		return fmt.Errorf("setgroups: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(who.GID), uintptr(who.GID), uintptr(who.GID)); e != 0 {
		return fmt.Errorf("setresgid %d: %w", who.GID, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(who.UID), uintptr(who.UID), uintptr(who.UID)); e != 0 {
		return fmt.Errorf("setresuid %d: %w", who.UID, e)
	}
	return unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
}

func setCapabilities(c *Caps) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	// What this kernel does not know, or we were not given ourselves, cannot be asked for.
	var have [2]unix.CapUserData
	if err := unix.Capget(&header, &have[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	most := uint64(have[0].Permitted) | uint64(have[1].Permitted)<<32
	var data [2]unix.CapUserData
	for i := range data {
		shift := uint(32 * i)
		data[i].Effective = uint32((c.Effective & most) >> shift)
		data[i].Permitted = uint32((c.Permitted & most) >> shift)
		data[i].Inheritable = uint32((c.Inheritable & most) >> shift)
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	for bit := uintptr(0); bit < 64; bit++ {
		if c.Ambient&most&(1<<bit) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, bit, 0, 0); err != nil {
			return fmt.Errorf("ambient capability %d: %w", bit, err)
		}
	}
	return nil
}

// filterSyscallsLate installs the filter of a process with no_new_privs, as
// close to execve as can be: the fewer calls of ours it must allow.
func filterSyscallsLate(p *Process) error {
	if !p.NoNewPrivs {
		return nil
	}
	return filterSyscalls(p.Seccomp)
}

func filterSyscalls(program []Filter) error {
	if len(program) == 0 {
		return nil
	}
	raw := make([]unix.SockFilter, len(program))
	for i, f := range program {
		raw[i] = unix.SockFilter{Code: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	prog := unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}

// completeEnv adds PATH and HOME where neither the image nor the pod sets them.
func completeEnv(env []string, who *Identity) []string {
	path, home := false, false
	for _, e := range env {
		path = path || strings.HasPrefix(e, "PATH=")
		home = home || strings.HasPrefix(e, "HOME=")
	}
	if !path {
		env = append(env, "PATH="+pathDefault)
	}
	if !home {
		env = append(env, "HOME="+who.Home)
	}
	return env
}

// lookPath finds the command as the container's user would: in the PATH of its
// own environment.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	path := ""
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			path = value
		}
	}
	var denied error
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		err := executable(dir + "/" + name)
		if err == nil {
			return dir + "/" + name, nil
		}
		if errors.Is(err, unix.EACCES) {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("exec: %q: %w", path, err.(*os.PathError).Err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("exec: %q: %w", path, unix.EACCES)
	}
	return nil
}
