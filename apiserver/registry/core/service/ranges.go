package service

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/api/networking/servicecidr"
	"hyperkube/apiserver/registry"
)

// ranges are the ServiceCIDRs that addresses are taken from: the one the apiserver was started with, and after it, in the
// order of their names, those that people made because it became too small (KEP-1880).
//
// Invariant: an address that is taken is taken in each known range that contains it; ranges may overlap.
type ranges struct {
	env *registry.Env

	mu    sync.Mutex
	known map[netip.Prefix]*ipRange
	// held are the addresses taken, and not given back, of whatever range.
	held map[netip.Addr]bool
}

func newRanges(env *registry.Env) *ranges {
	return &ranges{env: env, known: map[netip.Prefix]*ipRange{}, held: map[netip.Addr]bool{}}
}

var serviceCIDRs = schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"}

// own are the prefixes that the apiserver was started with.
func (r *ranges) own() []netip.Prefix {
	prefixes := []netip.Prefix{r.env.ServiceCIDR.Masked()}
	if r.env.SecondaryServiceCIDR.IsValid() {
		prefixes = append(prefixes, r.env.SecondaryServiceCIDR.Masked())
	}
	return prefixes
}

// covers says whether ip is of any range, ready or not: of one that is to be deleted, too.
func (r *ranges) covers(ctx context.Context, ip netip.Addr) (bool, error) {
	prefixes := r.own()
	if store := r.env.Store(serviceCIDRs); store != nil {
		list, err := store.ListCached(ctx, "", nil)
		if err != nil {
			return false, fmt.Errorf("reading the ranges of cluster addresses: %w", err)
		}
		for _, obj := range list {
			for _, cidr := range obj.(*networkingv1.ServiceCIDR).Spec.CIDRs {
				if prefix, err := netip.ParsePrefix(cidr); err == nil {
					prefixes = append(prefixes, prefix.Masked())
				}
			}
		}
	}
	return slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool { return newIPRange(prefix, netip.Addr{}).contains(ip) }), nil
}

// ready are the ranges of a family that give out addresses now; "": of both.
func (r *ranges) ready(ctx context.Context, f v1.IPFamily) ([]*ipRange, error) {
	own := r.own()
	var made []netip.Prefix
	if store := r.env.Store(serviceCIDRs); store != nil {
		list, err := store.ListCached(ctx, "", nil)
		if err != nil {
			return nil, fmt.Errorf("reading the ranges of cluster addresses: %w", err)
		}
		for _, obj := range list {
			cidr := obj.(*networkingv1.ServiceCIDR)
			if cidr.Name == servicecidr.DefaultName && cidr.DeletionTimestamp != nil {
				own = nil
			}
			for _, prefix := range servicecidr.Prefixes(cidr) {
				made = append(made, prefix.Masked())
			}
		}
	}
	prefixes := slices.DeleteFunc(append(own, made...), func(prefix netip.Prefix) bool { return f != "" && family(prefix) != f })
	return r.of(ctx, prefixes)
}

// of are the ranges of prefixes, each once. A range that was not known begins with what IPAddress objects say is taken.
func (r *ranges) of(ctx context.Context, prefixes []netip.Prefix) ([]*ipRange, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*ipRange
	seen := map[netip.Prefix]bool{}
	for _, prefix := range prefixes {
		if seen[prefix] {
			continue
		}
		seen[prefix] = true
		if r.known[prefix] == nil {
			made, err := r.begin(ctx, prefix)
			if err != nil {
				return nil, err
			}
			r.known[prefix] = made
		}
		found = append(found, r.known[prefix])
	}
	return found, nil
}

func (r *ranges) begin(ctx context.Context, prefix netip.Prefix) (*ipRange, error) {
	made := newIPRange(prefix, r.env.ClusterDNSAddress)
	if prefix == r.env.ServiceCIDR.Masked() {
		made.reserved[0] = true // the kubernetes Service's
	}
	// What the services say is marked first: the objects' cache may not have all of them yet.
	for ip := range r.held {
		if made.contains(ip) {
			made.take(made.offset(ip))
		}
	}
	store := r.env.Store(ipAddresses)
	if store == nil {
		return made, nil
	}
	list, err := store.ListCached(ctx, "", nil)
	if err != nil {
		return nil, fmt.Errorf("reading the addresses that are taken: %w", err)
	}
	for _, obj := range list {
		if ip, err := netip.ParseAddr(obj.(*networkingv1.IPAddress).Name); err == nil && made.contains(ip) {
			made.take(made.offset(ip))
		}
	}
	return made, nil
}

// take marks ip as taken; false when it was. Ranges that have given it out already, or first hear of it, agree afterwards.
func (r *ranges) take(ip netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	free := !r.held[ip]
	r.held[ip] = true
	for _, known := range r.known {
		if known.contains(ip) && !known.take(known.offset(ip)) {
			free = false
		}
	}
	return free
}

func (r *ranges) release(ip netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, ip)
	for _, known := range r.known {
		if known.contains(ip) {
			known.release(known.offset(ip))
		}
	}
}

// taken are the addresses that are marked in any range.
func (r *ranges) taken() map[netip.Addr]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := maps.Clone(r.held)
	for _, known := range r.known {
		for _, n := range known.all() {
			taken[known.address(n)] = true
		}
	}
	return taken
}

// ipRange gives out the addresses of one prefix by their offsets: 0 is the first usable one.
type ipRange struct {
	prefix netip.Prefix
	*allocator
}

// newIPRange makes a range without its first address (the network's) and, for IPv4, its last (broadcast). dns is the address that
// all kubelets tell their pods: it is given only to who asks for it.
func newIPRange(prefix netip.Prefix, dns netip.Addr) *ipRange {
	r := &ipRange{prefix: prefix, allocator: newAllocator(rangeSize(prefix), ipBand(rangeSize(prefix)))}
	if dns.IsValid() && r.contains(dns) {
		r.reserved[r.offset(dns)] = true
	}
	return r
}

// rangeSize is how many usable addresses a prefix has, as far as an int can count them.
func rangeSize(cidr netip.Prefix) int {
	bits := min(cidr.Addr().BitLen()-cidr.Bits(), 62)
	size := 1<<bits - 1
	if cidr.Addr().Is4() {
		size--
	}
	return max(size, 0)
}

func (r *ipRange) contains(ip netip.Addr) bool {
	return r.prefix.Contains(ip) && low(ip) > low(r.prefix.Addr()) && low(ip)-low(r.prefix.Addr()) <= uint64(r.size)
}

func (r *ipRange) offset(ip netip.Addr) int { return int(low(ip) - low(r.prefix.Addr()) - 1) }

func (r *ipRange) address(offset int) netip.Addr {
	base := r.prefix.Addr()
	bytes := base.As16()
	binary.BigEndian.PutUint64(bytes[8:], low(base)+uint64(offset)+1)
	return netip.AddrFrom16(bytes).Unmap()
}

// low is the lower half of an address: ranges do not span more.
func low(ip netip.Addr) uint64 {
	bytes := ip.As16()
	return binary.BigEndian.Uint64(bytes[8:])
}
