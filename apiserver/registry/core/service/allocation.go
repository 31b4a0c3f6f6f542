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
	ips, ports := t.freeIPs, t.freePorts
	if !ok || t.dryRun {
		ips, ports = t.takenIPs, t.takenPorts
	}
	for _, ip := range ips {
		if t.dryRun {
			t.allocation.ranges.release(ip) // it has no object
		} else {
			t.allocation.giveBack(ip)
		}
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
	if err == nil {
		err = t.healthCheckNodePort(s, old)
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

// clusterIPs gives a service an address of each of its families, the one it asks for or any; what it no longer has, goes back.
func (t *transaction) clusterIPs(ctx context.Context, s, old *v1.Service) error {
	held := map[netip.Addr]bool{}
	for _, ip := range addresses(old) {
		held[ip] = true
	}
	for _, ip := range addresses(s) {
		if held[ip] {
			delete(held, ip)
			continue
		}
		if err := t.takeIP(ctx, s, ip); err != nil {
			return invalid(s, field.Invalid(field.NewPath("spec", "clusterIPs"), s.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: %v", ip, err)))
		}
	}
	for ip := range held {
		t.freeIPs = append(t.freeIPs, ip)
	}
	if !service.NeedsClusterIP(s) || service.IsHeadless(s) {
		return nil
	}
	s.Spec.ClusterIPs = slices.Clone(s.Spec.ClusterIPs) // it may be the old object's, which is shared
	for i := len(s.Spec.ClusterIPs); i < len(s.Spec.IPFamilies); i++ {
		ip, err := t.nextIP(ctx, s, s.Spec.IPFamilies[i])
		if err != nil {
			return unable("failed to allocate a serviceIP: %w", err)
		}
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip.String())
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	return nil
}

// nextIP is any free address of any range of a family. One that somebody else has meanwhile is passed over, and stays taken.
func (t *transaction) nextIP(ctx context.Context, s *v1.Service, f v1.IPFamily) (netip.Addr, error) {
	ready, err := t.allocation.ranges.ready(ctx, f)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, r := range ready {
		for {
			n, err := r.next()
			if err != nil {
				break // the next range
			}
			ip := r.address(n)
			mine, err := t.own(ctx, s, ip)
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

func (t *transaction) own(ctx context.Context, s *v1.Service, ip netip.Addr) (bool, error) {
	if t.dryRun {
		return true, nil
	}
	return t.allocation.own(ctx, s, ip)
}

func (t *transaction) takeIP(ctx context.Context, s *v1.Service, ip netip.Addr) error {
	ready, err := t.allocation.ranges.ready(ctx, familyOf(ip))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(ready, func(r *ipRange) bool { return r.contains(ip) }) {
		return errMismatched
	}
	if !t.allocation.ranges.take(ip) {
		return errAllocated
	}
	mine, err := t.own(ctx, s, ip)
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

// nodePorts gives each port of the service a port of the nodes: the one it asks for, of a new service the one that the same number
// has in the other protocol, or any.
func (t *transaction) nodePorts(s, old *v1.Service) error {
	held := map[int32]bool{}
	for _, port := range nodePorts(old) {
		held[port] = true
	}
	mine := map[int32]bool{} // taken by this write, or before
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.NodePort == 0 && service.NeedsNodePort(s) {
			if old.Name == "" {
				port.NodePort = sharedNodePort(s, port)
			}
			if port.NodePort == 0 {
				n, err := t.allocation.ports.next()
				if err != nil {
					return unable("failed to allocate a nodePort: %w", err)
				}
				t.takenPorts = append(t.takenPorts, n)
				port.NodePort = int32(n + t.allocation.env.NodePortRange.Base)
				mine[port.NodePort] = true
			}
		}
		if port.NodePort == 0 || held[port.NodePort] || mine[port.NodePort] || !service.MayHaveNodePort(s) {
			continue
		}
		if err := t.takePort(port.NodePort); err != nil {
			return invalid(s, field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), port.NodePort, err.Error()))
		}
		mine[port.NodePort] = true
	}
	return nil
}

// sharedNodePort: DNS over UDP and over TCP should have one port outside, as they have inside.
func sharedNodePort(s *v1.Service, port *v1.ServicePort) int32 {
	for i := range s.Spec.Ports {
		if other := &s.Spec.Ports[i]; other.Port == port.Port && other.Protocol != port.Protocol && other.NodePort != 0 {
			return other.NodePort
		}
	}
	return 0
}

func (t *transaction) takePort(port int32) error {
	n, ok := t.allocation.portOffset(port)
	if !ok {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %s", t.allocation.env.NodePortRange.String())
	}
	if t.allocation.ports.reserved[n] {
		return fmt.Errorf("provided port is used by the control plane on this machine")
	}
	if !t.allocation.ports.take(n) {
		return fmt.Errorf("provided port is already allocated")
	}
	t.takenPorts = append(t.takenPorts, n)
	return nil
}

// healthCheckNodePort gives a service one where nodes must tell a load balancer of their endpoints, and notes what ports it no longer has.
func (t *transaction) healthCheckNodePort(s, old *v1.Service) error {
	if port := s.Spec.HealthCheckNodePort; service.NeedsHealthCheck(s) && port == 0 {
		n, err := t.allocation.ports.next()
		if err != nil {
			return unable("failed to allocate a HealthCheck NodePort: %w", err)
		}
		t.takenPorts = append(t.takenPorts, n)
		s.Spec.HealthCheckNodePort = int32(n + t.allocation.env.NodePortRange.Base)
	} else if service.NeedsHealthCheck(s) && port != old.Spec.HealthCheckNodePort {
		if err := t.takePort(port); err != nil {
			return unable("failed to allocate requested HealthCheck NodePort %v: %w", port, err)
		}
	}
	kept := nodePorts(s)
	for _, port := range nodePorts(old) {
		if n, ok := t.allocation.portOffset(port); ok && !slices.Contains(kept, port) {
			t.freePorts = append(t.freePorts, n)
		}
	}
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
