package kubelet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"

	"hyperkube/kubelet/cm"
	"hyperkube/kubelet/eviction"
	"hyperkube/kubelet/images"
	"hyperkube/kubelet/kuberuntime"
	"hyperkube/kubelet/logs"
	"hyperkube/kubelet/nodeshutdown"
	"hyperkube/kubelet/stats"
)

// Room is what of the node is kept from pods, and what happens when it runs short.
type Room struct {
	// KubeReserved and SystemReserved are for the node's own: not allocatable.
	KubeReserved, SystemReserved v1.ResourceList
	// NoEnforcement leaves all pods together without a limit: what is reserved then only counts when pods are let in.
	NoEnforcement bool
	// Thresholds are what has to be left; default hard: eviction.DefaultHard.
	Thresholds eviction.Thresholds
	// PressureTransitionPeriod is how long a pressure outlasts its cause; default 5 min.
	PressureTransitionPeriod time.Duration
	// MaxPodGracePeriodSeconds is what pods get at most at a soft threshold; default 0: a second.
	MaxPodGracePeriodSeconds int64
	// Images says when unused images go; default: only under disk pressure.
	Images images.GCPolicy
	// ContainerLogMaxSize in bytes, default 10 MiB, and ContainerLogMaxFiles, default
	// 5, bound a container's logs.
	ContainerLogMaxSize  int64
	ContainerLogMaxFiles int

	parsed []eviction.Threshold
}

func (r *Room) validate() (err error) {
	setDefault(&r.PressureTransitionPeriod, 5*time.Minute)
	setDefault(&r.Images, images.GCPolicy{HighThresholdPercent: 100, LowThresholdPercent: 80, MinAge: 2 * time.Minute})
	setDefault(&r.ContainerLogMaxSize, 10<<20)
	setDefault(&r.ContainerLogMaxFiles, 5)
	if r.Thresholds.Hard == nil {
		r.Thresholds.Hard = eviction.DefaultHard()
	}
	switch {
	case r.Images.HighThresholdPercent < 0 || r.Images.HighThresholdPercent > 100 || r.Images.LowThresholdPercent < 0 || r.Images.LowThresholdPercent >= r.Images.HighThresholdPercent:
		return fmt.Errorf("--image-gc-high-threshold=%d, --image-gc-low-threshold=%d: must be percentages, the low one below the high one", r.Images.HighThresholdPercent, r.Images.LowThresholdPercent)
	case r.ContainerLogMaxFiles < 2:
		return fmt.Errorf("--container-log-max-files=%d: must be at least 2, the one in use and the one before", r.ContainerLogMaxFiles)
	case r.ContainerLogMaxSize < 0:
		return fmt.Errorf("--container-log-max-size=%d: must not be negative", r.ContainerLogMaxSize)
	}
	r.parsed, err = r.Thresholds.Parse()
	return err
}

// allocatable is what pods may ask for in all: capacity without what is reserved
// and without what hard thresholds want left. What is set aside for huge pages is no memory for anything else. It is pure.
func (r *Room) allocatable(capacity v1.ResourceList) v1.ResourceList {
	result := capacity.DeepCopy()
	hugePages := resource.Quantity{}
	for name, quantity := range capacity {
		if strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
			hugePages.Add(quantity)
		}
	}
	for _, reserved := range []v1.ResourceList{r.KubeReserved, r.SystemReserved, eviction.Reserved(r.parsed, capacity), {v1.ResourceMemory: hugePages}} {
		for name, quantity := range reserved {
			left, has := result[name]
			if !has {
				continue
			}
			if left.Sub(quantity); left.Sign() < 0 {
				left = *resource.NewQuantity(0, left.Format)
			}
			result[name] = left
		}
	}
	return result
}

