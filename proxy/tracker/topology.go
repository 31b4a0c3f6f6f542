package tracker

import "slices"

// CategorizeEndpoints says which endpoints traffic may go to: cluster, where any
// node's will do, and local, where only this node's will. hasAny tells whether there
// is any usable endpoint at all: with policy Local and none here, that decides
// between dropping (another node would take it) and rejecting.
func CategorizeEndpoints(endpoints []Endpoint, port *ServicePort, zone string) (cluster, local []Endpoint, hasAny bool) {
	anywhere := usable(endpoints)
	if port.UsesClusterEndpoints() {
		cluster = inZone(anywhere, zone)
	}
	if port.UsesLocalEndpoints() {
		// Readiness is judged among the local ones alone: a terminating endpoint here is
		// better than a ready one that may not be used.
		local = usable(where(endpoints, func(e Endpoint) bool { return e.IsLocal }))
	}
	return cluster, local, len(anywhere) > 0
}

// usable are the ready endpoints; if there are none, those that still serve while
// they terminate, so that the last pod of a rollout is not cut off early.
func usable(endpoints []Endpoint) []Endpoint {
	if ready := where(endpoints, func(e Endpoint) bool { return e.Ready }); len(ready) > 0 {
		return ready
	}
	return where(endpoints, func(e Endpoint) bool { return e.Serving && e.Terminating })
}

// inZone honours zone hints (KEP-2433), if each endpoint has one and one is for
// this zone; otherwise the hints are incomplete, and traffic goes everywhere.
func inZone(endpoints []Endpoint, zone string) []Endpoint {
	if zone == "" {
		return endpoints
	}
	for _, e := range endpoints {
		if len(e.ZoneHints) == 0 {
			return endpoints
		}
	}
	if here := where(endpoints, func(e Endpoint) bool { return slices.Contains(e.ZoneHints, zone) }); len(here) > 0 {
		return here
	}
	return endpoints
}

func where(endpoints []Endpoint, keep func(Endpoint) bool) []Endpoint {
	var kept []Endpoint
	for _, e := range endpoints {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
