package nodenet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespaces is where `ip netns` looks for names.
const namespaces = "/run/netns"

// inside is what a node's end of its link is called, as in a machine of its own.
const inside = "eth0"

// plugging has one node plugged in at a time: they share the bridge and its rules.
var plugging sync.Mutex

// Plug gives the node with a number its place in the network. What is there already is left as it is.
//
//	Step 1: the bridge, with the machine's address, and its rules; once for all nodes.
//	Step 2: the node's network namespace.
//	Step 3: the link between the two.
//	Step 4: inside the namespace: loopback, address, and the machine as the way to everywhere else.
func (n Network) Plug(ctx context.Context, node string, number int) error {
	plugging.Lock()
	defer plugging.Unlock()
	// Step 1
	bridge, err := n.ensureBridge()
	if err != nil {
		return fmt.Errorf("bridge %s: %w", n.Bridge(), err)
	}
	if err := n.ensureRules(ctx); err != nil {
		return err
	}
	// Step 2
	namespace := n.Namespace(node)
	if err := ensureNamespace(namespace); err != nil {
		return fmt.Errorf("network namespace %s: %w", namespace, err)
	}
	ns, err := netns.GetFromName(namespace)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", namespace, err)
	}
	defer ns.Close()
	within, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer within.Close()
	// Step 3
	if err := n.ensureLink(bridge, ns, within, number); err != nil {
		return fmt.Errorf("link %s: %w", n.link(number), err)
	}
	// Step 4
	if err := n.configure(within, number); err != nil {
		return fmt.Errorf("%s of %s: %w", inside, node, err)
	}
	return nil
}

// ensureBridge makes the bridge, unless it is there.
func (n Network) ensureBridge() (netlink.Link, error) {
	link, err := netlink.LinkByName(n.Bridge())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		if err := n.refuseOverlap(); err != nil {
			return nil, err
		}
		if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Bridge()}}); err == nil {
			link, err = netlink.LinkByName(n.Bridge())
		}
	}
	if err != nil {
		return nil, err
	}
	// Nodes that are sent a redirect would go on to each other past the machine's rules.
	settings := map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/" + n.Bridge() + "/send_redirects": "0"}
	for _, r := range n.Ranges {
		if r.Nodes.Addr().Is6() {
			settings["net/ipv6/conf/all/forwarding"], settings["net/ipv6/conf/"+n.Bridge()+"/disable_ipv6"] = "1", "0"
		}
	}
	for path, value := range settings {
		file := "/proc/sys/" + path
		if have, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(have)) == value {
			continue
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return nil, fmt.Errorf("setting %s to %s: %w", file, value, err)
		}
	}
	for _, r := range n.Ranges {
		if err := netlink.AddrReplace(link, r.on(1)); err != nil {
			return nil, err
		}
	}
	return link, netlink.LinkSetUp(link)
}

// on is the address of the node with a number, as a link has it. It is used at once: nobody else can have it.
func (r Range) on(number int) *netlink.Addr {
	address := &netlink.Addr{IPNet: ipNet(r.Address(number), r.Nodes.Bits())}
	if r.Nodes.Addr().Is6() {
		address.Flags = unix.IFA_F_NODAD
	}
	return address
}

// refuseOverlap: an address of the machine within the nodes' range would become unreachable, for it or for them.
func (n Network) refuseOverlap() error {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		theirs, err := netip.ParsePrefix(a.IPNet.String())
		for _, r := range n.Ranges {
			if err == nil && theirs.Masked().Overlaps(r.Nodes) {
				return fmt.Errorf("the nodes' range %s overlaps this machine's network %s: choose another, hyperkube all --node-network=172.29.0.0/24; hyperkube reset removes what another cluster left", r.Nodes, theirs)
			}
		}
	}
	return nil
}

// ensureNamespace makes a network namespace that has a name, as `ip netns add` does: the name is a mount, so the
// namespace stays when no process is in it.
func ensureNamespace(name string) error {
	path := filepath.Join(namespaces, name)
	var kind unix.Statfs_t
	if err := unix.Statfs(path, &kind); err == nil && kind.Type == unix.NSFS_MAGIC {
		return nil
	}
	if err := os.MkdirAll(namespaces, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	return onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
	})
}

// ensureLink makes the pair of links: one end a port of the bridge, the other in the node's namespace.
func (n Network) ensureLink(bridge netlink.Link, ns netns.NsHandle, within *netlink.Handle, number int) error {
	name := n.link(number)
	_, err := within.LinkByName(inside)
	outside, outsideErr := netlink.LinkByName(name)
	if err != nil || outsideErr != nil {
		if err := deleteLink(name); err != nil { // of another life
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex = name, bridge.Attrs().Index
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: inside, PeerNamespace: netlink.NsFd(int(ns))}); err != nil {
			return err
		}
		if outside, err = netlink.LinkByName(name); err != nil {
			return err
		}
	}
	// A node asks the machine for a Service whose pod is on that very node: the answer goes out where the question came in.
	// A bridge sends nothing back like that unless told to, where the kernel filters what is bridged (br_netfilter).
	if err := netlink.LinkSetHairpin(outside, true); err != nil {
		return err
	}
	return netlink.LinkSetUp(outside)
}

