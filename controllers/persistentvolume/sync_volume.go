package persistentvolume

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// syncVolume sets a volume's phase by what its claim says, and reclaims one whose claim is gone. The binding itself is
// made by the claim's sync.
func (ctrl *Controller) syncVolume(ctx context.Context, volume *corev1.PersistentVolume) error {
	ref := volume.Spec.ClaimRef
	if ref == nil || ref.UID == "" {
		// Free, or reserved by a person for a claim that has not come to it yet.
		_, err := ctrl.updateVolumePhase(ctx, volume, corev1.VolumeAvailable, "")
		return err
	}
	claim, err := ctrl.claimOf(ctx, ref)
	if err != nil {
		return err
	}
	switch {
	case claim == nil:
		return ctrl.releaseVolume(ctx, volume)
	case claim.Spec.VolumeName == "":
		if storagehelpers.CheckVolumeModeMismatches(&claim.Spec, &volume.Spec) {
			ctrl.recorder.Eventf(volume, corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind PersistentVolume to requested PersistentVolumeClaim %q due to incompatible volumeMode.", claim.Name)
			ctrl.recorder.Eventf(claim, corev1.EventTypeWarning, "VolumeMismatch", "Cannot bind PersistentVolume %q to requested PersistentVolumeClaim due to incompatible volumeMode.", volume.Name)
			return nil // neither can change
		}
		return nil // half bound: the same event has brought the claim, whose sync does the other half
	case claim.Spec.VolumeName == volume.Name:
		_, err := ctrl.updateVolumePhase(ctx, volume, corev1.VolumeBound, "")
		return err
	case metav1.HasAnnotation(volume.ObjectMeta, storagehelpers.AnnDynamicallyProvisioned) && volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete:
		// Made for this claim, which has got another one meanwhile: nobody has used it.
		return ctrl.releaseVolume(ctx, volume)
	case volume.DeletionTimestamp != nil:
		return nil // its deletion is all that is to come
	}
	return ctrl.unbindVolume(ctx, volume)
}

// claimOf returns the claim that a volume points at, nil if it is gone. A claim of the same name and another
// UID is another one.
func (ctrl *Controller) claimOf(ctx context.Context, ref *corev1.ObjectReference) (*corev1.PersistentVolumeClaim, error) {
	claim, err := ctrl.claimLister.PersistentVolumeClaims(ref.Namespace).Get(ref.Name)
	if apierrors.IsNotFound(err) || err == nil && claim.UID != ref.UID {
		// Released means that data may be deleted: a cache that is behind is no reason.
		claim, err = ctrl.client.CoreV1().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if claim.UID != ref.UID {
		return nil, nil
	}
	return claim, nil
}

// releaseVolume marks a volume whose claim is gone, and does with it what its reclaim policy says. One that has
// Failed stays so for people to see.
func (ctrl *Controller) releaseVolume(ctx context.Context, volume *corev1.PersistentVolume) error {
	if volume.Status.Phase != corev1.VolumeReleased && volume.Status.Phase != corev1.VolumeFailed {
		var err error
		if volume, err = ctrl.updateVolumePhase(ctx, volume, corev1.VolumeReleased, ""); err != nil {
			return err
		}
	}
	return ctrl.reclaimVolume(ctx, volume)
}

// reclaimVolume: Retain leaves the volume to people. Delete is the work of whoever has provisioned it. Nothing here
// can recycle.
func (ctrl *Controller) reclaimVolume(ctx context.Context, volume *corev1.PersistentVolume) error {
	switch volume.Spec.PersistentVolumeReclaimPolicy {
	case corev1.PersistentVolumeReclaimRetain:
		return nil
	case corev1.PersistentVolumeReclaimRecycle:
		return ctrl.failVolume(ctx, volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")
	case corev1.PersistentVolumeReclaimDelete:
		provisioner := volume.Annotations[storagehelpers.AnnDynamicallyProvisioned]
		switch {
		case provisioner == "":
			return ctrl.failVolume(ctx, volume, "VolumeFailedDelete", fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", volume.Name))
		case strings.HasPrefix(provisioner, inTreePrefix):
			return ctrl.failVolume(ctx, volume, "VolumeFailedDelete", fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched name: %s", volume.Name, provisioner))
		}
		return nil // the provisioner sees that it is Released, and deletes it
	}
	return ctrl.failVolume(ctx, volume, "VolumeUnknownReclaimPolicy", "Volume has unrecognized PersistentVolumeReclaimPolicy")
}

// failVolume marks a volume that cannot be reclaimed; the event is made once.
func (ctrl *Controller) failVolume(ctx context.Context, volume *corev1.PersistentVolume, reason, message string) error {
	if volume.Status.Phase == corev1.VolumeFailed {
		return nil
	}
	updated, err := ctrl.updateVolumePhase(ctx, volume, corev1.VolumeFailed, message)
	if err != nil {
		return err
	}
	ctrl.recorder.Event(updated, corev1.EventTypeWarning, reason, message)
	return nil
}
