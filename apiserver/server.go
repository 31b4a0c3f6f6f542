package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/audit"
	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/endpoints"
	"hyperkube/apiserver/flowapi"
	"hyperkube/apiserver/flowcontrol"
	"hyperkube/apiserver/openapi"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/storage"
	"hyperkube/component"
	"hyperkube/flow"
	"hyperkube/flow/otlp"
)

// Config is what an apiserver is made of.
type Config struct {
	// BindAddress is where it listens, "host:port"; port 0 takes a free one. Default "0.0.0.0:6443".
	BindAddress string
	// AdvertiseAddress is where pods reach it: the endpoint of the kubernetes Service. Default: the host of BindAddress,
	// or the address of the default route where that is unspecified. A loopback address is not advertised.
	AdvertiseAddress string
	// CertFile and KeyFile are the serving certificate, PEM. Required.
	CertFile, KeyFile string
	// ClientCAFile holds the CAs of client certificates, PEM. Default "": none are accepted.
	ClientCAFile string
	// ServiceAccountKeyFile is the private key that signs and verifies tokens, PEM. Required.
	ServiceAccountKeyFile string
	// ServiceAccountIssuer is the "iss" of tokens. Default "https://kubernetes.default.svc.cluster.local".
	ServiceAccountIssuer string
	// ServiceCIDR is the range of ClusterIPs, or two with a comma between, one of each family; the first is the default family's.
	// Default 10.96.0.0/16.
	ServiceCIDR string
	// NodePortRange is "first-last". Default "30000-32767".
	NodePortRange string
	// ReservedNodePorts are in use by programs of the host: never given out. Default: none.
	ReservedNodePorts []int
	// ClusterDNSAddress is not given out to Services that do not ask for it. Default: the tenth of ServiceCIDR.
	ClusterDNSAddress string
	// EtcdServers are URLs. Required. EtcdCAFile verifies them; EtcdCertFile and EtcdKeyFile are our client certificate.
	EtcdServers                           []string
	EtcdCAFile, EtcdCertFile, EtcdKeyFile string
	// LocalEtcd returns a client of the etcd at a URL if that runs in this process. Default nil: it never does.
	LocalEtcd func(endpoint string) *storage.EtcdClient
	// KubeletClientCertFile and KubeletClientKeyFile are shown to kubelets, KubeletCAFile verifies theirs. Default "": logs, exec,
	// attach and port-forward answer with an error.
	KubeletClientCertFile, KubeletClientKeyFile, KubeletCAFile string
	// StorageMediaType is how objects are written to etcd: "application/json" (default) or
	// "application/vnd.kubernetes.protobuf". Both are read.
	StorageMediaType string
	// TokenAuthFile is a static token file, CSV. Default "": none.
	TokenAuthFile string
	// EnableBootstrapTokenAuth lets in who bears a token of a Secret of type bootstrap.kubernetes.io/token.
	EnableBootstrapTokenAuth bool
	// AuditPolicyFile says what is written to AuditLogPath ("-": standard output). Default "": nothing is.
	AuditPolicyFile, AuditLogPath string
	// MaxRequestsInflight is how many requests run at once; flow control divides them. Default 600.
	MaxRequestsInflight int
	// RequestTimeout ends a request that is no watch and no connection. Default 60 s.
	RequestTimeout time.Duration
	// FlowBuffer is how much memory the record of requests, writes and deliveries may take, in bytes. Default 64 MiB;
	// less than 0: nothing is recorded.
	FlowBuffer int
	// TracingEndpoint is the "host:port" of a collector to which what is recorded is sent as spans, by OTLP over gRPC.
	// Default "": nowhere.
	TracingEndpoint string
	// WatchBuffer is how far a client may lag behind what it watches before it is cut, in bytes of stored values. Default 64 MiB.
	WatchBuffer int
	// Clock default: the real one.
	Clock clock.WithTicker
	// Metrics takes the metrics, and serves them at /metrics if it is a Gatherer too. Default: a registry of its own.
	Metrics prometheus.Registerer
	// Health takes the checks behind /livez and /readyz. Default: one of its own.
	Health *component.Health
}

