package kubelet

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// scrape is one answer to a scraper: a summary as metrics, under the names that
// dashboards and the metrics server know.
type scrape struct {
	ctx     context.Context
	kl      *Kubelet
	metrics []prometheus.Metric
	collect func(*scrape, *statsapi.Summary)
	failure string // the name of the gauge that tells whether measuring failed
}

// Describe sends nothing: which metrics there are depends on what runs.
func (s *scrape) Describe(chan<- *prometheus.Desc) {}

// Collect measures now.
func (s *scrape) Collect(out chan<- prometheus.Metric) {
	failed := 0.0
	summary, err := s.kl.Summary(s.ctx)
	if err != nil {
		failed = 1
	} else {
		s.collect(s, summary)
	}
	s.gauge(metric{name: s.failure, help: "1 if there was an error while getting container metrics, 0 otherwise", value: failed})
	for _, m := range s.metrics {
		out <- m
	}
}

// metric is one figure. Labels are names and values in turn.
type metric struct {
	name, help string
	labels     []string
	value      float64
	at         time.Time
}

func (s *scrape) counter(m metric) { s.add(prometheus.CounterValue, m) }
func (s *scrape) gauge(m metric)   { s.add(prometheus.GaugeValue, m) }

func (s *scrape) add(kind prometheus.ValueType, m metric) {
	var names, values []string
	for i := 0; i+1 < len(m.labels); i += 2 {
		names, values = append(names, m.labels[i]), append(values, m.labels[i+1])
	}
	made := prometheus.MustNewConstMetric(prometheus.NewDesc(m.name, m.help, names, nil), kind, m.value, values...)
	if !m.at.IsZero() {
		made = prometheus.NewMetricWithTimestamp(m.at, made)
	}
	s.metrics = append(s.metrics, made)
}

func seconds(nanos *uint64) float64 { return float64(deref(nanos)) / 1e9 }

// ResourceMetrics serves /metrics/resource, which the metrics server scrapes.
func (kl *Kubelet) ResourceMetrics() http.Handler {
	return kl.scrapeHandler("resource_scrape_error", resourceMetrics)
}

// CadvisorMetrics serves /metrics/cadvisor, from the runtime's figures.
func (kl *Kubelet) CadvisorMetrics() http.Handler {
	return kl.scrapeHandler("container_scrape_error", cadvisorMetrics)
}

func (kl *Kubelet) scrapeHandler(failure string, collect func(*scrape, *statsapi.Summary)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(&scrape{ctx: r.Context(), kl: kl, collect: collect, failure: failure})
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
}

// ProbeMetrics serves /metrics/probes.
func (kl *Kubelet) ProbeMetrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(kl.prober.Totals())
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

