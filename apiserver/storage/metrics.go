package storage

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// metrics are the package's figures, under upstream's names where it has the same.
type metrics struct {
	requests *prometheus.CounterVec   // by operation, group and resource
	duration *prometheus.HistogramVec // the same
	failed   *prometheus.CounterVec   // the same
	events   *prometheus.CounterVec   // by group and resource
	received *prometheus.CounterVec   // the same figures under the name that replaces it
	cut      *prometheus.CounterVec   // by group and resource

	// objects are counted when somebody asks, and so is the room they take in etcd.
	hub                    *Hub
	objects, byGroup, size *prometheus.Desc
}

func newMetrics(registry prometheus.Registerer, hub *Hub) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		requests: counter("etcd_requests_total", "Requests to etcd by operation, group and resource.", etcdLabels...),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "etcd_request_duration_seconds", Help: "How long etcd took to answer, by operation, group and resource.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60},
		}, etcdLabels),
		events:   counter("apiserver_watch_cache_events_received_total", "Changes received from etcd by group and resource.", resourceLabels...),
		received: counter("apiserver_storage_events_received_total", "Changes received from etcd by group and resource.", resourceLabels...),
		failed:   counter("etcd_request_errors_total", "Requests that etcd did not answer, by operation, group and resource.", etcdLabels...),
		cut:      counter("apiserver_terminated_watchers_total", "Watchers cut because they were too slow, by group and resource.", resourceLabels...),
		hub:      hub, objects: prometheus.NewDesc("apiserver_storage_objects", "Stored objects by resource.", []string{"resource"}, nil),
		byGroup: prometheus.NewDesc("apiserver_resource_objects", "Stored objects by group and resource.", []string{"group", "resource"}, nil),
		size:    prometheus.NewDesc("apiserver_storage_size_bytes", "Size of etcd's database file, free pages and all, by etcd.", []string{"storage_cluster_id"}, nil),
	}
	if registry == nil {
		return m
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.failed, m.events, m.received, m.cut, m} {
		// A server that is started again in the same process brings new collectors of the same names.
		if registered, ok := registry.Register(c).(prometheus.AlreadyRegisteredError); ok {
			registry.Unregister(registered.ExistingCollector)
			_ = registry.Register(c)
		}
	}
	return m
}

var (
	resourceLabels = []string{"group", "resource"}
	etcdLabels     = []string{"operation", "group", "resource"}
)

// operations are what is asked of etcd for a resource.
var operations = []string{"create", "update", "get", "list"}

// etcdFigures are the metrics of one operation on one resource, their labels looked up once.
type etcdFigures struct {
	requests prometheus.Counter
	duration prometheus.Observer
	failed   func()
}

func (m *metrics) figuresOf(operation string, of schema.GroupResource) etcdFigures {
	labels := []string{operation, of.Group, of.Resource}
	failed := func() { m.failed.WithLabelValues(labels...).Inc() } // what never happens is no series
	return etcdFigures{m.requests.WithLabelValues(labels...), m.duration.WithLabelValues(labels...), failed}
}

// ask counts a request to etcd; the function it returns, called with what came of it, measures it.
func (f etcdFigures) ask() (answered func(error)) {
	f.requests.Inc()
	began := time.Now()
	return func(err error) {
		f.duration.Observe(time.Since(began).Seconds())
		if err != nil {
			f.failed()
		}
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.objects
	to <- m.byGroup
	to <- m.size
}

// sizeTime is how long a scrape waits for etcd's size.
const sizeTime = time.Second

// Collect implements prometheus.Collector. A cache that is not filled says nothing, nor does an etcd that cannot be asked.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), sizeTime)
	defer cancel()
	if status, err := m.hub.etcd().Status(ctx, m.hub.config.Endpoints[0]); err == nil {
		to <- prometheus.MustNewConstMetric(m.size, prometheus.GaugeValue, float64(status.DbSize), "etcd-0")
	}
	m.hub.mu.RLock()
	resources := make([]*resource, 0, len(m.hub.resources))
	for _, r := range m.hub.resources {
		resources = append(resources, r)
	}
	m.hub.mu.RUnlock()
	for _, r := range resources {
		if n, known := r.cache.size(); known {
			to <- prometheus.MustNewConstMetric(m.objects, prometheus.GaugeValue, float64(n), r.config.Resource.String())
			to <- prometheus.MustNewConstMetric(m.byGroup, prometheus.GaugeValue, float64(n), r.config.Resource.Group, r.config.Resource.Resource)
		}
	}
}
