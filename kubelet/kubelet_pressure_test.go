package kubelet

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Pressure goes from the runtime's figures through the summary to the metrics: microseconds become seconds, and what the
// kernel does not tell is left out (KEP-4205).
func TestPressureOfContainers(t *testing.T) {
	psi := func(some, full uint64) *runtimeapi.PsiStats {
		return &runtimeapi.PsiStats{Some: &runtimeapi.PsiData{Total: some, Avg10: 1.5}, Full: &runtimeapi.PsiData{Total: full}}
	}
	c := containerStats(&runtimeapi.ContainerStats{
		Cpu: &runtimeapi.CpuUsage{Timestamp: 1, Psi: psi(2500000, 500000)}, Memory: &runtimeapi.MemoryUsage{Timestamp: 1},
		Io: &runtimeapi.IoUsage{Timestamp: 1, Psi: psi(250000, 0)},
	}, "main")
	if c.CPU.PSI == nil || c.CPU.PSI.Some != (statsapi.PSIData{Total: 2500000, Avg10: 1.5}) || c.IO == nil || c.IO.PSI.Some.Total != 250000 || c.Memory.PSI != nil {
		t.Errorf("summary: %+v %+v %+v", c.CPU.PSI, c.IO, c.Memory.PSI)
	}
	pod := statsapi.PodStats{PodRef: statsapi.PodReference{Name: "web", Namespace: "default", UID: "1"}, Containers: []statsapi.ContainerStats{c}}
	s := &scrape{kl: startNode(t, nil).kl}
	cadvisorMetrics(s, &statsapi.Summary{Pods: []statsapi.PodStats{pod}})
	got := map[string]float64{}
	for _, m := range s.metrics {
		var out dto.Metric
		if err := m.Write(&out); err != nil {
			t.Fatal(err)
		}
		got[nameOf(m)] = out.GetCounter().GetValue()
	}
	for name, want := range map[string]float64{"container_pressure_cpu_waiting_seconds_total": 2.5, "container_pressure_cpu_stalled_seconds_total": 0.5,
		"container_pressure_io_waiting_seconds_total": 0.25, "container_pressure_io_stalled_seconds_total": 0} {
		if value, told := got[name]; !told || value != want {
			t.Errorf("%s is %v (told: %t), want %v", name, value, told, want)
		}
	}
	if _, told := got["container_pressure_memory_waiting_seconds_total"]; told {
		t.Error("pressure on memory is told, which the runtime did not measure")
	}
}

// nameOf takes a metric's name out of its description, which has no method for it.
func nameOf(m prometheus.Metric) (name string) {
	fmt.Sscanf(m.Desc().String(), "Desc{fqName: %q", &name)
	return name
}
