package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	kubelettypes "k8s.io/kubelet/pkg/types"

	"hyperkube/kubelet/stats"
)

// diskSampleAge is how long the measurement of a volume or log is good.
const diskSampleAge = 15 * time.Second

// nodeRate turns the node's CPU time into cores in use: that needs two looks.
type nodeRate struct {
	mu    sync.Mutex
	at    time.Time
	nanos uint64
	cores uint64
}

func (r *nodeRate) of(nanos uint64, now time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	span := now.Sub(r.at)
	if !r.at.IsZero() && span >= time.Second && nanos >= r.nanos {
		r.cores = uint64(float64(nanos-r.nanos) / span.Seconds())
	}
	if r.at.IsZero() || span >= time.Second {
		r.at, r.nanos = now, nanos
	}
	return r.cores
}

// Summary is what `kubectl top`, the metrics server and eviction go by: the
// runtime's figures of pods and containers, and the kernel's of the node's disks.
func (kl *Kubelet) Summary(ctx context.Context) (*statsapi.Summary, error) {
	containers, err := kl.runtime.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	if err != nil {
		return nil, fmt.Errorf("asking the runtime for statistics: %w", err)
	}
	node := kl.nodeSummary(ctx)
	pods := map[string]*statsapi.PodStats{}
	for _, s := range containers.Stats {
		labels := s.GetAttributes().GetLabels()
		uid := labels[kubelettypes.KubernetesPodUIDLabel]
		if uid == "" {
			continue
		}
		if pods[uid] == nil {
			pods[uid] = &statsapi.PodStats{PodRef: statsapi.PodReference{Name: labels[kubelettypes.KubernetesPodNameLabel], Namespace: labels[kubelettypes.KubernetesPodNamespaceLabel], UID: uid}}
		}
		pods[uid].Containers = append(pods[uid].Containers, containerStats(s, labels[kubelettypes.KubernetesContainerNameLabel]))
	}
	for _, pod := range pods {
		sumPod(pod)
	}
	// A runtime that does not measure whole pods leaves it at the sums.
	if sandboxes, err := kl.runtime.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{}); err == nil {
		for _, s := range sandboxes.Stats {
			if pod := pods[s.GetAttributes().GetLabels()[kubelettypes.KubernetesPodUIDLabel]]; pod != nil && s.Linux != nil {
				addSandbox(pod, s.Linux)
			}
		}
	}
	summary := &statsapi.Summary{Node: node, Pods: []statsapi.PodStats{}}
	for _, pod := range pods {
		kl.addDisk(pod, node.Fs)
		summary.Pods = append(summary.Pods, *pod)
	}
	sort.Slice(summary.Pods, func(i, j int) bool { return summary.Pods[i].PodRef.UID < summary.Pods[j].PodRef.UID })
	return summary, nil
}

// nodeSummary measures the node. A disk that cannot be measured is left out: what is
// not known must not look like a shortage.
func (kl *Kubelet) nodeSummary(ctx context.Context) statsapi.NodeStats {
	now := kl.Clock.Now()
	node := nodeStats(kl.NodeName, now)
	node.StartTime = metav1.NewTime(kl.started)
	if node.CPU != nil && node.CPU.UsageCoreNanoSeconds != nil {
		cores := kl.rate.of(*node.CPU.UsageCoreNanoSeconds, now)
		node.CPU.UsageNanoCores = &cores
	}
	if node.CPU != nil {
		node.CPU.PSI = stats.Pressure(stats.ProcPressure, "cpu")
	}
	if node.Memory != nil {
		node.Memory.PSI = stats.Pressure(stats.ProcPressure, "memory")
	}
	if disks := stats.Pressure(stats.ProcPressure, "io"); disks != nil {
		node.IO = &statsapi.IOStats{Time: metav1.NewTime(now), PSI: disks}
	}
	node.Rlimit, node.Network = stats.Rlimit(now), stats.Network("eth0", now)
	if fs, err := stats.Filesystem(kl.RootDir, now); err == nil {
		node.Fs = fs
	}
	response, err := kl.runtime.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil {
		return node
	}
	node.Runtime = &statsapi.RuntimeStats{ImageFs: runtimeFs(response.ImageFilesystems, now), ContainerFs: runtimeFs(response.ContainerFilesystems, now)}
	return node
}

// runtimeFs is a file system of the runtime's: its size from the kernel, its use from the runtime.
func runtimeFs(list []*runtimeapi.FilesystemUsage, now time.Time) *statsapi.FsStats {
	if len(list) == 0 {
		return nil
	}
	fs, err := stats.Filesystem(list[0].GetFsId().GetMountpoint(), now)
	if err != nil {
		return nil
	}
	fs.UsedBytes, fs.InodesUsed = value(list[0].UsedBytes), value(list[0].InodesUsed)
	return fs
}

