package cri

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"hyperkube/cri/cgroups"
)

// diskSampleAge is how long a measurement of a writable layer is good: it means
// looking at each of its files.
const diskSampleAge = 30 * time.Second

// sampleAge is how long any measurement is good: the kubelet asks for all containers, and at once again for all pods with theirs.
const sampleAge = time.Second

// usageSample is what was measured last: rates need two, and disks are slow.
type usageSample struct {
	last          *runtimeapi.ContainerStats // not changed any more; nil: nothing was measured
	lastAt        time.Time
	at            time.Time
	cpu           uint64 // nanoseconds
	nanoCores     uint64
	diskAt        time.Time
	bytes, inodes uint64
}

// rate turns two measurements of CPU time into cores in use, in billionths.
// Measurements of less than a second apart give the rate of before.
func (u *usageSample) rate(now time.Time, cpu uint64) uint64 {
	if span := now.Sub(u.at); !u.at.IsZero() && span >= time.Second && cpu >= u.cpu {
		u.nanoCores = uint64(float64(cpu-u.cpu) / span.Seconds())
		u.at, u.cpu = now, cpu
	} else if u.at.IsZero() {
		u.at, u.cpu = now, cpu
	}
	return u.nanoCores
}

func value(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

// stats are of one container, sampleAge old at most.
func (c *CRI) stats(k *container) *runtimeapi.ContainerStats {
	now := time.Now()
	k.mu.Lock()
	last, at := k.usage.last, k.usage.lastAt
	k.mu.Unlock()
	if last != nil && now.Sub(at) < sampleAge {
		return last
	}
	return c.measure(k, now)
}

func (c *CRI) measure(k *container, now time.Time) *runtimeapi.ContainerStats {
	rec, _ := k.snapshot()
	out := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{Id: k.id, Metadata: rec.Config.Metadata,
		Labels: rec.Config.Labels, Annotations: rec.Config.Annotations}}
	figures, err := c.cgroups.Measure(rec.Cgroup)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		out.Cpu = cpuUsage(now, figures, k.usage.rate(now, figures.CPUNanoseconds))
		out.Memory = memoryUsage(now, figures)
		out.Swap = &runtimeapi.SwapUsage{Timestamp: now.UnixNano(), SwapUsageBytes: value(figures.SwapUsage),
			SwapAvailableBytes: value(saturatingMinus(figures.SwapLimit, figures.SwapUsage))}
		out.Cpu.Psi, out.Memory.Psi, out.Io = c.pressure(rec.Cgroup, now)
	}
	bytes, inodes := c.written(k, now)
	out.WritableLayer = &runtimeapi.FilesystemUsage{Timestamp: k.usage.diskAt.UnixNano(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: c.podsDir()},
		UsedBytes: value(bytes), InodesUsed: value(inodes)}
	if err == nil {
		k.usage.last, k.usage.lastAt = out, now
	}
	return out
}

func cpuUsage(now time.Time, f cgroups.Figures, nanoCores uint64) *runtimeapi.CpuUsage {
	return &runtimeapi.CpuUsage{Timestamp: now.UnixNano(), UsageCoreNanoSeconds: value(f.CPUNanoseconds), UsageNanoCores: value(nanoCores)}
}

func memoryUsage(now time.Time, f cgroups.Figures) *runtimeapi.MemoryUsage {
	m := &runtimeapi.MemoryUsage{Timestamp: now.UnixNano(), WorkingSetBytes: value(f.WorkingSet), UsageBytes: value(f.MemoryUsage),
		RssBytes: value(f.RSS), PageFaults: value(f.PageFaults), MajorPageFaults: value(f.MajorPageFaults)}
	if f.MemoryLimit > 0 {
		m.AvailableBytes = value(saturatingMinus(f.MemoryLimit, f.WorkingSet))
	}
	return m
}

// pressure is how long a group waited for the CPU, for memory, and for disks (KEP-4205); nil each where the kernel does not tell.
func (c *CRI) pressure(group string, now time.Time) (cpu, memory *runtimeapi.PsiStats, io *runtimeapi.IoUsage) {
	if disks := psi(c.cgroups.Pressure(group, "io")); disks != nil {
		io = &runtimeapi.IoUsage{Timestamp: now.UnixNano(), Psi: disks}
	}
	return psi(c.cgroups.Pressure(group, "cpu")), psi(c.cgroups.Pressure(group, "memory")), io
}

