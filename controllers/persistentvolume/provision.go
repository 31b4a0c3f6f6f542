package persistentvolume

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	storagehelpers "k8s.io/component-helpers/storage/volume"
)

// inTreePrefix is that of the provisioners that were part of Kubernetes.
const inTreePrefix = "kubernetes.io/"

// provisionClaim asks the external provisioner of the claim's class for a volume, by an annotation on the claim. The class
// is there, or its creation brings the claim back here.
func (ctrl *Controller) provisionClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	class, err := ctrl.classLister.Get(storagehelpers.GetPersistentVolumeClaimClass(claim))
	if err == nil && strings.HasPrefix(class.Provisioner, inTreePrefix) {
		err = fmt.Errorf("no volume plugin matched name: %s", class.Provisioner)
	}
	if err != nil {
		ctrl.recorder.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
		_, err := ctrl.updateClaimStatus(ctx, claim, corev1.ClaimPending, nil)
		return err
	}
	if claim, err = ctrl.setClaimProvisioner(ctx, claim, class.Provisioner); err != nil {
		return err
	}
	ctrl.recorder.Eventf(claim, corev1.EventTypeNormal, "ExternalProvisioning", "Waiting for a volume to be created either by the external provisioner '%s' or manually by the system administrator. "+
		"If volume creation is delayed, please verify that the provisioner is running and correctly registered.", class.Provisioner)
	_, err = ctrl.updateClaimStatus(ctx, claim, corev1.ClaimPending, nil)
	return err
}

// setClaimProvisioner writes the annotation that external provisioners wait for, under both of its names.
func (ctrl *Controller) setClaimProvisioner(ctx context.Context, claim *corev1.PersistentVolumeClaim, provisioner string) (*corev1.PersistentVolumeClaim, error) {
	if claim.Annotations[storagehelpers.AnnStorageProvisioner] == provisioner && claim.Annotations[storagehelpers.AnnBetaStorageProvisioner] == provisioner {
		return claim, nil
	}
	update := claim.DeepCopy()
	metav1.SetMetaDataAnnotation(&update.ObjectMeta, storagehelpers.AnnStorageProvisioner, provisioner)
	metav1.SetMetaDataAnnotation(&update.ObjectMeta, storagehelpers.AnnBetaStorageProvisioner, provisioner)
	update, err := ctrl.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, update, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking %s for a volume: %w", provisioner, err)
	}
	return update, nil
}

// recordWaiting says for whom a claim of a WaitForFirstConsumer class waits.
func (ctrl *Controller) recordWaiting(claim *corev1.PersistentVolumeClaim) error {
	pods, err := ctrl.podLister.Pods(claim.Namespace).List(labels.Everything())
	if err != nil {
		return err
	}
	var waiting []string
	for _, pod := range pods {
		if pod.Spec.NodeName == "" && slices.Contains(claimNames(pod), claim.Name) {
			waiting = append(waiting, pod.Name)
		}
	}
	slices.Sort(waiting)
	reason, message := "WaitForPodScheduled", "waiting for pods "+strings.Join(waiting, ",")+" to be scheduled"
	switch len(waiting) {
	case 0:
		reason, message = "WaitForFirstConsumer", "waiting for first consumer to be created before binding"
	case 1:
		message = "waiting for pod " + waiting[0] + " to be scheduled"
	}
	ctrl.recorder.Event(claim, corev1.EventTypeNormal, reason, message)
	return nil
}

// assignDefaultStorageClass gives a claim that names no class the default one, which was not there yet when the claim was
// created. It reports whether it did.
func (ctrl *Controller) assignDefaultStorageClass(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	if storagehelpers.PersistentVolumeClaimHasClass(claim) {
		return false, nil
	}
	classes, err := ctrl.classLister.List(labels.Everything())
	if err != nil {
		return false, err
	}
	class := defaultClass(classes)
	if class == nil {
		return false, nil
	}
	update := claim.DeepCopy()
	update.Spec.StorageClassName = &class.Name
	_, err = ctrl.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(ctx, update, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("giving it the default class %s: %w", class.Name, err)
	}
	return true, nil
}

// defaultClass is the newest of the classes marked so, as admission has it; of two equally old ones the first by name.
func defaultClass(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	classes = slices.DeleteFunc(slices.Clone(classes), func(c *storagev1.StorageClass) bool {
		return c.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" && c.Annotations["storageclass.beta.kubernetes.io/is-default-class"] != "true"
	})
	if len(classes) == 0 {
		return nil
	}
	return slices.MinFunc(classes, func(a, b *storagev1.StorageClass) int {
		if newer := b.CreationTimestamp.Time.Compare(a.CreationTimestamp.Time); newer != 0 {
			return newer
		}
		return strings.Compare(a.Name, b.Name)
	})
}
