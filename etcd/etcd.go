package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"

	"hyperkube/component"
)

// Config of the embedded etcd.
type Config struct {
	// DataDir holds the store: `member/` inside it is etcd's own layout. Required.
	// One process at a time may use it.
	DataDir string
	// ListenAddress for clients: "host:port" (port 0 = any free one) or
	// "unix:///path" (no TLS: the file's mode protects it). Default 127.0.0.1:2379.
	ListenAddress string
	// PeerAddress, "127.0.0.1:port", where other members would call; default none,
	// as this is a single member. It has no TLS and so must be on loopback.
	PeerAddress string
	// CAFile, CertFile and KeyFile turn on TLS: clients must then show a
	// certificate signed by the CA. All three or none.
	CAFile, CertFile, KeyFile string
	// QuotaBytes is the size at which the store refuses writes; default 8 GiB.
	QuotaBytes int64
	// Heartbeat is etcd's tick; it elects itself after 5 to 10 of them. Default
	// 100 ms: ready in some 0.3 s at half a percent of a core. Tests take 10 ms.
	Heartbeat time.Duration
	// Metrics takes etcd's metrics; nil: none.
	Metrics prometheus.Registerer
	// Health gets the check "etcd"; nil: none.
	Health *component.Health
}

func (c *Config) validate() error {
	if c.DataDir == "" {
		return errors.New("etcd needs a data directory")
	}
	if c.ListenAddress == "" {
		c.ListenAddress = "127.0.0.1:2379"
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 100 * time.Millisecond
	}
	if c.Heartbeat < time.Millisecond {
		return fmt.Errorf("etcd's heartbeat of %v is too short: give 1 ms at least", c.Heartbeat)
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = 8 << 30
	}
	if c.PeerAddress != "" {
		if peer, err := netip.ParseAddrPort(c.PeerAddress); err != nil || !peer.Addr().IsLoopback() {
			return fmt.Errorf("etcd's peer address %s: must be a loopback address and a port", c.PeerAddress)
		}
	}
	set := 0
	for _, file := range []string{c.CAFile, c.CertFile, c.KeyFile} {
		if file != "" {
			set++
		}
	}
	if set != 0 && set != 3 {
		return errors.New("etcd's TLS needs all of CA, certificate and key")
	}
	if c.isUnix() {
		if set != 0 {
			return errors.New("etcd on a unix socket serves without TLS: leave certificates out")
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(c.ListenAddress); err != nil {
		return fmt.Errorf("etcd's listen address: %w", err)
	}
	return nil
}

func (c *Config) isUnix() bool { return strings.HasPrefix(c.ListenAddress, "unix://") }

// Etcd is one embedded single-member etcd.
type Etcd struct {
	config Config

	mu       sync.Mutex
	server   *embed.Etcd // while running
	endpoint string
	ready    chan struct{} // closed when the first Run serves

	clients *grpc.Server // of the present Run; only it uses it
	// offered is closed when Local knows the server of the present Run: before that it serves nobody, or whoever starts
	// at the same time would come in from outside and stay there.
	offered chan struct{}
}

// New checks cfg; nothing is touched before Run.
func New(cfg Config) (*Etcd, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &Etcd{config: cfg, ready: make(chan struct{})}
	cfg.Health.Add("etcd", e.check)
	if cfg.Metrics != nil {
		// Of a former life of this component, if it is registered already.
		_ = cfg.Metrics.Register(libraryMetrics{})
	}
	return e, nil
}

// Run serves until ctx ends, then stops in order: clients first, then the log
// and the store, which are closed with everything written.
func (e *Etcd) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx)

	// Step 1: be the only one in the data directory.
	unlock, err := lockDataDir(e.config.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := checkStore(e.config.DataDir); err != nil {
		return err
	}

	// Step 2: start, and wait until requests are answered.
	var stopping atomic.Bool
	fatal := make(fatalHook, 1)
	e.offered = make(chan struct{})
	offer := sync.OnceFunc(func() { close(e.offered) })
	server, endpoint, err := e.start(zapLogger(logger, &stopping, fatal), fatal)
	if err != nil {
		offer()
		return err
	}
	withdraw := func() {}
	defer func() { e.close(server, &stopping, withdraw) }()
	defer offer()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return fmt.Errorf("starting etcd: %w", err)
	case err := <-fatal:
		return fmt.Errorf("starting etcd: %w", err)
	case <-server.Server.StopNotify():
		return errors.New("starting etcd: it stopped")
	case <-ctx.Done():
		return nil
	}
	withdraw = offerLocal(endpoint, server)
	offer()
	e.running(server, endpoint)
	defer e.running(nil, endpoint)
	logger.V(1).Info("Serving", "endpoint", endpoint)

	// Step 3: serve.
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("etcd: %w", err)
	case err := <-fatal:
		return fmt.Errorf("etcd: %w", err)
	case <-server.Server.StopNotify():
		return errors.New("etcd stopped by itself; its last log lines say why")
	}
}

