package service

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"

	"hyperkube/api/core/service"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

const (
	repairInterval = 3 * time.Minute
	// leakGrace is how old an address without its service must be: the address is made first, and a create may take as long as a
	// request may.
	leakGrace = time.Minute
	// repairsBeforeRelease is how often in a row a number must be found without a service before it is given out again: the write
	// that took it may still be under way.
	repairsBeforeRelease = 3
)

// repair brings what services hold, what is marked as taken, and the IPAddress objects into line again, after a kill between two
// writes or an etcd that was restored from an old copy. What it finds it says in events, of upstream's names:
//
//	service ── clusterIPs ──► IPAddress       missing: made; of nobody: taken over; of another service: people must choose
//	IPAddress ── parentRef ─► service         of none, for a minute: deleted
//	marked address or port ─► IPAddress or service     of none, three times in a row: free again (repair_ports.go)
//
// Invariant: it acts only upon what a fresh look has confirmed, since writes go on meanwhile.
type repair struct {
	allocation *allocation
	ips, ports recorder
	// leakedIPs and leakedPorts are how many more times each has to be found.
	leakedIPs   map[netip.Addr]int
	leakedPorts map[int]int
}

func newRepair(a *allocation) *repair {
	return &repair{
		allocation: a,
		ips:        recorder{env: a.env, component: "ipallocator-repair-controller", isSeries: true},
		ports:      recorder{env: a.env, component: "portallocator-repair-controller"},
		leakedIPs:  map[netip.Addr]int{}, leakedPorts: map[int]int{},
	}
}

