package persistentvolume

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// bind makes the two point at each other. What is there already is not written again, so that it also
// completes a half binding, and does nothing to a whole one:
//
//  1. the volume's spec.claimRef: now nobody else can have it,
//  2. its status: Bound,
//  3. the claim's spec.volumeName, and the annotation that it was bound,
//  4. its status: Bound, with what the volume has.
//
// The other way round a claim could be Bound to a volume that another claim gets in the same moment.
func (ctrl *Controller) bind(ctx context.Context, volume *corev1.PersistentVolume, claim *corev1.PersistentVolumeClaim) error {
	// Step 1: the volume's spec.claimRef.
	bound, dirty, err := storagehelpers.GetBindVolumeToClaim(volume, claim)
	if err != nil {
		return err
	}
	if dirty {
		if bound, err = ctrl.client.CoreV1().PersistentVolumes().Update(ctx, bound, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("binding volume %s: %w", volume.Name, err)
		}
	}
	// Step 2: its status.
	if bound, err = ctrl.updateVolumePhase(ctx, bound, corev1.VolumeBound, ""); err != nil {
		return err
	}
	// Step 3: the claim's spec.volumeName, and the annotation that it was bound.
	if claim, err = ctrl.bindClaimToVolume(ctx, claim, bound); err != nil {
		return err
	}
	// Step 4: its status.
	_, err = ctrl.updateClaimStatus(ctx, claim, corev1.ClaimBound, bound)
	return err
}

// bindClaimToVolume writes the claim's half.
func (ctrl *Controller) bindClaimToVolume(ctx context.Context, claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	update := claim.DeepCopy()
	if claim.Spec.VolumeName != volume.Name {
		update.Spec.VolumeName = volume.Name
		metav1.SetMetaDataAnnotation(&update.ObjectMeta, storagehelpers.AnnBoundByController, "yes")
	}
	if !metav1.HasAnnotation(update.ObjectMeta, storagehelpers.AnnBindCompleted) {
		metav1.SetMetaDataAnnotation(&update.ObjectMeta, storagehelpers.AnnBindCompleted, "yes")
	}
	if equality.Semantic.DeepEqual(claim, update) {
		return claim, nil
	}
	update, err := ctrl.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, update, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("binding claim %s/%s to volume %s: %w", claim.Namespace, claim.Name, volume.Name, err)
	}
	return update, nil
}

// unbindVolume gives a volume back whose claim has another. A reservation that a person made stays.
func (ctrl *Controller) unbindVolume(ctx context.Context, volume *corev1.PersistentVolume) error {
	update := volume.DeepCopy()
	if metav1.HasAnnotation(volume.ObjectMeta, storagehelpers.AnnBoundByController) {
		update.Spec.ClaimRef = nil
		delete(update.Annotations, storagehelpers.AnnBoundByController)
	} else {
		update.Spec.ClaimRef.UID = ""
	}
	update, err := ctrl.client.CoreV1().PersistentVolumes().Update(ctx, update, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("unbinding: %w", err)
	}
	_, err = ctrl.updateVolumePhase(ctx, update, corev1.VolumeAvailable, "")
	return err
}

// updateClaimStatus writes a claim's phase, and what it has of its volume; nil: nothing.
func (ctrl *Controller) updateClaimStatus(ctx context.Context, claim *corev1.PersistentVolumeClaim, phase corev1.PersistentVolumeClaimPhase, volume *corev1.PersistentVolume) (*corev1.PersistentVolumeClaim, error) {
	update := claim.DeepCopy()
	update.Status.Phase = phase
	if volume == nil {
		update.Status.AccessModes, update.Status.Capacity, update.Status.CurrentVolumeAttributesClassName = nil, nil, nil
	} else {
		update.Status.AccessModes = slices.Clone(volume.Spec.AccessModes)
		// Once it is bound, only an expansion changes what the claim has: the volume may be larger
		// long before its file system is.
		if _, known := claim.Status.Capacity[corev1.ResourceStorage]; !known || claim.Status.Phase != corev1.ClaimBound {
			update.Status.Capacity = volume.Spec.Capacity.DeepCopy()
			update.Status.CurrentVolumeAttributesClassName = volume.Spec.VolumeAttributesClassName
		}
	}
	if equality.Semantic.DeepEqual(claim.Status, update.Status) {
		return claim, nil
	}
	update, err := ctrl.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, update, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("setting claim %s/%s %s: %w", claim.Namespace, claim.Name, phase, err)
	}
	return update, nil
}

// updateVolumePhase writes a volume's phase.
func (ctrl *Controller) updateVolumePhase(ctx context.Context, volume *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) (*corev1.PersistentVolume, error) {
	if volume.Status.Phase == phase {
		return volume, nil
	}
	update := volume.DeepCopy()
	update.Status.Phase, update.Status.Message = phase, message
	update, err := ctrl.client.CoreV1().PersistentVolumes().UpdateStatus(ctx, update, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("setting volume %s %s: %w", volume.Name, phase, err)
	}
	return update, nil
}
