package dns

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"hyperkube/client/informers"
)

// ttl is how long, in seconds, a client may keep an answer. It bounds how long a
// client goes on asking a pod that is gone; CoreDNS is usually set to the same.
const ttl = 30

// zone is the cluster as names, read from the caches of three informers.
type zone struct {
	domain  string // "cluster.local"
	factory informers.SharedInformerFactory
	cancel  context.CancelFunc

	services   cache.Indexer // by namespace/name; index "address"
	slices     cache.Indexer // index "service" (namespace/name) and "address"
	namespaces cache.Indexer
	synced     []cache.InformerSynced
}

const (
	byAddress = "address"
	byService = "service"
)

func newZone(client kubernetes.Interface, domain string) (*zone, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services().Informer()
	slices := factory.Discovery().V1().EndpointSlices().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	if err := services.AddIndexers(cache.Indexers{byAddress: serviceAddresses}); err != nil {
		return nil, err
	}
	if err := slices.AddIndexers(cache.Indexers{byAddress: sliceAddresses, byService: sliceService}); err != nil {
		return nil, err
	}
	return &zone{
		domain: domain, factory: factory,
		services: services.GetIndexer(), slices: slices.GetIndexer(), namespaces: namespaces.GetIndexer(),
		synced: []cache.InformerSynced{services.HasSynced, slices.HasSynced, namespaces.HasSynced},
	}, nil
}

// start fills the caches, and returns an error if ctx ends before they are.
func (z *zone) start(ctx context.Context) error {
	ctx, z.cancel = context.WithCancel(ctx)
	if err := z.reportChanges(ctx); err != nil {
		return err
	}
	z.factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), z.synced...) {
		return ctx.Err()
	}
	return nil
}

func (z *zone) stop() {
	if z.cancel != nil {
		z.cancel()
		z.factory.Shutdown()
	}
}

func serviceAddresses(obj any) ([]string, error) {
	service := obj.(*corev1.Service)
	var all []string
	for _, address := range service.Spec.ClusterIPs {
		if address != corev1.ClusterIPNone {
			all = append(all, address)
		}
	}
	return all, nil
}

func sliceAddresses(obj any) ([]string, error) {
	var all []string
	for _, endpoint := range obj.(*discoveryv1.EndpointSlice).Endpoints {
		all = append(all, endpoint.Addresses...)
	}
	return all, nil
}

func sliceService(obj any) ([]string, error) {
	slice := obj.(*discoveryv1.EndpointSlice)
	return []string{slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]}, nil
}

// result is what the zone knows of a name: no record and dns.RcodeSuccess means that
// the name exists, but not with this type.
type result struct {
	rcode    int
	answer   []dns.RR
	extra    []dns.RR
	external string // target of an ExternalName, still to be resolved
}

var notFound = result{rcode: dns.RcodeNameError}

// lookup answers a question about the cluster. known is false for a name that is
// not the cluster's: it may be asked of others.
func (z *zone) lookup(question dns.Question) (found result, known bool) {
	name := strings.ToLower(question.Name)
	if dns.IsSubDomain("in-addr.arpa.", name) || dns.IsSubDomain("ip6.arpa.", name) {
		records := z.reverse(name)
		// An address that is not ours may have a name elsewhere.
		return result{answer: records}, len(records) > 0 && question.Qtype == dns.TypePTR
	}
	if !dns.IsSubDomain(z.domain+".", name) {
		return result{}, false
	}
	relative := strings.TrimSuffix(strings.TrimSuffix(name, z.domain+"."), ".")
	labels := strings.Split(relative, ".")
	reverseStrings(labels) // [svc default web _http._tcp …] without the surprise of variable length in front
	q := query{zone: z, name: question.Name, qtype: question.Qtype}
	switch labels[0] {
	case "":
		return q.apex(), true
	case "dns-version":
		return q.version(len(labels)), true
	case "svc":
		return q.service(labels[1:]), true
	case "pod":
		return q.pod(labels[1:]), true
	}
	return notFound, true
}

func reverseStrings(s []string) {
	for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
		s[i], s[j] = s[j], s[i]
	}
}

// query is one question about a name of the cluster.
type query struct {
	zone  *zone
	name  string // as asked, for the answer
	qtype uint16
}

func (q query) apex() result {
	switch q.qtype {
	case dns.TypeSOA:
		return result{answer: []dns.RR{q.zone.soa()}}
	case dns.TypeNS:
		return result{answer: []dns.RR{&dns.NS{Hdr: q.header(dns.TypeNS), Ns: "ns.dns." + q.zone.domain + "."}}}
	}
	return result{}
}

