package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// check looks at one thing of the host.
type check struct {
	name string
	look func(h *host) finding
	// mayFail: what it finds can make a cluster impossible, so `all` looks too before it starts.
	mayFail bool
}

// checks are in the order in which they matter: without the first ones nothing runs at all.
var checks = []check{
	{"root", checkRoot, true},
	{"kernel", checkKernel, true},
	{"cgroups", checkCgroups, true},
	{"overlay", checkOverlay, false},
	{"iptables", checkIptables, true},
	{"iptables-chains", checkChains, true},
	{"nf_conntrack", checkConntrack, false},
	{"br_netfilter", checkBridge, false},
	{"ip_forward", checkForward, false},
	{"forward-policy", checkForwardPolicy, false},
	{"ports", checkPorts, true},
	{"address-ranges", checkRanges, true},
	{"disk", checkDisk, false},
	{"inodes", checkInodes, false},
	{"inotify", checkInotify, false},
	{"swap", checkSwap, false},
	{"resolv.conf", checkResolver, false},
	{"clock", checkClock, true},
	{"hostname", checkHostname, true},
}

func checkNames() []string {
	var names []string
	for _, c := range checks {
		names = append(names, c.name)
	}
	return names
}

func good(format string, args ...any) finding {
	return finding{Level: ok, Found: fmt.Sprintf(format, args...)}
}

func checkRoot(h *host) finding {
	if h.uid != 0 {
		return finding{Level: fail, Found: fmt.Sprintf("uid %d: containers, mounts and rules need root", h.uid), Fix: "sudo hyperkube all, or: hyperkube all --container-runtime=simulated"}
	}
	return good("root")
}

// checkKernel: 5.3 brought pidfds, by which the runtime waits for processes that are not its children.
func checkKernel(h *host) finding {
	release := h.read("proc/sys/kernel/osrelease")
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return finding{Level: fail, Found: fmt.Sprintf("%q: no Linux", release), Fix: "hyperkube all --container-runtime=simulated"}
	}
	if major < 5 || major == 5 && minor < 3 {
		return finding{Level: fail, Found: release + ": too old, 5.3 is needed", Fix: "upgrade the kernel"}
	}
	if major < 6 || major == 6 && minor < 3 {
		return good("Linux %s; before 6.3 pods cannot have users of their own (hostUsers: false)", release)
	}
	return good("Linux %s", release)
}

func checkCgroups(h *host) finding {
	wanted := []string{"cpu", "memory", "pids"}
	unified := strings.Fields(h.read("sys/fs/cgroup/cgroup.controllers"))
	version, there := "version 2", unified
	if len(unified) == 0 {
		version = "version 1"
		for _, line := range strings.Split(h.read("proc/cgroups"), "\n") {
			// subsys_name hierarchy num_cgroups enabled
			if fields := strings.Fields(line); len(fields) == 4 && fields[1] != "0" && fields[3] == "1" {
				there = append(there, fields[0])
			}
		}
	}
	if len(there) == 0 {
		return finding{Level: fail, Found: "no cgroup file system is mounted", Fix: "mount -t cgroup2 none /sys/fs/cgroup"}
	}
	for mount := range strings.Lines(h.read("proc/self/mounts")) {
		// device, mount point, type, options, …; systemd's read-only tmpfs above v1's trees is none of them.
		if f := strings.Fields(mount); len(f) > 3 && strings.HasPrefix(f[2], "cgroup") && strings.HasPrefix(f[1], "/sys/fs/cgroup") && slices.Contains(strings.Split(f[3], ","), "ro") {
			return finding{Level: fail, Found: f[1] + " is mounted read-only: no container can be given a group", Fix: "mount -o remount,rw " + f[1] + ", or if this is a container: run it with --privileged"}
		}
	}
	for _, controller := range wanted {
		if !slices.Contains(there, controller) {
			return finding{Level: warn, Found: fmt.Sprintf("%s without the controller %s: its limits are not kept", version, controller), Fix: "boot with cgroup_enable=" + controller}
		}
	}
	return good("%s, with %s", version, strings.Join(wanted, ", "))
}

func checkOverlay(h *host) finding {
	if !strings.Contains(h.read("proc/filesystems"), "\toverlay") {
		return finding{Level: warn, Found: "the kernel knows no overlay file system (yet)", Fix: "modprobe overlay"}
	}
	return good("known to the kernel")
}

