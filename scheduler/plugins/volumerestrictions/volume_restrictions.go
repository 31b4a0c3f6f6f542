// Package volumerestrictions keeps apart what may not use the same volume at the same time: pods that share a claim of
// access mode ReadWriteOncePod, wherever they run, and pods on one node that mount the same disk of a kind that
// can be mounted once.
//
// In Kubernetes: pkg/scheduler/framework/plugins/volumerestrictions.
package volumerestrictions

import (
	"context"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "VolumeRestrictions"

const preFilterStateKey = "PreFilter" + Name

// The reasons, counted over nodes in the FailedScheduling event.
const (
	ErrReasonDiskConflict             = "node(s) had no available disk"
	ErrReasonReadWriteOncePodConflict = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
)

// VolumeRestrictions is a PreFilter and Filter plugin.
type VolumeRestrictions struct {
	claims corelisters.PersistentVolumeClaimLister
	nodes  framework.SharedLister
}

// New makes the plugin.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	return &VolumeRestrictions{claims: h.SharedInformerFactory().Core().V1().PersistentVolumeClaims().Lister(), nodes: h.SnapshotSharedLister()}, args.Into(&metav1.TypeMeta{})
}

// Name returns the plugin's name.
func (*VolumeRestrictions) Name() string { return Name }

// preFilterState is what keeps the pod away wherever it goes.
type preFilterState struct {
	// oncePod are the pod's claims that only one pod may use.
	oncePod sets.Set[string]
	// users counts the pods that use one of them.
	users int
}

// Clone copies the count, which preemption changes.
func (s *preFilterState) Clone() framework.StateData {
	return &preFilterState{oncePod: s.oncePod, users: s.users}
}

// uses counts the pod's volumes that lead to one of the claims.
func (s *preFilterState) uses(namespace string, pod *v1.Pod) int {
	if len(s.oncePod) == 0 || pod.Namespace != namespace {
		return 0
	}
	n := 0
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim != nil && s.oncePod.Has(v.PersistentVolumeClaim.ClaimName) {
			n++
		}
	}
	return n
}

// PreFilter finds the pod's ReadWriteOncePod claims, and who uses them.
func (pl *VolumeRestrictions) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, nodes []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	s := &preFilterState{oncePod: sets.New[string]()}
	disks := false
	for i := range pod.Pod.Spec.Volumes {
		v := &pod.Pod.Spec.Volumes[i]
		disks = disks || isDisk(v)
		if v.PersistentVolumeClaim == nil {
			continue
		}
		claim, err := pl.claims.PersistentVolumeClaims(pod.Pod.Namespace).Get(v.PersistentVolumeClaim.ClaimName)
		if err != nil {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		if slices.Contains(claim.Spec.AccessModes, v1.ReadWriteOncePod) {
			s.oncePod.Insert(claim.Name)
		}
	}
	if len(s.oncePod) == 0 && !disks {
		return nil, framework.NewStatus(framework.Skip)
	}
	if len(s.oncePod) > 0 {
		for _, node := range nodes {
			for _, other := range node.Pods {
				s.users += s.uses(pod.Pod.Namespace, other.Pod)
			}
		}
	}
	state.Write(preFilterStateKey, s)
	return nil, nil
}

// AddPod counts a pod that preemption puts onto a node.
func (*VolumeRestrictions) AddPod(_ context.Context, state *framework.CycleState, pod, added *framework.PodInfo, _ *framework.NodeInfo) *framework.Status {
	return change(state, pod.Pod, added.Pod, 1)
}

// RemovePod counts a pod that preemption takes from a node.
func (*VolumeRestrictions) RemovePod(_ context.Context, state *framework.CycleState, pod, removed *framework.PodInfo, _ *framework.NodeInfo) *framework.Status {
	return change(state, pod.Pod, removed.Pod, -1)
}

func change(state *framework.CycleState, pod, other *v1.Pod, n int) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	s := data.(*preFilterState)
	s.users += n * s.uses(pod.Namespace, other)
	return nil
}

