package proxy

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hyperkube/proxy/iptables"
)

// proxyMetrics are kube-proxy's, under its names.
type proxyMetrics struct {
	syncDuration     prometheus.Histogram
	lastTimestamp    prometheus.Gauge
	lastQueued       prometheus.Gauge
	syncFailures     prometheus.Counter
	rulesTotal       *prometheus.GaugeVec
	programmingDelay prometheus.Histogram

	mu sync.Mutex
	// waiting is when the oldest change came that no sync has taken up; zero: none.
	waiting time.Time
}

func newProxyMetrics(reg prometheus.Registerer) *proxyMetrics {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	return &proxyMetrics{
		syncDuration: register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubeproxy_sync_proxy_rules_duration_seconds",
			Help: "SyncProxyRules latency in seconds.", Buckets: buckets})),
		lastTimestamp: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
			Help: "The last time proxy rules were successfully synced."})),
		lastQueued: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
			Help: "The last time a sync of proxy rules was queued."})),
		syncFailures: register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: "kubeproxy_sync_proxy_rules_iptables_restore_failures_total",
			Help: "Cumulative proxy iptables restore failures."})),
		rulesTotal: register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubeproxy_sync_proxy_rules_iptables_total",
			Help: "Total number of iptables rules owned by kube-proxy."}, []string{"table"})),
		programmingDelay: register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{Name: "kubeproxy_network_programming_duration_seconds",
			Help: "Time from a change's arrival until the rules have it.", Buckets: buckets})),
	}
}

// register enters a collector. After a stop and start in one process the registry
// still has the former one: that goes on counting.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	var already prometheus.AlreadyRegisteredError
	if err := reg.Register(c); errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	return c
}

func (m *proxyMetrics) noteChange(now time.Time) {
	m.lastQueued.Set(float64(now.UnixNano()) / 1e9)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting.IsZero() {
		m.waiting = now
	}
}

func (m *proxyMetrics) noteSync(now time.Time, report iptables.SyncReport, err error) {
	if err != nil {
		m.syncFailures.Inc()
		return
	}
	m.syncDuration.Observe(report.Duration.Seconds())
	m.lastTimestamp.Set(float64(now.UnixNano()) / 1e9)
	m.rulesTotal.WithLabelValues("filter").Set(float64(report.FilterRules))
	m.rulesTotal.WithLabelValues("nat").Set(float64(report.NatRules))
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.waiting.IsZero() && report.Written {
		m.programmingDelay.Observe(now.Sub(m.waiting).Seconds())
		m.waiting = time.Time{}
	}
}
