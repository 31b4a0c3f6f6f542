package flowcontrol

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics carry upstream's names.
type metrics struct {
	rejected                    *prometheus.CounterVec
	dispatched                  *prometheus.CounterVec
	waited, ran, seats, lengths *prometheus.HistogramVec
	executing, inUse, inQueue   *prometheus.GaugeVec
	watchers                    *prometheus.HistogramVec
	limits                      func(func(name string, l limits, b borrowing)) (fairPart float64)
	nominal, lower, upper, now  *prometheus.Desc
	high, average, deviation    *prometheus.Desc
	smoothed, target, fairness  *prometheus.Desc
	mu                          sync.Mutex
	known                       map[[2]string]*figures
}

var flowLabels = []string{"priority_level", "flow_schema"}

const prefix = "apiserver_flowcontrol_"

func newMetrics(registerer prometheus.Registerer, limits func(func(string, limits, borrowing)) float64) *metrics {
	with := func(label string) []string { return append(flowLabels[:2:2], label) }
	durations := []float64{0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30}
	histogram := func(name, help string, buckets []float64, labels []string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + name, Help: help}, flowLabels)
	}
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, flowLabels[:1], nil)
	}
	m := &metrics{
		known: map[[2]string]*figures{}, limits: limits,
		rejected:   counter("rejected_requests_total", "Requests that priority and fairness refused.", with("reason")),
		dispatched: counter("dispatched_requests_total", "Requests that got a seat.", flowLabels),
		waited:     histogram("request_wait_duration_seconds", "How long requests waited for a seat.", durations, with("execute")),
		ran:        histogram("request_execution_seconds", "How long requests held a seat; watches, until their start was over.", durations, with("type")),
		seats:      histogram("work_estimated_seats", "How many seats requests took.", []float64{1, 2, 4, 10}, flowLabels),
		lengths:    histogram("request_queue_length_after_enqueue", "How long the queue was that a request joined, with it.", []float64{0, 10, 25, 50, 100, 250, 500, 1000}, flowLabels),
		watchers:   histogram("watch_count_samples", "How many watchers a write was seen by.", []float64{0, 1, 10, 100, 1000, 10000}, flowLabels),
		executing:  gauge("current_executing_requests", "Requests that hold a seat."),
		inUse:      gauge("current_executing_seats", "Seats that are held."),
		inQueue:    gauge("current_inqueue_requests", "Requests that wait for a seat."),
		nominal:    desc("nominal_limit_seats", "Seats that a level has of right."),
		lower:      desc("lower_limit_seats", "Seats that a level always keeps."),
		upper:      desc("upper_limit_seats", "Seats that a level may have at the most."),
		now:        desc("current_limit_seats", "Seats that a level has now."),
		high:       desc("demand_seats_high_watermark", "Most seats wanted at once in the last period."),
		average:    desc("demand_seats_average", "Seats wanted on average in the last period."),
		deviation:  desc("demand_seats_stdev", "Standard deviation of the seats wanted in the last period."),
		smoothed:   desc("demand_seats_smoothed", "Seats wanted, smoothed over periods."),
		target:     desc("target_seats", "Seats that a level would get if there were enough."),
		fairness:   prometheus.NewDesc(prefix+"seat_fair_frac", "The part of its target that each level got.", nil, nil),
	}
	if registerer == nil {
		return m
	}
	for _, c := range []prometheus.Collector{m.rejected, m.dispatched, m.waited, m.ran, m.seats, m.lengths, m.watchers, m.executing, m.inUse, m.inQueue, m} {
		// A server that is started again in the same process brings new collectors of the same names.
		if registered, ok := registerer.Register(c).(prometheus.AlreadyRegisteredError); ok {
			registerer.Unregister(registered.ExistingCollector)
			_ = registerer.Register(c)
		}
	}
	return m
}

// figures are the metrics of one schema in one level, their labels looked up once.
type figures struct {
	dispatched                prometheus.Counter
	waited, refusedAfter      prometheus.Observer
	ran, ranWatch             prometheus.Observer
	seats, lengths, watchers  prometheus.Observer
	executing, inUse, inQueue prometheus.Gauge
	rejected                  *prometheus.CounterVec
}

func (m *metrics) of(level, schema string) *figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := [2]string{level, schema}
	f := m.known[key]
	if f == nil {
		f = &figures{
			dispatched: m.dispatched.WithLabelValues(level, schema),
			waited:     m.waited.WithLabelValues(level, schema, "true"), refusedAfter: m.waited.WithLabelValues(level, schema, "false"),
			ran: m.ran.WithLabelValues(level, schema, "regular"), ranWatch: m.ran.WithLabelValues(level, schema, "watch"),
			seats: m.seats.WithLabelValues(level, schema), lengths: m.lengths.WithLabelValues(level, schema), watchers: m.watchers.WithLabelValues(level, schema),
			executing: m.executing.WithLabelValues(level, schema), inUse: m.inUse.WithLabelValues(level, schema), inQueue: m.inQueue.WithLabelValues(level, schema),
			rejected: m.rejected.MustCurryWith(prometheus.Labels{flowLabels[0]: level, flowLabels[1]: schema}),
		}
		m.known[key] = f
	}
	return f
}

func (f *figures) queued(n int) {
	if f != nil {
		f.inQueue.Add(float64(n))
	}
}

func (f *figures) length(n int) {
	if f != nil {
		f.lengths.Observe(float64(n))
	}
}

func (f *figures) watched(n int) {
	if f != nil {
		f.watchers.Observe(float64(n))
	}
}

func (f *figures) executes(requests, seats int) {
	if f != nil {
		f.executing.Add(float64(requests))
		f.inUse.Add(float64(seats))
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.nominal, m.lower, m.upper, m.now, m.high, m.average, m.deviation, m.smoothed, m.target, m.fairness} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	part := m.limits(func(level string, l limits, b borrowing) {
		for _, each := range []struct {
			desc  *prometheus.Desc
			value float64
		}{
			{m.nominal, float64(l.nominal)}, {m.lower, float64(l.lower)}, {m.upper, float64(l.upper)}, {m.now, float64(l.current)},
			{m.high, b.last.high}, {m.average, b.last.average}, {m.deviation, b.last.deviation}, {m.smoothed, b.smoothed}, {m.target, b.target},
		} {
			to <- prometheus.MustNewConstMetric(each.desc, prometheus.GaugeValue, each.value, level)
		}
	})
	to <- prometheus.MustNewConstMetric(m.fairness, prometheus.GaugeValue, part)
}
