package proxy

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// toBeDeletedTaint is set by the cluster autoscaler on a node that it is going to take away.
const toBeDeletedTaint = "ToBeDeletedByClusterAutoscaler"

// proxyHealth is what load balancers read to know whether this node passes on what they send (KEP-3836).
type proxyHealth struct {
	LastUpdated time.Time `json:"lastUpdated"`
	CurrentTime time.Time `json:"currentTime"`
	// NodeEligible is told by /healthz alone: a node that is going away is still alive.
	NodeEligible *bool `json:"nodeEligible,omitempty"`
	Healthy      bool  `json:"healthy"`
}

// eligible: new connections may be sent to a node, unless it is on its way out.
func eligible(node *v1.Node) bool {
	for _, taint := range node.Spec.Taints {
		if taint.Key == toBeDeletedTaint {
			return false
		}
	}
	return node.DeletionTimestamp == nil
}

// healthHandler answers /healthz and /livez as kube-proxy does on port 10256.
func (p *Proxy) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { p.answerHealth(w, nil) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		stays := !p.leaving
		p.mu.Unlock()
		p.answerHealth(w, &stays)
	})
	return mux
}

func (p *Proxy) answerHealth(w http.ResponseWriter, stays *bool) {
	now := p.cfg.Clock.Now()
	last, failure := p.health.last()
	answer := proxyHealth{LastUpdated: last, CurrentTime: now, NodeEligible: stays, Healthy: failure == nil}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !answer.Healthy || stays != nil && !*stays {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		answer.LastUpdated = now // rules that nothing had to change are as good as new
	}
	_ = json.NewEncoder(w).Encode(answer) // a failed write means that the asker has gone
}

// metricsHandler answers what kube-proxy does on port 10249.
func (p *Proxy) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	plain := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			fmt.Fprint(w, text)
		}
	}
	mux.HandleFunc("/proxyMode", plain("iptables"))
	mux.HandleFunc("/healthz", plain("ok"))
	if all, ok := p.cfg.Metrics.(prometheus.Gatherer); ok {
		mux.Handle("/metrics", promhttp.HandlerFor(all, promhttp.HandlerOpts{}))
	}
	return mux
}

// serve opens the two ports until the returned function is called. A port that is taken is no reason to leave the node without
// Services: it is told, and not opened.
func (p *Proxy) serve(logger klog.Logger) (stop func()) {
	var servers []*http.Server
	for address, handler := range map[string]http.Handler{p.cfg.HealthzBindAddress: p.healthHandler(), p.cfg.MetricsBindAddress: p.metricsHandler()} {
		if address == "" {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			logger.Error(err, "Not served: health or metrics of the proxy", "address", address)
			continue
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
		servers = append(servers, server)
		go func() { _ = server.Serve(listener) }() // ends by Close
	}
	return func() {
		for _, server := range servers {
			server.Close()
		}
	}
}