// imageFsPath is where the runtime keeps images; empty if it does not tell.
func (kl *Kubelet) imageFsPath(ctx context.Context) string {
	response, err := kl.runtime.Images.ImageFsInfo(ctx, &runtimeapi.ImageFsInfoRequest{})
	if err != nil || len(response.ImageFilesystems) == 0 {
		return ""
	}
	return response.ImageFilesystems[0].GetFsId().GetMountpoint()
}

func containerStats(s *runtimeapi.ContainerStats, name string) statsapi.ContainerStats {
	result := statsapi.ContainerStats{Name: name}
	if cpu := s.Cpu; cpu != nil {
		result.CPU = cpuStats(cpu)
	}
	if memory := s.Memory; memory != nil {
		result.Memory = memoryStats(memory)
	}
	if swap := s.Swap; swap != nil {
		result.Swap = &statsapi.SwapStats{Time: metav1.NewTime(time.Unix(0, swap.Timestamp)), SwapAvailableBytes: value(swap.SwapAvailableBytes), SwapUsageBytes: value(swap.SwapUsageBytes)}
	}
	result.IO = ioStats(s.Io)
	if fs := s.WritableLayer; fs != nil {
		result.Rootfs = &statsapi.FsStats{Time: metav1.NewTime(time.Unix(0, fs.Timestamp)), UsedBytes: value(fs.UsedBytes), InodesUsed: value(fs.InodesUsed)}
	}
	return result
}

func cpuStats(cpu *runtimeapi.CpuUsage) *statsapi.CPUStats {
	return &statsapi.CPUStats{Time: metav1.NewTime(time.Unix(0, cpu.Timestamp)), UsageCoreNanoSeconds: value(cpu.UsageCoreNanoSeconds), UsageNanoCores: value(cpu.UsageNanoCores), PSI: psiStats(cpu.Psi)}
}

func memoryStats(memory *runtimeapi.MemoryUsage) *statsapi.MemoryStats {
	return &statsapi.MemoryStats{Time: metav1.NewTime(time.Unix(0, memory.Timestamp)), WorkingSetBytes: value(memory.WorkingSetBytes),
		UsageBytes: value(memory.UsageBytes), RSSBytes: value(memory.RssBytes), AvailableBytes: value(memory.AvailableBytes),
		PageFaults: value(memory.PageFaults), MajorPageFaults: value(memory.MajorPageFaults), PSI: psiStats(memory.Psi)}
}

// ioStats is how long disks were waited for; nil if the runtime does not tell.
func ioStats(io *runtimeapi.IoUsage) *statsapi.IOStats {
	if io == nil {
		return nil
	}
	return &statsapi.IOStats{Time: metav1.NewTime(time.Unix(0, io.Timestamp)), PSI: psiStats(io.Psi)}
}

func psiStats(psi *runtimeapi.PsiStats) *statsapi.PSIStats {
	if psi == nil {
		return nil
	}
	data := func(d *runtimeapi.PsiData) statsapi.PSIData {
		return statsapi.PSIData{Total: d.GetTotal(), Avg10: d.GetAvg10(), Avg60: d.GetAvg60(), Avg300: d.GetAvg300()}
	}
	return &statsapi.PSIStats{Some: data(psi.Some), Full: data(psi.Full)}
}

func value(v *runtimeapi.UInt64Value) *uint64 {
	if v == nil {
		return nil
	}
	return &v.Value
}

// sumPod adds up a pod's containers.
func sumPod(pod *statsapi.PodStats) {
	sort.Slice(pod.Containers, func(i, j int) bool { return pod.Containers[i].Name < pod.Containers[j].Name })
	var cores, nanos, workingSet uint64
	at := metav1.Time{}
	for _, c := range pod.Containers {
		if c.CPU != nil {
			cores, nanos, at = cores+deref(c.CPU.UsageNanoCores), nanos+deref(c.CPU.UsageCoreNanoSeconds), c.CPU.Time
		}
		if c.Memory != nil {
			workingSet += deref(c.Memory.WorkingSetBytes)
		}
	}
	pod.CPU = &statsapi.CPUStats{Time: at, UsageNanoCores: &cores, UsageCoreNanoSeconds: &nanos}
	pod.Memory = &statsapi.MemoryStats{Time: at, WorkingSetBytes: &workingSet}
}

