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
	"runtime"
	"slices"
	"strings"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// bridgeConf is the configuration of the bridge plugin.
type bridgeConf struct {
	Type    string   `json:"type"`
	Bridge  string   `json:"bridge"`  // name of the bridge
	Subnets []subnet `json:"subnets"` // one, or two of different families; the first is the pods' main one
	DataDir string   `json:"dataDir"` // given addresses
	ID      string   `json:"id"`      // ends the names of our iptables chains
	MTU     int      `json:"mtu,omitempty"`
}

// subnet is the node's share of the pods' addresses in one family.
type subnet struct {
	CIDR    netip.Prefix `json:"cidr"`    // its first address is the gateway's
	Cluster netip.Prefix `json:"cluster"` // all pods'; traffic to it is not masqueraded
}

func (s subnet) gateway() netip.Addr { return gatewayOf(s.CIDR) }
func (s subnet) six() bool           { return s.CIDR.Addr().Is6() }

// host is one address of the subnet, with the length of its prefix.
func (s subnet) host(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(s.CIDR.Bits(), ip.BitLen())}
}

// alone is an address as a network of its own.
func alone(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
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
//	Step 1: an address for the pod, in each family.
//	Step 2: the bridge, with the gateways' addresses, and the node's rules; once.
//	Step 3: the pair of links, one end in the pod.
//	Step 4: inside the pod: addresses and routes.
func (bridge) add(ctx context.Context, args *pluginArgs) (*current.Result, error) {
	conf, err := parseBridgeConf(args)
	if err != nil {
		return nil, err
	}
	// Step 1
	ips, err := allocateAll(conf, args.ContainerID)
	if err != nil {
		return nil, err
	}
	// Step 2
	br, err := ensureBridge(conf)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w", conf.Bridge, err)
	}
	for _, subnet := range conf.Subnets {
		if err := ensureMasquerade(ctx, conf, subnet); err != nil {
			return nil, err
		}
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
	mac, err := configurePod(ns, args.IfName, conf.Subnets, ips)
	if err != nil {
		return nil, fmt.Errorf("interface %s of the pod: %w", args.IfName, err)
	}
	result := &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: port}, {Name: args.IfName, Mac: mac, Sandbox: args.NetNS}},
	}
	inPod := 1
	for i, subnet := range conf.Subnets {
		result.IPs = append(result.IPs, &current.IPConfig{Interface: &inPod, Address: *subnet.host(ips[i]), Gateway: subnet.gateway().AsSlice()})
	}
	return result, nil
}

func parseBridgeConf(args *pluginArgs) (*bridgeConf, error) {
	conf := &bridgeConf{}
	if err := json.Unmarshal(args.Conf, conf); err != nil {
		return nil, err
	}
	if args.Command == "ADD" && len(conf.Subnets) == 0 {
		return nil, errors.New(`the configuration names no "subnets"`)
	}
	return conf, nil
}

// allocateAll gives an owner an address of each subnet. What it had been given when one is missing, DEL gives back.
func allocateAll(conf *bridgeConf, owner string) ([]netip.Addr, error) {
	var ips []netip.Addr
	for _, subnet := range conf.Subnets {
		ip, err := (&addresses{dir: conf.DataDir, subnet: subnet.CIDR}).allocate(owner)
		if err != nil {
			return nil, err
		}
		ips = append(ips, ip)
	}
	return ips, nil
}

// gatewayOf is the first address of a subnet.
func gatewayOf(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }

// portName is the node's end of a pod's link; at most 15 letters are allowed.
func portName(containerID string) string {
	return fmt.Sprintf("veth%x", sha256.Sum256([]byte(containerID)))[:12]
}

// ensureBridge makes the bridge, unless it is there as it should be.
func ensureBridge(conf *bridgeConf) (netlink.Link, error) {
	link, err := netlink.LinkByName(conf.Bridge)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		link, err = makeBridge(conf)
	}
	if err != nil {
		return nil, err
	}
	// route_localnet lets 127.0.0.1:hostPort reach a pod; redirects would tell pods a way that is closed.
	conf4 := "/proc/sys/net/ipv4/conf/" + conf.Bridge + "/"
	err = setSysctls([][2]string{{"/proc/sys/net/ipv4/ip_forward", "1"}, {conf4 + "route_localnet", "1"}, {conf4 + "send_redirects", "0"}})
	if err == nil && slices.ContainsFunc(conf.Subnets, subnet.six) {
		conf6 := "/proc/sys/net/ipv6/conf/"
		err = setSysctls([][2]string{{conf6 + conf.Bridge + "/disable_ipv6", "0"}, {conf6 + conf.Bridge + "/accept_dad", "0"}, {conf6 + "all/forwarding", "1"}})
	}
	if err != nil {
		return nil, err
	}
	if err := setGateways(link, conf.Subnets); err != nil {
		return nil, err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		err = netlink.LinkSetUp(link)
	}
	return link, err
}

