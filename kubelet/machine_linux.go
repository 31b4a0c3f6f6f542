package kubelet

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"hyperkube/kubelet/cm"
)

// machineInfo asks the kernel.
func machineInfo(root string) machine {
	m := machine{cpus: runtime.NumCPU(), id: readTrimmed("/etc/machine-id"), uuid: readTrimmed("/sys/class/dmi/id/product_uuid"),
		boot: readTrimmed("/proc/sys/kernel/random/boot_id"), kernel: readTrimmed("/proc/sys/kernel/osrelease"), os: "Linux",
		hugePages: cm.HugePages(cm.SysHugePages)}
	if m.uuid == "" {
		m.uuid = m.id
	}
	if file, err := os.Open("/proc/meminfo"); err == nil {
		defer file.Close()
		scanner := bufio.NewScanner(file)
		for scanner.Scan() {
			if fields := strings.Fields(scanner.Text()); len(fields) >= 2 && fields[0] == "MemTotal:" {
				kib, _ := strconv.ParseInt(fields[1], 10, 64)
				m.memory = kib * 1024
			}
		}
	}
	var stat unix.Statfs_t
	if unix.Statfs(root, &stat) == nil {
		m.disk = int64(stat.Blocks) * stat.Bsize
	}
	for _, line := range strings.Split(readTrimmed("/etc/os-release"), "\n") {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.os = strings.Trim(name, `"`)
		}
	}
	return m
}

// nodeStats are the node's own figures since boot.
func nodeStats(name string, now time.Time) statsapi.NodeStats {
	stats := statsapi.NodeStats{NodeName: name}
	at := metav1.NewTime(now)
	if fields := strings.Fields(strings.SplitN(readTrimmed("/proc/stat"), "\n", 2)[0]); len(fields) > 8 {
		var ticks uint64
		for i, field := range fields[1:9] {
			if i == 3 || i == 4 { // idle, waiting for a disk
				continue
			}
			n, _ := strconv.ParseUint(field, 10, 64)
			ticks += n
		}
		nanos := ticks * uint64(time.Second) / 100
		stats.CPU = &statsapi.CPUStats{Time: at, UsageCoreNanoSeconds: &nanos}
	}
	values := map[string]uint64{}
	for _, line := range strings.Split(readTrimmed("/proc/meminfo"), "\n") {
		if fields := strings.Fields(line); len(fields) >= 2 {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			values[fields[0]] = kib * 1024
		}
	}
	available := values["MemAvailable:"]
	used := values["MemTotal:"] - available
	stats.Memory = &statsapi.MemoryStats{Time: at, AvailableBytes: &available, WorkingSetBytes: &used, UsageBytes: &used}
	return stats
}
