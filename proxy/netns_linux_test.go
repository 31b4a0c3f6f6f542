package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"

	"hyperkube/proxy/iptables"
)

// These tests write real rules, in a network namespace of their own: the test
// binary starts itself again inside one. The machine's rules are never touched.
const insideNamespace = "PROXY_TEST_INSIDE_NAMESPACE"

// inNamespace returns true inside the namespace. Outside it runs this very test
// there, and returns false.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideNamespace) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: network namespaces cannot be made")
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("iptables is not installed")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v="+fmt.Sprint(testing.Verbose()))
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in the namespace: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("in the namespace:\n%s", out)
	}
	return false
}

// network is a node with two pods on a bridge and a neighbour on a wire.
//
//	pod a 10.244.0.2 --.
//	pod b 10.244.0.3 ---+-- br0 10.244.0.1 [node 192.0.2.1] ------ 192.0.2.2 neighbour
type network struct {
	t                    *testing.T
	node, a, b, neighbor netns.NsHandle
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wiring is how pods hang on their bridge.
type wiring struct {
	// routed pods send everything to the gateway; others send to their neighbours directly.
	routed bool
	// isolated ports of the bridge do not reach each other.
	isolated bool
	// netfilter: iptables sees what the bridge switches (module br_netfilter).
	netfilter bool
}

// embedded is how the embedded runtime does it, with and without the module.
func embedded(netfilter bool) wiring {
	return wiring{routed: true, isolated: !netfilter, netfilter: netfilter}
}

const bridgeNetfilter = "/proc/sys/net/bridge/bridge-nf-call-iptables"

// newNetwork builds it.
func newNetwork(t *testing.T, w wiring) *network {
	t.Helper()
	runtime.LockOSThread() // for the rest of the process: it ends with the test
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, "")) // the xtables lock is ours alone
	n := &network{t: t}
	var err error
	n.node, err = netns.Get()
	must(t, err)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))

	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	must(t, netlink.LinkAdd(bridge))
	addAddress(t, bridge, "10.244.0.1/24")
	must(t, netlink.LinkSetUp(bridge))
	value := map[bool]string{true: "1", false: "0"}[w.netfilter]
	if err := os.WriteFile(bridgeNetfilter, []byte(value), 0o644); err != nil && w.netfilter {
		t.Skip("the module br_netfilter is not there")
	}
	n.a = n.addPod(bridge, "a", "10.244.0.2", w)
	n.b = n.addPod(bridge, "b", "10.244.0.3", w)

	n.neighbor = n.connect("wire", nil)
	wire, err := netlink.LinkByName("wire")
	must(t, err)
	addAddress(t, wire, "192.0.2.1/24")
	// As on any host: without a route for it, a packet to a cluster IP ends before the rules.
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: wire.Attrs().Index, Gw: net.IPv4(192, 0, 2, 2)}))
	n.within(n.neighbor, func() {
		link, err := netlink.LinkByName("eth0")
		must(t, err)
		addAddress(t, link, "192.0.2.2/24")
	})
	return n
}

func addAddress(t *testing.T, link netlink.Link, cidr string) {
	t.Helper()
	address, err := netlink.ParseAddr(cidr)
	must(t, err)
	must(t, netlink.AddrAdd(link, address))
}

// connect makes a namespace and a pair of links into it; master may be nil.
func (n *network) connect(name string, master netlink.Link) netns.NsHandle {
	ns, err := netns.New()
	must(n.t, err)
	must(n.t, netns.Set(n.node))
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "peer"}
	must(n.t, netlink.LinkAdd(veth))
	peer, err := netlink.LinkByName("peer")
	must(n.t, err)
	must(n.t, netlink.LinkSetNsFd(peer, int(ns)))
	if master != nil {
		must(n.t, netlink.LinkSetMaster(veth, master))
	}
	must(n.t, netlink.LinkSetUp(veth))
	n.within(ns, func() {
		peer, err := netlink.LinkByName("peer")
		must(n.t, err)
		must(n.t, netlink.LinkSetName(peer, "eth0"))
		must(n.t, netlink.LinkSetUp(peer))
	})
	return ns
}

