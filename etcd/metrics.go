package etcd

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// libraryMetrics shows etcd's own metrics (etcd_disk_wal_fsync_duration_seconds,
// etcd_mvcc_db_total_size_in_bytes, …) in our registry. The library keeps them
// process-wide, in prometheus' default registry.
type libraryMetrics struct{}

// Describe implements prometheus.Collector: none are known before they are asked for.
func (libraryMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (libraryMetrics) Collect(out chan<- prometheus.Metric) {
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil && len(families) == 0 {
		return
	}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "etcd_") {
			continue
		}
		for _, m := range family.Metric {
			names := make([]string, len(m.Label))
			for i, label := range m.Label {
				names[i] = label.GetName()
			}
			out <- gathered{prometheus.NewDesc(family.GetName(), family.GetHelp(), names, nil), m}
		}
	}
}

// gathered is a metric that was read from another registry.
type gathered struct {
	desc   *prometheus.Desc
	metric *dto.Metric
}

// Desc implements prometheus.Metric.
func (g gathered) Desc() *prometheus.Desc { return g.desc }

// Write implements prometheus.Metric.
func (g gathered) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Gauge = g.metric.Label, g.metric.Counter, g.metric.Gauge
	out.Summary, out.Histogram, out.Untyped = g.metric.Summary, g.metric.Histogram, g.metric.Untyped
	return nil
}
