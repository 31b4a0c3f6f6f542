package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"k8s.io/klog/v2"

	"hyperkube/component"
	"hyperkube/pki"
)

// running is an etcd that a test runs.
type running struct {
	*Etcd
	stop func() error
}

func run(t *testing.T, cfg Config, logger logr.Logger) running {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	r := running{e, sync.OnceValue(func() error { cancel(); return <-done })}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the run ended with: %v", err)
		}
	})
	patient, end := context.WithTimeout(ctx, time.Minute)
	defer end()
	if err := e.Ready(patient); err != nil {
		t.Fatal(err)
	}
	return r
}

// tlsConfig makes a data directory with certificates as pki does, and returns the
// server's config and a client's TLS.
func tlsConfig(t *testing.T) (Config, *tls.Config) {
	t.Helper()
	dir, err := pki.Open(t.TempDir(), pki.DefaultCluster())
	if err != nil {
		t.Fatal(err)
	}
	serving, err := dir.ServingCert("etcd", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := dir.ClientCert("apiserver-etcd-client", "kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(client.CertFile, client.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(dir.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return Config{
		DataDir: filepath.Join(dir.Path(), "etcd"), ListenAddress: "127.0.0.1:0",
		CAFile: dir.CAFile(), CertFile: serving.CertFile, KeyFile: serving.KeyFile,
	}, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
}

func connect(t *testing.T, endpoint string, config *tls.Config) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// S0-02: only who holds a certificate of our CA gets at the store.
func TestServesClientsWithACertificateOnly(t *testing.T) {
	config, withCert := tlsConfig(t)
	e := run(t, config, logr.Discard())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := connect(t, e.Endpoint(), withCert).Put(ctx, "k", "v"); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if !strings.HasPrefix(e.Endpoint(), "https://127.0.0.1:") || strings.HasSuffix(e.Endpoint(), ":0") {
		t.Errorf("endpoint %s", e.Endpoint())
	}
	impatient, end := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer end()
	if _, err := connect(t, e.Endpoint(), &tls.Config{RootCAs: withCert.RootCAs}).Get(impatient, "k"); err == nil {
		t.Error("without a certificate it answered")
	}
}

// Who is in the same process needs no connection; it loses its watches when the server stops, as it would with one.
func TestLocalClient(t *testing.T) {
	e := run(t, Config{DataDir: t.TempDir(), ListenAddress: "127.0.0.1:0"}, logr.Discard())
	if Local("http://127.0.0.1:1") != nil {
		t.Error("a client of another address")
	}
	client := Local(e.Endpoint())
	changes := client.Watch(t.Context(), "k")
	if _, err := connect(t, e.Endpoint(), nil).Put(t.Context(), "k", "from outside"); err != nil {
		t.Fatal(err)
	}
	if got := <-changes; len(got.Events) != 1 || string(got.Events[0].Kv.Value) != "from outside" {
		t.Errorf("watched %v", got)
	}
	if got, err := client.Get(t.Context(), "k"); err != nil || len(got.Kvs) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	if got, open := <-changes; open {
		t.Errorf("the watch goes on: %v", got)
	}
	if Local(e.Endpoint()) != nil {
		t.Error("a stopped server has a client")
	}
	if _, err := client.Put(t.Context(), "k", "late"); err == nil {
		t.Error("a stopped server takes writes")
	}
}

func TestKeepsWhatWasWritten(t *testing.T) {
	config := Config{DataDir: t.TempDir(), ListenAddress: "127.0.0.1:0"}
	first := run(t, config, logr.Discard())
	if _, err := connect(t, first.Endpoint(), nil).Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := run(t, config, logr.Discard())
	got, err := connect(t, second.Endpoint(), nil).Get(t.Context(), "k")
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "v" {
		t.Errorf("got %v, %v", got, err)
	}
}

// R03: what is in the way is named, with what to do.
func TestStartErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	e := run(t, Config{DataDir: dir, ListenAddress: "127.0.0.1:0"}, logr.Discard())
	port := strings.TrimPrefix(e.Endpoint(), "http://")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		config Config
		want   []string
	}{
		"port in use":      {Config{DataDir: t.TempDir(), ListenAddress: port}, []string{port, "has it: stop that"}},
		"data dir in use":  {Config{DataDir: dir, ListenAddress: "127.0.0.1:0"}, []string{dir, fmt.Sprintf("in use by process %d", os.Getpid())}},
		"data dir no dir":  {Config{DataDir: file, ListenAddress: "127.0.0.1:0"}, []string{file}},
		"foreign address":  {Config{DataDir: t.TempDir(), ListenAddress: "192.0.2.1:0"}, []string{"192.0.2.1"}},
		"half of the TLS":  {Config{DataDir: dir, CertFile: "x"}, []string{"TLS"}},
		"a public peer":    {Config{DataDir: dir, PeerAddress: "192.0.2.1:2380"}, []string{"192.0.2.1", "loopback"}},
		"no data dir":      {Config{}, []string{"data directory"}},
		"address, no port": {Config{DataDir: dir, ListenAddress: "localhost"}, []string{"listen address"}},
	} {
		t.Run(name, func(t *testing.T) {
			other, err := New(test.config)
			if err == nil {
				err = other.Run(t.Context())
			}
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

// A broken store is an error of Run, not the end of the process.
func TestBrokenStoreIsAnError(t *testing.T) {
	for _, name := range []string{"member/snap/db", "member/wal/*.wal"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			dir := t.TempDir()
			first := run(t, Config{DataDir: dir, ListenAddress: "127.0.0.1:0"}, logr.Discard())
			if err := first.stop(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, name))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s: %v", name, err)
			}
			if err := os.WriteFile(files[0], bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
				t.Fatal(err)
			}
			e, err := New(Config{DataDir: dir, ListenAddress: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(klog.NewContext(t.Context(), logr.Discard()), time.Minute)
			defer cancel()
			if err := e.Run(ctx); err == nil || !strings.Contains(err.Error(), "remove "+dir) {
				t.Errorf("it ran, or said too little: %v", err)
			}
		})
	}
}

// What etcd cannot go on with ends Run, not the process.
func TestFatalLogLinesEndTheRun(t *testing.T) {
	fatal := make(fatalHook, 1)
	logger := zapLogger(logr.Discard(), new(atomic.Bool), fatal)
	done := make(chan struct{})
	go func() {
		defer close(done)
		logger.Fatal("cannot go on", zap.Error(os.ErrPermission))
		t.Error("it went on")
	}()
	<-done
	if err := <-fatal; !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "cannot go on") {
		t.Errorf("got %v", err)
	}
}