// psi is a pressure as CRI has it. CRI's comment has the totals in nanoseconds; all runtimes and cAdvisor pass the kernel's
// microseconds on, and who reads them goes by that.
func psi(p *cgroups.Pressure) *runtimeapi.PsiStats {
	if p == nil {
		return nil
	}
	data := func(s cgroups.Stall) *runtimeapi.PsiData {
		return &runtimeapi.PsiData{Total: s.Total, Avg10: s.Avg10, Avg60: s.Avg60, Avg300: s.Avg300}
	}
	return &runtimeapi.PsiStats{Some: data(p.Some), Full: data(p.Full)}
}

func saturatingMinus(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

// ContainerStats measures a container.
func (c *CRI) ContainerStats(_ context.Context, req *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	k, err := c.findContainer(req.ContainerId)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: c.stats(k)}, nil
}

// ListContainerStats measures the running containers.
func (c *CRI) ListContainerStats(_ context.Context, req *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	resp := &runtimeapi.ListContainerStatsResponse{}
	f := req.GetFilter()
	for _, k := range c.sortedContainers(nil) {
		rec, st := k.snapshot()
		if stateOf(&st) == runtimeapi.ContainerState_CONTAINER_RUNNING && idMatches(f.GetId(), k.id) &&
			idMatches(f.GetPodSandboxId(), k.sb.id) && labelsMatch(f.GetLabelSelector(), rec.Config.Labels) {
			resp.Stats = append(resp.Stats, c.stats(k))
		}
	}
	return resp, nil
}

// podStats measures a pod: its cgroup, its interface, its containers.
func (c *CRI) podStats(s *sandbox) *runtimeapi.PodSandboxStats {
	rec := s.record()
	now := time.Now()
	linux := &runtimeapi.LinuxPodSandboxStats{}
	if figures, err := c.cgroups.Measure(rec.Cgroup); err == nil {
		s.mu.Lock()
		linux.Cpu = cpuUsage(now, figures, s.usage.rate(now, figures.CPUNanoseconds))
		s.mu.Unlock()
		linux.Memory = memoryUsage(now, figures)
		linux.Process = &runtimeapi.ProcessUsage{Timestamp: now.UnixNano(), ProcessCount: value(figures.Processes)}
		linux.Cpu.Psi, linux.Memory.Psi, linux.Io = c.pressure(rec.Cgroup, now)
	}
	if !hostNetwork(rec.Config) {
		linux.Network = networkUsage(rec.ParentPid, now)
	}
	for _, k := range c.sortedContainers(s) {
		if k.state() == runtimeapi.ContainerState_CONTAINER_RUNNING {
			linux.Containers = append(linux.Containers, c.stats(k))
		}
	}
	return &runtimeapi.PodSandboxStats{Attributes: &runtimeapi.PodSandboxAttributes{Id: s.id, Metadata: rec.Config.Metadata,
		Labels: rec.Config.Labels, Annotations: rec.Config.Annotations}, Linux: linux}
}

// networkUsage reads the counters of the interfaces that the pod's parent sees.
func networkUsage(pid int, now time.Time) *runtimeapi.NetworkUsage {
	f, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "net/dev"))
	if err != nil {
		return nil
	}
	defer f.Close()
	usage := &runtimeapi.NetworkUsage{Timestamp: now.UnixNano()}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, counters, ok := strings.Cut(strings.TrimSpace(lines.Text()), ":")
		fields := strings.Fields(counters)
		if !ok || name == "lo" || len(fields) < 11 {
			continue
		}
		number := func(i int) *runtimeapi.UInt64Value {
			n, _ := strconv.ParseUint(fields[i], 10, 64)
			return value(n)
		}
		one := &runtimeapi.NetworkInterfaceUsage{Name: name, RxBytes: number(0), RxErrors: number(2), TxBytes: number(8), TxErrors: number(10)}
		if name == "eth0" {
			usage.DefaultInterface = one
		} else {
			usage.Interfaces = append(usage.Interfaces, one)
		}
	}
	return usage
}

// PodSandboxStats measures a pod.
func (c *CRI) PodSandboxStats(_ context.Context, req *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	s, err := c.findSandbox(req.PodSandboxId)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: c.podStats(s)}, nil
}

// ListPodSandboxStats measures the pods that are ready.
func (c *CRI) ListPodSandboxStats(_ context.Context, req *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	resp := &runtimeapi.ListPodSandboxStatsResponse{}
	f := req.GetFilter()
	for _, s := range c.allSandboxes() {
		if rec := s.record(); rec.Phase == ready && idMatches(f.GetId(), s.id) && labelsMatch(f.GetLabelSelector(), rec.Config.Labels) {
			resp.Stats = append(resp.Stats, c.podStats(s))
		}
	}
	return resp, nil
}
