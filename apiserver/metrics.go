package apiserver

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hyperkube/apiserver/request"
)

// metrics carry upstream's names and labels, so that its dashboards and alerts work.
type metrics struct {
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	inflight    *prometheus.GaugeVec
	longRunning *prometheus.GaugeVec
}

var requestLabels = []string{"verb", "group", "version", "resource", "subresource", "scope"}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, group, version, resource, scope, and HTTP response code.",
		}, append([]string{"code"}, requestLabels...)),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, group, version, resource, subresource, and scope.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 5, 8, 15, 30, 60},
		}, requestLabels),
		inflight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_current_inflight_requests",
			Help: "Number of requests under way, of those that end by themselves.",
		}, []string{"request_kind"}),
		longRunning: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests",
			Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, and scope.",
		}, requestLabels),
	}
	for _, c := range []prometheus.Collector{m.requests, m.latency, m.inflight, m.longRunning} {
		// A server that is started again in the same process brings new collectors of the same names.
		if registered, ok := registerer.Register(c).(prometheus.AlreadyRegisteredError); ok {
			registerer.Unregister(registered.ExistingCollector)
			_ = registerer.Register(c)
		}
	}
	return m
}

// begin counts a request in; the function it returns counts it out.
func (m *metrics) begin(info *request.Info, longRunning bool) func(code int, took time.Duration) {
	labels := []string{verbLabel(info), info.APIGroup, info.APIVersion, info.Resource, info.Subresource, scopeLabel(info)}
	var gauge prometheus.Gauge
	if longRunning {
		gauge = m.longRunning.WithLabelValues(labels...)
	} else {
		gauge = m.inflight.WithLabelValues(requestKind(info))
	}
	gauge.Inc()
	return func(code int, took time.Duration) {
		gauge.Dec()
		if code == 0 {
			code = 200
		}
		m.requests.WithLabelValues(append([]string{strconv.Itoa(code)}, labels...)...).Inc()
		if !longRunning {
			m.latency.WithLabelValues(labels...).Observe(took.Seconds())
		}
	}
}

// verbLabel: unknown paths must not make endless labels.
func verbLabel(info *request.Info) string {
	switch info.Verb {
	case "get":
		return "GET"
	case "list":
		return "LIST"
	case "watch":
		return "WATCH"
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "patch":
		return "PATCH"
	case "delete":
		return "DELETE"
	case "deletecollection":
		return "DELETECOLLECTION"
	}
	return "other"
}

func requestKind(info *request.Info) string {
	switch info.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return "mutating"
	}
	return "readOnly"
}

func scopeLabel(info *request.Info) string {
	switch {
	case info.Name != "":
		return "resource"
	case info.Namespace != "":
		return "namespace"
	case info.IsResourceRequest:
		return "cluster"
	}
	return ""
}
