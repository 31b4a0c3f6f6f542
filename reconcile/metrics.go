package reconcile

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are shared by all loops that report to one registry; the controller is
// a label.
type metrics struct {
	runs     *prometheus.CounterVec
	duration *prometheus.HistogramVec
	waiting  *prometheus.GaugeVec
}

// newMetrics returns nil, which counts nothing, for a nil registry.
func newMetrics(registry prometheus.Registerer) *metrics {
	if registry == nil {
		return nil
	}
	return &metrics{
		runs: register(registry, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reconcile_total", Help: "Runs of a controller's sync, by what became of the key.",
		}, []string{"controller", "result"})),
		duration: register(registry, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reconcile_duration_seconds", Help: "How long a controller's sync took.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9),
		}, []string{"controller"})),
		waiting: register(registry, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "workqueue_depth", Help: "Keys that wait in a controller's queue.",
		}, []string{"name"})),
	}
}

// register returns the collector of that name which the registry already has,
// from another loop or from a former life of this one, or else registers c.
func register[C prometheus.Collector](registry prometheus.Registerer, c C) C {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(c); errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	return c
}

func (m *metrics) depth(name string, length int) {
	if m != nil {
		m.waiting.WithLabelValues(name).Set(float64(length))
	}
}

func (m *metrics) reconciled(name, result string, took time.Duration) {
	if m != nil {
		m.runs.WithLabelValues(name, result).Inc()
		m.duration.WithLabelValues(name).Observe(took.Seconds())
	}
}