func TestIsQuiet(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	logger := funcr.New(func(_, args string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, args)
	}, funcr.Options{})
	config, _ := tlsConfig(t)
	config.Heartbeat = 10 * time.Millisecond
	if err := run(t, config, logger).stop(); err != nil {
		t.Fatal(err)
	}
	if err := run(t, config, logger).stop(); err != nil {
		t.Fatal(err)
	}
	if len(lines) > 0 {
		t.Errorf("it said:\n%s", strings.Join(lines, "\n"))
	}
}

func TestHealthAndMetrics(t *testing.T) {
	registry, health := prometheus.NewRegistry(), &component.Health{}
	e := run(t, Config{DataDir: t.TempDir(), ListenAddress: "127.0.0.1:0", Metrics: registry, Health: health}, logr.Discard())
	if err := health.Err(t.Context()); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, family := range families {
		found = found || family.GetName() == "etcd_disk_wal_fsync_duration_seconds"
	}
	if !found {
		t.Errorf("etcd's metrics are not among the %d", len(families))
	}
	if err := e.stop(); err != nil {
		t.Fatal(err)
	}
	if health.Err(t.Context()) == nil {
		t.Error("stopped, it says it is well")
	}
}

// Twenty lives in one process, as `hyperkube stop etcd` and `start etcd` make them.
func TestTwentyLives(t *testing.T) {
	config := Config{DataDir: t.TempDir(), ListenAddress: "127.0.0.1:0", Heartbeat: 10 * time.Millisecond}
	var baseline int
	for i := range 20 {
		if err := run(t, config, logr.Discard()).stop(); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			baseline = runtime.NumGoroutine()
		}
	}
	now := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if now = runtime.NumGoroutine(); now <= baseline+2 {
			return
		}
	}
	stacks := make([]byte, 1<<16)
	t.Errorf("%d goroutines, were %d after the second life:\n%s", now, baseline, stacks[:runtime.Stack(stacks, true)])
}

func TestUnixSocketAndASilentClient(t *testing.T) {
	dir, err := os.MkdirTemp("", "e")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := run(t, Config{DataDir: filepath.Join(dir, "data"), ListenAddress: "unix://" + dir + "/s"}, logr.Discard())
	if _, err := connect(t, e.Endpoint(), nil).Put(t.Context(), "k", "v"); err != nil {
		t.Error(err)
	}
	silent, err := net.Dial("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	started := time.Now()
	if err := e.stop(); err != nil || time.Since(started) > 8*time.Second {
		t.Errorf("a silent client held up the stop for %v, %v", time.Since(started), err)
	}
}
