package storage

import (
	"context"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeAnnotation names the node of a volume of ours: its affinity says a label, which is the way of pods to it.
const nodeAnnotation = "hyperkube.local/node"

// nodeOf is the node whose directory a volume of ours is.
func nodeOf(volume *corev1.PersistentVolume) string { return volume.Annotations[nodeAnnotation] }

// delete removes what is no longer needed, in these steps:
//
//  1. leave the volume alone while it has a claim, or somebody wants to keep it,
//  2. remove the directory,
//  3. let the object go, and delete it.
func (p *Provisioner) delete(ctx context.Context, volume *corev1.PersistentVolume, node string) error {
	// Step 1: leave the volume alone while it has a claim, or somebody wants to keep it.
	released := volume.Status.Phase == corev1.VolumeReleased || volume.Status.Phase == corev1.VolumeFailed
	retained := volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete
	if !released || retained {
		if retained && volume.DeletionTimestamp != nil {
			return p.letGo(ctx, volume) // the directory stays, as the policy says
		}
		return nil
	}
	// Step 2: remove the directory.
	if err := os.RemoveAll(p.path(node, volume.Name)); err != nil {
		return err
	}
	// Step 3: let the object go, and delete it.
	if err := p.letGo(ctx, volume); err != nil {
		return err
	}
	err := p.Client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &volume.UID}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// letGo takes our finalizer away.
func (p *Provisioner) letGo(ctx context.Context, volume *corev1.PersistentVolume) error {
	if !slices.Contains(volume.Finalizers, finalizer) {
		return nil
	}
	update := volume.DeepCopy()
	update.Finalizers = slices.DeleteFunc(update.Finalizers, func(f string) bool { return f == finalizer })
	_, err := p.Client.CoreV1().PersistentVolumes().Update(ctx, update, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