// podsLimits are what all pods together may use: capacity without what is reserved. Hard thresholds are not taken off, since
// eviction has to come before the kernel's killer. It is pure.
func (r *Room) podsLimits(capacity v1.ResourceList) cm.Limits {
	if r.NoEnforcement {
		return cm.Limits{CPUShares: 1024, Memory: -1}
	}
	left := func(name v1.ResourceName) resource.Quantity {
		quantity := capacity[name].DeepCopy()
		for _, reserved := range []v1.ResourceList{r.KubeReserved, r.SystemReserved} {
			quantity.Sub(reserved[name])
		}
		return quantity
	}
	cpu, memory := left(v1.ResourceCPU), left(v1.ResourceMemory)
	limits := cm.Limits{CPUShares: uint64(kuberuntime.MilliCPUToShares(cpu.MilliValue())), Memory: memory.Value()}
	if limits.Memory <= 0 { // more is reserved than there is: no pod will be let in
		limits.Memory = -1
	}
	return limits
}

// Times of the keepers.
const (
	evictionPeriod  = 10 * time.Second
	logRotatePeriod = 10 * time.Second
	imageGCPeriod   = 5 * time.Minute
	// podCleanupTimeout is how long the next eviction waits for the one before.
	podCleanupTimeout = 30 * time.Second
	podCleanupPeriod  = 100 * time.Millisecond
)

// buildRoomKeepers makes what watches over the node's room.
func (kl *Kubelet) buildRoomKeepers() {
	kl.started, kl.meter = kl.Clock.Now(), stats.NewMeter(kl.Clock, diskSampleAge)
	kl.imageGC = images.NewImageGCManager(images.GCConfig{Policy: kl.Room.Images, Images: kl.runtime.Images, InUse: kl.imagesInUse,
		Disk: kl.imageDisk, Recorder: kl.recorder, Node: kl.nodeRef(), Clock: kl.Clock})
	kl.eviction = eviction.NewManager(eviction.Config{
		Thresholds: kl.Room.parsed, PressureTransitionPeriod: kl.Room.PressureTransitionPeriod, MaxPodGracePeriodSeconds: kl.Room.MaxPodGracePeriodSeconds,
		MonitoringInterval: evictionPeriod, Summary: kl.Summary, ActivePods: kl.activePods, Evict: kl.evictPod, Reclaim: kl.reclaimDisk,
		DedicatedImageFs: kl.dedicatedImageFs, Changed: kl.state.pokeStatus, Recorder: kl.recorder, Node: kl.nodeRef(), Clock: kl.Clock,
		Paths: func() eviction.Paths {
			return eviction.Paths{NodeFs: kl.RootDir, ImageFs: kl.imageFsPath(context.Background())}
		},
	})
	kl.shutdown = nodeshutdown.NewManager(nodeshutdown.Config{
		GracePeriods: kl.Shutdown, Connect: kl.Logind, ActivePods: kl.activePods, Changed: kl.state.pokeStatus, Recorder: kl.recorder, Node: kl.nodeRef(), Clock: kl.Clock,
		Kill: func(ctx context.Context, pod *v1.Pod, grace int64, status func(*v1.PodStatus)) {
			kl.killPodAndWait(ctx, pod, KillPodOptions{GracePeriodSeconds: &grace, PodStatusFunc: status})
		},
	})
}

// startRoomKeepers starts them. Simulated pods use nothing that could run short.
func (kl *Kubelet) startRoomKeepers(ctx context.Context, group *sync.WaitGroup) {
	group.Go(func() { kl.shutdown.Run(ctx) })
	if kl.ContainerRuntime == "simulated" {
		return
	}
	rotation := &logs.ContainerLogManager{RotationConfig: logs.RotationConfig{MaxSize: kl.Room.ContainerLogMaxSize, MaxFiles: kl.Room.ContainerLogMaxFiles,
		Period: logRotatePeriod, Running: kl.runningLogs, Reopen: kl.reopenLog, Clock: kl.Clock}}
	group.Go(func() { rotation.Run(ctx) })
	group.Go(func() { kl.eviction.Run(ctx) })
	group.Go(func() { kl.runImageGC(ctx) })
}

