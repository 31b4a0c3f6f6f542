package eviction

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// localStorageExcess says what local storage a pod uses beyond its limits: an
// emptyDir its sizeLimit, the pod the sum of its limits, a container its own; ""
// if none. It is pure.
func localStorageExcess(pod *v1.Pod, stats *statsapi.PodStats, dedicatedImageFs bool) string {
	used := map[string]int64{}
	for _, v := range stats.VolumeStats {
		used[v.Name] = number(v.UsedBytes)
	}
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
			continue
		}
		if limit := v.EmptyDir.SizeLimit; used[v.Name] > limit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
	}
	if limit, limited := resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})[v1.ResourceEphemeralStorage]; limited && stats.EphemeralStorage != nil {
		if number(stats.EphemeralStorage.UsedBytes) > limit.Value() {
			return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
		}
	}
	limits := map[string]*resource.Quantity{}
	for i := range pod.Spec.Containers {
		limits[pod.Spec.Containers[i].Name] = pod.Spec.Containers[i].Resources.Limits.StorageEphemeral()
	}
	for _, c := range stats.Containers {
		limit := limits[c.Name]
		if limit == nil || limit.IsZero() {
			continue
		}
		sum := int64(0)
		if c.Logs != nil {
			sum += number(c.Logs.UsedBytes)
		}
		if c.Rootfs != nil && !dedicatedImageFs {
			sum += number(c.Rootfs.UsedBytes)
		}
		if sum > limit.Value() {
			return fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return ""
}

// evictionMessage says why this pod goes: what was short, and which of its
// containers used more of it than it asked for. It is pure.
func evictionMessage(pod *v1.Pod, stats *statsapi.PodStats, t Threshold, o observation) string {
	name := signals[t.Signal].resource
	least := t.Value.Of(o.capacity)
	message := fmt.Sprintf("The node was low on resource: %v. Threshold quantity: %v, available: %v. ", name, least.String(), o.available.String())
	if stats == nil {
		return message
	}
	for _, c := range stats.Containers {
		for _, spec := range pod.Spec.Containers {
			if spec.Name != c.Name {
				continue
			}
			var used int64
			switch {
			case name == v1.ResourceMemory && c.Memory != nil:
				used = number(c.Memory.WorkingSetBytes)
			case name == v1.ResourceEphemeralStorage:
				if c.Rootfs != nil {
					used += number(c.Rootfs.UsedBytes)
				}
				if c.Logs != nil {
					used += number(c.Logs.UsedBytes)
				}
			default:
				continue
			}
			request := spec.Resources.Requests[name]
			if usage := resource.NewQuantity(used, resource.BinarySI); usage.Cmp(request) > 0 {
				message += fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %v. ", spec.Name, usage.String(), request.String(), name)
			}
		}
	}
	return message
}
