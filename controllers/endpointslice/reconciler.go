package endpointslice

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	utilnet "k8s.io/utils/net"

	"hyperkube/controllers/servicepods"
)

// surroundings are what else the endpoints depend on: the zones of nodes, and how they get
// their hints.
type surroundings struct {
	zoneOf func(node string) string
	hint   hinter
}

// group is the endpoints that have one set of ports.
type group struct {
	ports     []discovery.EndpointPort
	endpoints map[string]discovery.Endpoint // by endpointKey
	existing  []*discovery.EndpointSlice
}

// planService decides what to write for the Service.
func planService(service *corev1.Service, pods []*corev1.Pod, existing []*discovery.EndpointSlice, around surroundings) plan {
	var p plan
	byFamily := map[discovery.AddressType][]*discovery.EndpointSlice{}
	for _, slice := range existing {
		byFamily[slice.AddressType] = append(byFamily[slice.AddressType], slice)
	}
	for _, family := range addressTypes(service, pods) {
		p.add(reconcileByAddressType(service, pods, byFamily[family], family, around))
		delete(byFamily, family)
	}
	for _, family := range slices.Sorted(maps.Keys(byFamily)) {
		p.delete = append(p.delete, byFamily[family]...) // families the Service no longer has
	}
	return p
}

// addressTypes are the families that the Service has. A headless Service may
// not say; it then has those of its pods, or of the cluster's first range.
func addressTypes(service *corev1.Service, pods []*corev1.Pod) []discovery.AddressType {
	var families []discovery.AddressType
	add := func(ipv6 bool) {
		family := discovery.AddressTypeIPv4
		if ipv6 {
			family = discovery.AddressTypeIPv6
		}
		if !slices.Contains(families, family) {
			families = append(families, family)
		}
	}
	for _, family := range service.Spec.IPFamilies {
		add(family == corev1.IPv6Protocol)
	}
	if len(families) > 0 {
		return families
	}
	if ip := service.Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
		add(utilnet.IsIPv6String(ip))
		return families
	}
	for _, pod := range pods {
		if pod.Status.PodIP != "" {
			add(utilnet.IsIPv6String(pod.Status.PodIP))
		}
	}
	if len(families) == 0 {
		add(false)
	}
	return families
}

// reconcileByAddressType plans the slices of one family.
func reconcileByAddressType(service *corev1.Service, pods []*corev1.Pod, existing []*discovery.EndpointSlice, family discovery.AddressType, around surroundings) plan {
	groups := map[string]*group{}
	for _, pod := range pods {
		if !servicepods.ShouldPodBeInEndpoints(pod, true) {
			continue
		}
		endpoint, ok := podToEndpoint(pod, service, family, around.zoneOf(pod.Spec.NodeName))
		if !ok {
			continue
		}
		ports := getEndpointPorts(service, pod)
		key := portsKey(ports)
		if groups[key] == nil {
			groups[key] = &group{ports: ports, endpoints: map[string]discovery.Endpoint{}}
		}
		groups[key].endpoints[endpointKey(&endpoint)] = endpoint
	}
	var p plan
	p.notes = around.hint(groups, family)
	for _, slice := range existing {
		key := portsKey(slice.Ports)
		if groups[key] == nil {
			p.delete = append(p.delete, slice) // nothing has these ports any more
			continue
		}
		groups[key].existing = append(groups[key].existing, slice)
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		p.add(reconcileByPorts(service, groups[key], family))
	}
	return keepPlaceholder(service, p, len(groups), family).recycled()
}

// keepPlaceholder leaves one empty slice where there are no endpoints.
func keepPlaceholder(service *corev1.Service, p plan, groups int, family discovery.AddressType) plan {
	if groups > 0 {
		return p
	}
	placeholder := newEndpointSlice(service, family, []discovery.EndpointPort{})
	if len(p.delete) == 0 {
		p.create = append(p.create, placeholder)
		return p
	}
	// All slices are to go. The oldest stays as it is if it is a placeholder already.
	slices.SortFunc(p.delete, byAge)
	if kept := p.delete[0]; len(kept.Ports) == 0 && len(kept.Endpoints) == 0 && maps.Equal(kept.Labels, placeholder.Labels) {
		p.delete = p.delete[1:]
		return p
	}
	p.create = append(p.create, placeholder)
	return p
}

