package kuberuntime

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	kubecontainer "hyperkube/kubelet/container"
)

// containerToUpdateInfo is a running container whose limits are not those that its
// pod was allocated.
type containerToUpdateInfo struct {
	container *v1.Container
	id        kubecontainer.ContainerID
	desired   *runtimeapi.LinuxContainerResources
	actual    *runtimeapi.LinuxContainerResources
}

// resizeWay is how a container comes to its new limits.
type resizeWay int

const (
	resizeNothing resizeWay = iota
	resizeInPlace
	resizeByRestart
)

// computeContainerResize compares what the container was allocated with what the
// runtime says is in force, and looks up in resizePolicy whether the difference
// can be made while it runs (KEP-1287). A memory request is nothing that the
// kernel knows: its change alone needs no action, unless the policy wants a restart
// for whatever concerns memory. It is pure.
func computeContainerResize(pod *v1.Pod, container *v1.Container, status *kubecontainer.Status) (containerToUpdateInfo, resizeWay) {
	info := containerToUpdateInfo{container: container, id: status.ID, desired: containerResources(pod, container), actual: status.Resources}
	if info.actual == nil {
		return info, resizeNothing // a runtime that does not tell
	}
	way := resizeNothing
	changed := func(name v1.ResourceName) {
		way = max(way, resizeInPlace)
		for _, policy := range container.ResizePolicy {
			if policy.ResourceName == name && policy.RestartPolicy == v1.RestartContainer {
				way = resizeByRestart
			}
		}
	}
	if cpuDiffers(info.desired, info.actual) {
		changed(v1.ResourceCPU)
	}
	if memoryDiffers(info.desired, info.actual) {
		changed(v1.ResourceMemory)
	}
	if has, wants := status.MemoryRequest, container.Resources.Requests.Memory().Value(); way == resizeNothing && has != nil && *has != wants {
		if changed(v1.ResourceMemory); way == resizeInPlace {
			way = resizeNothing
		}
	}
	return info, way
}

// limit is 0 for none: it is 0 in what the kubelet asks for, and may be -1 once it was taken away.
func limit(n int64) int64 { return max(n, 0) }

func cpuDiffers(a, b *runtimeapi.LinuxContainerResources) bool {
	return a.CpuShares != b.CpuShares || limit(a.CpuQuota) != limit(b.CpuQuota)
}

func memoryDiffers(a, b *runtimeapi.LinuxContainerResources) bool {
	return limit(a.MemoryLimitInBytes) != limit(b.MemoryLimitInBytes)
}

// resizeInProgress tells whether a container of the pod still has other limits than it was allocated.
func resizeInProgress(pod *v1.Pod, podStatus *kubecontainer.PodStatus) bool {
	for _, status := range podStatus.RunningContainerStatuses() {
		if container := kubecontainer.GetContainerSpec(pod, status.Name); container != nil {
			if _, way := computeContainerResize(pod, container, status); way != resizeNothing {
				return true
			}
		}
	}
	return false
}

// ResizeInProgress is for the kubelet, which tells the pod's conditions.
func (m *kubeGenericRuntimeManager) ResizeInProgress(pod *v1.Pod, podStatus *kubecontainer.PodStatus) bool {
	return resizeInProgress(pod, podStatus)
}

// updateContainers gives running containers the limits they were allocated. One
// that cannot have its own does not keep the others from theirs.
func (m *kubeGenericRuntimeManager) updateContainers(ctx context.Context, pod *v1.Pod, actions podActions, result *kubecontainer.PodSyncResult) {
	for _, info := range actions.ContainersToUpdate {
		klog.FromContext(ctx).V(1).Info("SyncPod: resize container", "pod", klog.KObj(pod), "container", info.container.Name, "resources", info.desired)
		err := m.updateContainerResources(ctx, info)
		added := result.Add(kubecontainer.ResizePodInPlace, info.container.Name, nil, "")
		if err != nil {
			added.Error, added.Message = kubecontainer.ErrResizePodInPlace, fmt.Sprintf("container %s: %v", info.container.Name, err)
		}
	}
}

