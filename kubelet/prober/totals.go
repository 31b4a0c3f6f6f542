package prober

import (
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// newTotals counts probes by what came of them, as prober_probe_total at /metrics/probes.
func newTotals() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "prober_probe_total", Help: "Cumulative number of a liveness, readiness or startup probe for a container by result."},
		[]string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"})
}

// Totals are the counts, for a registry.
func (m *Manager) Totals() prometheus.Collector { return m.totals }

func (m *Manager) count(kind Type, pod *v1.Pod, container string, result Result, err error) {
	word := "failed"
	if err != nil {
		word = "unknown"
	} else if result == Success {
		word = "successful"
	}
	m.totals.WithLabelValues(string(kind), word, container, pod.Name, pod.Namespace, string(pod.UID)).Inc()
}

// forgetTotals drops the counts of a pod that is gone. Otherwise they would pile up.
func (m *Manager) forgetTotals(uid types.UID) {
	m.totals.DeletePartialMatch(prometheus.Labels{"pod_uid": string(uid)})
}
