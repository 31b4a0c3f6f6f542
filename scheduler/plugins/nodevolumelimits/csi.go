// Package nodevolumelimits keeps a node from getting more volumes of a CSI driver than the driver can attach there,
// as the node's CSINode says.
//
// A volume counts once for a node, however many pods mount it. Volumes that are attached without a pod (one that
// is just going) count as well.
//
// In Kubernetes: pkg/scheduler/framework/plugins/nodevolumelimits (csi.go). Left out: in-tree volumes that are served
// by a CSI driver.
package nodevolumelimits

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "NodeVolumeLimits"

// ErrReasonMaxVolumeCountExceeded is counted over nodes in the FailedScheduling event.
const ErrReasonMaxVolumeCountExceeded = "node(s) exceed max volume count"

// CSILimits is a PreFilter and Filter plugin.
type CSILimits struct {
	claims      corelisters.PersistentVolumeClaimLister
	volumes     corelisters.PersistentVolumeLister
	classes     storagelisters.StorageClassLister
	csiNodes    storagelisters.CSINodeLister
	drivers     storagelisters.CSIDriverLister
	attachments storagelisters.VolumeAttachmentLister
}

// New makes the plugin.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	core, storage := h.SharedInformerFactory().Core().V1(), h.SharedInformerFactory().Storage().V1()
	return &CSILimits{
		claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister(), classes: storage.StorageClasses().Lister(),
		csiNodes: storage.CSINodes().Lister(), drivers: storage.CSIDrivers().Lister(), attachments: storage.VolumeAttachments().Lister(),
	}, args.Into(&metav1.TypeMeta{})
}

// Name returns the plugin's name.
func (*CSILimits) Name() string { return Name }

// PreFilter skips pods without claims: nearly all.
func (*CSILimits) PreFilter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	for _, v := range pod.Pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return nil, nil
		}
	}
	return nil, framework.NewStatus(framework.Skip)
}

// Filter refuses a node on which the pod's volumes would be too many for a driver.
func (pl *CSILimits) Filter(_ context.Context, _ *framework.CycleState, pod *framework.PodInfo, info *framework.NodeInfo) *framework.Status {
	wanted := map[string]string{}
	if err := pl.addVolumes(pod.Pod, wanted, true); err != nil {
		if apierrors.IsNotFound(err) {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		return framework.AsStatus(err)
	}
	if len(wanted) == 0 {
		return nil // none of a CSI driver
	}
	csiNode, err := pl.csiNodes.Get(info.Node().Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return framework.AsStatus(err)
	}
	limits := driverLimits(csiNode)
	if reason := pl.missingDriver(wanted, limits); reason != "" {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, reason)
	}
	there, err := pl.attached(info)
	if err != nil {
		return framework.AsStatus(err)
	}
	count, added := map[string]int32{}, map[string]int32{}
	for _, driver := range there {
		count[driver]++
	}
	for volume, driver := range wanted {
		if _, has := there[volume]; !has {
			added[driver]++
		}
	}
	for driver, n := range added {
		if limit := limits[driver]; limit != nil && count[driver]+n > *limit {
			return framework.NewStatus(framework.Unschedulable, ErrReasonMaxVolumeCountExceeded)
		}
	}
	return nil
}

// driverLimits are the drivers of a node; nil: this one attaches any number.
func driverLimits(node *storagev1.CSINode) map[string]*int32 {
	limits := map[string]*int32{}
	if node == nil {
		return limits
	}
	for _, d := range node.Spec.Drivers {
		limits[d.Name] = nil
		if d.Allocatable != nil {
			limits[d.Name] = d.Allocatable.Count
		}
	}
	return limits
}

// missingDriver says which driver is not on the node, though it must be (KEP-5030).
func (pl *CSILimits) missingDriver(wanted map[string]string, limits map[string]*int32) string {
	for _, driver := range wanted {
		if _, installed := limits[driver]; installed {
			continue
		}
		if d, err := pl.drivers.Get(driver); err == nil && ptr.Deref(d.Spec.PreventPodSchedulingIfMissing, false) {
			return fmt.Sprintf("%s CSI driver is not installed on the node", driver)
		}
	}
	return ""
}