// addPod connects a pod that answers on TCP and UDP port 8080 with its name and who
// asked.
func (n *network) addPod(bridge netlink.Link, name, ip string, w wiring) netns.NsHandle {
	ns := n.connect("veth-"+name, bridge)
	port, err := netlink.LinkByName("veth-" + name)
	must(n.t, err)
	must(n.t, netlink.LinkSetHairpin(port, true))
	must(n.t, netlink.LinkSetIsolated(port, w.isolated))
	mask := "/24"
	if w.routed {
		mask = "/32"
	}
	n.within(ns, func() {
		eth0, err := netlink.LinkByName("eth0")
		must(n.t, err)
		addAddress(n.t, eth0, ip+mask)
		gateway := net.IPv4(10, 244, 0, 1)
		must(n.t, netlink.RouteReplace(&netlink.Route{LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}}))
		must(n.t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway}))
		listener, err := net.Listen("tcp4", ip+":8080")
		must(n.t, err)
		go answer(listener, name)
		packets, err := net.ListenPacket("udp4", ip+":8080")
		must(n.t, err)
		go answerPackets(packets, name)
	})
	return ns
}

func answer(listener net.Listener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
		fmt.Fprintf(conn, "%s %s\n", name, host)
		conn.Close()
	}
}

func answerPackets(packets net.PacketConn, name string) {
	buffer := make([]byte, 100)
	for {
		_, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo([]byte(name), from)
	}
}

// within runs f in a namespace. Sockets made there stay there.
func (n *network) within(ns netns.NsHandle, f func()) {
	n.t.Helper()
	must(n.t, netns.Set(ns))
	defer func() { must(n.t, netns.Set(n.node)) }()
	f()
}

// ask connects from a namespace and returns "pod client-address".
func (n *network) ask(from netns.NsHandle, address string) (reply string, err error) {
	n.within(from, func() {
		conn, dialErr := net.DialTimeout("tcp4", address, 2*time.Second)
		if dialErr != nil {
			err = dialErr
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		reply, err = bufio.NewReader(conn).ReadString('\n')
	})
	return strings.TrimSpace(reply), err
}

// program runs a command on the node.
func (n *network) program(argv ...string) string {
	n.t.Helper()
	out, err := iptables.Exec(n.t.Context(), "", argv...)
	must(n.t, err)
	return out
}

func (n *network) rules(program string) string {
	var kept []string
	for _, line := range strings.Split(n.program(program+"-save", "-t", "filter")+n.program(program+"-save", "-t", "nat"), "\n") {
		if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":KUBE") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func service(name, clusterIP string, nodePort int32, protocol v1.Protocol) *v1.Service {
	return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: v1.ServiceSpec{
		Type: v1.ServiceTypeNodePort, ClusterIP: clusterIP, ClusterIPs: []string{clusterIP},
		Ports: []v1.ServicePort{{Name: "http", Port: 80, Protocol: protocol, NodePort: nodePort, TargetPort: intstr.FromInt32(8080)}},
	}}
}

func slice(service string, protocol v1.Protocol, ips ...string) *discovery.EndpointSlice {
	s := &discovery.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: service + "-1", Labels: map[string]string{discovery.LabelServiceName: service}},
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: &protocol}},
	}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discovery.Endpoint{Addresses: []string{ip}, NodeName: new("node")})
	}
	return s
}

