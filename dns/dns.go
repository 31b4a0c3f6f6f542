package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"hyperkube/component"
)

// Config is what a DNS server needs to know.
type Config struct {
	// Client reaches the apiserver.
	Client kubernetes.Interface
	// ListenAddresses are the host:port pairs on which queries are taken, over UDP and TCP. Port
	// 0 is chosen by the kernel.
	ListenAddresses []string
	// AdvertiseAddress is the address of this host that pods can reach; the kube-dns
	// EndpointSlice points to it with the port of the first listener. "" = no Service is kept.
	AdvertiseAddress string
	// ServiceAddress is the ClusterIP of kube-dns: the tenth of the service range.
	ServiceAddress string
	// ClusterDomain is the suffix of the cluster's names; default "cluster.local".
	ClusterDomain string
	// ResolvConf names the file with the host's resolvers; default /etc/resolv.conf, or systemd-resolved's
	// own list where that file only points at it.
	ResolvConf string
	// Metrics takes this server's counters; nil: none are kept.
	Metrics prometheus.Registerer
	// Health takes the check that the caches are filled.
	Health *component.Health
}

func (c *Config) complete() {
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	c.ClusterDomain = strings.ToLower(strings.Trim(c.ClusterDomain, "."))
}

func (c *Config) validate() error {
	if c.Client == nil {
		return errors.New("a client is needed")
	}
	if len(c.ListenAddresses) == 0 {
		return errors.New("an address to listen on is needed")
	}
	for _, address := range c.ListenAddresses {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("listen address: %w", err)
		}
	}
	if c.AdvertiseAddress != "" && net.ParseIP(c.ServiceAddress) == nil {
		return fmt.Errorf("service address %q: must be an IP address", c.ServiceAddress)
	}
	return nil
}

// Server is the cluster's DNS server.
//
// Invariant: it answers only once its caches are filled; before, clients time
// out and ask again, which is better than being told that a name does not exist.
type Server struct {
	config    Config
	zone      *zone
	forwarder *forwarder
	requests  *prometheus.CounterVec
	synced    chan struct{}
}

// New prepares a server; nothing listens yet.
func New(config Config) (*Server, error) {
	config.complete()
	if err := config.validate(); err != nil {
		return nil, err
	}
	zone, err := newZone(config.Client, config.ClusterDomain)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: config, zone: zone, synced: make(chan struct{}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dns_requests_total", Help: "DNS queries answered, by type, response code and where the answer came from.",
		}, []string{"type", "rcode", "source"}),
	}
	if config.Metrics != nil {
		if err := config.Metrics.Register(s.requests); err != nil {
			return nil, err
		}
	}
	config.Health.Add("caches", s.checkSynced)
	return s, nil
}

func (s *Server) checkSynced(context.Context) error {
	select {
	case <-s.synced:
		return nil
	default:
		return errors.New("waiting for Services, EndpointSlices and Namespaces")
	}
}

// Run serves until ctx ends:
//
//  1. listen, so that a taken port is said at once;
//  2. fill the caches;
//  3. find the host's resolvers;
//  4. keep the kube-dns Service and its EndpointSlice;
//  5. answer.
func (s *Server) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	// Step 1: listen.
	listeners, err := listen(s.config.ListenAddresses)
	if err != nil {
		return err
	}
	defer listeners.close()
	// Step 2: fill the caches.
	defer s.zone.stop()
	if err := s.zone.start(ctx); err != nil {
		return nil // ctx ended
	}
	close(s.synced)
	// Step 3: find the host's resolvers.
	own := append(listeners.hosts(), s.config.ServiceAddress)
	s.forwarder, err = newForwarder(s.config.ResolvConf, own)
	if err != nil {
		return err
	}
	logger.Info("Answering", "addresses", listeners.addresses(), "domain", s.config.ClusterDomain, "resolvers", s.forwarder.servers())

	group, ctx := errgroup.WithContext(ctx)
	// Step 4: keep the kube-dns Service.
	if s.config.AdvertiseAddress != "" {
		group.Go(func() error {
			keepService(ctx, s.config, listeners.port())
			return nil
		})
	}
	group.Go(func() error {
		s.forwarder.probeLoop(ctx)
		return nil
	})
	// Step 5: answer.
	for _, server := range listeners.servers(s) {
		group.Go(func() error { return serveUntil(ctx, server) })
	}
	return group.Wait()
}

// serveUntil runs one listener until ctx ends.
func serveUntil(ctx context.Context, server *dns.Server) error {
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	server.ShutdownContext(stop) // its error says that a query was cut off, which the client repeats
	<-served
	return nil
}

