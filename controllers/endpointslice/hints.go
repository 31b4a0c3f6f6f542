package endpointslice

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
)

// hinter gives the endpoints of one address family their hints, by which proxies prefer those
// that are near, and tells of it where there is something to tell.
type hinter func(groups map[string]*group, family discovery.AddressType) []note

// What the events about hints by CPU begin with; the address family follows.
const (
	hintsEnabled  = "Topology Aware Hints has been enabled"
	hintsDisabled = "Topology Aware Hints has been disabled"
)

// note is an event about hints.
type note struct{ kind, reason, message string }

// hintsOf is how the Service's spec.trafficDistribution wants them (KEP-4444, KEP-3015): an
// endpoint is for its own zone, or node, and for no other.
func hintsOf(service *corev1.Service) hinter {
	byZone, byNode := false, false
	switch ptr.Deref(service.Spec.TrafficDistribution, "") {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		byZone = true
	case corev1.ServiceTrafficDistributionPreferSameNode:
		byZone, byNode = true, true
	}
	return func(groups map[string]*group, _ discovery.AddressType) []note {
		each(groups, func(e *discovery.Endpoint) {
			if !ptr.Deref(e.Conditions.Ready, false) {
				return
			}
			hints := &discovery.EndpointHints{}
			if byZone && e.Zone != nil {
				hints.ForZones = []discovery.ForZone{{Name: *e.Zone}}
			}
			if byNode && e.NodeName != nil {
				hints.ForNodes = []discovery.ForNode{{Name: *e.NodeName}}
			}
			if hints.ForZones != nil || hints.ForNodes != nil {
				e.Hints = hints
			}
		})
		return nil
	}
}

// each visits the endpoints in an order that is always the same.
func each(groups map[string]*group, visit func(*discovery.Endpoint)) {
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		for _, key := range slices.Sorted(maps.Keys(groups[g].endpoints)) {
			e := groups[g].endpoints[key]
			visit(&e)
			groups[g].endpoints[key] = e
		}
	}
}