func (m *kubeGenericRuntimeManager) updateContainerResources(ctx context.Context, info containerToUpdateInfo) error {
	if err := m.validateMemoryResize(ctx, info); err != nil {
		return err
	}
	linux := proto.Clone(info.desired).(*runtimeapi.LinuxContainerResources)
	// Zero means "as it is" in an update; a limit that is taken away has to be said.
	if linux.CpuQuota == 0 && info.actual.CpuQuota > 0 {
		linux.CpuQuota = -1
	}
	if linux.MemoryLimitInBytes == 0 && info.actual.MemoryLimitInBytes > 0 {
		linux.MemoryLimitInBytes = -1
	}
	_, err := m.Runtime.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{ContainerId: info.id.ID, Linux: linux})
	return err
}

// validateMemoryResize refuses a memory limit below what the container holds: the
// kernel would kill it, and whoever asked for less memory did not ask for that. It
// is tried again with the next sync.
func (m *kubeGenericRuntimeManager) validateMemoryResize(ctx context.Context, info containerToUpdateInfo) error {
	wanted, now := limit(info.desired.MemoryLimitInBytes), limit(info.actual.MemoryLimitInBytes)
	if wanted == 0 || now != 0 && wanted >= now {
		return nil
	}
	response, err := m.Runtime.ContainerStats(ctx, &runtimeapi.ContainerStatsRequest{ContainerId: info.id.ID})
	if err != nil {
		return fmt.Errorf("asking what memory it uses: %w", err)
	}
	if used := response.GetStats().GetMemory().GetWorkingSetBytes().GetValue(); used > uint64(wanted) {
		return fmt.Errorf("attempting to set container memory limit (%d) below current usage (%d)", wanted, used)
	}
	return nil
}

// ResizeError is what kept a resize from being carried out; nil if nothing did.
func ResizeError(result kubecontainer.PodSyncResult) error {
	var errs []error
	for _, r := range result.SyncResults {
		if r.Action == kubecontainer.ResizePodInPlace && r.Error != nil {
			errs = append(errs, errors.New(r.Message))
		}
	}
	return errors.Join(errs...)
}

// StatusResources are what a container has, for its status: what it was allocated,
// but where the runtime says that something else is still in force.
func StatusResources(pod *v1.Pod, container *v1.Container, status *kubecontainer.Status) *v1.ResourceRequirements {
	result := container.Resources.DeepCopy()
	result.Claims = nil
	if status == nil || status.State != kubecontainer.StateRunning || status.Resources == nil {
		return result
	}
	desired, actual := containerResources(pod, container), status.Resources
	if desired.CpuShares != actual.CpuShares {
		milli := actual.CpuShares * milliCPUToCPU / sharesPerCPU
		setQuantity(&result.Requests, v1.ResourceCPU, resource.NewMilliQuantity(milli, resource.DecimalSI))
	}
	if limit(desired.CpuQuota) != limit(actual.CpuQuota) && actual.CpuPeriod > 0 {
		setQuantity(&result.Limits, v1.ResourceCPU, resource.NewMilliQuantity(limit(actual.CpuQuota)*milliCPUToCPU/actual.CpuPeriod, resource.DecimalSI))
	}
	if memoryDiffers(desired, actual) {
		setQuantity(&result.Limits, v1.ResourceMemory, resource.NewQuantity(limit(actual.MemoryLimitInBytes), resource.BinarySI))
	}
	return result
}

func setQuantity(list *v1.ResourceList, name v1.ResourceName, quantity *resource.Quantity) {
	if *list == nil {
		*list = v1.ResourceList{}
	}
	(*list)[name] = *quantity
	if quantity.IsZero() {
		delete(*list, name)
	}
}
