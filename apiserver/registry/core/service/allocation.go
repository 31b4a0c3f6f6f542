package service

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hyperkube/api/core/service"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/storage"
)

// allocation holds which cluster addresses and node ports are taken. The services
// in etcd are the truth: at the first write it is made from them, and from then on
// each write of a service passes through it.
//
// An address is besides an IPAddress object (ipaddress.go). The memory of ports is this process's alone: two
// apiservers on one etcd could give out one number twice; upstream keeps their bitmap in etcd.
type allocation struct {
	env *registry.Env

	mu     sync.Mutex
	loaded bool
	ranges *ranges
	ports  *allocator
}

func newAllocation(env *registry.Env) *allocation {
	return &allocation{env: env, ranges: newRanges(env)}
}

// load reads the services once.
func (a *allocation) load(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.loaded {
		return nil
	}
	list, err := a.env.Store(schema.GroupResource{Resource: "services"}).List(ctx, "", storage.ListOptions{})
	if err != nil {
		return fmt.Errorf("reading the services that hold cluster addresses: %w", err)
	}
	a.ports = newAllocator(a.env.NodePortRange.Size, portBand(a.env.NodePortRange.Size), a.reservedPorts()...)
	var services []*v1.Service
	for _, item := range list.Items {
		s := item.Object.(*v1.Service)
		services = append(services, s)
		for _, port := range nodePorts(s) {
			if n, ok := a.portOffset(port); ok {
				a.ports.take(n)
			}
		}
	}
	if err := a.loadAddresses(ctx, services); err != nil {
		return err
	}
	a.loaded = true
	return nil
}

func (a *allocation) portOffset(port int32) (int, bool) {
	n := int(port) - a.env.NodePortRange.Base
	return n, n >= 0 && n < a.env.NodePortRange.Size
}

func (a *allocation) reservedPorts() []int {
	var reserved []int
	for _, port := range a.env.ReservedNodePorts {
		if n, ok := a.portOffset(int32(port)); ok {
			reserved = append(reserved, n)
		}
	}
	return reserved
}

// addresses are the cluster addresses a service holds.
func addresses(s *v1.Service) []netip.Addr {
	if !service.NeedsClusterIP(s) {
		return nil
	}
	var held []netip.Addr
	for _, ip := range s.Spec.ClusterIPs {
		if addr, ok := parseIP(ip); ok {
			held = append(held, addr)
		}
	}
	return held
}

// parseIP reads an address as leniently as validation lets it through.
func parseIP(text string) (netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	return addr.Unmap(), ok
}

// nodePorts are the ports of all nodes a service holds, each once: TCP and UDP may share one.
func nodePorts(s *v1.Service) []int32 {
	var held []int32
	if !service.MayHaveNodePort(s) {
		return nil
	}
	seen := map[int32]bool{0: true}
	for i := range s.Spec.Ports {
		if port := s.Spec.Ports[i].NodePort; !seen[port] {
			seen[port] = true
			held = append(held, port)
		}
	}
	if port := s.Spec.HealthCheckNodePort; !seen[port] {
		held = append(held, port)
	}
	return held
}

// transaction is what one write takes and gives back: taken now, given back when it is known how the write ended.
type transaction struct {
	allocation *allocation
	dryRun     bool
	takenIPs   []netip.Addr
	takenPorts []int
	freeIPs    []netip.Addr // when the write succeeds
	freePorts  []int
}

func (t *transaction) finish(ok bool) {
	if t.dryRun {
		return // nothing was taken
	}
	ips, ports := t.freeIPs, t.freePorts
	if !ok {
		ips, ports = t.takenIPs, t.takenPorts
	}
	for _, ip := range ips {
		t.allocation.giveBack(ip)
	}
	for _, n := range ports {
		t.allocation.ports.release(n)
	}
}

// giveBack frees an address: its object first. Where that cannot be deleted, the address stays taken.
func (a *allocation) giveBack(ip netip.Addr) {
	if a.disown(ip) == nil {
		a.ranges.release(ip)
	}
}

func (a *allocation) hooks() registry.Hooks {
	return registry.Hooks{
		BeginCreate: func(ctx context.Context, obj runtime.Object, dryRun bool) (func(bool), error) {
			s := obj.(*v1.Service)
			normalizeClusterIPs(s, nil)
			if errs := initIPFamilyFields(s, nil, families(a.env)); len(errs) > 0 {
				return nil, invalid(s, errs...)
			}
			return a.begin(ctx, s, &v1.Service{}, dryRun)
		},
		BeginUpdate: func(ctx context.Context, obj, old runtime.Object, dryRun bool) (func(bool), error) {
			s, before := obj.(*v1.Service), old.(*v1.Service)
			patchAllocatedValues(s, before)
			normalizeClusterIPs(s, before)
			dropTypeDependentFields(s, before) // else what goes with the old type would be held on to
			if errs := initIPFamilyFields(s, before, families(a.env)); len(errs) > 0 {
				return nil, invalid(s, errs...)
			}
			return a.begin(ctx, s, before, dryRun)
		},
		AfterDelete: func(obj runtime.Object) { a.release(obj.(*v1.Service)) },
	}
}

