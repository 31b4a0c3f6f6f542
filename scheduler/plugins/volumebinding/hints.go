package volumebinding

import (
	"context"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/scheduler/framework"
)

// EventsToRegister: a claim of the pod's, volumes, classes and capacities come or change; nodes come or get other labels.
func (pl *VolumeBinding) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	const addOrUpdate = framework.Add | framework.Update
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.StorageClass, ActionType: addOrUpdate}, QueueingHintFn: isSchedulableAfterStorageClassChange},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, ActionType: addOrUpdate}, QueueingHintFn: isSchedulableAfterPersistentVolumeClaimChange},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolume, ActionType: addOrUpdate}},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeLabel}},
		{Event: framework.ClusterEvent{Resource: framework.CSIDriver, ActionType: framework.Update}, QueueingHintFn: isSchedulableAfterCSIDriverChange},
		{Event: framework.ClusterEvent{Resource: framework.CSIStorageCapacity, ActionType: addOrUpdate}, QueueingHintFn: isSchedulableAfterCSIStorageCapacityChange},
	}, nil
}

// isSchedulableAfterPersistentVolumeClaimChange: is it one of the pod's?
func isSchedulableAfterPersistentVolumeClaimChange(_ klog.Logger, pod *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	claim, ok := newObj.(*v1.PersistentVolumeClaim)
	if !ok || claim.Namespace != pod.Namespace {
		return framework.QueueSkip, nil
	}
	for i := range pod.Spec.Volumes {
		if name, _ := claimOf(pod, &pod.Spec.Volumes[i]); name == claim.Name {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterStorageClassChange: of an existing class only the topologies can change to our good.
func isSchedulableAfterStorageClassChange(_ klog.Logger, _ *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, existed := oldObj.(*storagev1.StorageClass)
	after, ok := newObj.(*storagev1.StorageClass)
	if ok && existed && equality.Semantic.DeepEqual(before.AllowedTopologies, after.AllowedTopologies) {
		return framework.QueueSkip, nil
	}
	return framework.Queue, nil
}

// isSchedulableAfterCSIDriverChange: capacities no longer count.
func isSchedulableAfterCSIDriverChange(_ klog.Logger, _ *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, _ := oldObj.(*storagev1.CSIDriver)
	after, _ := newObj.(*storagev1.CSIDriver)
	if before != nil && after != nil && ptr.Deref(before.Spec.StorageCapacity, false) && !ptr.Deref(after.Spec.StorageCapacity, false) {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterCSIStorageCapacityChange: there is more of it.
func isSchedulableAfterCSIStorageCapacityChange(_ klog.Logger, _ *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, existed := oldObj.(*storagev1.CSIStorageCapacity)
	after, ok := newObj.(*storagev1.CSIStorageCapacity)
	if !ok || !existed {
		return framework.Queue, nil
	}
	was, is := volumeLimit(before), volumeLimit(after)
	if is != nil && (was == nil || is.Cmp(*was) > 0) {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}
