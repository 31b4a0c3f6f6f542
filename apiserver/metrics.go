package apiserver

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"hyperkube/apiserver/endpoints"
	"hyperkube/apiserver/request"
)

// metrics carry upstream's names, labels and buckets, so that its dashboards and alerts work.
type metrics struct {
	requests    *prometheus.CounterVec
	latency     *prometheus.HistogramVec
	slis        *prometheus.HistogramVec
	terminated  *prometheus.CounterVec
	deprecated  *prometheus.GaugeVec
	handshakes  prometheus.Counter
	sizes       *prometheus.HistogramVec
	inflight    *prometheus.GaugeVec
	longRunning *prometheus.GaugeVec
	watchEvents *prometheus.CounterVec
	watchSizes  *prometheus.HistogramVec
	watchLists  *prometheus.HistogramVec
	judges      judgeMetrics

	// served are the resources and subresources there are: what else a path says must not make endless labels.
	served map[servedKey]bool
	// leaving are those of deprecated kinds, with the release that does without them.
	leaving map[servedKey]string
	mu      sync.RWMutex
	known   map[requestKey]*requestFigures
}

type servedKey struct{ group, version, resource, subresource string }

// requestKey is a request as the labels tell it from others.
type requestKey struct {
	verb, group, version, resource, subresource, scope, dryRun string
	longRunning                                                bool
}

// requestFigures are the metrics of all requests of one key, their labels looked up once.
type requestFigures struct {
	active       prometheus.Gauge
	latency, sli prometheus.Observer // nil: not taken of such requests
	sizes        prometheus.Observer // likewise
	requests     *prometheus.CounterVec
	terminated   *prometheus.CounterVec
	watch        *request.WatchFigures // nil: it is no watch

	mu    sync.RWMutex
	codes map[int]prometheus.Counter
}

var (
	requestLabels = []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	endingLabels  = append(requestLabels[:7:7], "dry_run") // of requests that end by themselves
	watchLabels   = []string{"group", "version", "resource"}
)

func newMetrics(registerer prometheus.Registerer, groups []*endpoints.APIGroupVersion) *metrics {
	m := &metrics{known: map[requestKey]*requestFigures{}}
	m.served, m.leaving = servedBy(groups)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return registered(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return registered(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels))
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return registered(registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets,
			// Native buckets beside those: who asks in protobuf gets both (KEP-5808).
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		}, labels))
	}
	m.requests = counter("apiserver_request_total", "Counter of apiserver requests broken out for each verb, group, version, resource, scope, and HTTP response code.",
		append([]string{"code"}, endingLabels...)...)
	m.latency = histogram("apiserver_request_duration_seconds", "Response latency distribution in seconds for each verb, group, version, resource, subresource, and scope.",
		[]float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}, endingLabels...)
	m.slis = histogram("apiserver_request_sli_duration_seconds", "Response latency without the time that a request waited for its turn, by the labels of requests.",
		[]float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60}, requestLabels...)
	m.terminated = counter("apiserver_request_terminations_total", "Number of requests that the apiserver ended to protect itself: no turn in time, or no answer.", append([]string{"code"}, requestLabels...)...)
	m.deprecated = gauge("apiserver_requested_deprecated_apis", "1 for each deprecated resource that has been asked for, with the release that removes it.", "group", "version", "resource", "subresource", "removed_release")
	m.handshakes = counter("apiserver_tls_handshake_errors_total", "Number of connections whose TLS handshake failed.").WithLabelValues()
	m.sizes = histogram("apiserver_response_sizes", "How large the answers of reads are, in bytes.", prometheus.ExponentialBuckets(1000, 10, 7), requestLabels...)
	m.inflight = gauge("apiserver_current_inflight_requests", "Number of requests under way, of those that end by themselves.", "request_kind")
	m.longRunning = gauge("apiserver_longrunning_requests", "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, and scope.", requestLabels...)
	m.watchEvents = counter("apiserver_watch_events_total", "Number of events sent to watchers.", watchLabels...)
	m.watchSizes = histogram("apiserver_watch_events_sizes", "How large the events sent to watchers are, in bytes.", prometheus.ExponentialBuckets(1024, 2, 8), watchLabels...)
	m.watchLists = histogram("apiserver_watch_list_duration_seconds", "How long a watch that begins with a list took to send it.",
		[]float64{0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 15, 20, 30, 45, 60}, append(watchLabels[:3:3], "scope")...)
	for _, kind := range []string{"mutating", "readOnly"} {
		m.inflight.WithLabelValues(kind)
	}
	m.judges = newJudgeMetrics(counter, gauge, histogram)
	return m
}

// registered puts a collector in place of one of the same name: a server that is started again in the same process brings new ones.
func registered[T prometheus.Collector](registerer prometheus.Registerer, c T) T {
	if earlier, ok := registerer.Register(c).(prometheus.AlreadyRegisteredError); ok {
		registerer.Unregister(earlier.ExistingCollector)
		_ = registerer.Register(c)
	}
	return c
}