// complete fills in the defaults.
func (c *Config) complete() {
	setDefault(&c.BindAddress, "0.0.0.0:6443")
	setDefault(&c.ServiceAccountIssuer, "https://kubernetes.default.svc.cluster.local")
	setDefault(&c.ServiceCIDR, "10.96.0.0/16")
	setDefault(&c.NodePortRange, "30000-32767")
	if c.RequestTimeout == 0 {
		c.RequestTimeout = time.Minute
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Health == nil {
		c.Health = &component.Health{}
	}
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func (c *Config) validate() error {
	switch {
	case c.CertFile == "" || c.KeyFile == "":
		return errors.New("apiserver: a serving certificate and its key are required")
	case c.ServiceAccountKeyFile == "":
		return errors.New("apiserver: a key for service account tokens is required")
	case len(c.EtcdServers) == 0:
		return errors.New("apiserver: no etcd server is named")
	case c.TracingEndpoint != "" && c.FlowBuffer < 0:
		return errors.New("apiserver: a tracing endpoint gets what is recorded, and nothing is: the record needs a buffer")
	}
	if (c.AuditPolicyFile == "") != (c.AuditLogPath == "") {
		return errors.New("apiserver: an audit policy and a path of the audit log go together")
	}
	if _, _, err := net.SplitHostPort(c.BindAddress); err != nil {
		return fmt.Errorf("apiserver: bind address: %w", err)
	}
	return nil
}

// Server is one apiserver. See doc.go for the way of a request through it.
type Server struct {
	config Config
	hub    *storage.Hub
	env    *registry.Env
	issuer *serviceaccount.Issuer
	groups []*endpoints.APIGroupVersion
	record *flow.Record
	spans  *otlp.Exporter // nil: nowhere

	auditor     *audit.Auditor // nil without a policy
	flowcontrol *flowcontrol.Controller

	handler http.Handler
	metrics *metrics
	warm    func() error

	started   time.Time
	reached   atomic.Int32  // the last step of the bootstrap that was done
	identity  *identity     // bootstrap's own
	ready     chan struct{} // closed when bootstrap is done
	readyOnce sync.Once
	stopping  chan struct{} // closed when Run's context ends: watches and connections end
	address   atomic.Value  // string, once it listens
	inflight  atomic.Int64  // requests under way
}

// New makes an apiserver; nothing is bound and nobody is asked before Run.
func New(cfg Config) (*Server, error) {
	cfg.complete()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{config: cfg, ready: make(chan struct{}), stopping: make(chan struct{}), started: time.Now(), record: flow.NewRecord(cfg.FlowBuffer)}
	var err error
	if cfg.TracingEndpoint != "" {
		if s.spans, err = otlp.New(cfg.TracingEndpoint); err != nil {
			return nil, err
		}
		s.record.Tap(s.spans.Take)
	}
	if s.env, err = newEnv(&cfg); err != nil {
		return nil, err
	}
	if s.issuer, err = serviceaccount.NewIssuer(cfg.ServiceAccountKeyFile, cfg.ServiceAccountIssuer); err != nil {
		return nil, err
	}
	if s.identity, err = newIdentity(); err != nil {
		return nil, err
	}
	converter := openapi.TypeConverter()
	s.env.TypeConverter = converter
	s.warm = converter.Warm
	s.hub, err = storage.New(storage.Config{
		Endpoints: cfg.EtcdServers, CAFile: cfg.EtcdCAFile, CertFile: cfg.EtcdCertFile, KeyFile: cfg.EtcdKeyFile, Local: cfg.LocalEtcd,
		MaxPendingBytes: cfg.WatchBuffer, Clock: cfg.Clock, Metrics: cfg.Metrics, OnWrite: flowapi.OnWrite(s.record), Oldest: s.record.Gates().Oldest,
	})
	if err != nil {
		return nil, err
	}
	s.record.Gates().Attach(s.hub.Newest, s.serves)
	if err := s.build(); err != nil {
		s.hub.Close()
		return nil, err
	}
	return s, nil
}

// build makes the stores of all resources, the judges of requests, and the handler.
func (s *Server) build() (err error) {
	if s.groups, err = s.installGroups(); err != nil {
		return err
	}
	s.metrics = newMetrics(s.config.Metrics, s.groups)
	if err := s.installJudges(); err != nil {
		return err
	}
	s.addHealthChecks()
	mux, err := s.buildMux()
	if err != nil {
		return err
	}
	if err := s.installFlowcontrol(); err != nil {
		return err
	}
	s.handler = withRoom(s.buildHandlerChain(mux))
	return nil
}

// serves tells the name of a resource from a typo.
func (s *Server) serves(resource string) bool {
	for _, group := range s.groups {
		for _, scope := range group.Scopes {
			if scope.Resource.Name == resource {
				return true
			}
		}
	}
	return false
}

// newEnv reads the settings that resources ask for.
func newEnv(cfg *Config) (*registry.Env, error) {
	cidr, secondary, err := parseServiceCIDR(cfg.ServiceCIDR)
	if err != nil {
		return nil, fmt.Errorf("apiserver: service CIDR: %w", err)
	}
	ports, err := utilnet.ParsePortRange(cfg.NodePortRange)
	if err != nil {
		return nil, fmt.Errorf("apiserver: node port range: %w", err)
	}
	dns := nthAddress(cidr, 10)
	if cfg.ClusterDNSAddress != "" {
		if dns, err = netip.ParseAddr(cfg.ClusterDNSAddress); err != nil {
			return nil, fmt.Errorf("apiserver: cluster DNS address: %w", err)
		}
	}
	return &registry.Env{
		ServiceCIDR: cidr, SecondaryServiceCIDR: secondary, NodePortRange: *ports, ReservedNodePorts: cfg.ReservedNodePorts, ClusterDNSAddress: dns,
		Clock: cfg.Clock, ServiceAccountKeyFile: cfg.ServiceAccountKeyFile, ServiceAccountIssuer: cfg.ServiceAccountIssuer,
		KubeletClientCertFile: cfg.KubeletClientCertFile, KubeletClientKeyFile: cfg.KubeletClientKeyFile, KubeletCAFile: cfg.KubeletCAFile,
	}, nil
}

// parseServiceCIDR reads one range, or two of different families; the second is invalid where there is one.
func parseServiceCIDR(text string) (first, second netip.Prefix, err error) {
	one, two, dual := strings.Cut(text, ",")
	if first, err = netip.ParsePrefix(one); err != nil || !dual {
		return first.Masked(), second, err
	}
	if second, err = netip.ParsePrefix(two); err != nil {
		return first, second, err
	}
	if first.Addr().Is4() == second.Addr().Is4() {
		return first, second, fmt.Errorf("%s: two ranges must be of IPv4 and of IPv6", text)
	}
	return first.Masked(), second.Masked(), nil
}

// nthAddress is the n-th address of a range.
func nthAddress(prefix netip.Prefix, n int) netip.Addr {
	address := prefix.Masked().Addr()
	for range n {
		address = address.Next()
	}
	return address
}

// stopTimeout is how long requests under way may take after the stop.
const stopTimeout = 10 * time.Second

// Run serves until ctx ends:
//
//	Step 1: bind the port, so that a taken one is known before anything else happens.
//	Step 2: fill the caches from etcd, and serve meanwhile: reads wait for their cache.
//	Step 3: bootstrap: namespaces, roles, the kubernetes Service; then /readyz is ok.
//	Step 4: on stop: no longer ready, watches end, requests under way finish, then the caches stop.
func (s *Server) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	// Step 1
	listener, err := s.listen()
	if err != nil {
		s.hub.Close()
		return err
	}
	// Step 2
	hubCtx, stopHub := context.WithCancel(context.WithoutCancel(ctx))
	var hub sync.WaitGroup
	hubErr := make(chan error, 1)
	hub.Go(func() { hubErr <- s.hub.Run(hubCtx) })
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 90 * time.Second,
		BaseContext: func(net.Listener) context.Context { return klog.NewContext(context.Background(), logger) },
		ErrorLog:    tlsErrorLog(logger, s.metrics.handshakes), TLSNextProto: nil,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	// Step 3
	background, stopBackground := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { _ = s.warm() })
	work.Go(func() { s.bootstrap(background) })
	work.Go(func() { s.runBackground(background) })
	work.Go(func() { s.flowcontrol.Run(background) })
	if s.spans != nil {
		work.Go(func() { s.spans.Run(background) })
	}
	logger.V(1).Info("Serving", "address", s.Address())

	select {
	case <-ctx.Done():
	case err = <-hubErr:
		err = fmt.Errorf("apiserver: storage: %w", errOr(err, "it ended by itself"))
	case err = <-served:
		err = fmt.Errorf("apiserver: serving %s: %w", s.Address(), err)
	}
	// Step 4
	close(s.stopping)
	stopBackground()
	work.Wait()
	s.shutdown(server)
	stopHub()
	hub.Wait()
	s.auditor.Close()
	return err
}

