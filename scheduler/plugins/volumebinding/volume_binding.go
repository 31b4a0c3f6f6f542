// Package volumebinding lets a pod only go where its volumes are or can be, and binds the claims that have waited for a
// pod to be placed.
//
//	PreFilter  which of the pod's claims are bound, which wait for a node, which for something else (then: no node)
//	Filter     per node: is each bound volume there? is a free one for each other claim, or room to make one?
//	Score      per node: how well do the volumes that would be taken fit (only with a shape in the args)
//	Reserve    assume the volumes of the chosen node, so that the next pod does not take them
//	PreBind    write it down, and wait until the binder has bound all claims
//
// The scheduler writes two things only: the claimRef of a volume that is there, or the annotation selected-node on
// the claim for which a provisioner shall make one. The rest is the controllers' work; PreBind waits for it, at most
// bindTimeoutSeconds, while other pods are scheduled. If it fails all is taken back and the pod tried anew.
//
// Invariants: a pod is bound to its node only after all its claims are bound to volumes that this node can reach.
// What is assumed lives in memory only (assume_cache.go), and gives way to whatever the API says next.
//
// Read first: `scheduler/plugins/volumebinding/binder.go:volumeBinder.FindPodVolumes`,
// `scheduler/plugins/volumebinding/bind.go:volumeBinder.BindPodVolumes`.
//
// In Kubernetes: pkg/scheduler/framework/plugins/volumebinding (volume_binding.go, binder.go, assume_cache.go,
// scorer.go). Left out: the translation of in-tree volumes to CSI. Score is behind the feature gate
// StorageCapacityScoring there; here a shape in the args turns it on.
package volumebinding

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/storage/ephemeral"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "VolumeBinding"

const stateKey = framework.StateKey(Name)

// The reasons. But for the first they are counted over nodes in the FailedScheduling event.
const (
	ErrReasonUnboundImmediate = "pod has unbound immediate PersistentVolumeClaims"
	ErrReasonBindConflict     = "node(s) didn't find available persistent volumes to bind"
	ErrReasonNodeConflict     = "node(s) didn't match PersistentVolume's node affinity"
	ErrReasonNotEnoughSpace   = "node(s) did not have enough free storage"
	ErrReasonPVNotExist       = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
)

// VolumeBinding is a PreFilter, Filter, PreScore, Score, Reserve and PreBind plugin.
type VolumeBinding struct {
	binder *volumeBinder
	// curve is nil without a shape: nodes are not scored.
	curve func(requested, capacity int64) int64
}

// New makes the plugin.
func New(_ context.Context, h framework.Handle, args framework.Args) (framework.Plugin, error) {
	settings := configv1.VolumeBindingArgs{BindTimeoutSeconds: new(int64(600))}
	if err := args.Into(&settings); err != nil {
		return nil, err
	}
	if s := *settings.BindTimeoutSeconds; s < 0 {
		return nil, fmt.Errorf("bindTimeoutSeconds: Invalid value: %d: invalid BindTimeoutSeconds, should not be a negative value", s)
	}
	pl := &VolumeBinding{binder: newVolumeBinder(h, time.Duration(*settings.BindTimeoutSeconds)*time.Second)}
	if len(settings.Shape) > 0 {
		curve, err := framework.BrokenLine(settings.Shape)
		if err != nil {
			return nil, fmt.Errorf("shape%w", err)
		}
		pl.curve = curve
	}
	return pl, nil
}

// Name returns the plugin's name.
func (*VolumeBinding) Name() string { return Name }

// stateData is what PreFilter and Filter find out about one pod.
type stateData struct {
	claims podVolumeClaims

	mu sync.Mutex // Filter runs for several nodes at once
	// byNode are the decisions for the nodes that passed.
	byNode map[string]*podVolumes
	// allBound: Reserve has found nothing to write.
	allBound bool
}

// Clone returns the state itself: with or without other pods on a node, the volumes are the same.
func (s *stateData) Clone() framework.StateData { return s }

func stateOf(cs *framework.CycleState) (*stateData, error) {
	data, err := cs.Read(stateKey)
	if err != nil {
		return nil, err
	}
	return data.(*stateData), nil
}

// claimOf is the claim behind one of a pod's volumes, "" if there is none.
func claimOf(pod *v1.Pod, volume *v1.Volume) (name string, isEphemeral bool) {
	switch {
	case volume.PersistentVolumeClaim != nil:
		return volume.PersistentVolumeClaim.ClaimName, false
	case volume.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, volume), true
	}
	return "", false
}