// close lets requests under way end for a moment, then closes all connections,
// lets go those who came without one (who would else come back by a connection),
// and then closes the store.
func (e *Etcd) close(server *embed.Etcd, stopping *atomic.Bool, withdraw func()) {
	stopping.Store(true)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		// Left alone, etcd would wait 6 s for watches, which never end.
		if e.clients != nil {
			timer := time.AfterFunc(200*time.Millisecond, e.clients.Stop)
			e.clients.GracefulStop()
			timer.Stop()
		}
		withdraw()
		server.Close()
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second): // after a fatal error a part of it may hang
	}
}

func (e *Etcd) running(server *embed.Etcd, endpoint string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server, e.endpoint = server, endpoint
	if server != nil {
		select {
		case <-e.ready:
		default:
			close(e.ready)
		}
	}
}

// Ready waits until etcd answers for the first time.
func (e *Etcd) Ready(ctx context.Context) error {
	select {
	case <-e.ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for etcd: %w", ctx.Err())
	}
}

// Endpoint is where clients find it, "https://127.0.0.1:2379"; "" before Ready.
func (e *Etcd) Endpoint() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.endpoint
}

func (e *Etcd) check(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.server == nil:
		return errors.New("not serving")
	case e.server.Server.Leader() == 0:
		return errors.New("no leader")
	}
	return nil
}

// start starts the server; it may not answer yet.
func (e *Etcd) start(logger *zap.Logger, fatal fatalHook) (server *embed.Etcd, endpoint string, err error) {
	const attempts = 3
	for attempt := 1; ; attempt++ {
		config, listen, err := e.embedConfig(logger)
		if err != nil {
			return nil, "", err
		}
		server, err = startEtcd(config, fatal)
		if err == nil {
			return server, listen.String(), nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, "", fmt.Errorf("starting etcd in %s: %w", e.config.DataDir, err)
		}
		// A free port that was chosen may be taken before etcd binds it; one
		// that was asked for stays taken.
		if !strings.HasSuffix(e.config.ListenAddress, ":0") || attempt == attempts {
			return nil, "", fmt.Errorf("etcd: %w", component.ListenError(listen.Host, err))
		}
	}
}

// startEtcd starts the server in a goroutine of its own, which a fatal error ends.
func startEtcd(config *embed.Config, fatal fatalHook) (*embed.Etcd, error) {
	type result struct {
		server *embed.Etcd
		err    error
	}
	started := make(chan result, 1)
	go func() {
		// A log that is damaged makes it panic, without its logger.
		defer func() {
			if damage := recover(); damage != nil {
				started <- result{err: fmt.Errorf("its data is damaged (%v): restore a backup, or remove %s to start from nothing", damage, config.Dir)}
			}
		}()
		server, err := embed.StartEtcd(config)
		started <- result{server, err}
	}()
	select {
	case r := <-started:
		return r.server, r.err
	case err := <-fatal:
		return nil, err
	}
}

