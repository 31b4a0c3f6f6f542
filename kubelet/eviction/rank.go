package eviction

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// usage is what a pod uses of what is short, and what it asked for.
type usage struct{ used, requested int64 }

// usageOf measures a pod. What is not known counts as nothing used. It is pure.
func usageOf(pod *v1.Pod, stats *statsapi.PodStats, t Threshold, dedicatedImageFs bool) usage {
	name := signals[t.Signal].resource
	requests := resource.PodRequests(pod, resource.PodResourcesOptions{})
	quantity := requests[name]
	u := usage{requested: quantity.Value()}
	if stats == nil {
		return u
	}
	switch name {
	case v1.ResourceMemory:
		if stats.Memory != nil {
			u.used = number(stats.Memory.WorkingSetBytes)
		}
	case resourcePids:
		if stats.ProcessStats != nil {
			u.used = number(stats.ProcessStats.ProcessCount)
		}
	default:
		u.used = diskUsage(pod, stats, t, dedicatedImageFs)
	}
	return u
}

// diskUsage is bytes or inodes on the disk that is short: where images have a disk
// of their own, writable layers lie there, and volumes and logs do not.
func diskUsage(pod *v1.Pod, stats *statsapi.PodStats, t Threshold, dedicatedImageFs bool) (sum int64) {
	onImageFs := t.Signal == SignalImageFsAvailable || t.Signal == SignalImageFsInodesFree
	add := func(fs *statsapi.FsStats) {
		switch {
		case fs == nil:
		case signals[t.Signal].resource == resourceInodes:
			sum += number(fs.InodesUsed)
		default:
			sum += number(fs.UsedBytes)
		}
	}
	for i := range stats.Containers {
		if !dedicatedImageFs || onImageFs {
			add(stats.Containers[i].Rootfs)
		}
		if !dedicatedImageFs || !onImageFs {
			add(stats.Containers[i].Logs)
		}
	}
	if dedicatedImageFs && onImageFs {
		return sum
	}
	for i := range stats.VolumeStats {
		if isLocal(pod, stats.VolumeStats[i].Name) {
			add(&stats.VolumeStats[i].FsStats)
		}
	}
	return sum
}

// isLocal tells volumes that take the node's disk and go with the pod.
func isLocal(pod *v1.Pod, name string) bool {
	for _, v := range pod.Spec.Volumes {
		if v.Name == name {
			memory := v.EmptyDir != nil && v.EmptyDir.Medium != v1.StorageMediumDefault
			return v.EmptyDir != nil && !memory || v.ConfigMap != nil || v.GitRepo != nil
		}
	}
	return false
}

func number(n *uint64) int64 {
	if n == nil {
		return 0
	}
	return int64(*n)
}

// rank sorts pods so that the first is the first to go. It is pure but for the order of its argument.
func rank(pods []*v1.Pod, name v1.ResourceName, of func(*v1.Pod) usage) {
	asked := name == v1.ResourceMemory || name == v1.ResourceEphemeralStorage
	slices.SortStableFunc(pods, func(a, b *v1.Pod) int {
		x, y := of(a), of(b)
		if asked && (x.used > x.requested) != (y.used > y.requested) {
			if x.used > x.requested {
				return -1
			}
			return 1
		}
		if p, q := priority(a), priority(b); p != q {
			return cmp.Compare(p, q)
		}
		return cmp.Compare(y.used-y.requested, x.used-x.requested)
	})
}

func priority(pod *v1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

// systemCriticalPriority is where the priorities of the system begin.
const systemCriticalPriority = 2000000000

// IsCriticalPod: the node is worse off without it.
func IsCriticalPod(pod *v1.Pod) bool {
	source, ok := pod.Annotations["kubernetes.io/config.source"]
	return ok && source != "api" || pod.Annotations[v1.MirrorPodAnnotationKey] != "" || priority(pod) >= systemCriticalPriority
}