// version tells the version of the specification that is followed.
func (q query) version(labels int) result {
	if labels != 1 {
		return notFound
	}
	if q.qtype != dns.TypeTXT {
		return result{}
	}
	return result{answer: []dns.RR{&dns.TXT{Hdr: q.header(dns.TypeTXT), Txt: []string{"1.1.0"}}}}
}

// service answers for labels [namespace, service, host | _protocol, _port], outermost first.
func (q query) service(labels []string) result {
	if len(labels) < 2 {
		if len(labels) == 0 || q.zone.hasNamespace(labels[0]) {
			return result{} // exists, and has no record of its own
		}
		return notFound
	}
	object, exists, err := q.zone.services.GetByKey(labels[0] + "/" + labels[1])
	if err != nil || !exists {
		return notFound
	}
	service := object.(*corev1.Service)
	switch {
	case service.Spec.Type == corev1.ServiceTypeExternalName:
		return q.externalName(service, labels[2:])
	case len(labels) == 2:
		return q.addresses(service, "")
	case len(labels) == 3 && !strings.HasPrefix(labels[2], "_"):
		return q.addresses(service, labels[2])
	case len(labels) == 4:
		return q.ports(service, strings.TrimPrefix(labels[3], "_"), strings.TrimPrefix(labels[2], "_"))
	case len(labels) == 3:
		return result{}
	}
	return notFound
}

func (q query) externalName(service *corev1.Service, more []string) result {
	if len(more) > 0 {
		return notFound
	}
	target := dns.Fqdn(service.Spec.ExternalName)
	found := result{answer: []dns.RR{&dns.CNAME{Hdr: q.header(dns.TypeCNAME), Target: target}}}
	if q.qtype == dns.TypeA || q.qtype == dns.TypeAAAA {
		found.external = target
	}
	return found
}

// addresses answers A and AAAA, of all endpoints or of the one called host.
func (q query) addresses(service *corev1.Service, host string) result {
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		if host != "" {
			return notFound
		}
		return result{answer: q.addressRecords(q.name, service.Spec.ClusterIPs)}
	}
	var addresses []string
	any := false
	for _, e := range q.zone.endpoints(service) {
		if host == "" || e.host == host {
			any = true
			addresses = append(addresses, e.address)
		}
	}
	if !any {
		return notFound
	}
	return result{answer: q.addressRecords(q.name, addresses)}
}

// ports answers SRV: the Service's own name for a ClusterIP, each endpoint's otherwise.
func (q query) ports(service *corev1.Service, port, protocol string) result {
	var found result
	exists := false
	add := func(number int32, target string, addresses []string) {
		exists = true
		if q.qtype != dns.TypeSRV {
			return
		}
		found.answer = append(found.answer, &dns.SRV{Hdr: q.header(dns.TypeSRV), Weight: 100, Port: uint16(number), Target: target})
		found.extra = append(found.extra, query{zone: q.zone, qtype: dns.TypeANY}.addressRecords(target, addresses)...)
	}
	base := fmt.Sprintf("%s.%s.svc.%s.", service.Name, service.Namespace, q.zone.domain)
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		for _, p := range service.Spec.Ports {
			if p.Name == port && strings.EqualFold(string(p.Protocol), protocol) {
				add(p.Port, base, service.Spec.ClusterIPs)
			}
		}
	} else {
		for _, e := range q.zone.endpoints(service) {
			for _, p := range e.ports {
				if p.Name != nil && *p.Name == port && p.Port != nil && p.Protocol != nil && strings.EqualFold(string(*p.Protocol), protocol) {
					add(*p.Port, e.host+"."+base, []string{e.address})
				}
			}
		}
	}
	if !exists {
		return notFound
	}
	return found
}

// pod answers a-b-c-d.<namespace>.pod: the address that the name spells, if the
// namespace exists. It is not checked that a pod has it, as in CoreDNS's usual mode.
func (q query) pod(labels []string) result {
	if len(labels) == 0 {
		return result{}
	}
	if !q.zone.hasNamespace(labels[0]) || len(labels) > 2 {
		return notFound
	}
	if len(labels) == 1 {
		return result{}
	}
	spelled := strings.ReplaceAll(labels[1], "-", ".")
	if strings.Count(labels[1], "-") != 3 {
		spelled = strings.ReplaceAll(labels[1], "-", ":")
	}
	if net.ParseIP(spelled) == nil {
		return notFound
	}
	return result{answer: q.addressRecords(q.name, []string{spelled})}
}

