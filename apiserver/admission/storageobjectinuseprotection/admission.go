// Package storageobjectinuseprotection puts a finalizer on each new claim, volume and class of volume attributes, so that
// none goes while it is in use. The controllers pvc-protection, pv-protection and volumeattributesclass-protection take it
// away again.
//
// In Kubernetes: plugin/pkg/admission/storage/storageobjectinuseprotection.
package storageobjectinuseprotection

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/request"
)

// The finalizers of claims, of volumes and of classes of volume attributes.
const (
	PVCProtectionFinalizer = "kubernetes.io/pvc-protection"
	PVProtectionFinalizer  = "kubernetes.io/pv-protection"
	VACProtectionFinalizer = "kubernetes.io/vac-protection"
)

// New makes the plugin.
func New() plugin.Plugin {
	return plugin.Plugin{
		Name:       "StorageObjectInUseProtection",
		Operations: []request.Operation{request.Create},
		Admit:      admit,
		Sets: map[schema.GroupResource][]string{
			{Resource: "persistentvolumeclaims"}:                              {"metadata.finalizers"},
			{Resource: "persistentvolumes"}:                                   {"metadata.finalizers"},
			{Group: storagev1.GroupName, Resource: "volumeattributesclasses"}: {"metadata.finalizers"},
		},
	}
}

func admit(_ context.Context, a *request.AdmissionAttributes) error {
	finalizer := ""
	switch a.Object.(type) {
	case *corev1.PersistentVolumeClaim:
		finalizer = PVCProtectionFinalizer
	case *corev1.PersistentVolume:
		finalizer = PVProtectionFinalizer
	case *storagev1.VolumeAttributesClass:
		finalizer = VACProtectionFinalizer
	}
	if finalizer == "" || a.Subresource != "" {
		return nil
	}
	accessor, err := meta.Accessor(a.Object)
	if err != nil {
		return err
	}
	if !slices.Contains(accessor.GetFinalizers(), finalizer) {
		accessor.SetFinalizers(append(accessor.GetFinalizers(), finalizer))
	}
	return nil
}
