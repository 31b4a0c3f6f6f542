package status

import (
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
)

// Each end of a container is counted once, however often its status is told; a container that runs again may end again.
func TestTerminationsAreCountedOnce(t *testing.T) {
	m := &Manager{terminations: newTerminations()}
	running := v1.ContainerState{Running: &v1.ContainerStateRunning{}}
	ended := v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: 139, Reason: "Error"}}
	old := &v1.PodStatus{}
	for _, state := range []v1.ContainerState{running, ended, ended, running, ended} {
		next := &v1.PodStatus{ContainerStatuses: []v1.ContainerStatus{{Name: "a", State: running}, {Name: "b", State: state}},
			InitContainerStatuses: []v1.ContainerStatus{{Name: "i", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: "Completed"}}}}}
		m.countTerminations(old, next)
		old = next
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.Terminations())
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "kubelet_terminated_containers_total" {
		t.Fatalf("%v, %v", families, err)
	}
	got := map[string]float64{}
	for _, metric := range families[0].Metric {
		labels := ""
		for _, label := range metric.Label {
			labels += label.GetValue() + " "
		}
		got[labels] = metric.Counter.GetValue()
	}
	if want := map[string]float64{"container 139 Error ": 2, "init_container 0 Completed ": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
