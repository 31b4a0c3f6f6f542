package flowcontrol

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics carry upstream's names.
type metrics struct {
	rejected   *prometheus.CounterVec
	dispatched *prometheus.CounterVec
	waited     *prometheus.HistogramVec

	executing, waiting, seats *prometheus.Desc
	mu                        sync.Mutex
	sets                      map[string]*queueSet
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	labels := []string{"priority_level", "flow_schema"}
	m := &metrics{
		sets: map[string]*queueSet{},
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_rejected_requests_total", Help: "Requests that priority and fairness refused.",
		}, append(labels[:2:2], "reason")),
		dispatched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_flowcontrol_dispatched_requests_total", Help: "Requests that got a seat.",
		}, labels),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_flowcontrol_request_wait_duration_seconds", Help: "How long requests waited for a seat.",
			Buckets: []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30},
		}, labels),
		executing: prometheus.NewDesc("apiserver_flowcontrol_current_executing_requests", "Requests of a level that run.", labels[:1], nil),
		waiting:   prometheus.NewDesc("apiserver_flowcontrol_current_inqueue_requests", "Requests of a level that wait.", labels[:1], nil),
		seats:     prometheus.NewDesc("apiserver_flowcontrol_nominal_limit_seats", "Requests of a level that may run at once.", labels[:1], nil),
	}
	if registerer == nil {
		return m
	}
	for _, c := range []prometheus.Collector{m.rejected, m.dispatched, m.waited, m} {
		// A server that is started again in the same process brings new collectors of the same names.
		if registered, ok := registerer.Register(c).(prometheus.AlreadyRegisteredError); ok {
			registerer.Unregister(registered.ExistingCollector)
			_ = registerer.Register(c)
		}
	}
	return m
}

// watch shows the load of a level.
func (m *metrics) watch(name string, set *queueSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sets[name] = set
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.executing
	to <- m.waiting
	to <- m.seats
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, set := range m.sets {
		executing, waiting := set.load()
		to <- prometheus.MustNewConstMetric(m.executing, prometheus.GaugeValue, float64(executing), name)
		to <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(waiting), name)
		to <- prometheus.MustNewConstMetric(m.seats, prometheus.GaugeValue, float64(set.limit()), name)
	}
}
