// Package volumezone keeps a pod in the zone and region of its volumes: those that a PersistentVolume is labelled with.
//
// It is the older way to say where a volume can be reached from. Volumes with a node affinity need no such labels;
// package volumebinding looks at that.
//
// In Kubernetes: pkg/scheduler/framework/plugins/volumezone.
package volumezone

import (
	"context"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "VolumeZone"

const preFilterStateKey = "PreFilter" + Name

// ErrReasonConflict is counted over nodes in the FailedScheduling event.
const ErrReasonConflict = "node(s) had no available volume zone"

// topologyLabels are the labels that count, the older names after the newer of the same meaning.
var topologyLabels = []string{v1.LabelTopologyZone, v1.LabelFailureDomainBetaZone, v1.LabelTopologyRegion, v1.LabelFailureDomainBetaRegion}

// otherName is the other label of the same meaning.
var otherName = map[string]string{
	v1.LabelTopologyZone: v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaZone: v1.LabelTopologyZone,
	v1.LabelTopologyRegion: v1.LabelFailureDomainBetaRegion, v1.LabelFailureDomainBetaRegion: v1.LabelTopologyRegion,
}

// VolumeZone is a PreFilter and Filter plugin.
type VolumeZone struct {
	claims  corelisters.PersistentVolumeClaimLister
	volumes corelisters.PersistentVolumeLister
}

// New makes the plugin.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	core := h.SharedInformerFactory().Core().V1()
	return &VolumeZone{claims: core.PersistentVolumeClaims().Lister(), volumes: core.PersistentVolumes().Lister()}, args.Into(&metav1.TypeMeta{})
}

// Name returns the plugin's name.
func (*VolumeZone) Name() string { return Name }

// topology is a label of one of the pod's volumes, and the values with which the volume can be reached.
type topology struct {
	key    string
	values sets.Set[string]
}

// topologies are all of the pod's volumes.
type topologies []topology

// Clone returns the state itself: it never changes.
func (s topologies) Clone() framework.StateData { return s }

// PreFilter collects the labels of the pod's volumes. A claim that is not bound is package volumebinding's care.
func (pl *VolumeZone) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	var found topologies
	for _, name := range claimNames(pod.Pod) {
		claim, err := pl.claims.PersistentVolumeClaims(pod.Pod.Namespace).Get(name)
		if err != nil {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		if claim.Spec.VolumeName == "" {
			continue
		}
		volume, err := pl.volumes.Get(claim.Spec.VolumeName)
		if apierrors.IsNotFound(err) {
			return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
		}
		if err != nil {
			return nil, framework.AsStatus(err)
		}
		found = append(found, topologiesOf(volume)...)
	}
	if len(found) == 0 {
		return nil, framework.NewStatus(framework.Skip)
	}
	state.Write(preFilterStateKey, found)
	return nil, nil
}

// topologiesOf: a volume that lies in several zones names them with two underscores between.
func topologiesOf(volume *v1.PersistentVolume) (found topologies) {
	for _, key := range topologyLabels {
		if value, ok := volume.Labels[key]; ok {
			found = append(found, topology{key, sets.New(strings.Split(value, "__")...)})
		}
	}
	return found
}

func claimNames(pod *v1.Pod) (names []string) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeral.VolumeClaimName(pod, v))
		}
	}
	return names
}

// Filter refuses a node in another zone or region. A node that has no such label at all is in a cluster without zones.
func (*VolumeZone) Filter(_ context.Context, state *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	data, err := state.Read(preFilterStateKey)
	if err != nil {
		return framework.AsStatus(err)
	}
	labels := node.Node().Labels
	if !hasAnyTopologyLabel(labels) {
		return nil
	}
	for _, t := range data.(topologies) {
		value, ok := labels[t.key]
		if !ok {
			value, ok = labels[otherName[t.key]]
		}
		if !ok || !t.values.Has(value) {
			return framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonConflict)
		}
	}
	return nil
}

func hasAnyTopologyLabel(labels map[string]string) bool {
	for _, key := range topologyLabels {
		if _, ok := labels[key]; ok {
			return true
		}
	}
	return false
}

// EventsToRegister: a claim of the pod's or a volume comes or changes; a node comes, or its zone changes.
func (pl *VolumeZone) EventsToRegister(context.Context) ([]framework.ClusterEventWithHint, error) {
	return []framework.ClusterEventWithHint{
		{Event: framework.ClusterEvent{Resource: framework.StorageClass, ActionType: framework.Add}},
		{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add | framework.UpdateNodeLabel}},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolumeClaim, ActionType: framework.Add | framework.Update}, QueueingHintFn: isSchedulableAfterPersistentVolumeClaimChange},
		{Event: framework.ClusterEvent{Resource: framework.PersistentVolume, ActionType: framework.Add | framework.Update}, QueueingHintFn: isSchedulableAfterPersistentVolumeChange},
	}, nil
}

// isSchedulableAfterPersistentVolumeClaimChange: is it one of the pod's?
func isSchedulableAfterPersistentVolumeClaimChange(_ klog.Logger, pod *v1.Pod, _, newObj any) (framework.QueueingHint, error) {
	claim, ok := newObj.(*v1.PersistentVolumeClaim)
	if ok && claim.Namespace == pod.Namespace && sets.New(claimNames(pod)...).Has(claim.Name) {
		return framework.Queue, nil
	}
	return framework.QueueSkip, nil
}

// isSchedulableAfterPersistentVolumeChange: of an existing volume only the labels count.
func isSchedulableAfterPersistentVolumeChange(_ klog.Logger, _ *v1.Pod, oldObj, newObj any) (framework.QueueingHint, error) {
	before, existed := oldObj.(*v1.PersistentVolume)
	after, ok := newObj.(*v1.PersistentVolume)
	if !ok || !existed {
		return framework.Queue, nil
	}
	for _, key := range topologyLabels {
		if before.Labels[key] != after.Labels[key] {
			return framework.Queue, nil
		}
	}
	return framework.QueueSkip, nil
}
