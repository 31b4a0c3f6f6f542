package apiserver

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/apiserver/request"
)

// metrics carry upstream's names and labels, so that its dashboards and alerts work.
type metrics struct {
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	inflight    *prometheus.GaugeVec
	longRunning *prometheus.GaugeVec
}

var (
	requestLabels = []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	endingLabels  = append(requestLabels[:7:7], "dry_run") // of requests that end by themselves
)

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total",
			Help: "Counter of apiserver requests broken out for each verb, group, version, resource, scope, and HTTP response code.",
		}, append([]string{"code"}, endingLabels...)),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "apiserver_request_duration_seconds",
			Help:    "Response latency distribution in seconds for each verb, group, version, resource, subresource, and scope.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 5, 8, 15, 30, 60},
		}, endingLabels),
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
func (m *metrics) begin(info *request.Info, dryRun string, longRunning bool) func(code int, took time.Duration) {
	labels := []string{verbLabel(info), info.APIGroup, info.APIVersion, info.Resource, info.Subresource, scopeLabel(info), "apiserver"}
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
		labels = append(labels, dryRun)
		m.requests.WithLabelValues(append([]string{strconv.Itoa(code)}, labels...)...).Inc()
		if !longRunning {
			m.latency.WithLabelValues(labels...).Observe(took.Seconds())
		}
	}
}

// dryRunLabel is "All" or "": what else a client may say must not make endless labels.
func dryRunLabel(r *http.Request) string {
	if strings.Contains(r.URL.RawQuery, "dryRun="+metav1.DryRunAll) {
		return metav1.DryRunAll
	}
	return ""
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
	case info.Name != "" || info.Verb == "create":
		return "resource"
	case info.Namespace != "":
		return "namespace"
	case info.IsResourceRequest:
		return "cluster"
	}
	return ""
}
