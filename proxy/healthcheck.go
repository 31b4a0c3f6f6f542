package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"hyperkube/proxy/iptables"
)

// serviceHealthServer answers on each healthCheckNodePort whether this node has
// endpoints of that Service: by this, load balancers choose the nodes they send to
// under externalTrafficPolicy Local.
type serviceHealthServer struct {
	mu        sync.Mutex
	listeners map[int]*healthPort
}

// healthPort is one open port.
type healthPort struct {
	server  *http.Server
	service types.NamespacedName
	local   int
}

func newServiceHealthServer() *serviceHealthServer {
	return &serviceHealthServer{listeners: map[int]*healthPort{}}
}

// sync opens and closes ports so that they follow the Services. Of a Service of two families the first one's
// endpoints count: they are the same pods.
func (s *serviceHealthServer) sync(logger klog.Logger, families []iptables.Input) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := map[int]types.NamespacedName{}
	local := map[types.NamespacedName]map[string]bool{}
	for _, in := range families {
		ofFamily := map[types.NamespacedName]map[string]bool{}
		for name, port := range in.Services {
			if port.HealthCheckNodePort == 0 || local[name.NamespacedName] != nil {
				continue
			}
			wanted[port.HealthCheckNodePort] = name.NamespacedName
			if ofFamily[name.NamespacedName] == nil {
				ofFamily[name.NamespacedName] = map[string]bool{}
			}
			for _, e := range in.Endpoints[name] {
				if e.IsLocal && e.Ready {
					ofFamily[name.NamespacedName][e.IP] = true
				}
			}
		}
		maps.Copy(local, ofFamily)
	}
	for port, open := range s.listeners {
		if wanted[port] != open.service {
			open.server.Close()
			delete(s.listeners, port)
		}
	}
	for port, service := range wanted {
		if s.listeners[port] == nil {
			if err := s.open(port, service); err != nil {
				logger.Error(err, "Health check port of a Service", "service", service, "port", port)
				continue
			}
		}
		s.listeners[port].local = len(local[service])
	}
}

// open needs s.mu.
func (s *serviceHealthServer) open(port int, service types.NamespacedName) error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	open := &healthPort{service: service}
	open.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, open)
	})}
	s.listeners[port] = open
	go func() { _ = open.server.Serve(listener) }() // ends by Close
	return nil
}

func (s *serviceHealthServer) answer(w http.ResponseWriter, open *healthPort) {
	s.mu.Lock()
	count := open.local
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if count == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	// A failed write means the load balancer has gone.
	_ = json.NewEncoder(w).Encode(map[string]any{
		"service":             map[string]string{"namespace": open.service.Namespace, "name": open.service.Name},
		"localEndpoints":      count,
		"serviceProxyHealthy": true,
	})
}

func (s *serviceHealthServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for port, open := range s.listeners {
		open.server.Close()
		delete(s.listeners, port)
	}
}

// syncHealth remembers whether syncs succeed, for /healthz.
type syncHealth struct {
	mu       sync.Mutex
	lastSync time.Time
	lastErr  error
}

func (h *syncHealth) note(now time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastErr = err
	if err == nil {
		h.lastSync = now
	}
}

// last is when the rules were right last, and why they are not now. A proxy that starts is not unwell.
func (h *syncHealth) last() (time.Time, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastSync, h.lastErr
}

// check fails before the first sync and after a failed one.
func (h *syncHealth) check(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.lastErr != nil:
		return h.lastErr
	case h.lastSync.IsZero():
		return errors.New("no rules have been written yet")
	}
	return nil
}
