// Package cgroups makes, limits, measures and removes control groups, in the
// kernel's two layouts:
//
//	v1   one tree a controller:  /sys/fs/cgroup/{cpu,memory,pids,…}/hyperkube/node/pod/container
//	v2   one tree for all:       /sys/fs/cgroup/hyperkube/node/pod/container
//
// On a machine with systemd these stand beside its slices, not in them. systemd hands controllers to its own children only,
// and cannot take one away that a group below still uses, so that its reloads and restarts change nothing here. In v2 a
// group with controlled children holds no processes: only the groups of containers and of pods' parents do, which are leaves.
//
// Callers name a group by its path below the root ("/hyperkube/node1/…") and
// never see which layout it is, but for Dirs, the directories a process joins.
//
// In Kubernetes: the container runtimes use github.com/opencontainers/cgroups,
// and the kubelet pkg/kubelet/cm. Left out here: the systemd driver, so that
// hyperkube needs no systemd; block I/O, network classes and RDMA limits. A
// controller that the host lacks is named by Missing and its limits are off.
package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is the machine's cgroup file systems.
type Host struct {
	// Unified is where the single tree is mounted; empty on v1.
	Unified string
	// Trees are v1's mount points by controller. Controllers mounted together share one.
	Trees map[string]string
	// others are the mount points of trees without a controller of ours: the kubelet and
	// systemd make groups there too, which Remove takes along.
	others []string
}

// wanted are the controllers that limits and figures come from. The freezer and
// name=systemd trees are joined too where they exist, so that a process is
// found in the same place in each of them.
var wanted = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb"}

// Detect reads the layout from this process's mounts.
func Detect() (*Host, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return detect(string(data))
}

// customary is where everybody looks for the single tree.
const customary = "/sys/fs/cgroup"

// detect is pure. The single tree may be mounted at several places, some of which show a part of it only, and come and go:
// the customary one wins, otherwise the first.
func detect(mounts string) (*Host, error) {
	h := &Host{Trees: map[string]string{}}
	unified := ""
	for line := range strings.Lines(mounts) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 5 || len(right) < 3 {
			continue
		}
		switch point := left[4]; right[0] {
		case "cgroup2":
			if unified == "" || point == customary {
				unified = point
			}
		case "cgroup":
			ours := false
			for _, option := range strings.Split(right[2], ",") {
				if slices.Contains(wanted, option) {
					h.Trees[option], ours = point, true
				}
			}
			if !ours {
				h.others = append(h.others, point)
			}
		}
	}
	// A unified tree beside v1 ones has no controllers: then v1 it is.
	if len(h.Trees) == 0 {
		h.Unified = unified
		if unified == "" {
			return nil, errors.New("no cgroup file system is mounted: mount one, for example: mount -t cgroup2 none /sys/fs/cgroup")
		}
	} else if unified != "" {
		h.others = append(h.others, unified)
	}
	return h, nil
}

// V2 says whether the host has the single tree.
func (h *Host) V2() bool { return h.Unified != "" }

// Missing names the controllers without which limits are off.
func (h *Host) Missing() (missing []string) {
	for _, c := range []string{"cpu", "memory", "pids"} {
		if h.V2() {
			have, _ := os.ReadFile(filepath.Join(h.Unified, "cgroup.controllers"))
			if !slices.Contains(strings.Fields(string(have)), c) {
				missing = append(missing, c)
			}
		} else if h.Trees[c] == "" {
			missing = append(missing, c)
		}
	}
	return missing
}

// Dirs are the directories of a group, one a tree; a process is in the group
// when it is in all of them. The first holds every process of the group.
func (h *Host) Dirs(group string) (dirs []string) {
	if h.V2() {
		return []string{filepath.Join(h.Unified, group)}
	}
	for _, c := range wanted {
		if point := h.Trees[c]; point != "" && !slices.Contains(dirs, filepath.Join(point, group)) {
			dirs = append(dirs, filepath.Join(point, group))
		}
	}
	return dirs
}