// configure sets up what the node has on its side.
func (n Network) configure(within *netlink.Handle, number int) error {
	loopback, err := within.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := within.LinkByName(inside)
	if err != nil {
		return err
	}
	for _, r := range n.Ranges {
		if err := within.AddrReplace(link, r.on(number)); err != nil {
			return err
		}
	}
	if err := errors.Join(within.LinkSetUp(loopback), within.LinkSetUp(link)); err != nil {
		return err
	}
	for _, r := range n.Ranges {
		everywhere := ipNet(netip.IPv6Unspecified(), 0)
		if r.Nodes.Addr().Is4() {
			everywhere = ipNet(netip.IPv4Unspecified(), 0)
		}
		if err := within.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: everywhere, Gw: r.Address(1).AsSlice()}); err != nil {
			return err
		}
	}
	return nil
}

// Unplug takes a node off the network, as pulling its cable would; Plug puts it back. It is no error if it is not there.
func (n Network) Unplug(number int) error {
	link, err := netlink.LinkByName(n.link(number))
	if err != nil {
		return nil
	}
	return netlink.LinkSetDown(link)
}

// Remove takes away a node's link and namespace, and with it all links, routes and rules inside.
func (n Network) Remove(node string, number int) error {
	path := filepath.Join(namespaces, n.Namespace(node))
	err := deleteLink(n.link(number))
	if unmountErr := unix.Unmount(path, unix.MNT_DETACH); unmountErr != nil && !errors.Is(unmountErr, unix.EINVAL) && !errors.Is(unmountErr, unix.ENOENT) {
		err = errors.Join(err, unmountErr)
	}
	if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// CleanUp removes from the machine what all nodes share: bridge, routes, rules.
func (n Network) CleanUp(ctx context.Context) error {
	var err error
	if _, linkErr := netlink.LinkByName(n.Bridge()); linkErr == nil {
		_, err = n.setRoutes("", nil)
	}
	return errors.Join(err, deleteLink(n.Bridge()), n.removeRules(ctx))
}

// Inside runs work on a thread in a node's network namespace, under the node's own host name. Processes that it
// starts are born there.
func (n Network) Inside(node string, work func() error) error {
	ns, err := netns.GetFromName(n.Namespace(node))
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", n.Namespace(node), err)
	}
	defer ns.Close()
	return onOwnThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return err
		}
		if err := unix.Sethostname([]byte(node)); err != nil {
			return err
		}
		return work()
	})
}

// onOwnThread runs work on a thread that is not used again: it ends with the goroutine that stays locked to it.
func onOwnThread(work func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- work()
	}()
	return <-done
}

// protocol marks routes as ours.
const protocol = 104

// setRoutes gives a namespace ("": the machine's own) these routes to other nodes' pods, and no others of ours.
func (n Network) setRoutes(namespace string, wanted []Route) (changed int, err error) {
	handle, name := &netlink.Handle{}, n.Bridge()
	if namespace != "" {
		ns, err := netns.GetFromName(namespace)
		if err != nil {
			return 0, errNotPlugged
		}
		defer ns.Close()
		if handle, err = netlink.NewHandleAt(ns); err != nil {
			return 0, err
		}
		defer handle.Close()
		name = inside
	}
	link, err := handle.LinkByName(name)
	if err != nil {
		return 0, errNotPlugged
	}
	have, err := handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: protocol, LinkIndex: link.Attrs().Index}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_OIF)
	if err != nil {
		return 0, err
	}
	missing := slices.Clone(wanted)
	for _, route := range have {
		there := slices.IndexFunc(missing, func(r Route) bool { return r.is(&route) })
		if there >= 0 {
			missing = slices.Delete(missing, there, there+1)
			continue
		}
		if slices.ContainsFunc(missing, func(r Route) bool { return r.To.String() == route.Dst.String() }) {
			continue // it will be replaced: the way to the nodes themselves is never missing
		}
		if err := handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return changed, err
		}
		changed++
	}
	for _, r := range missing {
		err := handle.RouteReplace(r.on(link))
		if errors.Is(err, unix.EINVAL) && r.From.IsValid() {
			// What the Node tells (--node-ip) need not be an address of this machine.
			err = handle.RouteReplace(Route{To: r.To, Via: r.Via}.on(link))
		}
		if err != nil {
			return changed, fmt.Errorf("route %s: %w", r, err)
		}
		changed++
	}
	return changed, nil
}

func (r Route) is(route *netlink.Route) bool {
	return route.Dst.String() == r.To.String() && route.Gw.Equal(r.Via.AsSlice()) && route.Src.Equal(r.From.AsSlice())
}

// on is the route as the kernel has it.
func (r Route) on(link netlink.Link) *netlink.Route {
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.To.Addr(), r.To.Bits()), Gw: r.Via.AsSlice(), Src: r.From.AsSlice(), Protocol: protocol}
	if r.Via.IsValid() {
		return route
	}
	// The kernel has made a route to the network itself. Of IPv4's this takes the place; of IPv6's it goes before.
	route.Scope = netlink.SCOPE_LINK
	if r.To.Addr().Is6() {
		route.Scope, route.Priority = netlink.SCOPE_UNIVERSE, 128
	}
	return route
}

func ipNet(address netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, address.BitLen())}
}

// deleteLink removes a link; it is no error if there is none.
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