// reconcileByPorts spreads the endpoints of one group over its slices:
//
//  1. existing slices keep what is still wanted, brought up to date;
//  2. the rest goes into slices that change anyway, the fullest first;
//  3. then into new ones, as long as they get full;
//  4. what is left goes into one slice that has room for all of it, or a new one.
//
// A new slice is preferred to updating several others: each update goes to every
// node.
func reconcileByPorts(service *corev1.Service, g *group, family discovery.AddressType) plan {
	var p plan
	left := maps.Clone(g.endpoints)
	labels := sliceLabels(service)
	var unchanged, changed []*discovery.EndpointSlice

	// Step 1: existing slices keep what is still wanted.
	slices.SortFunc(g.existing, byAge)
	for _, slice := range g.existing {
		kept, same := keepWanted(slice, left)
		switch {
		case len(kept) == 0:
			p.delete = append(p.delete, slice)
		case same && maps.Equal(slice.Labels, labels):
			unchanged = append(unchanged, slice)
		default:
			slice = slice.DeepCopy()
			slice.Endpoints, slice.Labels = kept, labels
			changed = append(changed, slice)
		}
	}
	rest := sortedEndpoints(left)

	// Step 2: fill slices that change anyway.
	slices.SortStableFunc(changed, func(a, b *discovery.EndpointSlice) int { return cmp.Compare(len(b.Endpoints), len(a.Endpoints)) })
	for _, slice := range changed {
		rest = fill(slice, rest)
	}
	// Step 3: new slices, as long as they get full.
	create := func() {
		slice := newEndpointSlice(service, family, g.ports)
		rest = fill(slice, rest)
		p.create = append(p.create, slice)
	}
	for len(rest) >= MaxEndpointsPerSlice {
		create()
	}
	// Step 4: what is left goes into one slice that has room for all of it, even one
	// that was to be deleted; else into a new one.
	if len(rest) > 0 {
		if slice := takeWithRoom(&unchanged, &p.delete, len(rest)); slice != nil {
			slice.Labels = labels
			rest = fill(slice, rest)
			changed = append(changed, slice)
		} else {
			create()
		}
	}
	p.update = changed
	return p
}

// keepWanted returns the slice's endpoints that are still wanted, as they should
// be now, takes those out of left, and reports whether the slice is right as it is.
func keepWanted(slice *discovery.EndpointSlice, left map[string]discovery.Endpoint) (kept []discovery.Endpoint, same bool) {
	same = true
	for i := range slice.Endpoints {
		key := endpointKey(&slice.Endpoints[i])
		wanted, ok := left[key]
		if !ok {
			same = false // gone, or in an earlier slice already
			continue
		}
		delete(left, key)
		kept = append(kept, wanted)
		same = same && equality.Semantic.DeepEqual(slice.Endpoints[i], wanted)
	}
	return kept, same
}

func fill(slice *discovery.EndpointSlice, rest []discovery.Endpoint) []discovery.Endpoint {
	n := min(len(rest), MaxEndpointsPerSlice-len(slice.Endpoints))
	slice.Endpoints = append(slice.Endpoints, rest[:n]...)
	return rest[n:]
}

// takeWithRoom takes the slice that n more endpoints fill best, as a copy; nil
// where none has room.
func takeWithRoom(unchanged, deletable *[]*discovery.EndpointSlice, n int) *discovery.EndpointSlice {
	if len(*deletable) > 0 {
		slice := (*deletable)[0].DeepCopy()
		*deletable = (*deletable)[1:]
		slice.Endpoints = nil
		return slice
	}
	best := -1
	for i, slice := range *unchanged {
		if len(slice.Endpoints)+n <= MaxEndpointsPerSlice && (best < 0 || len(slice.Endpoints) > len((*unchanged)[best].Endpoints)) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	slice := (*unchanged)[best].DeepCopy()
	*unchanged = slices.Delete(*unchanged, best, best+1)
	return slice
}

// sortedEndpoints makes the result the same for the same pods.
func sortedEndpoints(endpoints map[string]discovery.Endpoint) []discovery.Endpoint {
	sorted := make([]discovery.Endpoint, 0, len(endpoints))
	for _, key := range slices.Sorted(maps.Keys(endpoints)) {
		sorted = append(sorted, endpoints[key])
	}
	return sorted
}

func byAge(a, b *discovery.EndpointSlice) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}
