//go:build !linux

package kubelet

import (
	"runtime"
	"time"

	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// machineInfo is a made-up machine: elsewhere than on Linux only simulated pods run.
func machineInfo(string) machine {
	return machine{cpus: runtime.NumCPU(), memory: 8 << 30, disk: 100 << 30, id: "simulated", uuid: "simulated", boot: "simulated", kernel: runtime.GOOS, os: runtime.GOOS}
}

func nodeStats(name string, _ time.Time) statsapi.NodeStats {
	return statsapi.NodeStats{NodeName: name}
}
