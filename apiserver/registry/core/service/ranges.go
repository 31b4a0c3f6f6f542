package service

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"

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
}

func newRanges(env *registry.Env) *ranges {
	return &ranges{env: env, known: map[netip.Prefix]*ipRange{}}
}

var serviceCIDRs = schema.GroupResource{Group: networkingv1.GroupName, Resource: "servicecidrs"}

// ready are the ranges that give out addresses now.
func (r *ranges) ready(ctx context.Context) ([]*ipRange, error) {
	prefixes := []netip.Prefix{r.env.ServiceCIDR.Masked()}
	if store := r.env.Store(serviceCIDRs); store != nil {
		list, err := store.ListCached(ctx, "", nil)
		if err != nil {
			return nil, fmt.Errorf("reading the ranges of cluster addresses: %w", err)
		}
		for _, obj := range list {
			cidr := obj.(*networkingv1.ServiceCIDR)
			if cidr.Name == servicecidr.DefaultName && cidr.DeletionTimestamp != nil {
				prefixes = prefixes[1:]
			}
		}
		for _, obj := range list {
			for _, prefix := range servicecidr.Prefixes(obj.(*networkingv1.ServiceCIDR)) {
				if prefix = prefix.Masked(); prefix.Addr().Is4() == r.env.ServiceCIDR.Addr().Is4() {
					prefixes = append(prefixes, prefix)
				}
			}
		}
	}
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
	free := true
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
	for _, known := range r.known {
		if known.contains(ip) {
			known.release(known.offset(ip))
		}
	}
}

// ipRange gives out the addresses of one prefix by their offsets: 0 is the first usable one.
type ipRange struct {
	prefix netip.Prefix
	*allocator
}

// newIPRange makes a range without its first address (the network's) and, for IPv4, its last (broadcast). dns is the address that
// all kubelets tell their pods: it is given only to who asks for it.
func newIPRange(prefix netip.Prefix, dns netip.Addr) *ipRange {
	r := &ipRange{prefix: prefix, allocator: newAllocator(rangeSize(prefix))}
	if dns.IsValid() && r.contains(dns) {
		r.reserved[r.offset(dns)] = true
	}
	return r
}

// rangeSize is how many usable addresses a prefix has: at most 2^20, more than a cluster has services.
func rangeSize(cidr netip.Prefix) int {
	bits := cidr.Addr().BitLen() - cidr.Bits()
	if bits >= 20 {
		return 1 << 20
	}
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

func prefixesOf(list []*ipRange) string {
	texts := make([]string, len(list))
	for i, r := range list {
		texts[i] = r.prefix.String()
	}
	return strings.Join(texts, ", ")
}
