package kubelet

import (
	v1 "k8s.io/api/core/v1"

	apipod "hyperkube/api/core/pod"
	"hyperkube/kubelet/envvars"
)

// GetPodCgroupParent is the pod's cgroup, below which the runtime makes those of
// its containers.
func (kl *Kubelet) GetPodCgroupParent(pod *v1.Pod) string { return kl.cgroups.Parent(pod) }

func (kl *Kubelet) cgroupRoot() string {
	if kl.ContainerRuntime == "simulated" {
		return ""
	}
	return kl.CgroupRoot
}

// How gladly the kernel ends a process when memory runs out: -1000 never, 1000 first.
const (
	guaranteedOOMScoreAdj = -997
	bestEffortOOMScoreAdj = 1000
)

// GetOOMScoreAdjust ranks a container: one that asked for much of the memory, and
// so may use much, goes later than one that asked for little.
func (kl *Kubelet) GetOOMScoreAdjust(pod *v1.Pod, container *v1.Container) int64 {
	capacity := machineInfo(kl.RootDir).memory
	return oomScoreAdjust(pod, container, capacity)
}

func oomScoreAdjust(pod *v1.Pod, container *v1.Container, capacity int64) int64 {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= 2000001000 { // system-node-critical
		return guaranteedOOMScoreAdj
	}
	switch apipod.GetPodQOS(pod) {
	case v1.PodQOSGuaranteed:
		return guaranteedOOMScoreAdj
	case v1.PodQOSBestEffort:
		return bestEffortOOMScoreAdj
	}
	adjust := 1000 - 1000*container.Resources.Requests.Memory().Value()/max(capacity, 1)
	if adjust < 1000+guaranteedOOMScoreAdj {
		return 1000 + guaranteedOOMScoreAdj
	}
	if adjust == bestEffortOOMScoreAdj {
		return adjust - 1
	}
	return adjust
}

// NodeInfo is the node for the downward API.
func (kl *Kubelet) NodeInfo() envvars.Node {
	kl.state.mu.Lock()
	defer kl.state.mu.Unlock()
	return envvars.Node{Name: kl.NodeName, HostIPs: kl.state.ips, Allocatable: kl.state.allocatable}
}
