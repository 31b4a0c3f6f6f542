package iptables

import (
	"fmt"
	"sort"
	"strings"

	"hyperkube/proxy/tracker"
)

// Input is everything the rules depend on.
type Input struct {
	Services  tracker.ServicePortMap
	Endpoints tracker.EndpointsMap
	// Zone is this node's zone, for zone hints; "" ignores them.
	Zone string
	// ClusterCIDR tells pods from the world outside; "" treats all alike.
	ClusterCIDR string
	// MasqueradeAll rewrites the source of all traffic to cluster IPs.
	MasqueradeAll bool
	// MasqueradeLocal rewrites the source of pods' traffic to endpoints on this node:
	// for pods on a bridge whose replies would not pass iptables (R52).
	MasqueradeLocal bool
	// LocalhostNodePorts lets 127.0.0.1 lead to NodePorts; needs route_localnet. IPv6 has nothing like it.
	LocalhostNodePorts bool
	// IPv6: all addresses are of that family.
	IPv6 bool
}

// Table is the rules of one table as iptables-restore reads them.
type Table struct {
	Name   string
	Chains []string
	Rules  []string
}

// Ruleset is what one sync writes. Print it with Text.
type Ruleset struct {
	Filter, Nat Table
}

// Text is the rules without jumps and without what a sync removes: what `proxy
// rules` prints, and what two syncs are compared by.
func (r *Ruleset) Text() string {
	var b strings.Builder
	for _, t := range []*Table{&r.Filter, &r.Nat} {
		fmt.Fprintf(&b, "*%s\n", t.Name)
		for _, chain := range t.Chains {
			fmt.Fprintf(&b, ":%s - [0:0]\n", chain)
		}
		for _, rule := range t.Rules {
			b.WriteString(rule + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// add appends a rule to a chain; empty parts are left out.
func (t *Table) add(chain string, parts ...string) {
	rule := "-A " + chain
	for _, part := range parts {
		if part != "" {
			rule += " " + part
		}
	}
	t.Rules = append(t.Rules, rule)
}

func (t *Table) chain(name string) { t.Chains = append(t.Chains, name) }

func comment(format string, args ...any) string {
	return `-m comment --comment "` + fmt.Sprintf(format, args...) + `"`
}

// ComputeRules decides all rules, in these steps. It touches nothing: the same
// input gives the same text.
//
//	1: the chains that always exist
//	2: for each Service port, in the order of names: where its traffic may go
//	3: the rules that must come last
func ComputeRules(in Input) *Ruleset {
	r := &Ruleset{Filter: Table{Name: "filter"}, Nat: Table{Name: "nat"}}

	// Step 1: the chains that always exist
	for _, t := range []*Table{&r.Filter, &r.Nat} {
		for _, chain := range fixedChains[t.Name] {
			t.chain(chain)
		}
	}
	writeMasquerade(r)
	writeForward(r, in)

	// Step 2: for each Service port, in the order of names: where its traffic may go
	for _, name := range sortedNames(in.Services) {
		writeServicePort(r, newServicePortRules(in, name))
	}

	// Step 3: the rules that must come last
	notLocalhost := ""
	switch {
	case in.IPv6:
		notLocalhost = "! -d ::1/128"
	case !in.LocalhostNodePorts:
		notLocalhost = "! -d 127.0.0.0/8"
	}
	r.Nat.add(kubeServicesChain, comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain"),
		notLocalhost, "-m addrtype --dst-type LOCAL -j", kubeNodePortsChain)
	return r
}

func sortedNames(services tracker.ServicePortMap) []tracker.ServicePortName {
	names := make([]tracker.ServicePortName, 0, len(services))
	for name := range services {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		a, b := names[i].String(), names[j].String()
		return a < b || a == b && names[i].Protocol < names[j].Protocol
	})
	return names
}

// writeMasquerade: KUBE-MARK-MASQ decides, KUBE-POSTROUTING does. The mark is taken
// off again, so that packets which pass the stack twice (overlays) are not rewritten
// twice.
func writeMasquerade(r *Ruleset) {
	r.Nat.add(kubeMarkMasqChain, "-j MARK --or-mark", masqueradeMark)
	r.Nat.add(kubePostroutingChain, "-m mark ! --mark", masqueradeMark+"/"+masqueradeMark, "-j RETURN")
	r.Nat.add(kubePostroutingChain, "-j MARK --xor-mark", masqueradeMark)
	r.Nat.add(kubePostroutingChain, comment("kubernetes service traffic requiring SNAT"), "-j MASQUERADE --random-fully")
}

// writeForward lets through what Services and pods need where the host's policy
// drops forwarded packets (R51).
func writeForward(r *Ruleset, in Input) {
	// A packet conntrack cannot place would pass without its address being changed
	// back, and the receiver would answer it with a reset.
	r.Filter.add(kubeForwardChain, "-m conntrack --ctstate INVALID -j DROP")
	r.Filter.add(kubeForwardChain, comment("kubernetes forwarding rules"), "-m mark --mark", masqueradeMark+"/"+masqueradeMark, "-j ACCEPT")
	r.Filter.add(kubeForwardChain, comment("kubernetes forwarding conntrack rule"), "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	if in.ClusterCIDR != "" {
		r.Filter.add(kubeForwardChain, comment("traffic from pods"), "-s", in.ClusterCIDR, "-j ACCEPT")
		r.Filter.add(kubeForwardChain, comment("traffic to pods"), "-d", in.ClusterCIDR, "-j ACCEPT")
	}
	if in.LocalhostNodePorts && !in.IPv6 {
		// route_localnet would also let neighbours on the wire reach 127.0.0.1 (CVE-2020-8558).
		r.Filter.add(kubeletFirewallChain, comment("block incoming localnet connections"), "-d 127.0.0.0/8 ! -s 127.0.0.0/8",
			"-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")
	}
}

// servicePortRules is one Service port with what was decided about it.
type servicePortRules struct {
	in   Input
	name tracker.ServicePortName
	port *tracker.ServicePort
	// cluster and local are the endpoints to use, any node's and this node's.
	cluster, local []tracker.Endpoint
	// hasAny: there is a usable endpoint somewhere.
	hasAny bool
	// The chains of this port; which are written depends on the endpoints.
	svc, svl, ext, fw string
}

func newServicePortRules(in Input, name tracker.ServicePortName) *servicePortRules {
	s := &servicePortRules{in: in, name: name, port: in.Services[name]}
	s.cluster, s.local, s.hasAny = tracker.CategorizeEndpoints(in.Endpoints[name], s.port, in.Zone)
	hash := portProtoHash(name)
	s.svc, s.svl = servicePortPolicyClusterChainPrefix+hash, servicePortPolicyLocalChainPrefix+hash
	s.ext, s.fw = serviceExternalChainPrefix+hash, serviceFirewallChainPrefix+hash
	return s
}

// internal returns the chain for traffic to the cluster IP, and its endpoints.
func (s *servicePortRules) internal() (string, []tracker.Endpoint) {
	if s.port.InternalPolicyLocal {
		return s.svl, s.local
	}
	return s.svc, s.cluster
}

// external is the same for traffic from outside the cluster.
func (s *servicePortRules) external() (string, []tracker.Endpoint) {
	if s.port.ExternalPolicyLocal {
		return s.svl, s.local
	}
	return s.svc, s.cluster
}

// refusal is what becomes of traffic that no endpoint may take: REJECT, so that the
// client knows at once; but DROP when only this node has none, since a load balancer
// shall try another.
func (s *servicePortRules) refusal() (text, target string) {
	if s.hasAny {
		return fmt.Sprintf("%s has no local endpoints", s.name), "-j DROP"
	}
	return fmt.Sprintf("%s has no endpoints", s.name), "-j REJECT"
}

// match is the part of a rule that names protocol, address and port; an empty ip
// leaves the address out.
func (s *servicePortRules) match(ip string, port int) string {
	p := protocol(s.name.Protocol)
	address := ""
	if ip != "" {
		address = " -d " + ip
	}
	return fmt.Sprintf("-m %s -p %s%s --dport %d", p, p, address, port)
}

// writeServicePort writes the ways in, one after the other, then the chains they
// lead to.
func writeServicePort(r *Ruleset, s *servicePortRules) {
	writeClusterIP(r, s)
	for _, ip := range s.port.ExternalIPs {
		writeExternalAddress(r, s, "external IP", ip, s.ext)
	}
	writeLoadBalancer(r, s)
	writeNodePort(r, s)

	if len(s.cluster) > 0 || len(s.local) > 0 {
		if s.port.ExternallyAccessible() {
			writeExternalChain(r, s)
		}
		writePolicyChain(r, s, s.svc, s.cluster)
		writePolicyChain(r, s, s.svl, s.local)
		writeEndpointChains(r, s)
	}
}

// writeClusterIP leads the cluster IP to the endpoints, or refuses.
func writeClusterIP(r *Ruleset, s *servicePortRules) {
	chain, endpoints := s.internal()
	if len(endpoints) > 0 {
		r.Nat.add(kubeServicesChain, comment("%s cluster IP", s.name), s.match(s.port.ClusterIP, s.port.Port), "-j", chain)
		return
	}
	text, target := s.refusal()
	r.Filter.add(kubeServicesChain, comment("%s", text), s.match(s.port.ClusterIP, s.port.Port), target)
}

// writeExternalAddress leads an address from outside into the port's chain, and
// refuses what finds no endpoint there. Refusing is done after DNAT had its chance:
// traffic of pods and of this node may still have gone to another node's endpoint.
func writeExternalAddress(r *Ruleset, s *servicePortRules, kind, ip, chain string) {
	if s.hasAny {
		r.Nat.add(kubeServicesChain, comment("%s %s", s.name, kind), s.match(ip, s.port.Port), "-j", chain)
	}
	if _, endpoints := s.external(); len(endpoints) == 0 {
		text, target := s.refusal()
		r.Filter.add(kubeExternalServicesChain, comment("%s", text), s.match(ip, s.port.Port), target)
	}
}

// writeLoadBalancer does the same for load balancer addresses, behind a firewall
// if the Service restricts who may use them.
func writeLoadBalancer(r *Ruleset, s *servicePortRules) {
	if len(s.port.LoadBalancerIPs) == 0 {
		return
	}
	restricted := len(s.port.SourceRanges) > 0
	for _, ip := range s.port.LoadBalancerIPs {
		if !restricted {
			writeExternalAddress(r, s, "loadbalancer IP", ip, s.ext)
			continue
		}
		writeExternalAddress(r, s, "loadbalancer IP", ip, s.fw)
		// What the firewall chain did not lead on keeps the address, and ends here.
		r.Filter.add(kubeProxyFirewallChain, comment("%s traffic not accepted by %s", s.name, s.fw), s.match(ip, s.port.Port), "-j DROP")
	}
	if s.port.HealthCheckNodePort != 0 {
		r.Filter.add(kubeNodePortsChain, comment("%s health check node port", s.name),
			fmt.Sprintf("-m tcp -p tcp --dport %d -j ACCEPT", s.port.HealthCheckNodePort))
	}
	if restricted && s.hasAny {
		r.Nat.chain(s.fw)
		for _, source := range s.port.SourceRanges {
			r.Nat.add(s.fw, comment("%s loadbalancer IP", s.name), "-s", source, "-j", s.ext)
		}
		r.Nat.add(s.fw, comment("other traffic to %s will be dropped by %s", s.name, kubeProxyFirewallChain))
	}
}

// writeNodePort leads a port of the node to the endpoints, or refuses.
func writeNodePort(r *Ruleset, s *servicePortRules) {
	if s.port.NodePort == 0 {
		return
	}
	if s.hasAny {
		r.Nat.add(kubeNodePortsChain, comment("%s", s.name), s.match("", s.port.NodePort), "-j", s.ext)
	}
	if _, endpoints := s.external(); len(endpoints) == 0 {
		text, target := s.refusal()
		r.Filter.add(kubeExternalServicesChain, comment("%s", text), "-m addrtype --dst-type LOCAL", s.match("", s.port.NodePort), target)
	}
}

// writeExternalChain: traffic from outside gets this node's source address, or the
// reply would go from the endpoint's node straight to a client that never asked it.
// With policy Local the client's address is kept: then the endpoint is on this node,
// and the reply comes by here anyway.
func writeExternalChain(r *Ruleset, s *servicePortRules) {
	r.Nat.chain(s.ext)
	if !s.port.ExternalPolicyLocal {
		r.Nat.add(s.ext, comment("masquerade traffic for %s external destinations", s.name), "-j", kubeMarkMasqChain)
		r.Nat.add(s.ext, "-j", s.svc)
		return
	}
	if s.in.ClusterCIDR != "" {
		r.Nat.add(s.ext, comment("pod traffic for %s external destinations", s.name), "-s", s.in.ClusterCIDR, "-j", s.svc)
	}
	r.Nat.add(s.ext, comment("masquerade LOCAL traffic for %s external destinations", s.name), "-m addrtype --src-type LOCAL -j", kubeMarkMasqChain)
	r.Nat.add(s.ext, comment("route LOCAL traffic for %s external destinations", s.name), "-m addrtype --src-type LOCAL -j", s.svc)
	if len(s.local) > 0 {
		r.Nat.add(s.ext, "-j", s.svl)
	}
}

// writePolicyChain picks one of the endpoints: first the one a client had before
// (session affinity), else by lot.
func writePolicyChain(r *Ruleset, s *servicePortRules, chain string, endpoints []tracker.Endpoint) {
	if len(endpoints) == 0 {
		return
	}
	r.Nat.chain(chain)
	if internal, _ := s.internal(); internal == chain {
		writeClusterIPMasquerade(r, s, chain)
	}
	for _, e := range endpoints {
		if s.port.AffinitySeconds > 0 {
			sep := servicePortEndpointChainName(s.name, e.String())
			r.Nat.add(chain, comment("%s -> %s", s.name, e), "-m recent --name", sep,
				fmt.Sprintf("--rcheck --seconds %d --reap -j", s.port.AffinitySeconds), sep)
		}
	}
	for i, e := range endpoints {
		chance := ""
		// Rules are tried in turn, so the i-th of n takes 1/(n-i) of what is left: each
		// endpoint gets 1/n of all. The last takes the rest.
		if left := len(endpoints) - i; left > 1 {
			chance = fmt.Sprintf("-m statistic --mode random --probability %0.10f", 1/float64(left))
		}
		r.Nat.add(chain, comment("%s -> %s", s.name, e), chance, "-j", servicePortEndpointChainName(s.name, e.String()))
	}
}

// writeClusterIPMasquerade rewrites the source of what comes to the cluster IP from
// outside the pods' network: the reply could not find its way back by here.
func writeClusterIPMasquerade(r *Ruleset, s *servicePortRules, chain string) {
	match := s.match(s.port.ClusterIP, s.port.Port)
	switch {
	case s.in.MasqueradeAll:
		r.Nat.add(chain, comment("%s cluster IP", s.name), match, "-j", kubeMarkMasqChain)
	case s.in.ClusterCIDR != "":
		r.Nat.add(chain, comment("%s cluster IP", s.name), match, "! -s", s.in.ClusterCIDR, "-j", kubeMarkMasqChain)
	}
}

// writeEndpointChains: each endpoint's chain changes the destination. A pod that
// meets itself behind its Service (hairpin) needs its source rewritten, or it would
// get packets from its own address.
func writeEndpointChains(r *Ruleset, s *servicePortRules) {
	p := protocol(s.name.Protocol)
	written := map[string]bool{}
	for _, endpoints := range [][]tracker.Endpoint{s.cluster, s.local} {
		for _, e := range endpoints {
			sep := servicePortEndpointChainName(s.name, e.String())
			if written[sep] {
				continue
			}
			written[sep] = true
			r.Nat.chain(sep)
			r.Nat.add(sep, comment("%s", s.name), "-s", e.IP, "-j", kubeMarkMasqChain)
			if s.in.MasqueradeLocal && e.IsLocal && s.in.ClusterCIDR != "" {
				r.Nat.add(sep, comment("%s", s.name), "-s", s.in.ClusterCIDR, "-j", kubeMarkMasqChain)
			}
			remember := ""
			if s.port.AffinitySeconds > 0 {
				remember = "-m recent --name " + sep + " --set"
			}
			r.Nat.add(sep, comment("%s", s.name), remember, fmt.Sprintf("-m %s -p %s -j DNAT --to-destination", p, p), e.String())
		}
	}
}
