package tracker

import (
	"net"
	"reflect"
	"sort"
	"strconv"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Endpoint is one address behind a Service port.
type Endpoint struct {
	IP   string
	Port int
	// IsLocal: the endpoint is on this node.
	IsLocal bool
	// Ready endpoints get traffic. Serving ones that are Terminating get it only when
	// no endpoint is Ready (KEP-1669).
	Ready, Serving, Terminating bool
	// ZoneHints are the zones whose traffic it should get; empty means none were given.
	ZoneHints []string
}

// String returns "ip:port".
func (e Endpoint) String() string { return net.JoinHostPort(e.IP, strconv.Itoa(e.Port)) }

// EndpointsMap is the endpoints of each Service port, sorted by address, so that
// equal endpoints give equal rules.
type EndpointsMap map[ServicePortName][]Endpoint

// EndpointsChangeTracker keeps what each EndpointSlice says. A Service's endpoints
// are the union of its slices: one may be split over several, and move between them.
type EndpointsChangeTracker struct {
	nodeName string
	family   v1.IPFamily
	// slices holds, per Service and slice name, the endpoints by port.
	slices map[types.NamespacedName]map[string]EndpointsMap
}

// NewEndpointsChangeTracker returns an empty tracker of the addresses of one family;
// nodeName decides what is local.
func NewEndpointsChangeTracker(nodeName string, family v1.IPFamily) *EndpointsChangeTracker {
	return &EndpointsChangeTracker{nodeName: nodeName, family: family, slices: map[types.NamespacedName]map[string]EndpointsMap{}}
}

// EndpointSliceUpdate takes a new or changed slice, or (remove) a deleted one. It
// tells whether there is anything to sync.
func (t *EndpointsChangeTracker) EndpointSliceUpdate(slice *discovery.EndpointSlice, remove bool) bool {
	if slice.AddressType != discovery.AddressType(t.family) {
		return false
	}
	service, ok := slice.Labels[discovery.LabelServiceName]
	if !ok {
		return false
	}
	key := types.NamespacedName{Namespace: slice.Namespace, Name: service}
	before := t.slices[key][slice.Name]
	if remove {
		delete(t.slices[key], slice.Name)
		if len(t.slices[key]) == 0 {
			delete(t.slices, key)
		}
		return len(before) > 0
	}
	after := t.endpointsOf(key, slice)
	if t.slices[key] == nil {
		t.slices[key] = map[string]EndpointsMap{}
	}
	t.slices[key][slice.Name] = after
	// Not by their texts, which leave out whether an endpoint is ready: one that becomes so would wait for the next full sync.
	return len(before)+len(after) > 0 && !reflect.DeepEqual(before, after)
}

func (t *EndpointsChangeTracker) endpointsOf(service types.NamespacedName, slice *discovery.EndpointSlice) EndpointsMap {
	result := EndpointsMap{}
	for _, port := range slice.Ports {
		if port.Port == nil {
			continue
		}
		name := ServicePortName{NamespacedName: service, Protocol: v1.ProtocolTCP}
		if port.Name != nil {
			name.Port = *port.Name
		}
		if port.Protocol != nil {
			name.Protocol = *port.Protocol
		}
		for i := range slice.Endpoints {
			if ep := &slice.Endpoints[i]; len(ep.Addresses) > 0 && len(addressesOf(t.family, ep.Addresses[:1])) > 0 {
				result[name] = append(result[name], t.newEndpoint(ep, int(*port.Port)))
			}
		}
	}
	return result
}

// newEndpoint: a condition that is absent counts as the API says: ready means yes,
// serving means as ready, terminating means no. Only the first address is used.
func (t *EndpointsChangeTracker) newEndpoint(ep *discovery.Endpoint, port int) Endpoint {
	e := Endpoint{
		IP: ep.Addresses[0], Port: port,
		IsLocal:     t.nodeName != "" && ep.NodeName != nil && *ep.NodeName == t.nodeName,
		Ready:       ep.Conditions.Ready == nil || *ep.Conditions.Ready,
		Terminating: ep.Conditions.Terminating != nil && *ep.Conditions.Terminating,
	}
	e.Serving = e.Ready
	if ep.Conditions.Serving != nil {
		e.Serving = *ep.Conditions.Serving
	}
	if ep.Hints != nil {
		for _, zone := range ep.Hints.ForZones {
			e.ZoneHints = append(e.ZoneHints, zone.Name)
		}
	}
	return e
}

// Endpoints returns the union of all slices. An address that two slices name, as
// happens while it moves between them, is taken once; ready wins.
func (t *EndpointsChangeTracker) Endpoints() EndpointsMap {
	byAddress := map[ServicePortName]map[string]Endpoint{}
	for _, slices := range t.slices {
		for _, ports := range slices {
			for name, endpoints := range ports {
				if byAddress[name] == nil {
					byAddress[name] = map[string]Endpoint{}
				}
				for _, e := range endpoints {
					if known, ok := byAddress[name][e.String()]; !ok || !known.Ready && e.Ready {
						byAddress[name][e.String()] = e
					}
				}
			}
		}
	}
	result := make(EndpointsMap, len(byAddress))
	for name, endpoints := range byAddress {
		for _, e := range endpoints {
			result[name] = append(result[name], e)
		}
		sort.Slice(result[name], func(i, j int) bool { return result[name][i].String() < result[name][j].String() })
	}
	return result
}