// podHasPVCs says whether the pod has claims at all; the error is one that no node can cure.
func (pl *VolumeBinding) podHasPVCs(pod *v1.Pod) (bool, error) {
	found := false
	for i := range pod.Spec.Volumes {
		name, isEphemeral := claimOf(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		found = true
		claim, err := pl.binder.claims.get(pod.Namespace, name)
		switch {
		case apierrors.IsNotFound(err) && isEphemeral:
			return true, fmt.Errorf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		case err != nil:
			return true, err
		case claim.Status.Phase == v1.ClaimLost:
			return true, fmt.Errorf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
		case claim.DeletionTimestamp != nil:
			return true, fmt.Errorf("persistentvolumeclaim %q is being deleted", name)
		case isEphemeral:
			if err := ephemeral.VolumeIsForPod(pod, claim); err != nil {
				return true, err
			}
		}
	}
	return found, nil
}

// PreFilter sorts the pod's claims. One that is bound at once, whatever the node, must be so by now.
func (pl *VolumeBinding) PreFilter(_ context.Context, state *framework.CycleState, pod *framework.PodInfo, _ []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	has, err := pl.podHasPVCs(pod.Pod)
	if err != nil {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, err.Error())
	}
	if !has {
		state.Write(stateKey, &stateData{allBound: true})
		return nil, framework.NewStatus(framework.Skip)
	}
	claims, err := pl.binder.GetPodVolumeClaims(pod.Pod)
	if err != nil {
		return nil, framework.AsStatus(err)
	}
	if len(claims.unboundImmediate) > 0 {
		return nil, framework.NewStatus(framework.UnschedulableAndUnresolvable, ErrReasonUnboundImmediate)
	}
	state.Write(stateKey, &stateData{claims: claims, byNode: map[string]*podVolumes{}})
	return nil, nil
}

// Filter refuses a node that cannot reach the bound volumes, or has none for the other claims.
func (pl *VolumeBinding) Filter(_ context.Context, cs *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	state, err := stateOf(cs)
	if err != nil {
		return framework.AsStatus(err)
	}
	volumes, reasons, err := pl.binder.FindPodVolumes(&state.claims, node.Node())
	if err != nil {
		return framework.AsStatus(err)
	}
	if len(reasons) > 0 {
		return framework.NewStatus(framework.UnschedulableAndUnresolvable, reasons...)
	}
	state.mu.Lock()
	defer state.mu.Unlock()
	state.byNode[node.Node().Name] = volumes
	return nil
}

// PreScore skips pods for whose volumes all nodes are alike.
func (pl *VolumeBinding) PreScore(_ context.Context, cs *framework.CycleState, _ *framework.PodInfo, _ []*framework.NodeInfo) *framework.Status {
	state, err := stateOf(cs)
	if err != nil {
		return framework.AsStatus(err)
	}
	if pl.curve == nil || len(state.claims.unboundDelayed) == 0 {
		return framework.NewStatus(framework.Skip)
	}
	return nil
}

// Score is the mean, over the classes of the volumes that the pod would take on the node, of the shape at the
// share of them that is asked for.
func (pl *VolumeBinding) Score(_ context.Context, cs *framework.CycleState, _ *framework.PodInfo, node *framework.NodeInfo) (int64, *framework.Status) {
	state, err := stateOf(cs)
	if err != nil {
		return 0, framework.AsStatus(err)
	}
	state.mu.Lock()
	volumes := state.byNode[node.Node().Name]
	state.mu.Unlock()
	if volumes == nil {
		return 0, nil
	}
	classes := volumes.byClass()
	if len(classes) == 0 {
		return 0, nil
	}
	var sum int64
	for _, c := range classes {
		sum += pl.curve(c.requested, c.capacity)
	}
	return (sum + int64(len(classes))/2) / int64(len(classes)), nil
}

// Reserve assumes the volumes of the chosen node.
func (pl *VolumeBinding) Reserve(_ context.Context, cs *framework.CycleState, _ *v1.Pod, nodeName string) *framework.Status {
	state, err := stateOf(cs)
	if err != nil {
		return framework.AsStatus(err)
	}
	volumes := state.byNode[nodeName]
	if volumes == nil || state.allBound {
		state.allBound = true
		return nil
	}
	state.allBound, err = pl.binder.AssumePodVolumes(nodeName, volumes)
	return framework.AsStatus(err)
}

// Unreserve forgets what was assumed.
func (pl *VolumeBinding) Unreserve(_ context.Context, cs *framework.CycleState, _ *v1.Pod, nodeName string) {
	if state, err := stateOf(cs); err == nil && state.byNode[nodeName] != nil {
		pl.binder.RevertAssumedPodVolumes(state.byNode[nodeName])
	}
}

// PreBind writes what was assumed and waits until all claims are bound.
func (pl *VolumeBinding) PreBind(ctx context.Context, cs *framework.CycleState, pod *v1.Pod, nodeName string) *framework.Status {
	state, err := stateOf(cs)
	if err != nil {
		return framework.AsStatus(err)
	}
	if state.allBound {
		return nil
	}
	volumes := state.byNode[nodeName]
	if volumes == nil {
		return framework.AsStatus(fmt.Errorf("no pod volumes found for node %q", nodeName))
	}
	return framework.AsStatus(pl.binder.BindPodVolumes(ctx, pod, nodeName, volumes))
}