// servedBy are all resources and subresources of the groups, and those among them that are to go.
func servedBy(groups []*endpoints.APIGroupVersion) (served map[servedKey]bool, leaving map[servedKey]string) {
	served, leaving = map[servedKey]bool{}, map[servedKey]string{}
	for _, group := range groups {
		for _, scope := range group.Scopes {
			key := servedKey{group.GroupVersion.Group, group.GroupVersion.Version, scope.Resource.Name, ""}
			served[key] = true
			if removed, ok := endpoints.Deprecated(scope.Resource.New(), scope.Resource.Kind); ok {
				leaving[key] = removed
			}
			for name := range scope.Resource.Subresources {
				key.subresource = name
				served[key] = true
			}
			key.subresource = "status"
			served[key] = scope.Resource.StatusStrategy != nil
		}
	}
	return served, leaving
}

// begin counts a request in; end counts it out.
func (m *metrics) begin(info *request.Info, r *http.Request, longRunning bool) *requestFigures {
	key := requestKey{verb: verbLabel(info, r), longRunning: longRunning}
	switch {
	case m.served[servedKey{info.APIGroup, info.APIVersion, info.Resource, info.Subresource}]:
		key.group, key.version, key.resource, key.subresource = info.APIGroup, info.APIVersion, info.Resource, info.Subresource
		key.scope, key.dryRun = scopeLabel(info), dryRunLabel(r)
	case info.Path == "/healthz" || info.Path == "/livez" || info.Path == "/readyz":
		key.subresource = info.Path
	}
	f := m.of(key)
	f.active.Inc()
	if f.watch != nil {
		info.Figures = f.watch
	}
	return f
}

// of are the figures of a key, made when they are first asked for.
func (m *metrics) of(key requestKey) *requestFigures {
	m.mu.RLock()
	f := m.known[key]
	m.mu.RUnlock()
	if f != nil {
		return f
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f = m.known[key]; f != nil {
		return f
	}
	labels := []string{key.verb, key.group, key.version, key.resource, key.subresource, key.scope, "apiserver"}
	f = &requestFigures{codes: map[int]prometheus.Counter{}}
	if key.longRunning {
		f.active = m.longRunning.WithLabelValues(labels...)
	} else {
		f.active = m.inflight.WithLabelValues(requestKind(key.verb))
		f.latency, f.sli = m.latency.WithLabelValues(append(labels, key.dryRun)...), m.slis.WithLabelValues(labels...)
	}
	if key.verb == "GET" || key.verb == "LIST" {
		f.sizes = m.sizes.WithLabelValues(labels...)
	}
	if key.verb == "WATCH" && key.resource != "" {
		f.watch = &request.WatchFigures{
			Events: m.watchEvents.WithLabelValues(key.group, key.version, key.resource), Sizes: m.watchSizes.WithLabelValues(key.group, key.version, key.resource),
			Lists: m.watchLists.WithLabelValues(key.group, key.version, key.resource, key.scope),
		}
	}
	curried := prometheus.Labels{"dry_run": key.dryRun}
	for i, name := range requestLabels {
		curried[name] = labels[i]
	}
	f.requests = m.requests.MustCurryWith(curried)
	delete(curried, "dry_run")
	f.terminated = m.terminated.MustCurryWith(curried)
	if removed, ok := m.leaving[servedKey{key.group, key.version, key.resource, ""}]; ok {
		m.deprecated.WithLabelValues(key.group, key.version, key.resource, key.subresource, removed).Set(1)
	}
	m.known[key] = f
	return f
}

func (f *requestFigures) end(info *request.Info, code, size int, took time.Duration) {
	f.active.Dec()
	if code == 0 {
		code = http.StatusOK
	}
	f.mu.RLock()
	counter := f.codes[code]
	f.mu.RUnlock()
	if counter == nil {
		counter = f.requests.WithLabelValues(strconv.Itoa(code))
		f.mu.Lock()
		f.codes[code] = counter
		f.mu.Unlock()
	}
	counter.Inc()
	if f.latency != nil {
		f.latency.Observe(took.Seconds())
		f.sli.Observe((took - info.Waited).Seconds())
	}
	if info.Terminated {
		f.terminated.WithLabelValues(strconv.Itoa(code)).Inc()
	}
	if f.sizes != nil {
		f.sizes.Observe(float64(size))
	}
}

// dryRunLabel is "All" or "": what else a client may say must not make endless labels.
func dryRunLabel(r *http.Request) string {
	if strings.Contains(r.URL.RawQuery, "dryRun="+metav1.DryRunAll) {
		return metav1.DryRunAll
	}
	return ""
}

// verbLabel: unknown methods must not make endless labels.
func verbLabel(info *request.Info, r *http.Request) string {
	switch info.Subresource {
	case "exec", "attach", "portforward", "proxy":
		return "CONNECT"
	}
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
		if strings.HasPrefix(r.Header.Get("Content-Type"), string(types.ApplyYAMLPatchType)) || strings.HasPrefix(r.Header.Get("Content-Type"), string(types.ApplyCBORPatchType)) {
			return "APPLY"
		}
		return "PATCH"
	case "delete":
		return "DELETE"
	case "deletecollection":
		return "DELETECOLLECTION"
	}
	return "other"
}

func requestKind(verb string) string {
	switch verb {
	case "GET", "LIST", "WATCH", "other":
		return "readOnly"
	}
	return "mutating"
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
