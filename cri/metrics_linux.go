package cri

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The metrics that cAdvisor has of containers, as a kubelet serves them at
// /metrics/cadvisor (KEP-2371). A reading is named by what is read; where this
// kernel or hierarchy has no such figure, it is left out.

// metric is one of them. Container metrics have the labels that all have; a read
// function returns its figure of one container, and false if there is none.
type metric struct {
	name, help string
	kind       runtimeapi.MetricType
	read       func(*reading) (uint64, bool)
}

// reading is what the metrics of a container are taken from.
type reading struct {
	c     *CRI
	k     *container
	rec   containerRecord
	start int64
	stats *runtimeapi.ContainerStats
	pids  []int
}

// metricLabels are those of a container's metrics, and of a pod's, with empty
// container values there; a network metric has the interface's name too.
var (
	metricLabels  = []string{"id", "name", "image"}
	networkLabels = append(metricLabels[:len(metricLabels):len(metricLabels)], "interface")
)

// ListMetricDescriptors says which metrics there are.
func (c *CRI) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	resp := &runtimeapi.ListMetricDescriptorsResponse{}
	for _, m := range containerMetrics() {
		resp.Descriptors = append(resp.Descriptors, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: metricLabels})
	}
	for _, m := range networkMetrics {
		resp.Descriptors = append(resp.Descriptors, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: networkLabels})
	}
	return resp, nil
}

// ListPodSandboxMetrics measures all pods that are ready.
func (c *CRI) ListPodSandboxMetrics(context.Context, *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	resp := &runtimeapi.ListPodSandboxMetricsResponse{}
	for _, s := range c.allSandboxes() {
		rec := s.record()
		if rec.Phase != ready {
			continue
		}
		pod := &runtimeapi.PodSandboxMetrics{PodSandboxId: s.id}
		if !hostNetwork(rec.Config) {
			pod.Metrics = podNetworkMetrics(s.id, rec.ParentPid)
		}
		for _, k := range c.sortedContainers(s) {
			if k.state() == runtimeapi.ContainerState_CONTAINER_RUNNING {
				pod.ContainerMetrics = append(pod.ContainerMetrics, c.metricsOf(k))
			}
		}
		resp.PodMetrics = append(resp.PodMetrics, pod)
	}
	return resp, nil
}

func (c *CRI) metricsOf(k *container) *runtimeapi.ContainerMetrics {
	rec, st := k.snapshot()
	r := &reading{c: c, k: k, rec: rec, start: st.StartedAt, stats: c.stats(k), pids: c.cgroups.Pids(rec.Cgroup)}
	labels := []string{rec.Cgroup, k.id, firstOf(rec.Config.GetImage().GetUserSpecifiedImage(), rec.Config.GetImage().GetImage())}
	out := &runtimeapi.ContainerMetrics{ContainerId: k.id}
	for _, m := range containerMetrics() {
		if figure, ok := m.read(r); ok {
			out.Metrics = append(out.Metrics, &runtimeapi.Metric{Name: m.name, MetricType: m.kind, LabelValues: labels, Value: value(figure)})
		}
	}
	return out
}