// ServeDNS answers one query.
func (s *Server) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply, source := s.answer(query, network(w))
	if len(query.Question) == 1 {
		question := query.Question[0]
		s.requests.WithLabelValues(dns.TypeToString[question.Qtype], dns.RcodeToString[reply.Rcode], source).Inc()
	}
	w.WriteMsg(reply) // a client that is gone asks again if it still cares
}

// answer makes the reply, and says where it came from: zone, forward or refused.
func (s *Server) answer(query *dns.Msg, network string) (reply *dns.Msg, source string) {
	reply = new(dns.Msg).SetReply(query)
	reply.Compress = true
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery {
		return reply.SetRcode(query, dns.RcodeNotImplemented), "refused"
	}
	question := query.Question[0]
	// Step 1 and 2: a name of the cluster is answered from the zone.
	records, known := s.zone.lookup(question)
	if !known && s.forwarder.isProbe(question.Name) {
		return reply.SetRcode(query, dns.RcodeRefused), "refused"
	}
	if !known {
		// Step 3: everything else is asked of the host's resolvers.
		return s.forwarder.forward(query, network), "forward"
	}
	reply.Authoritative, reply.RecursionAvailable = true, true
	reply.Rcode, reply.Answer, reply.Extra = records.rcode, shuffle(records.answer), records.extra
	if records.external != "" {
		s.chase(reply, records.external, question.Qtype, network)
	}
	if len(reply.Answer) == 0 {
		reply.Ns = []dns.RR{s.zone.soa()}
	}
	// Step 4: cut to what the client can take.
	size := dns.MinMsgSize
	if option := query.IsEdns0(); option != nil {
		reply.SetEdns0(option.UDPSize(), option.Do())
		size = max(size, int(option.UDPSize()))
	}
	if network == "tcp" {
		size = dns.MaxMsgSize
	}
	reply.Truncate(size)
	return reply, "zone"
}

// chase adds the addresses of an ExternalName's target to the CNAME that names it.
func (s *Server) chase(reply *dns.Msg, target string, qtype uint16, network string) {
	if records, known := s.zone.lookup(dns.Question{Name: target, Qtype: qtype, Qclass: dns.ClassINET}); known {
		reply.Answer = append(reply.Answer, records.answer...)
		return
	}
	follow := new(dns.Msg).SetQuestion(target, qtype)
	reply.Answer = append(reply.Answer, s.forwarder.forward(follow, network).Answer...)
}

func network(w dns.ResponseWriter) string {
	if _, isTCP := w.RemoteAddr().(*net.TCPAddr); isTCP {
		return "tcp"
	}
	return "udp"
}

// listeners are the sockets of all addresses, UDP and TCP on the same port.
type listeners struct {
	tcp []net.Listener
	udp []net.PacketConn
}

func listen(addresses []string) (*listeners, error) {
	l := &listeners{}
	for _, address := range addresses {
		if err := l.add(address); err != nil {
			l.close()
			return nil, fmt.Errorf("listening on %s: %w; choose another address with --bind-address, or stop what holds this one", address, err)
		}
	}
	return l, nil
}

// add listens on one address. With port 0 the kernel chooses a TCP port, whose UDP
// twin may be taken: then another is tried.
func (l *listeners) add(address string) error {
	var last error
	for range 8 {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			l.tcp, l.udp = append(l.tcp, tcp), append(l.udp, udp)
			return nil
		}
		tcp.Close()
		last = err
		if !strings.HasSuffix(address, ":0") {
			break
		}
	}
	return last
}

func (l *listeners) close() {
	for i := range l.tcp {
		l.tcp[i].Close()
		l.udp[i].Close()
	}
}

func (l *listeners) port() int32 {
	return int32(l.tcp[0].Addr().(*net.TCPAddr).Port)
}

func (l *listeners) addresses() []string {
	var all []string
	for _, tcp := range l.tcp {
		all = append(all, tcp.Addr().String())
	}
	return all
}

// hosts are the addresses without their ports, where port 53 is ours: a resolver there would be ourselves.
func (l *listeners) hosts() []string {
	var all []string
	for _, address := range l.addresses() {
		if host, port, err := net.SplitHostPort(address); err == nil && port == "53" {
			all = append(all, host)
		}
	}
	return all
}

func (l *listeners) servers(handler dns.Handler) []*dns.Server {
	var all []*dns.Server
	for i := range l.tcp {
		all = append(all, &dns.Server{Listener: l.tcp[i], Handler: handler}, &dns.Server{PacketConn: l.udp[i], Handler: handler})
	}
	return all
}
