package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"hyperkube/pki"
)

// healthyHost is one on which nothing is wrong.
func healthyHost(t *testing.T) *host {
	h := &host{
		root: t.TempDir(), dataDir: "/data", cluster: pki.DefaultCluster(), name: "node-1", now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
		lookPath: func(name string) (string, error) { return "/sbin/" + name, nil },
		output: func(name string, args ...string) (string, error) {
			if args[0] == "--version" {
				return "iptables v1.8.9 (nf_tables)", nil
			}
			return "-P FORWARD ACCEPT", nil
		},
		networks: func() ([]net.Addr, error) { return []net.Addr{ipNet("192.0.2.10/24")}, nil },
		disk: func(string) (disk, error) {
			return disk{free: 50 << 30, size: 100 << 30, freeInodes: 500, inodes: 1000}, nil
		},
		listen: func(int) error { return nil }, chains: func() string { return "" },
	}
	for path, content := range map[string]string{
		"proc/sys/kernel/osrelease":                   "6.1.0-21-amd64",
		"sys/fs/cgroup/cgroup.controllers":            "cpuset cpu io memory pids",
		"proc/filesystems":                            "nodev\tproc\nnodev\toverlay\n",
		"proc/sys/net/netfilter/nf_conntrack_max":     "262144",
		"proc/sys/net/bridge/bridge-nf-call-iptables": "1",
		"proc/sys/net/ipv4/ip_forward":                "1",
		"proc/sys/fs/inotify/max_user_instances":      "128",
		"proc/sys/fs/inotify/max_user_watches":        "8192",
		"proc/swaps":                                  "Filename Type Size Used Priority",
		"etc/resolv.conf":                             "search example.org\nnameserver 192.0.2.53\n",
	} {
		h.write(t, path, content)
	}
	return h
}