func makeBridge(conf *bridgeConf) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = conf.Bridge, conf.MTU
	// Without an address of its own, a bridge takes its lowest port's, and changes it as pods come and go.
	sum := sha256.Sum256([]byte(conf.Bridge + conf.Subnets[0].CIDR.String()))
	attrs.HardwareAddr = net.HardwareAddr{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
	for _, subnet := range conf.Subnets {
		if err := refuseSecondGateway(conf, subnet.gateway()); err != nil {
			return nil, err
		}
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, err
	}
	link, err := netlink.LinkByName(conf.Bridge)
	if err == nil { // who finds the bridge one day should know whose it was
		err = netlink.LinkSetAlias(link, aliasPrefix+conf.DataDir)
	}
	return link, err
}

// setGateways gives the bridge the gateways' addresses, and no other but the kernel's own.
func setGateways(link netlink.Link, subnets []subnet) error {
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, a := range have {
		there[a.IPNet.String()] = true
		wanted := slices.ContainsFunc(subnets, func(s subnet) bool { return s.host(s.gateway()).String() == a.IPNet.String() })
		if !wanted && !a.IP.IsLinkLocalUnicast() { // of a former pod CIDR
			if err := netlink.AddrDel(link, &a); err != nil {
				return err
			}
		}
	}
	for _, s := range subnets {
		gateway := &netlink.Addr{IPNet: s.host(s.gateway())}
		if s.six() {
			gateway.Flags = unix.IFA_F_NODAD // the first pod need not wait a second until the kernel believes that it is ours
		}
		if there[gateway.IPNet.String()] {
			continue
		}
		if err := netlink.AddrAdd(link, gateway); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return nil
}

// aliasPrefix stands in a bridge's alias before the directory of its given addresses.
const aliasPrefix = "hyperkube "

// refuseSecondGateway says which other link has the gateway's address already. With
// two of them the kernel would send packets for our pods to the other one, where
// nobody answers: the bridge of a cri that was stopped alone, in another data directory.
func refuseSecondGateway(conf *bridgeConf, gateway netip.Addr) error {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
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
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		value, err := os.ReadFile("/proc/sys/net/bridge/" + name)
		if err == nil && strings.TrimSpace(string(value)) == "1" {
			return true
		}
	}
	return false
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

// configurePod gives the pod's interface its addresses, and in each family one way
// out: over the gateway. An address brings no route to its subnet along, since the
// other pods there are reached over the gateway too.
func configurePod(ns netns.NsHandle, ifName string, subnets []subnet, ips []netip.Addr) (mac string, err error) {
	conf4 := "/proc/sys/net/ipv4/conf/"
	settings := [][2]string{{conf4 + "all/accept_redirects", "0"}, {conf4 + ifName + "/accept_redirects", "0"}}
	if slices.ContainsFunc(subnets, subnet.six) {
		// The port sends back what it is sent (hairpin), so that a pod would take its own question whether an address
		// is free for another's claim, and give the address up.
		conf6 := "/proc/sys/net/ipv6/conf/" + ifName + "/"
		settings = append(settings, [][2]string{{conf6 + "disable_ipv6", "0"}, {conf6 + "accept_dad", "0"}, {conf6 + "accept_ra", "0"}, {conf6 + "accept_redirects", "0"}}...)
	}
	if err := inNamespace(ns, func() error { return setSysctls(settings) }); err != nil {
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
	for i, subnet := range subnets {
		address := &netlink.Addr{IPNet: subnet.host(ips[i]), Flags: unix.IFA_F_NOPREFIXROUTE}
		if subnet.six() {
			address.Flags |= unix.IFA_F_NODAD
		}
		if err := inside.AddrAdd(link, address); err != nil {
			return "", err
		}
	}
	if err := inside.LinkSetUp(link); err != nil {
		return "", err
	}
	for i, subnet := range subnets {
		gateway := subnet.gateway()
		direct := &netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: alone(gateway)}
		if err := inside.RouteAdd(direct); err != nil {
			return "", err
		}
		if err := inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(), Src: ips[i].AsSlice()}); err != nil {
			return "", err
		}
	}
	return link.Attrs().HardwareAddr.String(), nil
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
	conf, err := parseBridgeConf(args)
	if err != nil {
		return err
	}
	return errors.Join(deleteLink(portName(args.ContainerID)), (&addresses{dir: conf.DataDir}).release(args.ContainerID))
}

func (bridge) check(ctx context.Context, args *pluginArgs) error {
	conf, err := parseBridgeConf(args)
	if err != nil {
		return err
	}
	if _, err := netlink.LinkByName(portName(args.ContainerID)); err != nil {
		return fmt.Errorf("the pod's link %s: %w", portName(args.ContainerID), err)
	}
	for _, subnet := range conf.Subnets {
		if (&addresses{dir: conf.DataDir, subnet: subnet.CIDR}).ownedBy(args.ContainerID) == "" {
			return fmt.Errorf("the pod's address in %s is not marked as given", subnet.CIDR)
		}
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
