package network

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridgeConf is the configuration of the bridge plugin.
type bridgeConf struct {
	Type        string `json:"type"`
	Bridge      string `json:"bridge"`      // name of the bridge
	Subnet      string `json:"subnet"`      // the node's pod CIDR; its first address is the gateway's
	ClusterCIDR string `json:"clusterCIDR"` // traffic to it is not masqueraded
	DataDir     string `json:"dataDir"`     // given addresses
	ID          string `json:"id"`          // ends the names of our iptables chains
	MTU         int    `json:"mtu,omitempty"`
}

// bridge is the plugin that connects a pod by a pair of virtual links to a
// bridge of the node:
//
//	pod: eth0 ═══ veth… port ── bridge (gateway address) ── node's routing ── other nodes, the world
//
// Pods of one node reach each other through the node's routing, over the gateway,
// where iptables sees every packet. Switching between ports would make packets
// miss it, and Services fail between pods of one node; so the ports are isolated
// from each other (R52). Not so where the module br_netfilter shows iptables what
// is switched: it sends a packet whose destination a Service has rewritten straight
// to the other port, where isolation would drop it. There the ports are open.
type bridge struct{}

// add performs ADD:
//
//	Step 1: an address for the pod.
//	Step 2: the bridge, with the gateway's address, and the node's rules; once.
//	Step 3: the pair of links, one end in the pod.
//	Step 4: inside the pod: address and routes.
func (bridge) add(ctx context.Context, args *pluginArgs) (*current.Result, error) {
	conf, subnet, err := parseBridgeConf(args)
	if err != nil {
		return nil, err
	}
	// Step 1
	pool := &addresses{dir: conf.DataDir, subnet: subnet}
	ip, err := pool.allocate(args.ContainerID)
	if err != nil {
		return nil, err
	}
	// Step 2
	br, err := ensureBridge(conf, subnet)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", conf.Bridge, err)
	}
	if err := ensureMasquerade(ctx, conf, subnet); err != nil {
		return nil, err
	}
	// Step 3
	ns, err := netns.GetFromPath(args.NetNS)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", args.NetNS, err)
	}
	defer ns.Close()
	port := portName(args.ContainerID)
	if err := plug(br, ns, port, args.IfName); err != nil {
		return nil, fmt.Errorf("link %s: %w", port, err)
	}
	// Step 4
	address := &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)}
	gateway := net.IP(gatewayOf(subnet).AsSlice())
	mac, err := configurePod(ns, args.IfName, address, gateway)
	if err != nil {
		return nil, fmt.Errorf("interface %s of the pod: %w", args.IfName, err)
	}
	zero := 1
	return &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: port}, {Name: args.IfName, Mac: mac, Sandbox: args.NetNS}},
		IPs:        []*current.IPConfig{{Interface: &zero, Address: *address, Gateway: gateway}},
	}, nil
}

func parseBridgeConf(args *pluginArgs) (*bridgeConf, netip.Prefix, error) {
	conf := &bridgeConf{}
	if err := json.Unmarshal(args.Conf, conf); err != nil {
		return nil, netip.Prefix{}, err
	}
	subnet, err := netip.ParsePrefix(conf.Subnet)
	return conf, subnet, err
}

// gatewayOf is the first address of a subnet.
func gatewayOf(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }

// portName is the node's end of a pod's link; at most 15 letters are allowed.
func portName(containerID string) string {
	return fmt.Sprintf("veth%x", sha256.Sum256([]byte(containerID)))[:12]
}

// ensureBridge makes the bridge, unless it is there as it should be.
func ensureBridge(conf *bridgeConf, subnet netip.Prefix) (netlink.Link, error) {
	link, err := netlink.LinkByName(conf.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = conf.Bridge, conf.MTU
		// Without an address of its own, a bridge takes its lowest port's, and changes it as pods come and go.
		sum := sha256.Sum256([]byte(conf.Bridge + conf.Subnet))
		attrs.HardwareAddr = net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
		if err = refuseSecondGateway(conf, gatewayOf(subnet)); err != nil {
			return nil, err
		}
		if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err == nil || errors.Is(err, unix.EEXIST) {
			link, err = netlink.LinkByName(conf.Bridge)
		}
		if err == nil { // who finds the bridge one day should know whose it was
			err = netlink.LinkSetAlias(link, aliasPrefix+conf.DataDir)
		}
	}
	if err != nil {
		return nil, err
	}
	gateway := &netlink.Addr{IPNet: &net.IPNet{IP: gatewayOf(subnet).AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)}}
	have, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	there := false
	for _, a := range have {
		if a.IPNet.String() == gateway.IPNet.String() {
			there = true
		} else if err := netlink.AddrDel(link, &a); err != nil { // of a former pod CIDR
			return nil, err
		}
	}
	if !there {
		if err := netlink.AddrAdd(link, gateway); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(link); err != nil {
			return nil, err
		}
	}
	// route_localnet lets 127.0.0.1:hostPort reach a pod; redirects would tell pods a way that is closed.
	conf4 := "/proc/sys/net/ipv4/conf/" + conf.Bridge + "/"
	return link, setSysctls([][2]string{{"/proc/sys/net/ipv4/ip_forward", "1"}, {conf4 + "route_localnet", "1"}, {conf4 + "send_redirects", "0"}})
}