// runImageGC looks for images that may go, until ctx ends.
func (kl *Kubelet) runImageGC(ctx context.Context) {
	ticker := kl.Clock.NewTicker(imageGCPeriod)
	defer ticker.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		err := kl.imageGC.GarbageCollect(ctx)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Image garbage collection failed")
			if failed { // the first time may be a runtime that just starts
				kl.recorder.Event(kl.nodeRef(), v1.EventTypeWarning, "ImageGCFailed", err.Error())
			}
		}
		failed = err != nil
	}
}

// pressure is what the node's conditions say of shortage.
func (kl *Kubelet) pressure(kind v1.NodeConditionType) (string, bool) {
	if kl.eviction == nil {
		return "", false
	}
	return kl.eviction.Pressure(kind)
}

// evictPod ends a pod and waits until what it had of the node is free. Otherwise the
// next look would find the node as short as before, and another pod would have to go.
func (kl *Kubelet) evictPod(ctx context.Context, pod *v1.Pod, grace int64, status func(*v1.PodStatus)) {
	kl.killPodAndWait(ctx, pod, KillPodOptions{Evict: true, GracePeriodSeconds: &grace, PodStatusFunc: status})
}

// killPodAndWait ends a pod and returns when nothing of it is left, or half a minute after its grace.
func (kl *Kubelet) killPodAndWait(ctx context.Context, pod *v1.Pod, how KillPodOptions) {
	kl.workers.UpdatePod(UpdatePodOptions{UpdateType: SyncPodKill, Pod: pod, Kill: &how})
	ticker := kl.Clock.NewTicker(podCleanupPeriod)
	defer ticker.Stop()
	timeout := kl.Clock.After(podCleanupTimeout + time.Duration(*how.GracePeriodSeconds)*time.Second)
	for !kl.workers.state(pod.UID).finished {
		select {
		case <-ticker.C():
		case <-ctx.Done():
			return
		case <-timeout:
			return
		}
	}
}

// reclaimDisk frees what no pod needs: dead containers first, so that their images are unused too.
func (kl *Kubelet) reclaimDisk(ctx context.Context) error {
	none := func(types.UID) bool { return false }
	return errors.Join(kl.manager.GarbageCollect(ctx, kuberuntime.GCPolicy{Gone: none, AllDead: true, LogsRoot: kl.dirs.logs}), kl.imageGC.DeleteUnusedImages(ctx))
}

// imagesInUse are the images of all containers, dead ones too, by any of their names.
func (kl *Kubelet) imagesInUse(ctx context.Context) (map[string]bool, error) {
	response, err := kl.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, c := range response.Containers {
		used[c.ImageRef], used[c.ImageId], used[c.GetImage().GetImage()] = true, true, true
	}
	return used, nil
}

func (kl *Kubelet) imageDisk(ctx context.Context) (capacity, available int64, err error) {
	fs, err := stats.Filesystem(kl.imageFsPath(ctx), kl.Clock.Now())
	if err != nil {
		return 0, 0, err
	}
	return int64(deref(fs.CapacityBytes)), int64(deref(fs.AvailableBytes)), nil
}

// runningLogs are the log files that containers write to now.
func (kl *Kubelet) runningLogs(ctx context.Context) ([]logs.ContainerLog, error) {
	response, err := kl.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{State: &runtimeapi.ContainerStateValue{State: runtimeapi.ContainerState_CONTAINER_RUNNING}}})
	if err != nil {
		return nil, err
	}
	var list []logs.ContainerLog
	for _, c := range response.Containers {
		status, err := kl.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: c.Id})
		if err != nil || status.Status.LogPath == "" {
			continue // it ended meanwhile, or has no log
		}
		list = append(list, logs.ContainerLog{ID: c.Id, Path: status.Status.LogPath})
	}
	return list, nil
}

func (kl *Kubelet) reopenLog(ctx context.Context, id string) error {
	_, err := kl.runtime.ReopenContainerLog(ctx, &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	return err
}
