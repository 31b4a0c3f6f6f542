package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// askKernel fills in what /proc, the cgroup files and netlink say of a process.
func (i *inspection) askKernel(pid int) (err error) {
	if i.Process, err = readProcess(pid); err != nil {
		return err
	}
	for _, kind := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		own, err := namespaceInode(strconv.Itoa(pid), kind)
		if err != nil {
			return err
		}
		view := namespaceView{Kind: kind, Inode: own}
		// A pod on the node's network shares it with the pod too: the wider word counts.
		if node, err := namespaceInode("self", kind); err == nil && node == own {
			view.Shared = "node"
		} else if pod, err := namespaceInode(strconv.Itoa(i.Pod.Pid), kind); err == nil && pod == own {
			view.Shared = "pod"
		}
		i.Namespaces = append(i.Namespaces, view)
	}
	if i.Cgroups, err = readCgroups(pid); err != nil {
		return err
	}
	if i.Mounts, err = readMounts(pid); err != nil {
		return err
	}
	i.Network, err = readLinks(pid)
	return err
}

func readProcess(pid int) (*processView, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	cmdline, err := os.ReadFile(dir + "/cmdline")
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return nil, err
	}
	p := &processView{Pid: pid, Argv: strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			p.Parent, _ = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	// Not comm: a program that starts itself anew through /proc is "exe" there.
	program, _ := os.ReadFile("/proc/" + strconv.Itoa(p.Parent) + "/cmdline")
	p.Program, _, _ = strings.Cut(string(program), "\x00")
	users, _ := os.ReadFile(dir + "/uid_map")
	p.UIDMap = strings.Join(strings.Fields(string(users)), " ")
	return p, nil
}

// namespaceInode is the number that names a namespace.
func namespaceInode(pid, kind string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+pid+"/ns/"+kind, &st)
	if err != nil {
		return 0, fmt.Errorf("%s namespace: %w", kind, err)
	}
	return st.Ino, nil
}

// limitFiles are the files of a cgroup that hold its limits, of v2 and of v1.
var limitFiles = []string{"memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.weight", "cpuset.cpus", "pids.max",
	"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"}

// readCgroups finds the process's cgroup in each hierarchy, and what limits it there.
func readCgroups(pid int) ([]cgroupView, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, err
	}
	mounted, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	var views []cgroupView
	for line := range strings.Lines(strings.TrimSpace(string(data))) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(fields) != 3 {
			continue
		}
		view := cgroupView{Controllers: fields[1], Path: fields[2], Limits: map[string]string{}}
		if view.Controllers == "" {
			view.Controllers = "unified"
		}
		first, _, _ := strings.Cut(view.Controllers, ",")
		for _, name := range limitFiles {
			if value, err := os.ReadFile(filepath.Join(mounted[first], view.Path, name)); err == nil && mounted[first] != "" {
				view.Limits[name] = strings.TrimSpace(string(value))
			}
		}
		views = append(views, view)
	}
	return views, nil
}

// cgroupMounts finds where each controller's hierarchy is mounted; v2's is "unified".
func cgroupMounts() (map[string]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		switch {
		case len(mount) < 5 || len(kind) < 3:
		case kind[0] == "cgroup2":
			found["unified"] = mount[4]
		case kind[0] == "cgroup":
			for _, option := range strings.Split(kind[2], ",") {
				found[option] = mount[4]
			}
		}
	}
	return found, nil
}

func readMounts(pid int) ([]mountView, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, err
	}
	var mounts []mountView
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 6 || len(kind) < 2 {
			continue
		}
		view := mountView{Target: mount[4], Type: kind[0], Source: kind[1], Options: mount[5]}
		if mount[3] != "/" { // a bind mount: of which directory of its file system
			view.Source += " " + mount[3]
		}
		mounts = append(mounts, view)
	}
	return mounts, nil
}

// readLinks finds the network interfaces that the process sees, and what is at
// their other ends on the node.
func readLinks(pid int) ([]linkView, error) {
	inside, err := netns.GetFromPath("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	there, err := netlink.NewHandleAt(inside)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	links, err := there.LinkList()
	if err != nil {
		return nil, err
	}
	var views []linkView
	for _, link := range links {
		view := linkView{Name: link.Attrs().Name, Addresses: []string{}}
		addresses, err := there.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			view.Addresses = append(view.Addresses, a.IPNet.String())
		}
		if link.Type() == "veth" {
			if end, err := netlink.LinkByIndex(link.Attrs().ParentIndex); err == nil {
				view.HostName, view.HostIndex = end.Attrs().Name, end.Attrs().Index
				if bridge, err := netlink.LinkByIndex(end.Attrs().MasterIndex); err == nil {
					view.Bridge = bridge.Attrs().Name
				}
			}
		}
		if len(view.Addresses) > 0 {
			views = append(views, view)
		}
	}
	return views, nil
}