// Filter refuses every node while somebody uses the claim, and a node where the disk is mounted.
func (*VolumeRestrictions) Filter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	for i := range pod.Pod.Spec.Volumes {
		for _, other := range node.Pods {
			if isVolumeConflict(&pod.Pod.Spec.Volumes[i], other.Pod) {
				return framework.NewStatus(framework.Unschedulable, ErrReasonDiskConflict)
			}
		}
	}
	if data.(*preFilterState).users > 0 {
		return framework.NewStatus(framework.Unschedulable, ErrReasonReadWriteOncePodConflict)
	}
	return nil
}

// isDisk says whether a volume is of a kind that cannot be mounted twice.
func isDisk(v *v1.Volume) bool {
	return v.GCEPersistentDisk != nil || v.AWSElasticBlockStore != nil || v.RBD != nil || v.ISCSI != nil
}

// isVolumeConflict says whether a pod mounts the same disk. All but EBS can be shared by readers.
func isVolumeConflict(volume *v1.Volume, pod *v1.Pod) bool {
	return isDisk(volume) && slices.ContainsFunc(pod.Spec.Volumes, func(other v1.Volume) bool {
		switch {
		case volume.GCEPersistentDisk != nil && other.GCEPersistentDisk != nil:
			a, b := volume.GCEPersistentDisk, other.GCEPersistentDisk
			return a.PDName == b.PDName && !(a.ReadOnly && b.ReadOnly)
		case volume.AWSElasticBlockStore != nil && other.AWSElasticBlockStore != nil:
			return volume.AWSElasticBlockStore.VolumeID == other.AWSElasticBlockStore.VolumeID
		case volume.ISCSI != nil && other.ISCSI != nil:
			a, b := volume.ISCSI, other.ISCSI
			return a.IQN == b.IQN && !(a.ReadOnly && b.ReadOnly)
		case volume.RBD != nil && other.RBD != nil:
			a, b := volume.RBD, other.RBD
			shared := slices.ContainsFunc(a.CephMonitors, func(m string) bool { return slices.Contains(b.CephMonitors, m) })
			return shared && a.RBDPool == b.RBDPool && a.RBDImage == b.RBDImage && !(a.ReadOnly && b.ReadOnly)
		}
		return false
	})
}

// EventsToRegister: a pod goes that has the volume, or a claim of the pod's comes.
func (pl *VolumeRestrictions) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.AssignedPod, ActionType: framework.Delete}, QueueingHintFn: isSchedulableAfterPodDeleted},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, ActionType: framework.Add | framework.Update}, QueueingHintFn: isSchedulableAfterPersistentVolumeClaimChange},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add}},
	}, nil
}

// isSchedulableAfterPodDeleted: did it share a claim or a disk with the pod?
func isSchedulableAfterPodDeleted(_ klog.Logger, pod *v1.Pod, oldObj, _ any) (framework.QueueingHint, error) {
	gone, ok := oldObj.(*v1.Pod)
	if !ok || gone.Namespace != pod.Namespace && !slices.ContainsFunc(pod.Spec.Volumes, func(v v1.Volume) bool { return isVolumeConflict(&v, gone) }) {
		return framework.QueueSkip, nil
	}
	s := &preFilterState{oncePod: sets.New[string]()}
	for _, v := range pod.Spec.Volumes {
		if isVolumeConflict(&v, gone) {
			return framework.Queue, nil
		}
		if v.PersistentVolumeClaim != nil {
			s.oncePod.Insert(v.PersistentVolumeClaim.ClaimName)
		}
	}
	if s.uses(pod.Namespace, gone) > 0 {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterPersistentVolumeClaimChange: is it one of the pod's?
func isSchedulableAfterPersistentVolumeClaimChange(_ klog.Logger, pod *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	claim, ok := newObj.(*v1.PersistentVolumeClaim)
	if !ok || claim.Namespace != pod.Namespace {
		return framework.QueueSkip, nil
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim.Name || v.Ephemeral != nil && ephemeral.VolumeClaimName(pod, v) == claim.Name {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
