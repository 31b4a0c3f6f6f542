package persistentvolume

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/nodelabel"
	"hyperkube/api/core/pod"
)

const deprecatedAnnotation = "metadata.annotations[" + v1.BetaStorageClassAnnotation + "]: deprecated since v1.8; use \"storageClassName\" attribute instead"

// VolumeWarnings tell of what still is accepted, and will not work, or not for long.
func VolumeWarnings(pv *v1.PersistentVolume) []string {
	var warnings []string
	path := field.NewPath("spec")
	if _, ok := pv.Annotations[v1.BetaStorageClassAnnotation]; ok {
		warnings = append(warnings, deprecatedAnnotation)
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimRecycle {
		warnings = append(warnings, fmt.Sprintf("%s: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.", path.Child("persistentVolumeReclaimPolicy")))
	}
	if a := pv.Spec.NodeAffinity; a != nil && a.Required != nil {
		for i := range a.Required.NodeSelectorTerms {
			warnings = append(warnings, nodelabel.WarnTerm(&a.Required.NodeSelectorTerms[i], false, path.Child("nodeAffinity", "required", "nodeSelectorTerms").Index(i))...)
		}
	}
	for _, plugin := range []struct {
		name, text string
		set        bool
	}{
		{"cephfs", "deprecated in v1.28, non-functional in v1.31+", pv.Spec.CephFS != nil},
		{"photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+", pv.Spec.PhotonPersistentDisk != nil},
		{"scaleIO", "deprecated in v1.16, non-functional in v1.22+", pv.Spec.ScaleIO != nil},
		{"storageOS", "deprecated in v1.22, non-functional in v1.25+", pv.Spec.StorageOS != nil},
		{"glusterfs", "deprecated in v1.25, non-functional in v1.26+", pv.Spec.Glusterfs != nil},
		{"rbd", "deprecated in v1.28, non-functional in v1.31+", pv.Spec.RBD != nil},
	} {
		if plugin.set {
			warnings = append(warnings, fmt.Sprintf("%s: %s", path.Child(plugin.name), plugin.text))
		}
	}
	return warnings
}

// ClaimWarnings tell of a size in parts of a byte, and of the annotation that was a field's forerunner.
func ClaimWarnings(claim *v1.PersistentVolumeClaim) []string {
	var warnings []string
	if _, ok := claim.Annotations[v1.BetaStorageClassAnnotation]; ok {
		warnings = append(warnings, deprecatedAnnotation)
	}
	return append(warnings, pod.WarningsForClaimSpec(&claim.Spec, field.NewPath("spec"))...)
}
