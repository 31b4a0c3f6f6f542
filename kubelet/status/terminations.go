package status

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

// newTerminations counts how containers have ended, as kubelet_terminated_containers_total.
func newTerminations() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubelet_terminated_containers_total", Help: "Cumulative number of container terminations."},
		[]string{"container_type", "exit_code", "reason"})
}

// Terminations are the counts, for a registry.
func (m *Manager) Terminations() prometheus.Collector { return m.terminations }

// countTerminations counts each container that has ended between two statuses of its pod.
func (m *Manager) countTerminations(old, next *v1.PodStatus) {
	count := func(kind string, old, next []v1.ContainerStatus) {
		for _, status := range next {
			i := slices.IndexFunc(old, func(s v1.ContainerStatus) bool { return s.Name == status.Name })
			if ended := status.State.Terminated; ended != nil && (i < 0 || old[i].State.Terminated == nil) {
				m.terminations.WithLabelValues(kind, strconv.Itoa(int(ended.ExitCode)), ended.Reason).Inc()
			}
		}
	}
	count("init_container", old.InitContainerStatuses, next.InitContainerStatuses)
	count("container", old.ContainerStatuses, next.ContainerStatuses)
	count("ephemeral_container", old.EphemeralContainerStatuses, next.EphemeralContainerStatuses)
}
