package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/klog/v2"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/proxy/iptables"
	"hyperkube/proxy/tracker"
)

func TestConfigIsValidated(t *testing.T) {
	good := Config{Client: fake.NewClientset(), NodeName: "n"}
	if _, err := New(good); err != nil {
		t.Errorf("a good Config: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"no client": func(c *Config) { c.Client = nil }, "no node": func(c *Config) { c.NodeName = "" },
		"unknown mode": func(c *Config) { c.Mode = "ipvs" }, "bad CIDR": func(c *Config) { c.ClusterCIDR = "10.244" },
		"two of one family": func(c *Config) { c.ClusterCIDR = "10.244.0.0/16,10.245.0.0/16" },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// sysctlDir is a /proc/sys of two settings.
func sysctlDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{"net/ipv4/ip_forward": "0\n", "net/ipv4/conf/all/route_localnet": "1\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// R53: only what is wrong is written; it is listed, and set back also by another
// process.
func TestSysctlsAreSetBack(t *testing.T) {
	dir, state := sysctlDir(t), filepath.Join(t.TempDir(), "sysctls.json")
	s := &sysctls{root: dir, stateFile: state}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet"} {
		if err := s.ensure(name, "1", "nothing works"); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.list(); len(got) != 1 || got[0] != (SysctlChange{"net/ipv4/ip_forward", "0", "1"}) {
		t.Errorf("changes %+v", got)
	}
	other := &sysctls{root: dir, stateFile: state}
	if err := other.load(); err != nil {
		t.Fatal(err)
	}
	if err := other.restore(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/route_localnet": "1"} {
		if got, _ := os.ReadFile(filepath.Join(dir, name)); strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
}

func TestSysctlChangedByOthersIsLeft(t *testing.T) {
	dir := sysctlDir(t)
	s := &sysctls{root: dir}
	if err := s.ensure("net/ipv4/ip_forward", "1", ""); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "net/ipv4/ip_forward")
	if err := os.WriteFile(path, []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.restore(); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != "2" {
		t.Errorf("another's value was overwritten with %s", got)
	}
}

// R53: what is missing is named, with what will not work.
func TestMissingSysctlIsNamed(t *testing.T) {
	err := (&sysctls{root: t.TempDir()}).ensure("net/bridge/bridge-nf-call-iptables", "1", "same-node Services fail")
	if err == nil || !strings.Contains(err.Error(), "bridge-nf-call-iptables") || !strings.Contains(err.Error(), "same-node Services fail") {
		t.Errorf("got %v", err)
	}
}

// The three waits of the loop: least, longest, after a failure.
func TestBoundedFrequencyRunner(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	r := newBoundedFrequencyRunner(clk, time.Second, time.Minute, 10*time.Second)
	ran := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Loop(ctx, func() error { return <-ran })
	}()
	// stepWhenWaiting lets time pass once the loop waits for it.
	stepWhenWaiting := func(d time.Duration) {
		for !clk.HasWaiters() {
			runtime.Gosched()
		}
		clk.Step(d)
	}
	finish := func(what string, err error) {
		t.Helper()
		select {
		case ran <- err:
		case <-time.After(time.Minute):
			t.Fatalf("%s: no run", what)
		}
	}
	notYet := func(what string) {
		t.Helper()
		select {
		case ran <- nil:
			t.Fatalf("%s: ran too early", what)
		default:
		}
	}
	r.Run()
	finish("asked for", nil)
	r.Run()
	finish("asked for once more, after a quiet time", nil)
	r.Run()
	r.Run()
	notYet("two runs within the least time for two")
	stepWhenWaiting(2 * time.Second)
	finish("the two requests in one run", errors.New("failed"))
	stepWhenWaiting(10 * time.Second)
	finish("again after a failure", nil)
	stepWhenWaiting(time.Minute)
	finish("unasked, after the longest time", nil)
	cancel()
	<-done
}

func TestHealthCheckNodePort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	name := tracker.ServicePortName{NamespacedName: types.NamespacedName{Namespace: "default", Name: "web"}, Port: "http", Protocol: v1.ProtocolTCP}
	services := tracker.ServicePortMap{name: {HealthCheckNodePort: port}}
	s := newServiceHealthServer()
	defer s.close()
	for _, test := range []struct {
		endpoints []tracker.Endpoint
		status    int
		local     float64
	}{
		{nil, 503, 0},
		{[]tracker.Endpoint{{IP: "a", IsLocal: true, Ready: true}, {IP: "b", Ready: true}, {IP: "c", IsLocal: true}}, 200, 1},
	} {
		s.sync(klog.Background(), []iptables.Input{{Services: services, Endpoints: tracker.EndpointsMap{name: test.endpoints}}, {Services: services}})
		response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		var answer map[string]any
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != test.status || answer["localEndpoints"] != test.local {
			t.Errorf("got %d %s, want %d and %v", response.StatusCode, body, test.status, test.local)
		}
	}
	s.sync(klog.Background(), nil)
	if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
		conn.Close()
		t.Error("the port of a Service that is gone is still open")
	}
}

// The contract of components: 20 lives in one process leave no goroutine behind.
func TestRunLeavesNothingBehind(t *testing.T) {
	registry, client := prometheus.NewRegistry(), fake.NewClientset()
	live := func() {
		written := make(chan iptables.SyncReport, 10)
		p, err := New(Config{
			Client: client, NodeName: "n", Metrics: registry, SysctlRoot: sysctlDir(t),
			RulesChanged: func(r iptables.SyncReport) { written <- r },
			Runner:       func(context.Context, string, ...string) (string, error) { return "", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		select {
		case <-written:
		case <-time.After(time.Minute):
			t.Error("no rules were written")
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	live()
	before := runtime.NumGoroutine()
	for range 19 {
		live()
	}
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return runtime.NumGoroutine() <= before, nil
	})
	if err != nil {
		buffer := make([]byte, 1<<20)
		t.Errorf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), before, buffer[:runtime.Stack(buffer, true)])
	}
}

// Where the kernel does without IPv6, its programs fail: cleaning up does without them, and who asks for that family is told.
func TestWithoutIPv6(t *testing.T) {
	runner := func(_ context.Context, _ string, argv ...string) (string, error) {
		if strings.HasPrefix(argv[0], "ip6tables") {
			return "", errors.New("no IPv6 here")
		}
		return "", nil
	}
	if err := CleanUp(t.Context(), Config{Runner: runner, SysctlRoot: sysctlDir(t)}); err != nil {
		t.Error(err)
	}
	p, err := New(Config{Client: fake.NewClientset(), NodeName: "n", ClusterCIDR: "10.244.0.0/16,fd00::/56", Runner: runner, SysctlRoot: sysctlDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "for the pods' IPv6 addresses: no IPv6 here") {
		t.Errorf("asked for both families: %v", err)
	}
}

// Connections that one side has closed are remembered for an hour, as kube-proxy has it, and not for the kernel's minute;
// what is not asked for stays as the host has it.
func TestConnectionsAreRemembered(t *testing.T) {
	dir, conntrack := sysctlDir(t), "net/netfilter/nf_conntrack_tcp_timeout_"
	for name, value := range map[string]string{"close_wait": "60\n", "established": "432000\n"} {
		if err := os.MkdirAll(filepath.Join(dir, "net/netfilter"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, conntrack+name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := New(Config{Client: fake.NewClientset(), NodeName: "n", SysctlRoot: dir, TCPCloseWaitTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	p.prepareHost(klog.Background())
	for name, want := range map[string]string{"close_wait": "3600", "established": "432000"} {
		if got, _ := os.ReadFile(filepath.Join(dir, conntrack+name)); strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if !slices.Contains(p.ChangedSysctls(), SysctlChange{conntrack + "close_wait", "60", "3600"}) {
		t.Errorf("changes %v", p.ChangedSysctls())
	}
}
