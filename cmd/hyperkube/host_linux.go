package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	// standInLink is made on a host that has no address but loopback (R55): pods need an address
	// of the node that is not their own loopback.
	standInLink    = "hk-host0"
	standInAddress = "172.30.255.1"
)

// nodeAddress finds the address by which pods and other nodes reach this host:
// that of the default route, else the first global one, else a stand-in, which
// leads to services too.
func nodeAddress(ctx context.Context, services string) (string, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: nil}, netlink.RT_FILTER_DST)
	if err == nil {
		for _, route := range routes {
			if address := addressOfLink(route.LinkIndex, netlink.FAMILY_V4); address != "" {
				return address, nil
			}
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("listing links: %w", err)
	}
	for _, link := range links {
		// Bridges and veths belong to containers, ours or others'; they come and go.
		if kind := link.Type(); link.Attrs().Name != standInLink && (kind == "bridge" || kind == "veth") {
			continue
		}
		if address := addressOfLink(link.Attrs().Index, netlink.FAMILY_V4); address != "" {
			return address, nil
		}
	}
	klog.FromContext(ctx).Info("This host has no address but loopback; making a stand-in", "link", standInLink, "address", standInAddress)
	return standInAddress, makeStandIn(services)
}

// secondAddress is the node's IPv6 address: a global one of the link that has its IPv4 address; "" where there is none.
func secondAddress(first string) string {
	have, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return ""
	}
	for _, a := range have {
		if a.IP.String() == first {
			return addressOfLink(a.LinkIndex, netlink.FAMILY_V6)
		}
	}
	return ""
}

func addressOfLink(index, family int) string {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return ""
	}
	addresses, err := netlink.AddrList(link, family)
	if err != nil {
		return ""
	}
	for _, address := range addresses {
		if address.IP.IsGlobalUnicast() {
			return address.IP.String()
		}
	}
	return ""
}

func makeStandIn(services string) error {
	// A bridge without ports, since pods need the bridge driver anyway and not every kernel has dummy links.
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: standInLink}}
	if err := netlink.LinkAdd(link); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making link %s: %w; give the host an address, or name one with --node-ip", standInLink, err)
	}
	made, err := netlink.LinkByName(standInLink)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(standInAddress), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(made, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := netlink.LinkSetUp(made); err != nil {
		return err
	}
	// Without any route to them, the kernel refuses services' addresses before a rule of the
	// proxy could turn them into a pod's.
	_, network, err := net.ParseCIDR(services)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: made.Attrs().Index, Dst: network, Src: address.IP})
}

// removeStandIn takes the stand-in away again; it is no error if there is none.
func removeStandIn() error {
	link, err := netlink.LinkByName(standInLink)
	if err != nil {
		return nil
	}
	return netlink.LinkDel(link)
}

func unmount(target string) error { return unix.Unmount(target, unix.MNT_DETACH) }

// diskOf asks the file system on which path is, or will be.
func diskOf(path string) (disk, error) {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	for errors.Is(err, unix.ENOENT) && path != "/" {
		path = filepath.Dir(path)
		err = unix.Statfs(path, &s)
	}
	if err != nil {
		return disk{}, fmt.Errorf("the file system of %s: %w", path, err)
	}
	return disk{free: s.Bavail * uint64(s.Bsize), size: s.Blocks * uint64(s.Bsize), freeInodes: s.Ffree, inodes: s.Files}, nil
}
