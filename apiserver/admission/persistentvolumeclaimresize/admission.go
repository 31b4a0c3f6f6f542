// Package persistentvolumeclaimresize lets a claim ask for more only when it is bound and its class allows that.
//
// In Kubernetes: plugin/pkg/admission/storage/persistentvolume/resize.
package persistentvolumeclaimresize

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	storagehelpers "k8s.io/component-helpers/storage/volume"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

type resize struct {
	classes lister.Lister[*storagev1.StorageClass]
}

// New makes the plugin.
func New(classes lister.Lister[*storagev1.StorageClass]) plugin.Plugin {
	r := &resize{classes}
	return plugin.Plugin{
		Name:       "PersistentVolumeClaimResize",
		Operations: []request.Operation{request.Update},
		Validate:   r.validate,
	}
}

func (r *resize) validate(_ context.Context, a *request.AdmissionAttributes) error {
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	old, oldOK := a.OldObject.(*corev1.PersistentVolumeClaim)
	if !ok || !oldOK || !plugin.Is(a, "", "persistentvolumeclaims") {
		return nil
	}
	size, oldSize := claim.Spec.Resources.Requests[corev1.ResourceStorage], old.Spec.Resources.Requests[corev1.ResourceStorage]
	if size.Cmp(oldSize) <= 0 {
		return nil
	}
	if old.Status.Phase != corev1.ClaimBound {
		return plugin.Forbidden(a, errors.New("Only bound persistent volume claims can be expanded"))
	}
	if !r.allowResize(claim, old) {
		return plugin.Forbidden(a, errors.New("only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"))
	}
	return nil
}

func (r *resize) allowResize(claim, old *corev1.PersistentVolumeClaim) bool {
	name := storagehelpers.GetPersistentVolumeClaimClass(claim)
	if name == "" || name != storagehelpers.GetPersistentVolumeClaimClass(old) {
		return false
	}
	class, err := r.classes.Get("", name)
	return err == nil && ptr.Deref(class.AllowVolumeExpansion, false)
}