// Run repairs at once, and from then on every three minutes.
func (r *repair) Run(ctx context.Context) {
	ctx = request.WithUser(ctx, request.APIServer())
	ticker := r.allocation.env.Clock.NewTicker(repairInterval)
	defer ticker.Stop()
	for {
		if err := r.runOnce(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Repairing the addresses and ports of services: will try again", "after", repairInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// runOnce is one round:
//
//	Step 1: each service has what it says it has.
//	Step 2: each IPAddress that was made for a service belongs to one.
//	Step 3: each address that is marked is an IPAddress.
//	Step 4: each port that is marked is a service's.
func (r *repair) runOnce(ctx context.Context) error {
	if err := r.allocation.load(ctx); err != nil {
		return err
	}
	list, err := r.services().List(ctx, "", storage.ListOptions{})
	if err != nil {
		return fmt.Errorf("unable to refresh the service IP block: %w", err)
	}
	var services []*v1.Service
	for _, item := range list.Items {
		services = append(services, item.Object.(*v1.Service))
	}
	if r.allocation.env.Store(ipAddresses) != nil {
		// Step 1
		for _, s := range services {
			if err := r.syncService(ctx, s); err != nil {
				return err
			}
		}
		// Step 2
		objects, err := r.syncIPAddresses(ctx)
		if err != nil {
			return err
		}
		// Step 3
		r.releaseLeakedIPs(ctx, objects, services)
	}
	// Step 4
	r.syncPorts(ctx, services)
	return nil
}

func (r *repair) services() *registry.Store {
	return r.allocation.env.Store(schema.GroupResource{Resource: "services"})
}

// syncService checks the addresses of one service.
func (r *repair) syncService(ctx context.Context, s *v1.Service) error {
	if !service.NeedsClusterIP(s) || service.IsHeadless(s) {
		return nil
	}
	for _, text := range s.Spec.ClusterIPs {
		ip, ok := parseIP(text)
		if !ok {
			r.ips.about(ctx, s, problem{"ClusterIPNotValid", "ClusterIPValidation", fmt.Sprintf("Cluster IP %s is not a valid IP; please recreate Service", text)})
			continue
		}
		if err := r.syncClusterIP(ctx, s, ip); err != nil {
			return err
		}
	}
	return nil
}

// syncClusterIP checks one address of one service against its object.
func (r *repair) syncClusterIP(ctx context.Context, s *v1.Service, ip netip.Addr) error {
	a := r.allocation
	say := func(reason, format string, args ...any) {
		r.ips.about(ctx, s, problem{reason, "ClusterIPAllocation", fmt.Sprintf(format, args...)})
	}
	inside, err := a.ranges.covers(ctx, ip)
	if err != nil {
		return err
	}
	if !inside {
		say("ClusterIPOutOfRange", "Cluster IP [%v]: %s is not within any configured Service CIDR; please recreate service", familyOf(ip), ip)
		return nil
	}
	cached, err := a.env.Store(ipAddresses).GetCached(ctx, "", ip.String())
	if err == nil && isOf(cached.(*networkingv1.IPAddress), s) {
		return nil
	}
	if still, err := r.holdsIP(ctx, s, ip); !still {
		return err
	}
	fresh, err := a.env.Store(ipAddresses).GetObject(ctx, "", ip.String())
	if errors.IsNotFound(err) {
		say("ClusterIPNotAllocated", "Cluster IP [%v]: %s is not allocated; repairing", familyOf(ip), ip)
		a.ranges.take(ip)
		_, err = a.own(ctx, s, ip)
		return err
	}
	if err != nil {
		say("UnknownError", "Unable to allocate ClusterIP [%v]: %s due to an unknown error", familyOf(ip), ip)
		return fmt.Errorf("reading the IPAddress %s of service %s/%s: %w", ip, s.Namespace, s.Name, err)
	}
	object := fresh.(*networkingv1.IPAddress)
	if isOf(object, s) {
		return nil
	}
	other, err := r.ownerOf(ctx, object)
	if err != nil {
		return err
	}
	switch ref := object.Spec.ParentRef; {
	case other != nil && *ref != *parentOf(s) && slices.Contains(addresses(other), ip):
		say("ClusterIPAlreadyAllocated", "Cluster IP [%v]:%s was assigned to multiple services; please recreate service", familyOf(ip), ip)
		return nil
	case ref == nil || *ref != *parentOf(s):
		say("ClusterIPNotAllocated", "the ClusterIP [%v]: %s for Service %s/%s has a wrong reference; repairing", familyOf(ip), ip, s.Namespace, s.Name)
	}
	return r.replace(ctx, object, s, ip)
}

// isOf says whether an IPAddress is as it was made for s.
func isOf(object *networkingv1.IPAddress, s *v1.Service) bool {
	ip, err := netip.ParseAddr(object.Name)
	return err == nil && isManaged(object) && object.Labels[networkingv1.LabelIPAddressFamily] == string(familyOf(ip)) &&
		object.Spec.ParentRef != nil && *object.Spec.ParentRef == *parentOf(s)
}

func isManaged(object *networkingv1.IPAddress) bool {
	return object.Labels[networkingv1.LabelManagedBy] == allocatorName
}

// holdsIP looks again whether a service is there and has ip.
func (r *repair) holdsIP(ctx context.Context, s *v1.Service, ip netip.Addr) (bool, error) {
	now, err := r.fresh(ctx, s.Namespace, s.Name)
	return now != nil && now.UID == s.UID && slices.Contains(addresses(now), ip), err
}

// fresh is a service as it is now, nil when there is none.
func (r *repair) fresh(ctx context.Context, namespace, name string) (*v1.Service, error) {
	obj, err := r.services().GetObject(ctx, namespace, name)
	if errors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return obj.(*v1.Service), nil
}

// ownerOf is the service that an IPAddress refers to, nil when that is none.
func (r *repair) ownerOf(ctx context.Context, object *networkingv1.IPAddress) (*v1.Service, error) {
	ref := object.Spec.ParentRef
	if ref == nil || ref.Group != "" || ref.Resource != "services" {
		return nil, nil
	}
	return r.fresh(ctx, ref.Namespace, ref.Name)
}

func (r *repair) replace(ctx context.Context, object *networkingv1.IPAddress, s *v1.Service, ip netip.Addr) error {
	if err := r.remove(ctx, object); err != nil {
		return err
	}
	_, err := r.allocation.own(ctx, s, ip)
	return err
}

// remove deletes the very object that was judged, not one that has come in its place.
func (r *repair) remove(ctx context.Context, object *networkingv1.IPAddress) error {
	_, _, err := r.allocation.env.Store(ipAddresses).DeleteObject(ctx, "", object.Name, &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(object.UID))})
	if errors.IsNotFound(err) || errors.IsConflict(err) {
		return nil
	}
	return err
}

// syncIPAddresses deletes those that were made for services and are of none; it returns those there are.
func (r *repair) syncIPAddresses(ctx context.Context) (map[string]bool, error) {
	list, err := r.allocation.env.Store(ipAddresses).List(ctx, "", storage.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("unable to refresh the IPAddress block: %w", err)
	}
	present := map[string]bool{}
	for _, item := range list.Items {
		object := item.Object.(*networkingv1.IPAddress)
		present[object.Name] = true
		if !isManaged(object) {
			continue // somebody else keeps it
		}
		found, err := r.judge(ctx, object)
		if err != nil {
			return nil, err
		}
		if found == nil {
			continue
		}
		r.ips.about(ctx, object, *found)
		if err := r.remove(ctx, object); err != nil {
			return nil, err
		}
		if ip, err := netip.ParseAddr(object.Name); err == nil {
			r.allocation.ranges.release(ip)
		}
		delete(present, object.Name)
	}
	return present, nil
}

// judge says why an IPAddress has to go, nil when it may stay.
func (r *repair) judge(ctx context.Context, object *networkingv1.IPAddress) (*problem, error) {
	ref := object.Spec.ParentRef
	if ref == nil || ref.Group != "" || ref.Resource != "services" {
		return &problem{"IPAddressNotAllocated", "IPAddressAllocation",
			fmt.Sprintf("IPAddress %s appears to have been modified, not referencing a Service %v: cleaning up", object.Name, ref)}, nil
	}
	if r.allocation.env.Clock.Since(object.CreationTimestamp.Time) <= leakGrace {
		return nil, nil // its service may be on the way
	}
	owner, err := r.ownerOf(ctx, object)
	if err != nil {
		return nil, err
	}
	if owner == nil {
		return &problem{"IPAddressNotAllocated", "IPAddressAllocation",
			fmt.Sprintf("IPAddress: %s for Service %s/%s appears to have leaked: cleaning up", object.Name, ref.Namespace, ref.Name)}, nil
	}
	if ip, err := netip.ParseAddr(object.Name); err == nil && slices.Contains(addresses(owner), ip) {
		return nil, nil
	}
	return &problem{"IPAddressWrongReference", "IPAddressAllocation",
		fmt.Sprintf("IPAddress: %s for Service %s/%s has a wrong reference; cleaning up", object.Name, ref.Namespace, ref.Name)}, nil
}

// releaseLeakedIPs frees marked addresses that are nobody's: a write that failed halfway, or somebody else's IPAddress that is gone.
func (r *repair) releaseLeakedIPs(ctx context.Context, objects map[string]bool, services []*v1.Service) {
	held := map[netip.Addr]bool{}
	for _, s := range services {
		for _, ip := range addresses(s) {
			held[ip] = true
		}
	}
	leaked := map[netip.Addr]int{}
	for ip := range r.allocation.ranges.taken() {
		if held[ip] || objects[ip.String()] {
			continue
		}
		leaked[ip] = r.leakedIPs[ip] + 1
		if leaked[ip] == repairsBeforeRelease {
			klog.FromContext(ctx).Info("The cluster IP appears to have leaked: cleaning up", "IP", ip)
			r.allocation.ranges.release(ip)
			delete(leaked, ip)
		}
	}
	r.leakedIPs = leaked
}