// addSandbox takes what the runtime measured of the pod as a whole.
func addSandbox(pod *statsapi.PodStats, linux *runtimeapi.LinuxPodSandboxStats) {
	if linux.Cpu != nil {
		pod.CPU = cpuStats(linux.Cpu)
	}
	if linux.Memory != nil {
		pod.Memory = memoryStats(linux.Memory)
	}
	pod.IO = ioStats(linux.Io)
	if linux.Process != nil {
		pod.ProcessStats = &statsapi.ProcessStats{ProcessCount: value(linux.Process.ProcessCount)}
	}
	if n := linux.Network; n != nil && n.DefaultInterface != nil {
		pod.Network = &statsapi.NetworkStats{Time: metav1.NewTime(time.Unix(0, n.Timestamp)), InterfaceStats: interfaceStats(n.DefaultInterface)}
		for _, i := range append([]*runtimeapi.NetworkInterfaceUsage{n.DefaultInterface}, n.Interfaces...) {
			pod.Network.Interfaces = append(pod.Network.Interfaces, interfaceStats(i))
		}
	}
}

func interfaceStats(i *runtimeapi.NetworkInterfaceUsage) statsapi.InterfaceStats {
	return statsapi.InterfaceStats{Name: i.Name, RxBytes: value(i.RxBytes), RxErrors: value(i.RxErrors), TxBytes: value(i.TxBytes), TxErrors: value(i.TxErrors)}
}

// addDisk adds what a pod's logs, volumes and writable layers take, and when it and
// its containers began.
func (kl *Kubelet) addDisk(pod *statsapi.PodStats, nodeFs *statsapi.FsStats) {
	uid := types.UID(pod.PodRef.UID)
	if s, known := kl.status.GetPodStatus(uid); known {
		if s.StartTime != nil {
			pod.StartTime = *s.StartTime
		}
		setStartTimes(pod, containerStatuses(&s))
	}
	var bytes, inodes uint64
	logs := filepath.Join(kl.dirs.logs, fmt.Sprintf("%s_%s_%s", pod.PodRef.Namespace, pod.PodRef.Name, pod.PodRef.UID))
	for i := range pod.Containers {
		c := &pod.Containers[i]
		used := kl.meter.Usage(filepath.Join(logs, c.Name))
		c.Logs = fsOf(nodeFs, used)
		bytes, inodes = bytes+used.Bytes, inodes+used.Inodes
		if c.Rootfs != nil {
			bytes, inodes = bytes+deref(c.Rootfs.UsedBytes), inodes+deref(c.Rootfs.InodesUsed)
			if nodeFs != nil {
				c.Rootfs.AvailableBytes, c.Rootfs.CapacityBytes, c.Rootfs.InodesFree, c.Rootfs.Inodes = nodeFs.AvailableBytes, nodeFs.CapacityBytes, nodeFs.InodesFree, nodeFs.Inodes
			}
		}
	}
	for name, mounted := range kl.volumes.Mounted(uid) {
		source := mounted.Spec.Volume
		if source.HostPath != nil || source.PersistentVolumeClaim != nil || mounted.Device {
			continue // not the pod's: it may be anything of the node
		}
		used := kl.meter.Usage(mounted.Path)
		pod.VolumeStats = append(pod.VolumeStats, statsapi.VolumeStats{Name: name, FsStats: *fsOf(nodeFs, used)})
		if source.EmptyDir == nil || source.EmptyDir.Medium == v1.StorageMediumDefault {
			bytes, inodes = bytes+used.Bytes, inodes+used.Inodes
		}
	}
	sort.Slice(pod.VolumeStats, func(i, j int) bool { return pod.VolumeStats[i].Name < pod.VolumeStats[j].Name })
	pod.EphemeralStorage = fsOf(nodeFs, stats.Usage{Bytes: bytes, Inodes: inodes, At: kl.Clock.Now()})
}

// fsOf is a use of the node's file system.
func fsOf(nodeFs *statsapi.FsStats, used stats.Usage) *statsapi.FsStats {
	fs := &statsapi.FsStats{Time: metav1.NewTime(used.At), UsedBytes: &used.Bytes, InodesUsed: &used.Inodes}
	if nodeFs != nil {
		fs.AvailableBytes, fs.CapacityBytes, fs.InodesFree, fs.Inodes = nodeFs.AvailableBytes, nodeFs.CapacityBytes, nodeFs.InodesFree, nodeFs.Inodes
	}
	return fs
}

func setStartTimes(pod *statsapi.PodStats, statuses []v1.ContainerStatus) {
	for i := range pod.Containers {
		for _, s := range statuses {
			if s.Name == pod.Containers[i].Name && s.State.Running != nil {
				pod.Containers[i].StartTime = s.State.Running.StartedAt
			}
		}
	}
}

func deref(v *uint64) uint64 {
	if v == nil {
		return 0
	}
	return *v
}

// dedicatedImageFs tells whether images have a disk of their own.
func (kl *Kubelet) dedicatedImageFs(ctx context.Context) bool {
	path := kl.imageFsPath(ctx)
	if _, err := os.Stat(path); path == "" || err != nil {
		return false
	}
	return !stats.SameFilesystem(kl.RootDir, path)
}
