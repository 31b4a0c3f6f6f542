package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/component"
	"hyperkube/controllers/podautoscaler"
	"hyperkube/reconcile"
)

// Config is the controller manager's configuration.
type Config struct {
	// Client is what the controllers read and write with. Its rate limits must not
	// be client-go's defaults of 5 requests a second.
	Client kubernetes.Interface
	// RESTConfig is for the metadata client of namespace and garbagecollector, and the
	// autoscaler's clients of scales and metrics.
	RESTConfig *rest.Config
	// Controllers selects: "*", "name", "-name"; default all.
	Controllers []string

	// RootCA is the cluster's CA certificate in PEM, for every namespace's
	// kube-root-ca.crt. Empty: not published.
	RootCA []byte
	// ServiceAccountKey is the private key of service account tokens, PEM. Empty: no Secret gets one.
	ServiceAccountKey []byte
	// SigningCert and SigningKey are the CA that signs certificate requests, PEM. Empty: none is signed.
	SigningCert, SigningKey []byte
	// SigningDuration is how long a signed certificate is good for at most. Default one year.
	SigningDuration time.Duration
	// ClusterCIDR is the pods' address range; empty: nodes get no share of it.
	ClusterCIDR string
	// NodeCIDRMaskSize is the prefix length of a node's share; default 24.
	NodeCIDRMaskSize int
	// ServiceCIDR is the Services' address range. It must not overlap ClusterCIDR.
	ServiceCIDR string

	// NodeMonitorPeriod (default 5 s), NodeMonitorGracePeriod (50 s) and
	// NodeStartupGracePeriod (60 s) are the timers of package nodelifecycle.
	NodeMonitorPeriod, NodeMonitorGracePeriod, NodeStartupGracePeriod time.Duration

	// Autoscaler has the timers of package podautoscaler; its RESTConfig is this one's.
	Autoscaler podautoscaler.Config

	// LeaderElect: run only while holding the Lease kube-system/kube-controller-manager.
	LeaderElect bool
	// Identity names this process in the Lease; needed with LeaderElect.
	Identity string
	// LeaseDuration, RenewDeadline and RetryPeriod: default 15 s, 10 s, 2 s.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	// Clock drives the controllers' timers; default the real one.
	Clock clock.WithTicker
	// Gate holds keys at the controllers' queues; default none.
	Gate reconcile.Gate
	// Metrics takes the loops' metrics; Health the check "controllers". Both may be nil.
	Metrics prometheus.Registerer
	Health  *component.Health
}

func (c *Config) complete() {
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	if c.LeaseDuration == 0 {
		c.LeaseDuration = 15 * time.Second
	}
	if c.RenewDeadline == 0 {
		c.RenewDeadline = 10 * time.Second
	}
	if c.RetryPeriod == 0 {
		c.RetryPeriod = 2 * time.Second
	}
}

func (c *Config) validate() error {
	if c.Client == nil || c.RESTConfig == nil {
		return errors.New("controllers: Client and RESTConfig are needed")
	}
	if c.LeaderElect && c.Identity == "" {
		return errors.New("controllers: leader election needs an identity")
	}
	if c.LeaderElect && !(c.LeaseDuration > c.RenewDeadline && c.RenewDeadline > c.RetryPeriod) {
		return fmt.Errorf("controllers: lease duration %v, renew deadline %v and retry period %v must decrease in this order",
			c.LeaseDuration, c.RenewDeadline, c.RetryPeriod)
	}
	return nil
}

// controller is what the table makes: mostly a reconcile.Loop.
type controller interface {
	Run(ctx context.Context) error
	Status() reconcile.Status
}

// Manager runs the controllers.
type Manager struct {
	config   Config
	metadata metadata.Interface
	enabled  map[string]bool

	mu sync.Mutex
	// running are the controllers of the present term, in the table's order; none
	// while another manager holds the Lease.
	running []controller
}

// New makes the manager; it does not connect yet.
func New(config Config) (*Manager, error) {
	config.complete()
	if err := config.validate(); err != nil {
		return nil, err
	}
	enabled, err := selectControllers(config.Controllers)
	if err != nil {
		return nil, fmt.Errorf("controllers: %w", err)
	}
	metadataClient, err := metadata.NewForConfig(config.RESTConfig)
	if err != nil {
		return nil, fmt.Errorf("controllers: metadata client: %w", err)
	}
	m := &Manager{config: config, metadata: metadataClient, enabled: enabled}
	config.Health.Add("controllers", m.check)
	return m, nil
}

// Run waits for the apiserver and then runs the controllers until ctx ends: term
// by term when there is a Lease to hold, else in one.
func (m *Manager) Run(ctx context.Context) error {
	if !m.waitForAPIServer(ctx, askVersion) {
		return nil
	}
	if !m.config.LeaderElect {
		return m.runTerm(ctx)
	}
	return m.runElected(ctx)
}

