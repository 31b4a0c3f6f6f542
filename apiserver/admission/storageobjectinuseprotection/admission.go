// Package storageobjectinuseprotection puts a finalizer on each new claim and volume, so that neither goes while it is
// in use. The controllers pvc-protection and pv-protection take it away again.
//
// In Kubernetes: plugin/pkg/admission/storage/storageobjectinuseprotection.
package storageobjectinuseprotection

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/request"
)

// The finalizers of claims and of volumes.
const (
	PVCProtectionFinalizer = "kubernetes.io/pvc-protection"
	PVProtectionFinalizer  = "kubernetes.io/pv-protection"
)

// New makes the plugin.
func New() plugin.Plugin {
	return plugin.Plugin{
		Name:       "StorageObjectInUseProtection",
		Operations: []request.Operation{request.Create},
		Admit:      admit,
		Sets: map[schema.GroupResource][]string{
			{Resource: "persistentvolumeclaims"}: {"metadata.finalizers"},
			{Resource: "persistentvolumes"}:      {"metadata.finalizers"},
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