// embedConfig turns our Config into etcd's.
func (e *Etcd) embedConfig(logger *zap.Logger) (*embed.Config, *url.URL, error) {
	listen, err := e.listenURL()
	if err != nil {
		return nil, nil, err
	}
	c := embed.NewConfig()
	c.Name = "hyperkube"
	c.Dir = e.config.DataDir
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	c.QuotaBackendBytes = e.config.QuotaBytes
	c.TickMs = uint(e.config.Heartbeat / time.Millisecond)
	c.ElectionMs = 5 * c.TickMs // the least it accepts
	// The apiserver compacts, since it knows which history it still needs.
	c.AutoCompactionMode = embed.CompactorModePeriodic
	c.AutoCompactionRetention = "0"

	// Raft keeps its newest entries in memory, for members that lag behind: by default up to 15,000, which after a start
	// on many Pods are 30 MiB and more. We have no other members. What is before a snapshot need not be replayed either.
	c.SnapshotCount, c.SnapshotCatchUpEntries = 1000, 100
	// What was answered is in the log on disk; into the database file it goes in batches. No write goes on meanwhile, 4 ms each
	// time: by the default, ten times a second.
	c.BackendBatchInterval = 500 * time.Millisecond

	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*listen}, []url.URL{*listen}
	// Metrics and health go elsewhere: a port that speaks gRPC only is served by
	// gRPC's own transport; else, with TLS, it goes through net/http at twice the cost.
	httpURL := url.URL{Scheme: listen.Scheme, Host: "127.0.0.1:0"}
	if e.config.isUnix() {
		httpURL.Scheme = "http"
	}
	c.ListenClientHttpUrls = []url.URL{httpURL}
	if e.config.CertFile != "" {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = e.config.CertFile, e.config.KeyFile
		c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = e.config.CAFile, true
	}

	// A member has a peer address even when nobody else is there to call it; without
	// a listener it is only a name.
	c.ListenPeerUrls, c.AdvertisePeerUrls = nil, []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	if e.config.PeerAddress != "" {
		peer := url.URL{Scheme: "http", Host: e.config.PeerAddress}
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	}
	// A connection that says nothing holds up the stop for as long; gRPC's default is 2 min.
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ConnectionTimeout(3 * time.Second)}
	c.ServiceRegister = func(s *grpc.Server) {
		<-e.offered
		e.clients = s
	}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	return c, listen, nil
}

// listenURL is where to listen; a port of 0 is replaced by a free one, because
// etcd advertises what it was told.
func (e *Etcd) listenURL() (*url.URL, error) {
	if path, ok := strings.CutPrefix(e.config.ListenAddress, "unix://"); ok {
		return &url.URL{Scheme: "unix", Path: path}, nil
	}
	scheme := "http"
	if e.config.CertFile != "" {
		scheme = "https"
	}
	address := e.config.ListenAddress
	if strings.HasSuffix(address, ":0") {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		address = listener.Addr().String()
		listener.Close()
	}
	return &url.URL{Scheme: scheme, Host: address}, nil
}

// lockDataDir makes the data directory and claims it for this process. etcd
// locks its files too, but waits for them silently and for ever.
func lockDataDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making etcd's data directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking etcd's data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path)
		file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		return nil, fmt.Errorf("etcd's data directory %s is in use by process %s: stop that one, or use another --data-dir", dir, strings.TrimSpace(string(owner)))
	}
	// Who holds the lock is a help for people; the lock itself is the kernel's.
	if err := file.Truncate(0); err == nil {
		fmt.Fprintf(file, "%d\n", os.Getpid())
	}
	return func() { file.Close() }, nil
}

// checkStore looks whether the database can be opened. etcd would panic where
// nobody can catch it.
func checkStore(dir string) error {
	path := filepath.Join(dir, "member", "snap", "db")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("etcd's database %s cannot be opened: %w: restore a backup, or remove %s to start from nothing", path, err, dir)
	}
	return db.Close()
}
