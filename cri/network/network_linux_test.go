package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The test binary is the tests, in a network namespace of their own, and, as
// argv[0] says, a CNI plugin or a process that holds a pod's namespace.
func TestMain(m *testing.M) {
	if code, handled := PluginMain(os.Args[0], os.Stdin, os.Stdout); handled {
		os.Exit(code)
	}
	switch {
	case os.Args[0] == "holder":
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	case os.Getuid() != 0:
		fmt.Println("SKIP: network namespaces need root")
		os.Exit(0)
	case os.Getenv("NETWORK_TEST_INSIDE") == "":
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "NETWORK_TEST_INSIDE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
		if cmd.Run() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// namespace is a network namespace for as long as the test lasts.
func namespace(t *testing.T) (path string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = "holder"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close(); cmd.Wait() })
	return "/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/net"
}

func newNetwork(t *testing.T, cidr string) *Network {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{ConfDir: dir + "/net.d", BinDir: dir + "/bin", DataDir: dir + "/data", SelfExe: exe, ClusterCIDR: "10.9.0.0/16,fd00:9::/48"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "no CNI configuration") {
		t.Errorf("ready without a configuration: %v", err)
	}
	if err := n.SetPodCIDR(cidr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := n.CleanUp(context.Background()); err != nil {
				t.Error(err)
			}
		}
		links, _ := net.Interfaces()
		rules, _ := exec.Command("iptables-save").Output()
		six, _ := exec.Command("ip6tables-save").Output()
		rules = append(rules, six...)
		if len(links) != 1 || bytes.Contains(rules, []byte("HK-")) {
			t.Errorf("left: %v\n%s", links, rules)
		}
	})
	return n
}

func TestAddGivesAnAddressAndARoute(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	pod := &Pod{ID: "p1", NetNS: namespace(t)}
	ips, err := n.Add(context.Background(), pod)
	if err != nil || len(ips) != 1 || ips[0] != "10.9.3.2" {
		t.Fatalf("%v %v", ips, err)
	}
	ns, err := netns.GetFromPath(pod.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	routes, err := inside.RouteGet(net.ParseIP("10.9.3.77")) // another pod of this node
	if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.9.3.1" {
		t.Errorf("the way to another pod: %v %v", routes, err)
	}
	if err := n.Check(context.Background(), pod); err != nil {
		t.Error(err)
	}
	if got := n.Attached(); len(got) != 1 || got[0] != "p1" {
		t.Errorf("attached %v", got)
	}
	for range 2 { // DEL may be repeated
		if err := n.Del(context.Background(), pod); err != nil {
			t.Error(err)
		}
	}
	if got := n.Attached(); len(got) != 0 {
		t.Errorf("attached after DEL: %v", got)
	}
	if links, _ := net.Interfaces(); len(links) != 2 { // lo and the bridge
		t.Errorf("links %v", links)
	}
}

// Two families: the pod has an address and a way out in each, other pods are reached over the gateway, the rules and the
// ports of the node are there in both, and all of it goes again.
func TestTwoFamilies(t *testing.T) {
	if _, err := exec.LookPath("ip6tables"); err != nil {
		t.Skip("no ip6tables")
	}
	n := newNetwork(t, "10.9.3.0/24,fd00:9:0:3::/64")
	ports := []PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}, {HostPort: 8081, ContainerPort: 81, Protocol: "tcp", HostIP: "192.0.2.1"}}
	pod := &Pod{ID: "p1", NetNS: namespace(t), Ports: ports}
	ips, err := n.Add(t.Context(), pod)
	if err != nil || strings.Join(ips, " ") != "10.9.3.2 fd00:9:0:3::2" {
		t.Fatalf("%v %v", ips, err)
	}
	ns, err := netns.GetFromPath(pod.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	for to, want := range map[string]string{"fd00:9:0:3::77": "fd00:9:0:3::1", "2001:db8::1": "fd00:9:0:3::1", "10.9.3.77": "10.9.3.1"} {
		routes, err := inside.RouteGet(net.ParseIP(to))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != want {
			t.Errorf("the way to %s: %v %v", to, routes, err)
		}
	}
	// At once, not after the kernel has made sure that nobody else has the address.
	if err := inNamespace(ns, func() error { return dial("fd00:9:0:3::1") }); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the gateway, from the pod: %v, want that it is reached, and refuses", err)
	}
	rules, err := exec.Command("ip6tables-save").Output()
	if err != nil {
		t.Fatal(err)
	}
	id := short(n.cfg.DataDir)
	for _, want := range []string{"-A POSTROUTING -s fd00:9:0:3::/64", "-A HK-MASQ-" + id + " -d fd00:9::/48 -j RETURN", "-A HK-FORWARD-" + id + " -s fd00:9:0:3::/64 -j ACCEPT",
		"--dport 8080 -j DNAT --to-destination [fd00:9:0:3::2]:80"} {
		if !strings.Contains(string(rules), want) {
			t.Errorf("rules lack %s:\n%s", want, rules)
		}
	}
	if strings.Contains(string(rules), "8081") {
		t.Errorf("a port of an IPv4 address is among the rules of IPv6:\n%s", rules)
	}
	for _, more := range []string{"p2", "p3"} {
		other := &Pod{ID: more, NetNS: namespace(t)}
		if ips, err := n.Add(t.Context(), other); err != nil || ips[1] != strings.Replace(ips[0], "10.9.3.", "fd00:9:0:3::", 1) {
			t.Errorf("%s: %v %v", more, ips, err)
		}
		if err := n.Del(t.Context(), other); err != nil {
			t.Error(err)
		}
	}
	if err := n.Check(t.Context(), pod); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := n.Del(t.Context(), pod); err != nil {
			t.Error(err)
		}
	}
	if got := n.Attached(); len(got) != 0 {
		t.Errorf("attached after DEL: %v", got)
	}
	if rules, _ := exec.Command("ip6tables-save").Output(); strings.Contains(string(rules), "8080") {
		t.Errorf("after DEL:\n%s", rules)
	}
	for _, bad := range []string{"10.9.3.0/24,10.9.4.0/24", "10.9.3.0/24,fd00::/64,fd01::/64", "10.9.3.0/24,six"} {
		if err := n.SetPodCIDR(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

// dial asks an address for a connection to a port where nobody listens.
func dial(ip string) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrInet6{Port: 9, Addr: netip.MustParseAddr(ip).As16()})
}