// containerMetrics is the table of what is measured.
func containerMetrics() []metric {
	const counter, gauge = runtimeapi.MetricType_COUNTER, runtimeapi.MetricType_GAUGE
	limits := func(r *reading) *runtimeapi.LinuxContainerResources { return r.rec.Config.GetLinux().GetResources() }
	return []metric{
		{"container_cpu_usage_seconds_total", "CPU time used, in seconds.", counter, func(r *reading) (uint64, bool) { return seconds(r.stats.Cpu.GetUsageCoreNanoSeconds()) }},
		{"container_cpu_user_seconds_total", "CPU time used in user mode, in seconds.", counter, cpuStat("user", "user_usec")},
		{"container_cpu_system_seconds_total", "CPU time used in the kernel, in seconds.", counter, cpuStat("system", "system_usec")},
		{"container_cpu_cfs_periods_total", "Enforcement periods that have passed.", counter, keyed("cpu", "cpu.stat", "nr_periods")},
		{"container_cpu_cfs_throttled_periods_total", "Periods in which the container was throttled.", counter, keyed("cpu", "cpu.stat", "nr_throttled")},
		{"container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled, in seconds.", counter, throttled},
		{"container_memory_usage_bytes", "Memory in use, caches included.", gauge, func(r *reading) (uint64, bool) { return figure(r.stats.Memory.GetUsageBytes()) }},
		{"container_memory_working_set_bytes", "Memory in use that cannot be reclaimed easily.", gauge, func(r *reading) (uint64, bool) { return figure(r.stats.Memory.GetWorkingSetBytes()) }},
		{"container_memory_rss", "Anonymous memory in use.", gauge, func(r *reading) (uint64, bool) { return figure(r.stats.Memory.GetRssBytes()) }},
		{"container_memory_cache", "Memory of cached files.", gauge, keyed("memory", "memory.stat", "total_cache", "file")},
		{"container_memory_mapped_file", "Memory of mapped files.", gauge, keyed("memory", "memory.stat", "total_mapped_file", "file_mapped")},
		{"container_memory_kernel_usage", "Memory that the kernel uses for the container.", gauge, keyed("memory", "memory.stat", "kernel").or(whole("memory", "memory.kmem.usage_in_bytes"))},
		{"container_memory_max_usage_bytes", "The most memory that was in use.", gauge, whole("memory", "memory.max_usage_in_bytes", "memory.peak")},
		{"container_memory_failcnt", "How often the memory limit was hit.", counter, whole("memory", "memory.failcnt").or(keyed("memory", "memory.events", "max"))},
		{"container_memory_failures_total", "Page faults.", counter, func(r *reading) (uint64, bool) { return figure(r.stats.Memory.GetPageFaults()) }},
		{"container_memory_swap", "Swap in use.", gauge, func(r *reading) (uint64, bool) { return figure(r.stats.Swap.GetSwapUsageBytes()) }},
		{"container_oom_events_total", "Processes killed for want of memory.", counter, keyed("memory", "memory.oom_control", "oom_kill").or(keyed("memory", "memory.events", "oom_kill"))},
		{"container_fs_usage_bytes", "What the container has written to its root filesystem.", gauge, func(r *reading) (uint64, bool) { return figure(r.stats.WritableLayer.GetUsedBytes()) }},
		{"container_fs_limit_bytes", "Size of the file system that holds it.", gauge, fileSystem(func(st *unix.Statfs_t) uint64 { return st.Blocks * uint64(st.Bsize) })},
		{"container_fs_inodes_total", "Inodes of the file system that holds it.", gauge, fileSystem(func(st *unix.Statfs_t) uint64 { return st.Files })},
		{"container_fs_inodes_free", "Free inodes of the file system that holds it.", gauge, fileSystem(func(st *unix.Statfs_t) uint64 { return st.Ffree })},
		{"container_fs_reads_bytes_total", "Bytes read from disks.", counter, diskIO("rbytes", "io_service_bytes", "Read")},
		{"container_fs_reads_total", "Reads from disks.", counter, diskIO("rios", "io_serviced", "Read")},
		{"container_fs_writes_bytes_total", "Bytes written to disks.", counter, diskIO("wbytes", "io_service_bytes", "Write")},
		{"container_fs_writes_total", "Writes to disks.", counter, diskIO("wios", "io_serviced", "Write")},
		{"container_blkio_device_usage_total", "Bytes read from and written to disks.", counter, func(r *reading) (uint64, bool) {
			read, ok := diskIO("rbytes", "io_service_bytes", "Read")(r)
			written, _ := diskIO("wbytes", "io_service_bytes", "Write")(r)
			return read + written, ok
		}},
		{"container_processes", "Processes.", gauge, func(r *reading) (uint64, bool) { return uint64(len(r.pids)), true }},
		{"container_threads", "Threads.", gauge, countIn("task", "")},
		{"container_threads_max", "The most threads allowed; 0 without a limit.", gauge, threadsMax},
		{"container_file_descriptors", "Open files of all processes.", gauge, countIn("fd", "")},
		{"container_sockets", "Open sockets of all processes.", gauge, countIn("fd", "socket:")},
		{"container_spec_cpu_period", "The period that the CPU quota is of, in microseconds.", gauge, func(r *reading) (uint64, bool) { return uint64(limits(r).GetCpuPeriod()), true }},
		{"container_spec_cpu_quota", "CPU time allowed in a period, in microseconds.", gauge, func(r *reading) (uint64, bool) {
			return uint64(limits(r).GetCpuQuota()), limits(r).GetCpuQuota() > 0
		}},
		{"container_spec_cpu_shares", "Weight among those who want the CPU.", gauge, func(r *reading) (uint64, bool) { return uint64(limits(r).GetCpuShares()), true }},
		{"container_spec_memory_limit_bytes", "Memory limit; 0 without one.", gauge, func(r *reading) (uint64, bool) { return uint64(max(0, limits(r).GetMemoryLimitInBytes())), true }},
		{"container_spec_memory_swap_limit_bytes", "Limit of memory and swap; 0 without one.", gauge, func(r *reading) (uint64, bool) { return uint64(max(0, limits(r).GetMemorySwapLimitInBytes())), true }},
		{"container_spec_memory_reservation_limit_bytes", "Memory that is left to it when memory is short.", gauge, whole("memory", "memory.low", "memory.soft_limit_in_bytes")},
		{"container_ulimits_soft", "How many files a process may have open.", gauge, openFilesLimit},
		{"container_hugetlb_usage_bytes", "Huge pages in use, of all sizes.", gauge, hugePages("current", "usage_in_bytes")},
		{"container_hugetlb_max_usage_bytes", "The most huge pages that were in use, of all sizes.", gauge, hugePages("peak", "max_usage_in_bytes")},
		{"container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for the CPU, in seconds.", counter, pressure("cpu.pressure", "some")},
		{"container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for the CPU, in seconds.", counter, pressure("cpu.pressure", "full")},
		{"container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory, in seconds.", counter, pressure("memory.pressure", "some")},
		{"container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory, in seconds.", counter, pressure("memory.pressure", "full")},
		{"container_pressure_io_waiting_seconds_total", "Time in which some task waited for a disk, in seconds.", counter, pressure("io.pressure", "some")},
		{"container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for a disk, in seconds.", counter, pressure("io.pressure", "full")},
		{"container_start_time_seconds", "When it was started, in seconds since 1970.", gauge, func(r *reading) (uint64, bool) { return uint64(r.start / 1e9), true }},
		{"container_last_seen", "When it was measured, in seconds since 1970.", gauge, func(r *reading) (uint64, bool) { return uint64(r.stats.Cpu.GetTimestamp() / 1e9), r.stats.Cpu != nil }},
	}
}