// attached are the CSI volumes that count for a node, with their drivers.
func (pl *CSILimits) attached(info *framework.NodeInfo) (map[string]string, error) {
	there := map[string]string{}
	for _, pod := range info.Pods {
		if err := pl.addVolumes(pod.Pod, there, false); err != nil {
			return nil, err
		}
	}
	all, err := pl.attachments.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Spec.NodeName != info.Node().Name || a.Spec.Source.PersistentVolumeName == nil {
			continue
		}
		if volume, err := pl.volumes.Get(*a.Spec.Source.PersistentVolumeName); err == nil && volume.Spec.CSI != nil {
			there[idOf(volume.Spec.CSI)] = volume.Spec.CSI.Driver
		}
	}
	return there, nil
}

func idOf(source *v1.CSIPersistentVolumeSource) string {
	return source.Driver + "/" + source.VolumeHandle
}

// addVolumes adds the CSI volumes of a pod. Of the new pod every claim must exist; for one that
// runs, what is gone counts no more.
func (pl *CSILimits) addVolumes(pod *v1.Pod, volumes map[string]string, isNew bool) error {
	for i := range pod.Spec.Volumes {
		v, name := &pod.Spec.Volumes[i], ""
		switch {
		case v.PersistentVolumeClaim != nil:
			name = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			name = ephemeral.VolumeClaimName(pod, v)
		default:
			continue
		}
		claim, err := pl.claims.PersistentVolumeClaims(pod.Namespace).Get(name)
		if err != nil {
			if isNew || !apierrors.IsNotFound(err) {
				return err
			}
			continue
		}
		if id, driver := pl.csiVolumeOf(claim); driver != "" {
			volumes[id] = driver
		}
	}
	return nil
}

// csiVolumeOf is what a claim will have attached. One without a volume counts by itself, for the driver of its class.
func (pl *CSILimits) csiVolumeOf(claim *v1.PersistentVolumeClaim) (id, driver string) {
	if claim.Spec.VolumeName != "" {
		if volume, err := pl.volumes.Get(claim.Spec.VolumeName); err == nil {
			if volume.Spec.CSI == nil {
				return "", ""
			}
			return idOf(volume.Spec.CSI), volume.Spec.CSI.Driver
		}
	}
	class, err := pl.classes.Get(storagehelpers.GetPersistentVolumeClaimClass(claim))
	if err != nil || class.Provisioner == storagehelpers.NotSupportedProvisioner {
		return "", ""
	}
	return class.Provisioner + "/" + claim.Namespace + "/" + claim.Name, class.Provisioner
}

// EventsToRegister: a limit is raised, a node comes, or a volume goes.
func (pl *CSILimits) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.CSINode, ActionType: framework.Add | framework.Update}, QueueingHintFn: isSchedulableAfterCSINodeChange},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add}},
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, ActionType: framework.Delete}, QueueingHintFn: isSchedulableAfterPodDeleted},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, ActionType: framework.Add}},
		{Event: framework.ClusterEvent{Resource: framework.VolumeAttachment, ActionType: framework.Delete}},
		{Event: framework.ClusterEvent{Resource: framework.CSIDriver, ActionType: framework.Update}},
	}, nil
}

// isSchedulableAfterPodDeleted: only a pod with claims leaves room.
func isSchedulableAfterPodDeleted(_ klog.Logger, _ *v1.Pod, oldObj, _ any) (framework.QueueingHint, error) {
	gone, ok := oldObj.(*v1.Pod)
	if !ok {
		return framework.Queue, nil
	}
	for _, v := range gone.Spec.Volumes {
		if v.PersistentVolumeClaim != nil || v.Ephemeral != nil {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterCSINodeChange: a driver has come, or one may attach more than before.
func isSchedulableAfterCSINodeChange(_ klog.Logger, _ *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, existed := oldObj.(*storagev1.CSINode)
	after, ok := newObj.(*storagev1.CSINode)
	if !ok || !existed {
		return framework.Queue, nil
	}
	was := driverLimits(before)
	for driver, limit := range driverLimits(after) {
		old, known := was[driver]
		if !known || old != nil && (limit == nil || *limit > *old) {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
