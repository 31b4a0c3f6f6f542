package kuberuntime

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	kubecontainer "hyperkube/kubelet/container"
)

func amounts(cpu, memory string) v1.ResourceList {
	list := v1.ResourceList{}
	if cpu != "" {
		list[v1.ResourceCPU] = resource.MustParse(cpu)
	}
	if memory != "" {
		list[v1.ResourceMemory] = resource.MustParse(memory)
	}
	return list
}

// A running container is resized in place unless its policy for what changed says
// RestartContainer (KEP-1287); its status says what is in force until then.
func TestComputeContainerResize(t *testing.T) {
	restart := func(name v1.ResourceName) []v1.ContainerResizePolicy {
		return []v1.ContainerResizePolicy{{ResourceName: name, RestartPolicy: v1.RestartContainer}}
	}
	actual := &runtimeapi.LinuxContainerResources{CpuShares: 512, CpuQuota: 100000, CpuPeriod: 100000, MemoryLimitInBytes: 64 << 20}
	cases := []struct {
		name             string
		requests, limits v1.ResourceList
		whole            *v1.ResourceRequirements
		policy           []v1.ContainerResizePolicy
		actual           *runtimeapi.LinuxContainerResources
		want             resizeWay
		status           string // requests.cpu, limits.cpu, limits.memory
	}{
		{"as it is", amounts("500m", "32Mi"), amounts("1", "64Mi"), nil, nil, actual, resizeNothing, "500m 1 64Mi"},
		{"a memory request is the scheduler's business", amounts("500m", "48Mi"), amounts("1", "64Mi"), nil, nil, actual, resizeNothing, "500m 1 64Mi"},
		{"a memory request, which needs a restart", amounts("500m", "48Mi"), amounts("1", "64Mi"), nil, restart(v1.ResourceMemory), actual, resizeByRestart, "500m 1 64Mi"},
		{"the request that it has", amounts("500m", "32Mi"), amounts("1", "64Mi"), nil, restart(v1.ResourceMemory), actual, resizeNothing, "500m 1 64Mi"},
		{"a greater weight", amounts("750m", "32Mi"), amounts("1", "64Mi"), nil, nil, actual, resizeInPlace, "500m 1 64Mi"},
		{"a greater quota", amounts("500m", "32Mi"), amounts("2", "64Mi"), nil, nil, actual, resizeInPlace, "500m 1 64Mi"},
		{"more memory", amounts("500m", "32Mi"), amounts("1", "128Mi"), nil, restart(v1.ResourceCPU), actual, resizeInPlace, "500m 1 64Mi"},
		{"more memory, which needs a restart", amounts("500m", "32Mi"), amounts("1", "128Mi"), nil, restart(v1.ResourceMemory), actual, resizeByRestart, "500m 1 64Mi"},
		{"both, one of which needs a restart", amounts("750m", "32Mi"), amounts("1", "128Mi"), nil, restart(v1.ResourceCPU), actual, resizeByRestart, "500m 1 64Mi"},
		{"a limit taken away", amounts("500m", "32Mi"), amounts("", "64Mi"), nil, nil, actual, resizeInPlace, "500m 1 64Mi"},
		{"no limit, and -1 in force", amounts("500m", ""), nil, nil, nil, &runtimeapi.LinuxContainerResources{CpuShares: 512, CpuPeriod: 100000, CpuQuota: -1, MemoryLimitInBytes: -1}, resizeNothing, "500m 0 0"},
		{"the pod's limit is its own", amounts("500m", ""), nil, &v1.ResourceRequirements{Limits: amounts("1", "64Mi")}, nil, actual, resizeNothing, "500m 0 0"},
		{"a runtime that does not tell", amounts("750m", "32Mi"), amounts("1", "64Mi"), nil, nil, nil, resizeNothing, "750m 1 64Mi"},
	}
	for _, c := range cases {
		container := &v1.Container{Name: "c", Resources: v1.ResourceRequirements{Requests: c.requests, Limits: c.limits}, ResizePolicy: c.policy}
		pod := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{*container}, Resources: c.whole}}
		status := &kubecontainer.Status{Name: "c", State: kubecontainer.StateRunning, Resources: c.actual, Hash: kubecontainer.HashContainer(container), MemoryRequest: ptr.To[int64](32 << 20)}
		if _, got := computeContainerResize(pod, container, status); got != c.want {
			t.Errorf("%s: way %d, want %d", c.name, got, c.want)
		}
		shown := StatusResources(pod, container, status)
		if got := shown.Requests.Cpu().String() + " " + shown.Limits.Cpu().String() + " " + shown.Limits.Memory().String(); got != c.status {
			t.Errorf("%s: status %q, want %q", c.name, got, c.status)
		}
		var actions podActions
		actions.ContainersToKill = map[kubecontainer.ContainerID]containerToKillInfo{}
		computeContainerActions(pod, &kubecontainer.PodStatus{ContainerStatuses: []*kubecontainer.Status{status}}, noProbes{}, &actions)
		if killed, updated := len(actions.ContainersToKill) == 1 && len(actions.ContainersToStart) == 1, len(actions.ContainersToUpdate) == 1; killed != (c.want == resizeByRestart) || updated != (c.want == resizeInPlace) {
			t.Errorf("%s: actions %s", c.name, actions)
		}
	}
}

// noProbes are those of a pod without any.
type noProbes struct{}

func (noProbes) LivenessFailed(kubecontainer.ContainerID) bool   { return false }
func (noProbes) StartupFailed(kubecontainer.ContainerID) bool    { return false }
func (noProbes) StartupSucceeded(kubecontainer.ContainerID) bool { return true }