// runTerm builds all controllers anew and runs them until ctx ends. Nothing of
// one term reaches into the next: caches, queues and expectations are its own.
//
//  1. Build the controllers whose resources are served; that registers their informers.
//  2. Run the informers.
//  3. Run the controllers until ctx ends; each waits for its informers itself.
//  4. Wait until all have stopped.
func (m *Manager) runTerm(ctx context.Context) error {
	logger := klog.FromContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := newTerm(ctx, m.config, m.metadata)
	defer t.end()

	// Step 1: build the controllers.
	if !m.waitForAPIServer(ctx, t.askServed) {
		return nil
	}
	running, err := m.build(t)
	if err != nil {
		return err
	}
	// Step 2: run the informers.
	t.informers.StartWithContext(ctx)
	defer t.informers.Shutdown()
	defer cancel() // before Shutdown, which waits for them

	// Step 3: run the controllers.
	m.setRunning(running)
	defer m.setRunning(nil)
	logger.Info("Controllers started", "count", len(running))
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range running {
		group.Go(func() error { return c.Run(ctx) })
	}

	// Step 4: wait until all have stopped.
	err = group.Wait()
	logger.Info("Controllers stopped")
	return err
}

// build makes the enabled controllers of the table whose resource is served.
func (m *Manager) build(t *term) ([]controller, error) {
	var running []controller
	for _, e := range table {
		if !m.enabled[e.name] || !t.served[e.needs] {
			continue
		}
		c, err := e.build(t)
		if err != nil {
			return nil, fmt.Errorf("controller %s: %w", e.name, err)
		}
		if c != nil {
			running = append(running, c)
		}
	}
	return running, nil
}

// waitForAPIServer asks until there is an answer, and says what it waits for. It
// reports false when ctx ended first. Otherwise every informer would log its own
// failure to connect, and the process would end where it should wait.
func (m *Manager) waitForAPIServer(ctx context.Context, ask func(discovery.DiscoveryInterface) error) bool {
	logger := klog.FromContext(ctx)
	started := time.Now()
	told := started
	for {
		err := ask(m.config.Client.Discovery())
		if err == nil {
			return ctx.Err() == nil
		}
		if time.Since(told) > 2*time.Second {
			logger.Info("Waiting for the apiserver", "for", time.Since(started).Round(time.Second), "err", err)
			told = told.Add(10 * time.Second)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func askVersion(client discovery.DiscoveryInterface) error {
	_, err := client.ServerVersion()
	return err
}

func (m *Manager) setRunning(running []controller) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.running = running
}

// ControllerStatus is one line of the list of controllers.
type ControllerStatus struct {
	reconcile.Status
	// Upstream is the name in kube-controller-manager; What says what it does.
	Upstream string `json:"upstream"`
	What     string `json:"what"`
	// Enabled: selected. Running: at work now; false while another manager leads, or
	// when the apiserver does not serve what the controller is about.
	Enabled bool `json:"enabled"`
	Running bool `json:"isRunning"`
	// Timers are what a controller waits for, where it is time that acts.
	Timers []string `json:"timers,omitempty"`
}

// timed is a controller that can say what it waits for.
type timed interface{ Timers() []string }

// Status is the list of all controllers, on or off, in the table's order.
func (m *Manager) Status() []ControllerStatus {
	m.mu.Lock()
	running := map[string]controller{}
	for _, c := range m.running {
		running[c.Status().Name] = c
	}
	m.mu.Unlock()
	list := make([]ControllerStatus, len(table))
	for i, e := range table {
		list[i] = ControllerStatus{Upstream: e.upstream, What: e.what, Enabled: m.enabled[e.name]}
		list[i].Name = e.name
		if c := running[e.name]; c != nil {
			list[i].Status, list[i].Running = c.Status(), true
			if t, ok := c.(timed); ok && list[i].Synced {
				list[i].Timers = t.Timers()
			}
		}
	}
	return list
}

// StatusHandler serves Status as JSON.
func (m *Manager) StatusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// It fails when the reader has gone, and then nobody is left to be told.
		_ = json.NewEncoder(w).Encode(m.Status())
	})
}

// check is the health check: a manager that leads has all its caches. One that
// waits for its turn is healthy.
func (m *Manager) check(context.Context) error {
	var waiting []string
	for _, status := range m.Status() {
		if status.Running && !status.Synced {
			waiting = append(waiting, status.Name)
		}
	}
	if len(waiting) > 0 {
		return fmt.Errorf("waiting for the first lists of: %s", strings.Join(waiting, ", "))
	}
	return nil
}