// aliasPrefix stands in a bridge's alias before the directory of its given addresses.
const aliasPrefix = "hyperkube "

// refuseSecondGateway says which other link has the gateway's address already. With
// two of them the kernel would send packets for our pods to the other one, where
// nobody answers: the bridge of a cri that was stopped alone, in another data directory.
func refuseSecondGateway(conf *bridgeConf, gateway netip.Addr) error {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if !a.IP.Equal(gateway.AsSlice()) {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil || link.Attrs().Name == conf.Bridge {
			continue // gone meanwhile, or made by another pod that starts now
		}
		name := link.Attrs().Name
		owner, ours := strings.CutPrefix(link.Attrs().Alias, aliasPrefix)
		if !ours {
			return fmt.Errorf("link %s has the address %s of this node's gateway: choose another range of pod addresses (hyperkube all --cluster-cidr=…), or remove it (ip link delete %s)", name, gateway, name)
		}
		cluster, _, _ := strings.Cut(owner, "/nodes/")
		return fmt.Errorf("link %s has the address %s of this node's gateway, and packets for pods would go there: the cluster in %s left it: stop that one, then hyperkube reset --data-dir=%s --keep-data",
			name, gateway, cluster, cluster)
	}
	return nil
}

// setSysctls writes what differs. Values that cannot be written are an error
// only if they differ: /proc/sys may be read-only and right (R53).
func setSysctls(settings [][2]string) error {
	for _, s := range settings {
		have, err := os.ReadFile(s[0])
		if err == nil && string(have) == s[1]+"\n" {
			continue
		}
		if err := os.WriteFile(s[0], []byte(s[1]), 0o644); err != nil {
			return fmt.Errorf("setting %s to %s: %w", s[0], s[1], err)
		}
	}
	return nil
}

// plug makes the pair of links: one end in the pod, the other a port of the bridge.
func plug(br netlink.Link, ns netns.NsHandle, port, ifName string) error {
	if err := deleteLink(port); err != nil { // of an attempt that was cut short
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = port, br.Attrs().MTU, br.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: ifName, PeerNamespace: netlink.NsFd(int(ns)), PeerMTU: uint32(br.Attrs().MTU)}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	link, err := netlink.LinkByName(port)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetHairpin(link, true); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	return isolatePorts(br, !bridgeNetfilter())
}

// bridgeNetfilter reports whether iptables sees what bridges switch in this network namespace.
func bridgeNetfilter() bool {
	value, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return err == nil && strings.TrimSpace(string(value)) == "1"
}

// isolatePorts sets all ports of a bridge alike: the module may have been loaded
// since the first of them was made.
func isolatePorts(br netlink.Link, isolated bool) error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Attrs().MasterIndex != br.Attrs().Index {
			continue
		}
		// A port that goes away meanwhile belongs to a pod that does.
		if err := netlink.LinkSetIsolated(link, isolated); err != nil && !errors.Is(err, unix.ENODEV) {
			return err
		}
	}
	return nil
}

// configurePod gives the pod's interface its address, and one way out: over the
// gateway. The address brings no route to its subnet along, since the other
// pods there are reached over the gateway too.
func configurePod(ns netns.NsHandle, ifName string, address *net.IPNet, gateway net.IP) (mac string, err error) {
	err = inNamespace(ns, func() error {
		return setSysctls([][2]string{{"/proc/sys/net/ipv4/conf/all/accept_redirects", "0"}, {"/proc/sys/net/ipv4/conf/" + ifName + "/accept_redirects", "0"}})
	})
	if err != nil {
		return "", err
	}
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return "", err
	}
	defer inside.Close()
	link, err := inside.LinkByName(ifName)
	if err != nil {
		return "", err
	}
	if err := inside.AddrAdd(link, &netlink.Addr{IPNet: address, Flags: unix.IFA_F_NOPREFIXROUTE}); err != nil {
		return "", err
	}
	if err := inside.LinkSetUp(link); err != nil {
		return "", err
	}
	index := link.Attrs().Index
	direct := &net.IPNet{IP: gateway, Mask: net.CIDRMask(32, 32)}
	if err := inside.RouteAdd(&netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: direct}); err != nil {
		return "", err
	}
	err = inside.RouteAdd(&netlink.Route{LinkIndex: index, Gw: gateway, Src: address.IP})
	return link.Attrs().HardwareAddr.String(), err
}

