// Package defaultstorageclass gives each claim that names no class the default one, if there is one.
//
// In Kubernetes: plugin/pkg/admission/storage/storageclass/setdefault.
package defaultstorageclass

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// The annotation that marks a class as the default, and its older form.
const (
	IsDefaultStorageClassAnnotation     = "storageclass.kubernetes.io/is-default-class"
	BetaIsDefaultStorageClassAnnotation = "storageclass.beta.kubernetes.io/is-default-class"
)

type claimDefaulter struct {
	classes lister.Lister[*storagev1.StorageClass]
}

// New makes the plugin.
func New(classes lister.Lister[*storagev1.StorageClass]) plugin.Plugin {
	d := &claimDefaulter{classes}
	return plugin.Plugin{
		Name:       "DefaultStorageClass",
		Operations: []request.Operation{request.Create},
		Admit:      d.admit,
		Sets:       map[schema.GroupResource][]string{{Resource: "persistentvolumeclaims"}: {"spec.storageClassName"}},
	}
}

func (d *claimDefaulter) admit(_ context.Context, a *request.AdmissionAttributes) error {
	claim, ok := a.Object.(*corev1.PersistentVolumeClaim)
	if !ok || !plugin.Is(a, "", "persistentvolumeclaims") || hasClass(claim) {
		return nil
	}
	classes, err := d.classes.List("")
	if err != nil {
		return plugin.Forbidden(a, err)
	}
	if class := getDefaultClass(classes); class != nil {
		claim.Spec.StorageClassName = &class.Name
	}
	return nil
}

// hasClass: an empty name is a choice too, that of volumes without a class.
func hasClass(claim *corev1.PersistentVolumeClaim) bool {
	_, annotated := claim.Annotations[corev1.BetaStorageClassAnnotation]
	return annotated || claim.Spec.StorageClassName != nil
}

// getDefaultClass returns the newest of the classes marked so, so that a new default can be made before the old one
// is unmarked; of two equally old ones the first by name.
func getDefaultClass(classes []*storagev1.StorageClass) *storagev1.StorageClass {
	var best *storagev1.StorageClass
	for _, c := range classes {
		if c.Annotations[IsDefaultStorageClassAnnotation] != "true" && c.Annotations[BetaIsDefaultStorageClassAnnotation] != "true" {
			continue
		}
		if best == nil || best.CreationTimestamp.Before(&c.CreationTimestamp) ||
			best.CreationTimestamp.Equal(&c.CreationTimestamp) && strings.Compare(c.Name, best.Name) < 0 {
			best = c
		}
	}
	return best
}