// start runs a proxy and waits for its first rules.
func (n *network) start(cfg Config) (p *Proxy, client *fake.Clientset, changed chan iptables.SyncReport, stop func()) {
	n.t.Helper()
	client = fake.NewClientset(
		service("web", "10.96.0.9", 30080, v1.ProtocolTCP), slice("web", v1.ProtocolTCP, "10.244.0.2", "10.244.0.3"),
		service("only-a", "10.96.0.10", 30081, v1.ProtocolTCP), slice("only-a", v1.ProtocolTCP, "10.244.0.2"),
		service("empty", "10.96.0.11", 30082, v1.ProtocolTCP),
		service("udp", "10.96.0.12", 30083, v1.ProtocolUDP), slice("udp", v1.ProtocolUDP, "10.244.0.2"),
	)
	changed = make(chan iptables.SyncReport, 100)
	cfg.Client, cfg.NodeName, cfg.ClusterCIDR = client, "node", "10.244.0.0/16"
	cfg.MinSyncPeriod = time.Millisecond
	cfg.RulesChanged = func(r iptables.SyncReport) { changed <- r }
	p, err := New(cfg)
	must(n.t, err)
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	// Threads are made from this one and share its namespace, the node's.
	go func() { done <- p.Run(ctx) }()
	n.wait(changed)
	return p, client, changed, func() {
		cancel()
		must(n.t, <-done)
	}
}

func (n *network) wait(changed chan iptables.SyncReport) {
	n.t.Helper()
	select {
	case <-changed:
	case <-time.After(time.Minute):
		n.t.Fatal("no rules were written")
	}
}

// R50, R51, R52, R70: every way to a Service works, under a FORWARD policy of DROP,
// with either kernel interface; a clean-up leaves the host as it was.
func testServices(t *testing.T, program string, w wiring) {
	n := newNetwork(t, w)
	n.program(program, "-P", "FORWARD", "DROP")
	n.program(program, "-A", "FORWARD", "-j", "DROP")
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0o644))
	before := n.rules(program)
	p, _, _, stop := n.start(Config{})
	if got := p.families[0].proxier.Backend().Program; got != program {
		t.Errorf("the host's rules are in %s, but %s is used", program, got)
	}

	checkAnswers(n, "a pod, the Service it is behind", n.a, "10.96.0.9:80", "a", "b")
	checkAnswers(n, "the node, a cluster IP", n.node, "10.96.0.9:80", "a", "b")
	checkAnswers(n, "a pod, only itself behind the Service", n.a, "10.96.0.10:80", "a")
	checkAnswers(n, "the node, NodePort at its address", n.node, "192.0.2.1:30080", "a", "b")
	checkAnswers(n, "the node, NodePort at 127.0.0.1", n.node, "127.0.0.1:30080", "a", "b")
	checkAnswers(n, "a neighbour, NodePort", n.neighbor, "192.0.2.1:30080", "a", "b")
	checkAnswers(n, "a pod, NodePort", n.b, "192.0.2.1:30080", "a", "b")

	// A pod sees who asks, where that does no harm.
	if got, err := n.ask(n.b, "10.96.0.10:80"); err != nil || got != "a 10.244.0.3" {
		t.Errorf("b asks only-a: %q, %v", got, err)
	}
	for _, address := range []string{"10.96.0.11:80", "192.0.2.1:30082"} {
		if _, err := n.ask(n.a, address); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a Service without endpoints at %s: %v, want refused", address, err)
		}
	}
	steps, err := p.Explain(t.Context(), "default", "web")
	if text := iptables.FormatSteps(steps); err != nil || !strings.Contains(text, "to 10.244.0.3:8080, 50.0 % of all") {
		t.Errorf("explain: %v\n%s", err, text)
	}

	stop()
	if got, err := n.ask(n.a, "10.96.0.9:80"); err != nil {
		t.Errorf("after the proxy stopped: %q, %v", got, err)
	}
	must(t, p.CleanUp(t.Context()))
	if after := n.rules(program); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
	if forward, _ := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); strings.TrimSpace(string(forward)) != "0" {
		t.Errorf("ip_forward is left at %s", forward)
	}
}

