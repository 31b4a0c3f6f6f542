package network

import (
	"context"
	"fmt"
	"net"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// loopbackPlugin is the plugin that containerd and CRI-O call for each sandbox
// before the configuration in force, by this name, and cannot do without. It is
// not among plugins: no link to us must take the place of one that is installed.
const loopbackPlugin = "loopback"

// loopback is the plugin that sets a pod's lo up. Our own runtime does without: the
// pod's parent process does it.
type loopback struct{}

func (loopback) add(_ context.Context, args *pluginArgs) (*current.Result, error) {
	inside, link, err := loopbackOf(args)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	if err := inside.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("setting %s up: %w", args.IfName, err)
	}
	first := 0
	return &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: args.IfName, Mac: "00:00:00:00:00:00", Sandbox: args.NetNS}},
		IPs:        []*current.IPConfig{{Interface: &first, Address: net.IPNet{IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(8, 32)}}},
	}, nil
}

// del has nothing to do: lo ends with its namespace.
func (loopback) del(context.Context, *pluginArgs) error { return nil }

func (loopback) check(_ context.Context, args *pluginArgs) error {
	inside, link, err := loopbackOf(args)
	if err != nil {
		return err
	}
	defer inside.Close()
	if link.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("%s is down", args.IfName)
	}
	return nil
}

// loopbackOf finds the pod's lo. The handle is the caller's to close.
func loopbackOf(args *pluginArgs) (*netlink.Handle, netlink.Link, error) {
	ns, err := netns.GetFromPath(args.NetNS)
	if err != nil {
		return nil, nil, fmt.Errorf("network namespace %s: %w", args.NetNS, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil, nil, err
	}
	link, err := inside.LinkByName(args.IfName)
	if err != nil {
		inside.Close()
		return nil, nil, err
	}
	return inside, link, nil
}