// begin gives s what it lacks, and notes what of old's it no longer holds.
func (a *allocation) begin(ctx context.Context, s, old *v1.Service, dryRun bool) (func(bool), error) {
	if err := a.load(ctx); err != nil {
		return nil, errors.NewInternalError(err)
	}
	t := &transaction{allocation: a, dryRun: dryRun}
	err := t.clusterIPs(ctx, s, old)
	if err == nil {
		err = t.nodePorts(s, old)
	}
	if err == nil && service.NeedsHealthCheck(s) && !service.NeedsHealthCheck(old) {
		err = t.healthCheckNodePort(s)
	}
	if err != nil {
		t.finish(false)
		return nil, err
	}
	return t.finish, nil
}

func invalid(s *v1.Service, errs ...*field.Error) error {
	return errors.NewInvalid(schema.GroupKind{Kind: "Service"}, s.Name, errs)
}

func unable(format string, args ...any) error {
	return errors.NewInternalError(fmt.Errorf(format, args...))
}

// clusterIPs gives a new service an address of each of its families, the one it asks for or any, and one that gets a second
// family its second; what it no longer has, goes back. Any other change of an address is for validation to refuse.
func (t *transaction) clusterIPs(ctx context.Context, s, old *v1.Service) error {
	anew := old.Name == "" || !service.NeedsClusterIP(old)
	switch {
	case !service.NeedsClusterIP(s):
		t.freeIPs = addresses(old)
	case service.IsHeadless(s) && anew, !anew && service.IsHeadless(old), !anew && isMatchingPreferDualStack(s, old):
	case anew:
		s.Spec.ClusterIPs = slices.Clone(s.Spec.ClusterIPs) // it may be the old object's, which is shared
		for i := range s.Spec.IPFamilies {
			if err := t.fill(ctx, s, i); err != nil {
				return err
			}
		}
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	case len(old.Spec.IPFamilies) == 1 && len(s.Spec.IPFamilies) == 2 && len(s.Spec.ClusterIPs) > 0:
		s.Spec.ClusterIPs = slices.Clone(s.Spec.ClusterIPs)
		return t.fill(ctx, s, 1)
	case len(old.Spec.IPFamilies) == 2 && len(s.Spec.IPFamilies) == 1:
		t.freeIPs = addresses(old)[1:]
	}
	return nil
}

// fill gives s its address at i: the one that it asks for there, or any of the family.
func (t *transaction) fill(ctx context.Context, s *v1.Service, i int) error {
	if i >= len(s.Spec.ClusterIPs) {
		ip, err := t.nextIP(ctx, s, s.Spec.IPFamilies[i])
		if err != nil {
			return unable("failed to allocate a serviceIP for Service %q: %w", s.Name, err)
		}
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip.String())
		return nil
	}
	asked := s.Spec.ClusterIPs[i]
	ip, ok := parseIP(asked)
	if !ok {
		return unable("failed to parse service IP %q", asked)
	}
	if err := t.takeIP(ctx, s, ip); err != nil {
		return invalid(s, field.Invalid(field.NewPath("spec", "clusterIPs"), s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %v", asked, err)))
	}
	return nil
}

// nextIP is any free address of any range of a family. One that somebody else has meanwhile is passed over, and stays taken.
func (t *transaction) nextIP(ctx context.Context, s *v1.Service, f v1.IPFamily) (netip.Addr, error) {
	ready, err := t.allocation.ranges.ready(ctx, f)
	if err != nil {
		return netip.Addr{}, err
	}
	if t.dryRun && len(ready) > 0 {
		return ready[0].prefix.Addr(), nil // which it would be, nobody knows before
	}
	for _, r := range ready {
		for {
			n, err := r.next()
			if err != nil {
				break // the next range
			}
			ip := r.address(n)
			mine, err := t.allocation.own(ctx, s, ip)
			if err != nil {
				r.release(n)
				return netip.Addr{}, err
			}
			if mine {
				t.allocation.ranges.take(ip)
				t.takenIPs = append(t.takenIPs, ip)
				return ip, nil
			}
		}
	}
	return netip.Addr{}, errFull
}

func (t *transaction) takeIP(ctx context.Context, s *v1.Service, ip netip.Addr) error {
	ready, err := t.allocation.ranges.ready(ctx, familyOf(ip))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(ready, func(r *ipRange) bool { return r.contains(ip) }) {
		if t.dryRun && len(ready) > 0 {
			return fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %v", ip, ready[0].prefix)
		}
		return errMismatched
	}
	if t.dryRun {
		return nil // it may be taken by then, or free again
	}
	if !t.allocation.ranges.take(ip) {
		return errAllocated
	}
	mine, err := t.allocation.own(ctx, s, ip)
	if err != nil {
		t.allocation.ranges.release(ip)
		return err
	}
	if !mine {
		return errAllocated
	}
	t.takenIPs = append(t.takenIPs, ip)
	return nil
}

// release gives back all a deleted service held.
func (a *allocation) release(s *v1.Service) {
	a.mu.Lock()
	loaded := a.loaded
	a.mu.Unlock()
	if !loaded {
		return
	}
	for _, ip := range addresses(s) {
		a.giveBack(ip)
	}
	for _, port := range nodePorts(s) {
		if n, ok := a.portOffset(port); ok {
			a.ports.release(n)
		}
	}
}