// Exists says whether the group has been made.
func (h *Host) Exists(group string) bool {
	_, err := os.Stat(h.Dirs(group)[0])
	return err == nil
}

// Create makes a group, and those above it, ready to hold processes. It is no
// error if it exists.
func (h *Host) Create(group string) error {
	if h.V2() {
		return h.createUnified(group)
	}
	for _, dir := range h.Dirs(group) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// A new cpuset is empty, and nothing can run in it: it takes its parent's, from the top down.
	if point := h.Trees["cpuset"]; point != "" {
		path := point
		for _, name := range strings.Split(strings.Trim(group, "/"), "/") {
			if err := inheritCPUSet(path, filepath.Join(path, name)); err != nil {
				return err
			}
			path = filepath.Join(path, name)
		}
	}
	return nil
}

func inheritCPUSet(parent, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		from, err := os.ReadFile(filepath.Join(parent, name))
		if err != nil {
			return err
		}
		if err := write(dir, name, strings.TrimSpace(string(from))); err != nil {
			return err
		}
	}
	return nil
}

// createUnified hands the controllers down from the root to the group's parent.
func (h *Host) createUnified(group string) error {
	path := h.Unified
	for _, name := range strings.Split(strings.Trim(group, "/"), "/") {
		if err := h.handDown(path); err != nil {
			return err
		}
		path = filepath.Join(path, name)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// handDown enables all of a group's controllers for its children. Inside a
// container the top group is no root to the kernel: it may not hold processes
// and controlled children both, so its processes are moved aside first (R61).
func (h *Host) handDown(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(have)) {
		if slices.Contains(strings.Fields(string(enabled)), c) {
			continue
		}
		err := write(dir, "cgroup.subtree_control", "+"+c)
		if errors.Is(err, unix.EBUSY) && dir == h.Unified {
			if err = evacuate(dir, filepath.Join(dir, "init")); err == nil {
				err = write(dir, "cgroup.subtree_control", "+"+c)
			}
		}
		// A controller that cannot be handed down (cpu with real-time processes) only turns its limits off.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("enabling the %s controller below %s: %w", c, dir, err)
		}
	}
	return nil
}

func evacuate(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	pids, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(pids)) {
		if err := write(to, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// Pids lists the processes of a group itself, not of those below it.
func (h *Host) Pids(group string) []int {
	data, _ := os.ReadFile(filepath.Join(h.Dirs(group)[0], "cgroup.procs"))
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// allDirs are Dirs and those of the same group in trees that we do not use.
func (h *Host) allDirs(group string) []string {
	dirs := h.Dirs(group)
	for _, point := range h.others {
		dirs = append(dirs, filepath.Join(point, group))
	}
	return dirs
}

// Remove kills what still runs in a group and in those below it, and removes
// them. It is no error if there is none.
func (h *Host) Remove(group string) error {
	var errs []error
	for _, dir := range h.allDirs(group) {
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// RemoveEmpty removes a group and its ancestors up to, without, stop, as far as
// nothing else is in them.
func (h *Host) RemoveEmpty(group, stop string) {
	for ; len(group) > len(stop) && group != "/"; group = filepath.Dir(group) {
		for _, dir := range h.allDirs(group) {
			unix.Rmdir(dir)
		}
	}
}

// removeTree works from the leaves up. A group is busy until the kernel has
// taken its last process away, which takes a moment after the kill.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for try := 0; ; try++ {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || try == 200 {
			return fmt.Errorf("removing cgroup %s: %w", dir, err)
		}
		pids, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, field := range strings.Fields(string(pids)) {
			if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(time.Duration(1+try/10) * time.Millisecond)
	}
}

// write sets one value. The file is not to be made where it does not exist: a
// missing controller would be reported as a lack of permission then.
func write(dir, name, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", value, err)
	}
	return nil
}