// wantsHintsByCPU: the annotation topology-mode (KEP-2433), which trafficDistribution overrides.
func wantsHintsByCPU(service *corev1.Service) bool {
	if service.Spec.TrafficDistribution != nil {
		return false
	}
	mode, found := service.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !found {
		mode = service.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// share is what a node adds to its zone.
type share struct {
	zone  string
	milli int64
	// counts: ready, and no control plane.
	counts bool
}

func zoneShare(node *corev1.Node) share {
	s := share{zone: node.Labels[corev1.LabelTopologyZone], milli: node.Status.Allocatable.Cpu().MilliValue()}
	_, controlPlane := node.Labels["node-role.kubernetes.io/control-plane"]
	_, master := node.Labels["node-role.kubernetes.io/master"]
	for _, c := range node.Status.Conditions {
		s.counts = s.counts || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	s.counts = s.counts && !controlPlane && !master
	return s
}

// cpuRatios are the zones' parts of all CPUs; nil when a node does not say its zone or CPUs,
// or when there are fewer than two zones.
func cpuRatios(nodes []*corev1.Node) map[string]float64 {
	milli, total := map[string]int64{}, int64(0)
	for _, node := range nodes {
		s := zoneShare(node)
		if !s.counts {
			continue
		}
		if s.zone == "" || s.milli == 0 {
			return nil
		}
		milli[s.zone] += s.milli
		total += s.milli
	}
	if len(milli) < 2 {
		return nil
	}
	ratios := map[string]float64{}
	for zone, m := range milli {
		ratios[zone] = float64(m) / float64(total)
	}
	return ratios
}

// overload is how much more than its part an endpoint may get: what a zone lacks goes to others.
const overload = 0.2

// byCPU gives each zone as many endpoints as it has CPUs in proportion, its own first. Without
// enough endpoints none gets a hint.
func byCPU(ratios map[string]float64) hinter {
	return func(groups map[string]*group, family discovery.AddressType) []note {
		var ready []*discovery.Endpoint
		var put []func() // an endpoint is a value in its map
		for _, g := range groups {
			for key, e := range g.endpoints {
				if ptr.Deref(e.Conditions.Ready, false) {
					ready = append(ready, &e)
					put = append(put, func() { g.endpoints[key] = e })
				}
			}
		}
		slices.SortFunc(ready, func(a, b *discovery.Endpoint) int { return strings.Compare(endpointKey(a), endpointKey(b)) })
		if reason := assignZones(ready, ratios); reason != "" {
			return []note{{corev1.EventTypeWarning, "TopologyAwareHintsDisabled", fmt.Sprintf("%s, addressType: %s", reason, family)}}
		}
		for _, store := range put {
			store()
		}
		return []note{{corev1.EventTypeNormal, "TopologyAwareHintsEnabled", fmt.Sprintf("%s, addressType: %s", hintsEnabled, family)}}
	}
}

// assignZones sets the hints of the endpoints, or returns why it cannot:
//
//  1. find out the least that each zone needs, so that none is overloaded,
//  2. each endpoint is for its own zone,
//  3. zones that have more than their part give to those that have less than their least.
func assignZones(ready []*discovery.Endpoint, ratios map[string]float64) string {
	n := len(ready)
	// Step 1: find out the least that each zone needs.
	if ratios == nil {
		return "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
	}
	if len(ratios) > n {
		return fmt.Sprintf("Insufficient number of endpoints (%d endpoints, %d zones)", n, len(ratios))
	}
	least, sum := map[string]int{}, 0
	for zone, ratio := range ratios {
		least[zone] = int(math.Ceil(ratio * float64(n) / (1 + overload)))
		sum += least[zone]
	}
	if sum > n {
		return fmt.Sprintf("Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (%d endpoints, %d zones)", n, len(ratios))
	}
	// Step 2: each endpoint is for its own zone.
	have := map[string][]*discovery.Endpoint{}
	for _, e := range ready {
		if ptr.Deref(e.Zone, "") == "" {
			return "One or more endpoints do not have a zone specified"
		}
		have[*e.Zone] = append(have[*e.Zone], e)
		e.Hints = &discovery.EndpointHints{ForZones: []discovery.ForZone{{Name: *e.Zone}}}
	}
	// Step 3: zones that have more give to those that have less.
	for _, zone := range slices.Sorted(maps.Keys(least)) {
		for len(have[zone]) < least[zone] {
			giver := richest(have, ratios, n)
			moved := have[giver][len(have[giver])-1]
			have[giver] = have[giver][:len(have[giver])-1]
			have[zone] = append(have[zone], moved)
			moved.Hints.ForZones[0].Name = zone
		}
	}
	return ""
}

// richest is the zone that has most above its part.
func richest(have map[string][]*discovery.Endpoint, ratios map[string]float64, n int) string {
	best, above := "", math.Inf(-1)
	for _, zone := range slices.Sorted(maps.Keys(have)) {
		if more := float64(len(have[zone])) - ratios[zone]*float64(n); more > above && len(have[zone]) > 0 {
			best, above = zone, more
		}
	}
	return best
}

// zones remembers which Services have hints by CPU, so that a node's change reaches them and an
// event is told once.
type zones struct {
	mu   sync.Mutex
	last map[string][]note // by key: what was told last
}

func newZones() *zones { return &zones{last: map[string][]note{}} }

func (z *zones) services() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Sorted(maps.Keys(z.last))
}

func (z *zones) forget(key string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.last, key)
}

// end forgets the Service, and returns what is to be told of that if it had hints.
func (z *zones) end(key string) (notes []note) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, n := range z.last[key] {
		if family, had := strings.CutPrefix(n.message, hintsEnabled); had {
			notes = append(notes, note{corev1.EventTypeWarning, "TopologyAwareHintsDisabled", hintsDisabled + family})
		}
	}
	delete(z.last, key)
	return notes
}

// noted returns the notes that are news.
func (z *zones) noted(key string, service *corev1.Service, notes []note) []note {
	if !wantsHintsByCPU(service) {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if said, known := z.last[key]; known && slices.Equal(said, notes) {
		return nil
	}
	z.last[key] = notes
	return notes
}