// A hundred pods later, the rules are those of one (R50).
func TestRulesAreWrittenOnceAndLetPodsOut(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	var rules string
	for i := range 3 {
		pod := &Pod{ID: fmt.Sprint("p", i), NetNS: namespace(t)}
		if _, err := n.Add(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("iptables-save").Output()
		if err != nil {
			t.Skip("no iptables: ", err)
		}
		now := string(bytes.Join(lines(out, "-A "), []byte("\n")))
		if i > 0 && now != rules {
			t.Errorf("rules changed:\n%s\nwere:\n%s", now, rules)
		}
		rules = now
		defer n.Del(context.Background(), pod)
	}
	id := short(n.cfg.DataDir)
	for _, want := range []string{"-A POSTROUTING -s 10.9.3.0/24", "-A HK-MASQ-" + id + " -d 10.9.0.0/16 -j RETURN", "-A HK-FORWARD-" + id + " -s 10.9.3.0/24 -j ACCEPT"} {
		if !strings.Contains(rules, want) {
			t.Errorf("rules lack %s:\n%s", want, rules)
		}
	}
}

func lines(text []byte, prefix string) (found [][]byte) {
	for _, line := range bytes.Split(text, []byte("\n")) {
		if bytes.HasPrefix(line, []byte(prefix)) {
			found = append(found, line)
		}
	}
	return found
}

func TestHostPortRulesComeAndGoWithThePod(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("no iptables")
	}
	n := newNetwork(t, "10.9.3.0/24")
	var pods []*Pod
	for i, id := range []string{"aaaa", "bbbb"} {
		pod := &Pod{ID: id, NetNS: namespace(t), Ports: []PortMapping{{HostPort: int32(8080 + i), ContainerPort: 80, Protocol: "tcp"}}}
		if _, err := n.Add(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
		pods = append(pods, pod)
	}
	count := func() int {
		out, _ := exec.Command("iptables-save", "-t", "nat").Output()
		return bytes.Count(out, []byte("--to-destination 10.9.3."))
	}
	for want := 2; want >= 0; want-- {
		if got := count(); got != want {
			t.Errorf("%d mappings, want %d", got, want)
		}
		if want > 0 {
			if err := n.Del(context.Background(), pods[want-1]); err != nil {
				t.Error(err)
			}
		}
	}
}

// Where the kernel does without IPv6, its programs fail: a pod's ports go all the same, and so does all the rest.
func TestWithoutIPv6(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("no iptables")
	}
	dir := t.TempDir()
	for _, program := range []string{"ip6tables", "ip6tables-save", "ip6tables-nft-save", "ip6tables-legacy-save"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\necho no IPv6 here >&2\nexit 3\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n := newNetwork(t, "10.9.3.0/24") // cleaned up at the end, by programs that work and, before that, by those
	path := os.Getenv("PATH")
	t.Setenv("PATH", dir+":"+path)
	pod := &Pod{ID: "p", NetNS: namespace(t), Ports: []PortMapping{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}}
	if _, err := n.Add(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if err := n.Del(t.Context(), pod); err != nil {
		t.Error(err)
	}
	if err := n.CleanUp(t.Context()); err != nil {
		t.Error(err)
	}
}

// What a plugin could not do is undone, and its error is the caller's.
func TestFailedAddLeavesNothing(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	if _, err := n.Add(context.Background(), &Pod{ID: "p", NetNS: "/no/such/namespace"}); err == nil {
		t.Fatal("no error")
	}
	if got := n.Attached(); len(got) != 0 {
		t.Errorf("attached %v", got)
	}
}

// Our plugins are real ones: a program that knows only CNI can call them.
func TestPluginAsAProgram(t *testing.T) {
	n := newNetwork(t, "10.9.3.0/24")
	data, err := os.ReadFile(filepath.Join(n.cfg.ConfDir, confName))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	list.Plugins[0]["cniVersion"], list.Plugins[0]["name"] = "1.0.0", "hyperkube"
	conf, _ := json.Marshal(list.Plugins[0])
	ns := namespace(t)
	call := func(command string) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(n.cfg.BinDir, bridgePlugin))
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=x", "CNI_NETNS="+ns, "CNI_IFNAME=eth0", "CNI_PATH="+n.cfg.BinDir)
		cmd.Stdin = bytes.NewReader(conf)
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v: %s", command, err, out)
		}
		return string(out)
	}
	if got := call("VERSION"); !strings.Contains(got, "1.0.0") {
		t.Errorf("VERSION: %s", got)
	}
	if got := call("ADD"); !strings.Contains(got, `"address": "10.9.3.2/24"`) {
		t.Errorf("ADD: %s", got)
	}
	call("DEL")
}