// from is a way to read a figure; or is what to try when there is none.
type from func(*reading) (uint64, bool)

func (f from) or(other from) from {
	return func(r *reading) (uint64, bool) {
		if n, ok := f(r); ok {
			return n, true
		}
		return other(r)
	}
}

func figure(v *runtimeapi.UInt64Value) (uint64, bool) { return v.GetValue(), v != nil }

func seconds(v *runtimeapi.UInt64Value) (uint64, bool) { return v.GetValue() / 1e9, v != nil }

// cgroupFile reads a file of the container's cgroup: v2's only directory, or that
// of a controller.
func (r *reading) cgroupFile(controller, name string) ([]byte, error) {
	h := r.c.cgroups
	if h.V2() {
		return os.ReadFile(filepath.Join(h.Unified, r.rec.Cgroup, name))
	}
	return os.ReadFile(filepath.Join(h.Trees[controller], r.rec.Cgroup, name))
}

// whole reads a file that holds one number: the first of these that is there.
func whole(controller string, names ...string) from {
	return func(r *reading) (uint64, bool) {
		for _, name := range names {
			if data, err := r.cgroupFile(controller, name); err == nil {
				n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
				return n, err == nil
			}
		}
		return 0, false
	}
}

// keyed reads a line "key number" of a file: the first of these keys that is there.
func keyed(controller, name string, keys ...string) from {
	return func(r *reading) (uint64, bool) {
		data, err := r.cgroupFile(controller, name)
		if err != nil {
			return 0, false
		}
		for _, key := range keys {
			for line := range bytes.Lines(data) {
				if fields := strings.Fields(string(line)); len(fields) == 2 && fields[0] == key {
					n, err := strconv.ParseUint(fields[1], 10, 64)
					return n, err == nil
				}
			}
		}
		return 0, false
	}
}

// cpuStat reads CPU time in seconds: v1 counts ticks of 10 ms, v2 microseconds.
func cpuStat(v1, v2 string) func(*reading) (uint64, bool) {
	return func(r *reading) (uint64, bool) {
		if r.c.cgroups.V2() {
			n, ok := keyed("cpu", "cpu.stat", v2)(r)
			return n / 1e6, ok
		}
		n, ok := keyed("cpuacct", "cpuacct.stat", v1)(r)
		return n / 100, ok
	}
}

func throttled(r *reading) (uint64, bool) {
	if n, ok := keyed("cpu", "cpu.stat", "throttled_usec")(r); ok {
		return n / 1e6, ok
	}
	n, ok := keyed("cpu", "cpu.stat", "throttled_time")(r)
	return n / 1e9, ok
}

// pressure reads "some avg10=… total=<microseconds>" (cgroup v2 with PSI only).
func pressure(file, who string) func(*reading) (uint64, bool) {
	return func(r *reading) (uint64, bool) {
		data, err := r.cgroupFile("", file)
		if err != nil || !r.c.cgroups.V2() {
			return 0, false
		}
		for line := range strings.Lines(string(data)) {
			if _, total, ok := strings.Cut(line, " total="); ok && strings.HasPrefix(line, who) {
				n, err := strconv.ParseUint(strings.TrimSpace(total), 10, 64)
				return n / 1e6, err == nil
			}
		}
		return 0, false
	}
}

