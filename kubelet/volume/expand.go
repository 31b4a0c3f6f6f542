package volume

import (
	"context"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	kubecontainer "hyperkube/kubelet/container"
)

// expand gives a claim the size that its local volume has got, in these steps:
//
//  1. is there anything to do? Whoever grew the device has raised the volume's capacity above what its claim has, and marked
//     the claim as waiting for its node; without the mark a resizer is still at work,
//  2. mark the claim: from here on nobody may take the wish back,
//  3. let the file system of a device grow to the device, while it may be in use; a directory has the room that it has,
//  4. the claim has the new size, and waits no longer.
//
// A failure is told and tried again at the next sync; the file system serves on as it is.
//
// In Kubernetes: pkg/volume/util/operationexecutor/node_expander.go.
func (p persistentVolumeClaimPlugin) expand(ctx context.Context, spec Spec, claim *v1.PersistentVolumeClaim, pv *v1.PersistentVolume) error {
	// Step 1: is there anything to do?
	size, had := pv.Spec.Capacity[v1.ResourceStorage], claim.Status.Capacity[v1.ResourceStorage]
	if had.Cmp(size) >= 0 {
		return nil
	}
	tell := func(kind, reason, message string) {
		p.recorder.Event(kubecontainer.GeneratePodRef(spec.Pod), kind, reason, message)
		p.recorder.Event(claim, kind, reason, message)
	}
	if isReadOnly(spec.Volume) {
		tell(v1.EventTypeWarning, "FileSystemResizeFailed", fmt.Sprintf("MountVolume.NodeExpandVolume failed for volume %q requested read-only file system", pv.Name))
		return nil
	}
	state := claim.Status.AllocatedResourceStatuses[v1.ResourceStorage]
	if state != v1.PersistentVolumeClaimNodeResizePending && state != v1.PersistentVolumeClaimNodeResizeInProgress {
		return nil
	}
	// Step 2: mark the claim.
	claim, err := p.updateStatus(ctx, claim, func(status *v1.PersistentVolumeClaimStatus) {
		status.AllocatedResourceStatuses[v1.ResourceStorage] = v1.PersistentVolumeClaimNodeResizeInProgress
	})
	if err != nil {
		return fmt.Errorf("marking claim %s: %w", spec.Volume.Name, err)
	}
	// Step 3: grow the file system.
	if err := p.growLocal(pv.Spec.Local.Path, spec.Dir); err != nil {
		p.recorder.Event(kubecontainer.GeneratePodRef(spec.Pod), v1.EventTypeWarning, "VolumeResizeFailed",
			fmt.Sprintf("NodeExpandVolume.NodeExpandVolume failed for volume %q : %v", pv.Name, err))
		return err
	}
	tell(v1.EventTypeNormal, "FileSystemResizeSuccessful", fmt.Sprintf("MountVolume.NodeExpandVolume succeeded for volume %q %s", pv.Name, spec.Pod.Spec.NodeName))
	// Step 4: the claim has the new size.
	_, err = p.updateStatus(ctx, claim, func(status *v1.PersistentVolumeClaimStatus) {
		status.Capacity[v1.ResourceStorage] = size
		delete(status.AllocatedResourceStatuses, v1.ResourceStorage)
		status.Conditions = slices.DeleteFunc(status.Conditions, func(c v1.PersistentVolumeClaimCondition) bool { return slices.Contains(resizeConditions, c.Type) })
	})
	return err
}

// resizeConditions tell of a resize that goes on; its end takes them away.
var resizeConditions = []v1.PersistentVolumeClaimConditionType{
	v1.PersistentVolumeClaimFileSystemResizePending, v1.PersistentVolumeClaimResizing,
	v1.PersistentVolumeClaimControllerResizeError, v1.PersistentVolumeClaimNodeResizeError,
}

func (p persistentVolumeClaimPlugin) updateStatus(ctx context.Context, claim *v1.PersistentVolumeClaim, change func(*v1.PersistentVolumeClaimStatus)) (*v1.PersistentVolumeClaim, error) {
	claim = claim.DeepCopy()
	change(&claim.Status)
	return p.host.UpdatePersistentVolumeClaimStatus(ctx, claim)
}

func (p persistentVolumeClaimPlugin) growLocal(path, dir string) error {
	if !isBlockDevice(path) {
		return nil
	}
	return p.mounts.grow(path, dir)
}

// expandMounted looks again at a claim's volume that a pod has mounted: it may have grown.
func (m *Manager) expandMounted(ctx context.Context, pod *v1.Pod, volume *v1.Volume) {
	mounted := m.Mounted(pod.UID)[volume.Name]
	if mounted.Device || time.Since(mounted.looked) < m.lookEvery {
		return
	}
	mounted.looked = time.Now()
	m.mu.Lock()
	m.mounted[pod.UID][volume.Name] = mounted
	m.mu.Unlock()
	plugin, ok := m.find(volume).(persistentVolumeClaimPlugin)
	if !ok {
		return
	}
	spec := m.spec(pod, volume, plugin)
	claim, pv, err := plugin.find(ctx, spec)
	if err == nil && pv.Spec.Local != nil && ptr.Deref(pv.Spec.VolumeMode, v1.PersistentVolumeFilesystem) == v1.PersistentVolumeFilesystem {
		err = plugin.expand(ctx, spec, claim, pv)
	}
	if err != nil {
		// The pod runs on with the volume that it has.
		klog.FromContext(ctx).Error(err, "Looking whether a volume has grown", "pod", klog.KObj(pod), "volume", volume.Name)
	}
}
