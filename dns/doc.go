// Package dns answers the names of a cluster: Services, the pods behind
// headless Services, and everything else by asking the host's resolvers.
//
//	Services, EndpointSlices, Namespaces ──watch──► zone ◄── query, UDP or TCP
//	                                                 │            │
//	                            in the zone: records ┘            └ outside: forwarder ──► host's resolvers
//
// It runs on the host, not in a pod: cluster DNS must not need an image. Pods
// reach it like any Service: kube-dns in kube-system has the tenth address of the
// service range, no selector, and one EndpointSlice, which this package keeps, that
// points at the address and port on which it listens here.
//
// One query, in steps (`dns/dns.go:Server.ServeDNS`):
//
//  1. split the name: is it below the cluster domain, or a reverse name?
//  2. ask the zone (`dns/zone.go:zone.lookup`), which knows only the caches of
//     its informers;
//  3. a name outside the cluster goes to the forwarder, whose resolvers are
//     asked in turn;
//  4. answer, shuffled, cut to what the client can take.
//
// Names, as the specification has them:
//
//	<service>.<ns>.svc.<domain>              A, AAAA: ClusterIP, or the ready endpoints of a headless Service
//	<host>.<service>.<ns>.svc.<domain>       one endpoint of a headless Service
//	_<port>._<protocol>.<service>.<ns>.svc.… SRV
//	<a-b-c-d>.<ns>.pod.<domain>              A: the address itself
//	<reverse>.in-addr.arpa                   PTR of ClusterIPs and of headless endpoints
//
// Invariants: nothing is stored; a restart loses nothing. An answer about the
// cluster never leaves it: names below the cluster domain are not forwarded. A
// resolver that leads back here is noticed and left out, else one query would
// run in circles for ever.
//
// Read first: `dns/dns.go:Server.Run`, `dns/zone.go:zone.lookup`,
// `dns/forward.go:forwarder.forward`.
//
// # In Kubernetes
//
// The same is CoreDNS with its kubernetes, forward, loop, loadbalance and
// errors plugins, run as a Deployment (the specification is
// kubernetes/dns/docs/specification.md). Left out: plugins and the Corefile,
// caching (the caches of the informers are the data; forwarded answers are
// cached by the resolver asked), zone transfers, and autoscaling. Without the
// loop check a host whose resolv.conf names 127.0.0.53, answered by
// ourselves, would hang each lookup until it times out.
package dns