func (h *host) write(t *testing.T, path, content string) {
	t.Helper()
	file := filepath.Join(h.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func ipNet(cidr string) net.Addr {
	address, n, err := net.ParseCIDR(cidr)
	if err != nil {
		panic(err)
	}
	return &net.IPNet{IP: address, Mask: n.Mask}
}

// R02: on a good host every check is ok; each broken condition is found by its check, which says how to mend it, and disturbs no other check.
func TestDoctor(t *testing.T) {
	for _, f := range healthyHost(t).examine(nil) {
		if f.Level != ok || f.Found == "" || f.Fix != "" {
			t.Errorf("a good host: %+v", f)
		}
	}
	for name, test := range map[string]struct {
		check string
		level level
		spoil func(h *host)
		found string
		fix   string
	}{
		"nobody":         {"root", fail, func(h *host) { h.uid = 1000 }, "uid 1000", "sudo"},
		"kernel of 2022": {"kernel", ok, func(h *host) { h.write(t, "proc/sys/kernel/osrelease", "6.1.0-56-amd64") }, "hostUsers", ""},
		"old kernel":     {"kernel", fail, func(h *host) { h.write(t, "proc/sys/kernel/osrelease", "4.18.0") }, "4.18.0", "upgrade"},
		"darwin":         {"kernel", fail, func(h *host) { h.write(t, "proc/sys/kernel/osrelease", "") }, "no Linux", "simulated"},
		"no cgroups":     {"cgroups", fail, func(h *host) { h.write(t, "sys/fs/cgroup/cgroup.controllers", "") }, "no cgroup file system", "mount -t cgroup2"},
		"no memory":      {"cgroups", warn, func(h *host) { h.write(t, "sys/fs/cgroup/cgroup.controllers", "cpu pids") }, "without the controller memory", "cgroup_enable=memory"},
		"read-only": {"cgroups", fail, func(h *host) {
			h.write(t, "proc/self/mounts", "tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0\ncgroup /sys/fs/cgroup/memory cgroup ro,nosuid,memory 0 0\n")
		}, "/sys/fs/cgroup/memory is mounted read-only", "remount,rw /sys/fs/cgroup/memory, or if this is a container: run it with --privileged"},
		"only the tmpfs above v1 is read-only": {"cgroups", ok, func(h *host) {
			h.write(t, "proc/self/mounts", "tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0\n")
		}, "version 2", ""},
		"no overlay":    {"overlay", warn, func(h *host) { h.write(t, "proc/filesystems", "\text4\n") }, "no overlay", "modprobe overlay"},
		"another proxy": {"iptables-chains", fail, func(h *host) { h.chains = func() string { return "the cluster in /x (pid 7)" } }, "/x (pid 7)", "ip netns"},
		"no conntrack":  {"nf_conntrack", warn, func(h *host) { h.write(t, "proc/sys/net/netfilter/nf_conntrack_max", "") }, "not loaded", "modprobe nf_conntrack"},
		"no forwarding": {"ip_forward", warn, func(h *host) { h.write(t, "proc/sys/net/ipv4/ip_forward", "0") }, "off", "sysctl -w net.ipv4.ip_forward=1"},
		"port taken":    {"ports", fail, func(h *host) { h.listen = func(port int) error { return portTaken(port, 6443) } }, "pid 5 (nginx)", "--ports=auto"},
		"pods overlap": {"address-ranges", fail, func(h *host) {
			h.networks = func() ([]net.Addr, error) { return []net.Addr{ipNet("10.0.0.7/8")}, nil }
		}, "overlaps this host's network 10.0.0.7/8", "--cluster-cidr"},
		"Services overlap, with another runtime": {"address-ranges", fail, func(h *host) {
			h.otherRuntime = true
			h.networks = func() ([]net.Addr, error) { return []net.Addr{ipNet("10.244.0.1/24"), ipNet("10.96.0.1/16")}, nil }
		}, "Services, 10.96.0.0/16, overlaps this host's network 10.96.0.1/16", "--service-cluster-ip-range"},
		"disk full": {"disk", warn, func(h *host) {
			h.disk = func(string) (disk, error) { return disk{free: 5, size: 100, freeInodes: 9, inodes: 10}, nil }
		}, "less than 10 %", "--data-dir"},
		"inodes": {"inodes", warn, func(h *host) {
			h.disk = func(string) (disk, error) { return disk{free: 50, size: 100, freeInodes: 4, inodes: 100}, nil }
		}, "less than 5 %", "--data-dir"},
		"few instances":  {"inotify", warn, func(h *host) { h.write(t, "proc/sys/fs/inotify/max_user_instances", "16") }, "max_user_instances is 16", "sysctl -w fs.inotify.max_user_instances=128"},
		"swap":           {"swap", warn, func(h *host) { h.write(t, "proc/swaps", "Filename Type\n/dev/sda2 partition") }, "/dev/sda2", "swapoff -a"},
		"local resolver": {"resolv.conf", warn, func(h *host) { h.write(t, "etc/resolv.conf", "nameserver 127.0.0.53") }, "127.0.0.53", "another server"},
		"no resolver":    {"resolv.conf", warn, func(h *host) { h.write(t, "etc/resolv.conf", "") }, "no server", "nameserver"},
		"clock":          {"clock", fail, func(h *host) { h.now = time.Unix(0, 0) }, "1970", "date -s"},
		"hostname":       {"hostname", fail, func(h *host) { h.name = "___" }, `"___"`, "--hostname-override"},
		"FORWARD drops": {"forward-policy", warn, func(h *host) {
			h.output = func(string, ...string) (string, error) { return "-P FORWARD DROP", nil }
		}, "FORWARD drops", "iptables -P FORWARD ACCEPT"},
	} {
		h := healthyHost(t)
		test.spoil(h)
		for _, f := range h.examine(nil) {
			switch {
			case f.Check != test.check && f.Level != ok:
				t.Errorf("%s: %s is disturbed: %+v", name, f.Check, f)
			case f.Check == test.check && (f.Level != test.level || !strings.Contains(f.Found, test.found) || !strings.Contains(f.Fix, test.fix)):
				t.Errorf("%s: %+v, want %s %q, fix %q", name, f, test.level, test.found, test.fix)
			}
		}
		if stops := h.hopeless(nil) != nil; stops != (test.level == fail) {
			t.Errorf("%s: does it keep all from starting? %t", name, stops)
		}
		for _, f := range h.examine([]string{test.check}) {
			if f.Check == test.check {
				t.Errorf("%s: %s was to be ignored", name, f.Check)
			}
		}
	}
}

func portTaken(port, taken int) error {
	if port != taken {
		return nil
	}
	return errors.New("address already in use: pid 5 (nginx) has it")
}

// R02: without iptables the proxy cannot run.
func TestDoctorWithoutIptables(t *testing.T) {
	h := healthyHost(t)
	h.lookPath = func(string) (string, error) { return "", os.ErrNotExist }
	for _, f := range h.examine(nil) {
		if f.Check == "iptables" && (f.Level != fail || !strings.Contains(f.Fix, "apt-get install iptables")) {
			t.Errorf("%+v", f)
		}
	}
}

// R79: one proxy alone writes the KUBE-* chains of a network namespace; the second is told who does, and what to do.
func TestClaimChains(t *testing.T) {
	release, err := claimChains("/data")
	if err != nil {
		t.Skipf("a cluster runs in this network namespace: %v", err)
	}
	_, err = claimChains("/other")
	release()
	if runtime.GOOS == "linux" && (err == nil || !strings.Contains(err.Error(), "the cluster in /data (pid") || !strings.Contains(err.Error(), "--disable=proxy")) {
		t.Errorf("the second got %v", err)
	}
	again, err := claimChains("/other")
	if err != nil {
		t.Fatalf("nobody holds them any more: %v", err)
	}
	again()
}