// runBackground does what resources do beside the requests, from the end of the bootstrap until ctx ends.
func (s *Server) runBackground(ctx context.Context) {
	if s.Ready(ctx) != nil {
		return
	}
	var work sync.WaitGroup
	for _, group := range s.groups {
		for _, scope := range group.Scopes {
			if run := scope.Resource.Background; run != nil {
				work.Go(func() { run(ctx) })
			}
		}
	}
	work.Wait()
}

// shutdown lets requests under way finish. It counts them itself: net/http's Shutdown would wait a full second
// for every HTTP/2 connection on which nothing happens any more.
func (s *Server) shutdown(server *http.Server) {
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Shutdown(stop)
	}()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s.inflight.Load() > 0 && stop.Err() == nil {
		select {
		case <-ended:
		case <-poll.C:
		}
	}
	server.Close()
	cancel()
	<-ended
}

func errOr(err error, text string) error {
	if err == nil {
		return errors.New(text)
	}
	return err
}

// listen binds the port and puts TLS on it.
func (s *Server) listen() (net.Listener, error) {
	certificate, err := newServingCert(s.config.CertFile, s.config.KeyFile)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", s.config.BindAddress)
	if err != nil {
		return nil, fmt.Errorf("apiserver: %w", component.ListenError(s.config.BindAddress, err))
	}
	s.address.Store(listener.Addr().String())
	return tls.NewListener(listener, &tls.Config{
		GetCertificate: certificate.get,
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		// Clients may show a certificate; authn judges it, since a wrong one must be answered 401, not a broken handshake.
		ClientAuth: tls.RequestClientCert,
	}), nil
}

// Address is where the server listens, "host:port"; "" before Run has bound it.
func (s *Server) Address() string {
	address, _ := s.address.Load().(string)
	return address
}

// Ready waits until the server is ready for anybody's requests.
func (s *Server) Ready(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Env is for tests: the stores behind the API.
func (s *Server) Env() *registry.Env { return s.env }