func checkIptables(h *host) finding {
	for _, program := range []string{"iptables", "iptables-save", "iptables-restore"} {
		if _, err := h.lookPath(program); err != nil {
			return finding{Level: fail, Found: program + " is not installed", Fix: "apt-get install iptables, or: hyperkube all --disable=proxy"}
		}
	}
	found, err := h.output("iptables", "--version")
	if err != nil {
		return finding{Level: fail, Found: "iptables --version: " + found, Fix: "apt-get install --reinstall iptables"}
	}
	return good("%s", found)
}

func checkChains(h *host) finding {
	holder := h.chains()
	if holder == "" || h.running {
		return good("KUBE-* chains are free for this cluster's proxy")
	}
	return finding{Level: fail, Found: holder + " writes the KUBE-* chains of this network namespace", Fix: "stop it, or: ip netns add second; ip netns exec second hyperkube all …, or: --disable=proxy"}
}

func checkConntrack(h *host) finding {
	if found := h.read("proc/sys/net/netfilter/nf_conntrack_max"); found != "" {
		return good("up to %s connections", found)
	}
	return finding{Level: warn, Found: "the module is not loaded (yet)", Fix: "modprobe nf_conntrack"}
}

func checkBridge(h *host) finding {
	switch h.read("proc/sys/net/bridge/bridge-nf-call-iptables") {
	case "1":
		return good("bridged packets pass iptables")
	case "0":
		return good("loaded and off; the embedded runtime's network does not need it")
	}
	return good("not loaded; the embedded runtime's network does not need it, those of other runtimes do: modprobe br_netfilter")
}

func checkForward(h *host) finding {
	if h.read("proc/sys/net/ipv4/ip_forward") == "1" {
		return good("on")
	}
	return finding{Level: warn, Found: "off: the first pod switches it on, if it may", Fix: "sysctl -w net.ipv4.ip_forward=1"}
}

func checkForwardPolicy(h *host) finding {
	if _, err := h.lookPath("iptables"); err != nil {
		return good("no iptables")
	}
	rules, err := h.output("iptables", "-w", "-S", "FORWARD")
	if err != nil {
		first, _, _ := strings.Cut(rules, "\n")
		return finding{Level: warn, Found: "iptables -S FORWARD: " + first, Fix: "run it as root"}
	}
	if strings.Contains(rules, "-P FORWARD DROP") && !strings.Contains(rules, "KUBE-FORWARD") {
		return finding{Level: warn, Found: "FORWARD drops: without the proxy's rules, pods reach nobody outside the node", Fix: "iptables -P FORWARD ACCEPT"}
	}
	return good("FORWARD lets pods through, or the proxy's rules do")
}

func checkPorts(h *host) finding {
	if h.running {
		return good("this cluster runs and has them")
	}
	var tried []string
	for _, port := range []int{h.cluster.APIServerPort, h.cluster.EtcdPort, kubeletPort} {
		if port == 0 {
			continue // left to the kernel
		}
		if err := h.listen(port); err != nil {
			return finding{Level: fail, Found: err.Error(), Fix: "stop it, or for a new cluster: hyperkube all --ports=auto"}
		}
		tried = append(tried, strconv.Itoa(port))
	}
	return good("free: %s", strings.Join(tried, ", "))
}

// checkRanges: an address of the host within the pods' or the Services' range would become unreachable, for it or for them.
func checkRanges(h *host) finding {
	addresses, err := h.networks()
	if err != nil {
		return finding{Level: warn, Found: err.Error(), Fix: "ip address"}
	}
	for _, ours := range []struct{ what, flag, cidr string }{
		{"pods", "--cluster-cidr", h.cluster.PodCIDR}, {"Services", "--service-cluster-ip-range", h.cluster.ServiceCIDR},
	} {
		prefix, err := netip.ParsePrefix(ours.cidr)
		if err != nil {
			return finding{Level: fail, Found: fmt.Sprintf("range of %s: %v", ours.what, err), Fix: "mend cluster.yaml in " + h.dataDir}
		}
		expected := h.running || h.otherRuntime && ours.what == "pods"
		for _, address := range addresses {
			network, isNetwork := address.(*net.IPNet)
			if !isNetwork || expected && prefix.Contains(netip.MustParseAddr(network.IP.String())) {
				continue // what a running cluster has there is its own bridge, or that of the runtime which it uses
			}
			theirs, err := netip.ParsePrefix(network.String())
			if err == nil && prefix.Overlaps(theirs.Masked()) {
				return finding{Level: fail, Found: fmt.Sprintf("the range of %s, %s, overlaps this host's network %s", ours.what, ours.cidr, network), Fix: "for a new cluster: hyperkube all " + ours.flag + "=172.20.0.0/16; hyperkube reset removes what an old one left"}
			}
		}
	}
	return good("pods %s, Services %s: apart from the host's networks", h.cluster.PodCIDR, h.cluster.ServiceCIDR)
}