func TestAddressesGoRoundAndRunOut(t *testing.T) {
	pool := &addresses{dir: t.TempDir(), subnet: netip.MustParsePrefix("10.0.0.0/29")} // .2 to .6 are for pods
	var got []string
	for i := range 5 {
		ip, err := pool.allocate(fmt.Sprint("pod", i))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ip.String())
	}
	if want := "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6"; strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	if ip, err := pool.allocate("one more"); err == nil || !strings.Contains(err.Error(), "no address is free") {
		t.Errorf("got %v %v", ip, err)
	}
	if again, err := pool.allocate("pod2"); err != nil || again.String() != "10.0.0.4" {
		t.Errorf("a second time: %v %v", again, err)
	}
	for _, pod := range []string{"pod1", "pod3", "pod1"} {
		if err := pool.release(pod); err != nil {
			t.Error(err)
		}
	}
	if ip, _ := pool.allocate("new"); ip.String() != "10.0.0.3" { // after .6, round to the first free
		t.Errorf("got %v", ip)
	}
}

// Two bridges with one gateway address: the kernel would send packets for the second's pods to the first. The pod is
// refused with the cause and the remedy, and starts once the first is gone.
func TestBridgeOfAnotherClusterIsRefused(t *testing.T) {
	n := newNetwork(t, "10.9.6.0/24")
	for _, test := range []struct{ alias, want string }{
		{aliasPrefix + "/left/nodes/node-1/cri/cni/data/addresses", "hyperkube reset --data-dir=/left "},
		{"", "ip link delete stale0"},
	} {
		stale := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "stale0"}}
		if err := netlink.LinkAdd(stale); err != nil {
			t.Fatal(err)
		}
		address, err := netlink.ParseAddr("10.9.6.1/24")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(netlink.LinkSetAlias(stale, test.alias), netlink.AddrAdd(stale, address)); err != nil {
			t.Fatal(err)
		}
		_, err = n.Add(context.Background(), &Pod{ID: "second", NetNS: namespace(t)})
		if err == nil || !strings.Contains(err.Error(), "link stale0 has the address 10.9.6.1") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v lacks %q", err, test.want)
		}
		if err := netlink.LinkDel(stale); err != nil {
			t.Fatal(err)
		}
	}
	pod := &Pod{ID: "second", NetNS: namespace(t)}
	if _, err := n.Add(context.Background(), pod); err != nil {
		t.Errorf("after the first is gone: %v", err)
	}
	if err := n.Del(context.Background(), pod); err != nil { // the kernel takes a dead namespace's veth away later than its process
		t.Error(err)
	}
}

// containerd calls the plugin "loopback" for each sandbox, in version 0.3.1 of the specification.
func TestLoopbackIsSetUp(t *testing.T) {
	ns := namespace(t)
	call := func(command string) (string, error) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args[0] = "/usr/lib/cni/loopback"
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=x", "CNI_NETNS="+ns, "CNI_IFNAME=lo", "CNI_PATH=/usr/lib/cni")
		cmd.Stdin = strings.NewReader(`{"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}`)
		out, err := cmd.Output()
		return string(out), err
	}
	if out, err := call("CHECK"); err == nil {
		t.Errorf("CHECK of a link that is down: %s", out)
	}
	for _, command := range []string{"ADD", "CHECK", "DEL", "DEL"} {
		out, err := call(command)
		if err != nil || command == "ADD" && (!strings.Contains(out, `"cniVersion": "0.3.1"`) || !strings.Contains(out, "127.0.0.1/8")) {
			t.Errorf("%s: %v: %s", command, err, out)
		}
	}
}