// resourceMetrics are few: what is used of CPU and memory (KEP-727).
func resourceMetrics(s *scrape, summary *statsapi.Summary) {
	if cpu := summary.Node.CPU; cpu != nil {
		s.counter(metric{name: "node_cpu_usage_seconds_total", help: "Cumulative cpu time consumed by the node in core-seconds", value: seconds(cpu.UsageCoreNanoSeconds), at: cpu.Time.Time})
	}
	if memory := summary.Node.Memory; memory != nil {
		s.gauge(metric{name: "node_memory_working_set_bytes", help: "Current working set of the node in bytes", value: float64(deref(memory.WorkingSetBytes)), at: memory.Time.Time})
	}
	for _, pod := range summary.Pods {
		labels := []string{"namespace", pod.PodRef.Namespace, "pod", pod.PodRef.Name}
		if cpu := pod.CPU; cpu != nil {
			s.counter(metric{"pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", labels, seconds(cpu.UsageCoreNanoSeconds), cpu.Time.Time})
		}
		if memory := pod.Memory; memory != nil {
			s.gauge(metric{"pod_memory_working_set_bytes", "Current working set of the pod in bytes", labels, float64(deref(memory.WorkingSetBytes)), memory.Time.Time})
		}
		for _, c := range pod.Containers {
			labels := append([]string{"container", c.Name}, labels...)
			if cpu := c.CPU; cpu != nil {
				s.counter(metric{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed by the container in core-seconds", labels, seconds(cpu.UsageCoreNanoSeconds), cpu.Time.Time})
			}
			if memory := c.Memory; memory != nil {
				s.gauge(metric{"container_memory_working_set_bytes", "Current working set of the container in bytes", labels, float64(deref(memory.WorkingSetBytes)), memory.Time.Time})
			}
			if swap := c.Swap; swap != nil {
				s.gauge(metric{"container_swap_usage_bytes", "Current amount of the container swap usage in bytes", labels, float64(deref(swap.SwapUsageBytes)), swap.Time.Time})
			}
			if !c.StartTime.IsZero() {
				s.gauge(metric{name: "container_start_time_seconds", help: "Start time of the container since unix epoch in seconds", labels: labels, value: float64(c.StartTime.UnixNano()) / 1e9})
			}
		}
	}
}

// cadvisorMetrics are those of cAdvisor's that dashboards use and the runtime can fill in.
func cadvisorMetrics(s *scrape, summary *statsapi.Summary) {
	machine := machineInfo(s.kl.RootDir)
	s.gauge(metric{name: "machine_cpu_cores", help: "Number of logical CPU cores.", value: float64(machine.cpus)})
	s.gauge(metric{name: "machine_memory_bytes", help: "Amount of memory installed on the machine.", value: float64(machine.memory)})
	images := s.kl.containerImages()
	for _, pod := range summary.Pods {
		of := func(container, image string) []string {
			return []string{"container", container, "image", image, "namespace", pod.PodRef.Namespace, "pod", pod.PodRef.Name}
		}
		cadvisorUsage(s, of("", ""), pod.CPU, pod.Memory)
		cadvisorPressure(s, of("", ""), pressures(pod.CPU, pod.Memory, pod.IO))
		if pod.ProcessStats != nil {
			s.gauge(metric{name: "container_processes", help: "Number of processes running inside the container.", labels: of("", ""), value: float64(deref(pod.ProcessStats.ProcessCount))})
		}
		if pod.Network != nil {
			for _, i := range pod.Network.Interfaces {
				labels := append(of("", ""), "interface", i.Name)
				for _, m := range []struct {
					name, help string
					value      *uint64
				}{
					{"container_network_receive_bytes_total", "Cumulative count of bytes received", i.RxBytes},
					{"container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", i.RxErrors},
					{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", i.TxBytes},
					{"container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", i.TxErrors},
				} {
					s.counter(metric{m.name, m.help, labels, float64(deref(m.value)), pod.Network.Time.Time})
				}
			}
		}
		for _, c := range pod.Containers {
			labels := of(c.Name, images[pod.PodRef.UID+"/"+c.Name])
			cadvisorUsage(s, labels, c.CPU, c.Memory)
			cadvisorPressure(s, labels, pressures(c.CPU, c.Memory, c.IO))
			if c.Rootfs != nil {
				s.gauge(metric{"container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", labels, float64(deref(c.Rootfs.UsedBytes)), c.Rootfs.Time.Time})
			}
			if !c.StartTime.IsZero() {
				s.gauge(metric{name: "container_start_time_seconds", help: "Start time of the container since unix epoch in seconds.", labels: labels, value: float64(c.StartTime.Unix())})
			}
		}
	}
}

func cadvisorUsage(s *scrape, labels []string, cpu *statsapi.CPUStats, memory *statsapi.MemoryStats) {
	if cpu != nil {
		s.counter(metric{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", append([]string{"cpu", "total"}, labels...), seconds(cpu.UsageCoreNanoSeconds), cpu.Time.Time})
	}
	if memory == nil {
		return
	}
	for _, m := range []struct {
		name, help string
		value      *uint64
	}{
		{"container_memory_working_set_bytes", "Current working set in bytes.", memory.WorkingSetBytes},
		{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed.", memory.UsageBytes},
		{"container_memory_rss", "Size of RSS in bytes.", memory.RSSBytes},
	} {
		if m.value != nil {
			s.gauge(metric{m.name, m.help, labels, float64(*m.value), memory.Time.Time})
		}
	}
}

// pressures are how long there was a wait for what (KEP-4205); none where the kernel does not tell.
func pressures(cpu *statsapi.CPUStats, memory *statsapi.MemoryStats, io *statsapi.IOStats) map[string]*statsapi.PSIStats {
	found := map[string]*statsapi.PSIStats{}
	if cpu != nil {
		found["cpu"] = cpu.PSI
	}
	if memory != nil {
		found["memory"] = memory.PSI
	}
	if io != nil {
		found["io"] = io.PSI
	}
	return found
}

func cadvisorPressure(s *scrape, labels []string, found map[string]*statsapi.PSIStats) {
	for what, psi := range found {
		if psi == nil {
			continue
		}
		s.counter(metric{name: "container_pressure_" + what + "_waiting_seconds_total", help: "Time in which some task waited for " + what + ", in seconds.", labels: labels, value: float64(psi.Some.Total) / 1e6})
		s.counter(metric{name: "container_pressure_" + what + "_stalled_seconds_total", help: "Time in which all tasks waited for " + what + ", in seconds.", labels: labels, value: float64(psi.Full.Total) / 1e6})
	}
}

// containerImages are the images of all containers, by "<pod UID>/<container>".
func (kl *Kubelet) containerImages() map[string]string {
	images := map[string]string{}
	for _, pod := range kl.pods.GetPods() {
		for _, c := range pod.Spec.Containers {
			images[string(pod.UID)+"/"+c.Name] = c.Image
		}
		for _, c := range pod.Spec.InitContainers {
			images[string(pod.UID)+"/"+c.Name] = c.Image
		}
	}
	return images
}