// addressRecords turns addresses into A and AAAA records of the type asked for.
func (q query) addressRecords(name string, addresses []string) []dns.RR {
	var records []dns.RR
	for _, address := range addresses {
		ip := net.ParseIP(address)
		header := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: ttl}
		switch {
		case ip == nil:
		case ip.To4() != nil && (q.qtype == dns.TypeA || q.qtype == dns.TypeANY):
			header.Rrtype = dns.TypeA
			records = append(records, &dns.A{Hdr: header, A: ip.To4()})
		case ip.To4() == nil && (q.qtype == dns.TypeAAAA || q.qtype == dns.TypeANY):
			header.Rrtype = dns.TypeAAAA
			records = append(records, &dns.AAAA{Hdr: header, AAAA: ip})
		}
	}
	return records
}

func (q query) header(rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// reverse answers PTR: the Service of a ClusterIP, or the name of a headless
// endpoint that has a hostname.
func (z *zone) reverse(name string) []dns.RR {
	address := addressOf(name)
	if address == "" {
		return nil
	}
	ptr := func(target string) dns.RR {
		return &dns.PTR{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: target}
	}
	var records []dns.RR
	services, err := z.services.ByIndex(byAddress, address)
	if err != nil {
		return nil
	}
	for _, object := range services {
		service := object.(*corev1.Service)
		records = append(records, ptr(fmt.Sprintf("%s.%s.svc.%s.", service.Name, service.Namespace, z.domain)))
	}
	slices, err := z.slices.ByIndex(byAddress, address)
	if err != nil {
		return records
	}
	for _, object := range slices {
		slice := object.(*discoveryv1.EndpointSlice)
		for _, endpoint := range slice.Endpoints {
			if endpoint.Hostname != nil && len(endpoint.Addresses) > 0 && endpoint.Addresses[0] == address {
				records = append(records, ptr(fmt.Sprintf("%s.%s.%s.svc.%s.", *endpoint.Hostname, slice.Labels[discoveryv1.LabelServiceName], slice.Namespace, z.domain)))
			}
		}
	}
	return records
}

// addressOf returns the address that a reverse name spells, or "".
func addressOf(name string) string {
	v4, isV4 := strings.CutSuffix(name, ".in-addr.arpa.")
	v6, isV6 := strings.CutSuffix(name, ".ip6.arpa.")
	switch {
	case isV4:
		labels := strings.Split(v4, ".")
		reverseStrings(labels)
		if ip := net.ParseIP(strings.Join(labels, ".")); ip != nil {
			return ip.String()
		}
	case isV6:
		nibbles := strings.Split(v6, ".")
		reverseStrings(nibbles)
		if len(nibbles) != 32 {
			return ""
		}
		var groups []string
		for i := 0; i < 32; i += 4 {
			groups = append(groups, strings.Join(nibbles[i:i+4], ""))
		}
		if ip := net.ParseIP(strings.Join(groups, ":")); ip != nil {
			return ip.String()
		}
	}
	return ""
}

// endpoint is one ready address behind a headless Service.
type endpoint struct {
	address string
	host    string // its hostname, or its address with dashes
	ports   []discoveryv1.EndpointPort
}

func (z *zone) endpoints(service *corev1.Service) []endpoint {
	slices, err := z.slices.ByIndex(byService, service.Namespace+"/"+service.Name)
	if err != nil {
		return nil
	}
	var all []endpoint
	for _, object := range slices {
		slice := object.(*discoveryv1.EndpointSlice)
		for _, e := range slice.Endpoints {
			// A nil condition counts as ready (API reference of EndpointConditions).
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, address := range e.Addresses {
				host := strings.NewReplacer(".", "-", ":", "-").Replace(address)
				if e.Hostname != nil && *e.Hostname != "" {
					host = *e.Hostname
				}
				all = append(all, endpoint{address: address, host: host, ports: slice.Ports})
			}
		}
	}
	return all
}

func (z *zone) hasNamespace(name string) bool {
	_, exists, err := z.namespaces.GetByKey(name)
	return err == nil && exists
}

// soa goes with answers that have no record; its last figure says for how many
// seconds a client may remember that.
func (z *zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: z.domain + ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "ns.dns." + z.domain + ".", Mbox: "hostmaster." + z.domain + ".",
		Serial: uint32(time.Now().Unix()), Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: 5,
	}
}

// shuffle puts records into random order, so that clients which take the first
// one spread; a CNAME stays in front of what it leads to.
func shuffle(records []dns.RR) []dns.RR {
	if len(records) < 2 || records[0].Header().Rrtype == dns.TypeCNAME {
		return records
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records
}