// checkAnswers asks until each of the pods has answered, and no other.
func checkAnswers(n *network, what string, from netns.NsHandle, address string, pods ...string) {
	n.t.Helper()
	seen := map[string]bool{}
	for range 60 { // with two pods, one of them stays silent once in 10^18
		reply, err := n.ask(from, address)
		if err != nil {
			n.t.Errorf("%s: %v", what, err)
			return
		}
		pod, _, _ := strings.Cut(reply, " ")
		if seen[pod] = true; len(seen) == len(pods) {
			break
		}
	}
	for _, pod := range pods {
		if !seen[pod] {
			n.t.Errorf("%s: pod %s never answered, but %v", what, pod, seen)
		}
	}
}

func TestServicesThroughNFT(t *testing.T) {
	if inNamespace(t) {
		testServices(t, "iptables-nft", embedded(false))
	}
}

func TestServicesWithBridgeNetfilter(t *testing.T) {
	if inNamespace(t) {
		testServices(t, "iptables-nft", embedded(true))
	}
}

func TestServicesThroughLegacy(t *testing.T) {
	if _, err := exec.LookPath("iptables-legacy"); err != nil {
		t.Skip("iptables-legacy is not installed")
	}
	if inNamespace(t) {
		testServices(t, "iptables-legacy", embedded(false))
	}
}

// R52: pods on one bridge whose replies would not pass iptables.
func testPlainBridge(t *testing.T, module bool) {
	n := newNetwork(t, wiring{netfilter: module})
	if module {
		must(t, os.WriteFile(bridgeNetfilter, []byte("0"), 0o644)) // the proxy must switch it on
	}
	cfg := Config{PlainBridge: true}
	if !module {
		// As without the module: everything but net/bridge.
		cfg.SysctlRoot = t.TempDir()
		must(t, os.Mkdir(filepath.Join(cfg.SysctlRoot, "net"), 0o755))
		must(t, os.Symlink("/proc/sys/net/ipv4", filepath.Join(cfg.SysctlRoot, "net/ipv4")))
	}
	_, _, _, stop := n.start(cfg)
	defer stop()
	checkAnswers(n, "a pod, the Service it is behind", n.a, "10.96.0.9:80", "a", "b")
	checkAnswers(n, "a pod, only itself behind the Service", n.a, "10.96.0.10:80", "a")
	checkAnswers(n, "a neighbour, NodePort", n.neighbor, "192.0.2.1:30080", "a", "b")
	want := "a 10.244.0.3"
	if !module {
		want = "a 10.244.0.1"
	}
	if got, err := n.ask(n.b, "10.96.0.10:80"); err != nil || got != want {
		t.Errorf("b asks only-a: %q, %v, want %q", got, err, want)
	}
}

func TestPlainBridgeWithModule(t *testing.T) {
	if inNamespace(t) {
		testPlainBridge(t, true)
	}
}

func TestPlainBridgeWithoutModule(t *testing.T) {
	if inNamespace(t) {
		testPlainBridge(t, false)
	}
}

// A UDP client that keeps its socket must move with the endpoint.
func TestUDPClientFollowsTheEndpoint(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	n := newNetwork(t, embedded(false))
	_, client, changed, stop := n.start(Config{})
	defer stop()
	var conn net.Conn
	n.within(n.node, func() {
		var err error
		conn, err = net.Dial("udp4", "10.96.0.12:80")
		must(t, err)
	})
	defer conn.Close()
	ask := func() string {
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write([]byte("who"))
		buffer := make([]byte, 10)
		size, _ := conn.Read(buffer)
		return string(buffer[:size])
	}
	if got := ask(); got != "a" {
		t.Fatalf("first answer %q", got)
	}
	moved := slice("udp", v1.ProtocolUDP, "10.244.0.3")
	if _, err := client.DiscoveryV1().EndpointSlices("default").Update(t.Context(), moved, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.wait(changed)
	// The flow is removed just after the rules are written.
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if got := ask(); got == "b" {
			return
		}
	}
	t.Error("the client still talks to the endpoint that is gone")
}
