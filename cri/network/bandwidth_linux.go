package network

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bandwidth is the plugin that limits how fast a pod receives and sends:
//
//	to the pod:    node ──► [token bucket on the port] ──► eth0
//	from the pod:  eth0 ──► port: everything goes to ifb… ──► [token bucket] ──► node
//
// A queue is on the way out of a link. What a pod sends comes in at its port, so
// that it is led to a link of its own (an intermediate functional block) first,
// which it leaves by a queue. It is chained behind a plugin that makes the port.
type bandwidth struct{}

type bandwidthConf struct {
	RuntimeConfig struct {
		Bandwidth *Bandwidth `json:"bandwidth"`
	} `json:"runtimeConfig"`
}

func (bandwidth) add(_ context.Context, args *pluginArgs) (*current.Result, error) {
	if args.Prev == nil {
		return nil, errors.New("bandwidth needs a plugin before it in the list")
	}
	limits, err := parseBandwidthConf(args)
	if err != nil || limits == nil {
		return args.Prev, err
	}
	port, err := portOf(args.Prev)
	if err != nil {
		return nil, err
	}
	if limits.IngressRate > 0 {
		if err := addBucket(port, limits.IngressRate, limits.IngressBurst); err != nil {
			return nil, fmt.Errorf("limiting what the pod receives: %w", err)
		}
	}
	if limits.EgressRate > 0 {
		if err := limitEgress(port, ifbName(args.ContainerID), limits); err != nil {
			return nil, fmt.Errorf("limiting what the pod sends: %w", err)
		}
	}
	return args.Prev, nil
}

func parseBandwidthConf(args *pluginArgs) (*Bandwidth, error) {
	var conf bandwidthConf
	err := json.Unmarshal(args.Conf, &conf)
	return conf.RuntimeConfig.Bandwidth, err
}

// portOf is the node's end of the pod's link: the first virtual link of the result that is not in the pod. A bridge may
// stand before it.
func portOf(prev *current.Result) (netlink.Link, error) {
	for _, i := range prev.Interfaces {
		if i.Sandbox != "" {
			continue
		}
		link, err := netlink.LinkByName(i.Name)
		if err == nil && link.Type() == "veth" {
			return link, nil
		}
	}
	return nil, errors.New("the plugins before name no veth of the node's in their result")
}

// addBucket makes a link pass on so many bits a second, and no more than a burst of bits at once.
func addBucket(link netlink.Link, rate, burst uint64) error {
	// A quarter of a tenth of a second: what waits longer in the queue is dropped, so that senders slow down.
	const latency = 0.025
	bytes, burstBytes := rate/8, min(burst/8, math.MaxInt32)
	limit := min(uint64(float64(bytes)*latency)+burstBytes, math.MaxUint32)
	microseconds := min(float64(burstBytes)*1e6/float64(bytes), math.MaxUint32/netlink.TickInUsec())
	err := netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes, Limit: uint32(limit), Buffer: uint32(microseconds * netlink.TickInUsec()),
	})
	return explainKernel(err, "token bucket queue (sch_tbf)")
}

// limitEgress leads what comes in at the port to a link with a bucket.
func limitEgress(port netlink.Link, name string, limits *Bandwidth) error {
	if err := deleteLink(name); err != nil { // of an attempt that was cut short
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, port.Attrs().MTU
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		return explainKernel(err, "intermediate functional block (ifb)")
	}
	block, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(block); err != nil {
		return err
	}
	if err := addBucket(block, limits.EgressRate, limits.EgressBurst); err != nil {
		return err
	}
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: port.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := netlink.QdiscReplace(ingress); err != nil {
		return explainKernel(err, "queue for what comes in (sch_ingress)")
	}
	err = netlink.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: port.Attrs().Index, Parent: ingress.Handle, Priority: 1, Protocol: unix.ETH_P_ALL},
		ClassId:     netlink.MakeHandle(1, 1), Actions: []netlink.Action{netlink.NewMirredAction(block.Attrs().Index)},
	})
	return explainKernel(err, "filter that redirects (cls_u32, act_mirred)")
}

// explainKernel says which part of the kernel is missing, where that is the cause: its own error says only that something
// is not found, or not supported.
func explainKernel(err error, part string) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("this kernel has no %s: load the module, or take the annotations %s and %s off the pod: %w", part, IngressBandwidth, EgressBandwidth, err)
	}
	return err
}

// ifbName is the link through which a limited pod sends; at most 15 letters are allowed.
func ifbName(containerID string) string {
	return fmt.Sprintf("ifb%x", sha256.Sum256([]byte(containerID)))[:12]
}

// del needs no more than the name: the queues of the port go with it.
func (bandwidth) del(_ context.Context, args *pluginArgs) error {
	return deleteLink(ifbName(args.ContainerID))
}

func (bandwidth) check(_ context.Context, args *pluginArgs) error {
	limits, err := parseBandwidthConf(args)
	if err != nil || limits == nil || args.Prev == nil {
		return err
	}
	port, err := portOf(args.Prev)
	if err != nil {
		return err
	}
	if limits.IngressRate > 0 {
		if err := checkBucket(port, limits.IngressRate); err != nil {
			return err
		}
	}
	if limits.EgressRate == 0 {
		return nil
	}
	block, err := netlink.LinkByName(ifbName(args.ContainerID))
	if err != nil {
		return fmt.Errorf("link of what the pod sends: %w", err)
	}
	return checkBucket(block, limits.EgressRate)
}

func checkBucket(link netlink.Link, rate uint64) error {
	queues, err := netlink.QdiscList(link)
	if err != nil {
		return err
	}
	for _, queue := range queues {
		if bucket, ok := queue.(*netlink.Tbf); ok && bucket.Rate == rate/8 {
			return nil
		}
	}
	return fmt.Errorf("link %s has no token bucket of %d bits a second", link.Attrs().Name, rate)
}