// inNamespace runs work on a thread in another network namespace. The thread is
// not used again: it ends with the goroutine that stays locked to it.
func inNamespace(ns netns.NsHandle, work func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(ns)
		if err == nil {
			err = work()
		}
		done <- err
	}()
	return <-done
}

func (bridge) del(ctx context.Context, args *pluginArgs) error {
	conf, _, err := parseBridgeConf(args)
	if err != nil {
		return err
	}
	return errors.Join(deleteLink(portName(args.ContainerID)), (&addresses{dir: conf.DataDir}).release(args.ContainerID))
}

func (bridge) check(ctx context.Context, args *pluginArgs) error {
	conf, _, err := parseBridgeConf(args)
	if err != nil {
		return err
	}
	if _, err := netlink.LinkByName(portName(args.ContainerID)); err != nil {
		return fmt.Errorf("the pod's link %s: %w", portName(args.ContainerID), err)
	}
	if (&addresses{dir: conf.DataDir}).ownedBy(args.ContainerID) == "" {
		return fmt.Errorf("the pod's address is not marked as given")
	}
	return nil
}

// deleteLink removes a link, and its other end with it.
func deleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// addresses is the list of given addresses: a file an address, which holds its
// owner. The file system makes giving one an atomic act, and survives us.
type addresses struct {
	dir    string
	subnet netip.Prefix
}

// allocate gives an owner the next free address. The search goes on from the
// last one given: an address is not used again while someone may still know it.
func (a *addresses) allocate(owner string) (netip.Addr, error) {
	unlock, err := a.lock()
	if err != nil {
		return netip.Addr{}, err
	}
	defer unlock()
	if have := a.ownedBy(owner); have != "" {
		return netip.ParseAddr(have)
	}
	last := filepath.Join(a.dir, "last")
	start := gatewayOf(a.subnet)
	if data, err := os.ReadFile(last); err == nil {
		if ip, err := netip.ParseAddr(string(data)); err == nil && a.subnet.Contains(ip) {
			start = ip
		}
	}
	for ip := a.after(start); ; ip = a.after(ip) {
		f, err := os.OpenFile(filepath.Join(a.dir, ip.String()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(owner)
			if err = errors.Join(err, f.Close(), os.WriteFile(last, []byte(ip.String()), 0o644)); err != nil {
				os.Remove(f.Name())
			}
			return ip, err
		}
		if !errors.Is(err, os.ErrExist) {
			return netip.Addr{}, err
		}
		if ip == start {
			return netip.Addr{}, fmt.Errorf("no address is free in %s", a.subnet)
		}
	}
}

// after is the next address that a pod may have: not the network's own, the
// gateway's, nor the broadcast address.
func (a *addresses) after(ip netip.Addr) netip.Addr {
	next := ip.Next()
	if !a.subnet.Contains(next) || !a.subnet.Contains(next.Next()) {
		next = gatewayOf(a.subnet).Next()
	}
	return next
}

func (a *addresses) lock() (unlock func(), err error) {
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(a.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func (a *addresses) each(use func(ip, owner string)) {
	entries, _ := os.ReadDir(a.dir)
	for _, e := range entries {
		if _, err := netip.ParseAddr(e.Name()); err == nil {
			owner, _ := os.ReadFile(filepath.Join(a.dir, e.Name()))
			use(e.Name(), string(owner))
		}
	}
}

func (a *addresses) ownedBy(owner string) (found string) {
	a.each(func(ip, by string) {
		if by == owner {
			found = ip
		}
	})
	return found
}

func (a *addresses) owners() (all []string) {
	a.each(func(_, by string) {
		if by != "" {
			all = append(all, by)
		}
	})
	return all
}

func (a *addresses) release(owner string) error {
	unlock, err := a.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	a.each(func(ip, by string) {
		if by == owner {
			errs = append(errs, os.Remove(filepath.Join(a.dir, ip)))
		}
	})
	return errors.Join(errs...)
}
