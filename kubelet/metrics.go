package kubelet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the kubelet; all methods work on nil registries too.
type metrics struct {
	loops *prometheus.CounterVec
	syncs *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		loops: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_sync_loop_events_total", Help: "Events of the sync loop, by source."}, []string{"source"}),
		syncs: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kubelet_pod_worker_duration_seconds", Help: "Time one SyncPod took, by update type.", Buckets: prometheus.ExponentialBuckets(0.001, 3, 10)}, []string{"operation_type"}),
	}
	if registry != nil {
		registry.MustRegister(m.loops, m.syncs)
	}
	return m
}

func (m *metrics) loop(source string) { m.loops.WithLabelValues(source).Inc() }

func (m *metrics) sync(kind string, took time.Duration) {
	m.syncs.WithLabelValues(kind).Observe(took.Seconds())
}