// diskIO adds up a figure of all disks: "8:0 rbytes=1 …" in v2's io.stat, "8:0 Read 1"
// in v1's files. A container that has used no disk has an empty file.
func diskIO(v2, v1, operation string) func(*reading) (uint64, bool) {
	return func(r *reading) (sum uint64, ok bool) {
		name := "blkio.throttle." + v1
		if r.c.cgroups.V2() {
			name = "io.stat"
		}
		data, err := r.cgroupFile("blkio", name)
		if err != nil {
			return 0, false
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) == 3 && fields[1] == operation {
				n, _ := strconv.ParseUint(fields[2], 10, 64)
				sum += n
			}
			for _, field := range fields {
				if value, found := strings.CutPrefix(field, v2+"="); found {
					n, _ := strconv.ParseUint(value, 10, 64)
					sum += n
				}
			}
		}
		return sum, true
	}
}

// hugePages adds up hugetlb.<size>.<name> of all sizes; the name of v2 or of v1.
func hugePages(v2, v1 string) func(*reading) (uint64, bool) {
	return func(r *reading) (sum uint64, found bool) {
		h, name := r.c.cgroups, v1
		dir := filepath.Join(h.Trees["hugetlb"], r.rec.Cgroup)
		if h.V2() {
			dir, name = filepath.Join(h.Unified, r.rec.Cgroup), v2
		}
		files, _ := filepath.Glob(filepath.Join(dir, "hugetlb.*B."+name))
		for _, file := range files {
			data, _ := os.ReadFile(file)
			n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
			sum, found = sum+n, found || err == nil
		}
		return sum, found
	}
}

func openFilesLimit(r *reading) (uint64, bool) {
	if len(r.pids) == 0 {
		return 0, false
	}
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.pids[0]), "limits"))
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			fields := strings.Fields(rest)
			n, err := strconv.ParseUint(fields[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func threadsMax(r *reading) (uint64, bool) {
	data, err := r.cgroupFile("pids", "pids.max")
	if err != nil {
		return 0, false
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64) // "max" is none
	return n, true
}

func fileSystem(part func(*unix.Statfs_t) uint64) func(*reading) (uint64, bool) {
	return func(r *reading) (uint64, bool) {
		var st unix.Statfs_t
		if err := unix.Statfs(r.k.dir, &st); err != nil {
			return 0, false
		}
		return part(&st), true
	}
}

// countIn counts the entries of a directory of each process; with a prefix, those that link to such.
func countIn(dir, prefix string) func(*reading) (uint64, bool) {
	return func(r *reading) (uint64, bool) {
		n := uint64(0)
		for _, pid := range r.pids {
			path := filepath.Join("/proc", strconv.Itoa(pid), dir)
			entries, _ := os.ReadDir(path) // the process may be gone
			for _, e := range entries {
				target, _ := os.Readlink(filepath.Join(path, e.Name()))
				if prefix == "" || strings.HasPrefix(target, prefix) {
					n++
				}
			}
		}
		return n, true
	}
}

// networkMetrics are those of a pod, by their column in /proc/net/dev.
var networkMetrics = []struct {
	name, help string
	column     int
}{
	{"container_network_receive_bytes_total", "Bytes received.", 0},
	{"container_network_receive_packets_total", "Packets received.", 1},
	{"container_network_receive_errors_total", "Errors while receiving.", 2},
	{"container_network_receive_packets_dropped_total", "Packets dropped while receiving.", 3},
	{"container_network_transmit_bytes_total", "Bytes sent.", 8},
	{"container_network_transmit_packets_total", "Packets sent.", 9},
	{"container_network_transmit_errors_total", "Errors while sending.", 10},
	{"container_network_transmit_packets_dropped_total", "Packets dropped while sending.", 11},
}

func podNetworkMetrics(id string, pid int) (metrics []*runtimeapi.Metric) {
	data, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net/dev"))
	for line := range strings.Lines(string(data)) {
		name, counters, ok := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(counters)
		if !ok || name == "lo" || len(fields) < 12 {
			continue
		}
		for _, m := range networkMetrics {
			n, _ := strconv.ParseUint(fields[m.column], 10, 64)
			metrics = append(metrics, &runtimeapi.Metric{Name: m.name, MetricType: runtimeapi.MetricType_COUNTER, LabelValues: []string{id, "", "", name}, Value: value(n)})
		}
	}
	return metrics
}

// CheckpointContainer is refused: it needs CRIU, which this runtime does not use.
func (c *CRI) CheckpointContainer(_ context.Context, req *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	if _, err := c.findContainer(req.ContainerId); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.Unimplemented, "checkpoints of containers are not supported by this runtime: use one with CRIU (containerd or CRI-O with runc)")
}