// A node with less than a tenth of its disk, or a twentieth of its inodes, evicts its pods.
const leastDisk, leastInodes = 10, 5

func checkDisk(h *host) finding {
	d, err := h.disk(h.dataDir)
	if err != nil {
		return finding{Level: warn, Found: err.Error(), Fix: "df " + h.dataDir}
	}
	text := fmt.Sprintf("%d MiB of %d free below %s", d.free>>20, d.size>>20, h.dataDir)
	if d.size > 0 && d.free*100/d.size < leastDisk {
		return finding{Level: warn, Found: fmt.Sprintf("%s: less than %d %%, the kubelet will evict pods", text, leastDisk), Fix: "make room, or choose another --data-dir"}
	}
	return good("%s", text)
}

func checkInodes(h *host) finding {
	d, err := h.disk(h.dataDir)
	switch {
	case err != nil:
		return finding{Level: warn, Found: err.Error(), Fix: "df -i " + h.dataDir}
	case d.inodes > 0 && d.freeInodes*100/d.inodes < leastInodes:
		return finding{Level: warn, Found: fmt.Sprintf("%d of %d free: less than %d %%, the kubelet will evict pods", d.freeInodes, d.inodes, leastInodes), Fix: "remove small files, or choose another --data-dir"}
	case d.inodes == 0:
		return good("the file system makes them as needed")
	}
	return good("%d of %d free", d.freeInodes, d.inodes)
}

func checkInotify(h *host) finding {
	for _, limit := range []struct {
		name  string
		least int
	}{{"max_user_instances", 128}, {"max_user_watches", 8192}} {
		found, err := strconv.Atoi(h.read("proc/sys/fs/inotify/" + limit.name))
		if err == nil && found < limit.least {
			return finding{Level: warn, Found: fmt.Sprintf("%s is %d: programs in pods that watch files will fail", limit.name, found), Fix: fmt.Sprintf("sysctl -w fs.inotify.%s=%d", limit.name, limit.least)}
		}
	}
	return good("%s instances, %s watches a user", h.read("proc/sys/fs/inotify/max_user_instances"), h.read("proc/sys/fs/inotify/max_user_watches"))
}

func checkSwap(h *host) finding {
	lines := strings.Split(h.read("proc/swaps"), "\n")
	if len(lines) > 1 {
		return finding{Level: warn, Found: "on: " + strings.Fields(lines[1])[0] + "; a pod over its memory limit becomes slow instead of being killed", Fix: "swapoff -a"}
	}
	return good("off")
}

func checkResolver(h *host) finding {
	var servers []string
	for _, line := range strings.Split(h.read("etc/resolv.conf"), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			servers = append(servers, fields[1])
		}
	}
	if len(servers) == 0 {
		return finding{Level: warn, Found: "/etc/resolv.conf names no server: pods resolve names of the cluster only", Fix: "echo nameserver ADDRESS >> /etc/resolv.conf"}
	}
	for _, server := range servers {
		if address, err := netip.ParseAddr(server); err == nil && !address.IsLoopback() {
			return good("%s", strings.Join(servers, ", "))
		}
	}
	return finding{Level: warn, Found: fmt.Sprintf("only %s, which in a pod is the pod itself", strings.Join(servers, ", ")), Fix: "pods of dnsPolicy Default need another server in /etc/resolv.conf; those of ClusterFirst do not"}
}

func checkClock(h *host) finding {
	if h.now.Year() < 2026 {
		return finding{Level: fail, Found: h.now.Format("2006-01-02 15:04:05") + ": before this program was written; certificates would not be valid", Fix: "date -s 'YYYY-MM-DD hh:mm:ss', or start an NTP client"}
	}
	return good("%s", h.now.Format("2006-01-02 15:04:05"))
}

func checkHostname(h *host) finding {
	switch name := nameOfHost(h.name); name {
	case "":
		return finding{Level: fail, Found: fmt.Sprintf("%q has no letter or digit, so that no node can be named after it", h.name), Fix: "hostnamectl set-hostname NAME, or --hostname-override"}
	case h.name:
		return good("%s", name)
	default:
		return good("%s: the node is called %s", h.name, name)
	}
}
