package core

import (
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/persistentvolume"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

func persistentVolumes() registry.Resource {
	return registry.Resource{
		Name: "persistentvolumes", Singular: "persistentvolume", Kind: v1.SchemeGroupVersion.WithKind("PersistentVolume"),
		ShortNames: []string{"pv"}, ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &v1.PersistentVolume{} },
		NewList: func() runtime.Object { return &v1.PersistentVolumeList{} },
		Default: typed.Default(persistentvolume.SetDefaultsVolume),
		Strategy: typed.Strategy[*v1.PersistentVolume]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(pv *v1.PersistentVolume) {
				pv.Status = v1.PersistentVolumeStatus{Phase: v1.VolumePending, LastPhaseTransitionTime: ptr.To(metav1.Now())}
			},
			OnUpdate:    func(pv, old *v1.PersistentVolume) { pv.Status = old.Status },
			Check:       persistentvolume.ValidateVolume,
			CheckUpdate: persistentvolume.ValidateVolumeUpdate,
			Warn:        persistentvolume.VolumeWarnings,
		},
		StatusStrategy: typed.Strategy[*v1.PersistentVolume]{
			OnUpdate: func(pv, old *v1.PersistentVolume) {
				pv.Spec = old.Spec
				stampPhase(pv, old)
			},
			CheckUpdate: func(pv, old *v1.PersistentVolume) field.ErrorList { return nil },
		},
		Table: typed.Table(volumeCells,
			column.Name(),
			column.Text("Capacity", v1.PersistentVolumeSpec{}.SwaggerDoc()["capacity"]),
			column.Text("Access Modes", v1.PersistentVolumeSpec{}.SwaggerDoc()["accessModes"]),
			column.Text("Reclaim Policy", v1.PersistentVolumeSpec{}.SwaggerDoc()["persistentVolumeReclaimPolicy"]),
			column.Text("Status", v1.PersistentVolumeStatus{}.SwaggerDoc()["phase"]),
			column.Text("Claim", v1.PersistentVolumeSpec{}.SwaggerDoc()["claimRef"]),
			column.Text("StorageClass", "StorageClass of the pv"),
			column.Text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
			column.Text("Reason", v1.PersistentVolumeStatus{}.SwaggerDoc()["reason"]),
			column.Age(),
			column.Wide(column.Text("VolumeMode", v1.PersistentVolumeSpec{}.SwaggerDoc()["volumeMode"])),
		),
	}
}

// stampPhase keeps the time at which the phase last changed, unless the controller gives one itself (KEP-3762).
func stampPhase(pv, old *v1.PersistentVolume) {
	switch given, was := pv.Status.LastPhaseTransitionTime, old.Status.LastPhaseTransitionTime; {
	case given != nil && !given.Equal(was):
	case pv.Status.Phase != old.Status.Phase:
		pv.Status.LastPhaseTransitionTime = ptr.To(metav1.Now())
	default:
		pv.Status.LastPhaseTransitionTime = was
	}
}

func volumeCells(pv *v1.PersistentVolume) []any {
	claim := ""
	if ref := pv.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	phase := string(pv.Status.Phase)
	if pv.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	capacity := pv.Spec.Capacity[v1.ResourceStorage]
	return []any{pv.Name, capacity.String(), accessModes(pv.Spec.AccessModes), string(pv.Spec.PersistentVolumeReclaimPolicy), phase, claim,
		pv.Spec.StorageClassName, column.Deref(pv.Spec.VolumeAttributesClassName, "<unset>"), pv.Status.Reason,
		column.Since(pv.CreationTimestamp), column.Deref(pv.Spec.VolumeMode, "<unset>")}
}

func persistentVolumeClaims() registry.Resource {
	return registry.Resource{
		Name: "persistentvolumeclaims", Singular: "persistentvolumeclaim", Kind: v1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		ShortNames: []string{"pvc"}, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &v1.PersistentVolumeClaim{} },
		NewList: func() runtime.Object { return &v1.PersistentVolumeClaimList{} },
		Default: typed.Default(persistentvolume.SetDefaultsClaim),
		Strategy: typed.Strategy[*v1.PersistentVolumeClaim]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(c *v1.PersistentVolumeClaim) {
				c.Status = v1.PersistentVolumeClaimStatus{Phase: v1.ClaimPending}
				persistentvolume.NormalizeDataSource(&c.Spec, nil)
			},
			OnUpdate: func(c, old *v1.PersistentVolumeClaim) {
				c.Status = old.Status
				persistentvolume.NormalizeDataSource(&c.Spec, &old.Spec)
			},
			Check:       persistentvolume.ValidateClaim,
			CheckUpdate: persistentvolume.ValidateClaimUpdate,
			Warn:        persistentvolume.ClaimWarnings,
		},
		StatusStrategy: typed.Strategy[*v1.PersistentVolumeClaim]{
			OnUpdate: func(c, old *v1.PersistentVolumeClaim) {
				c.Spec = old.Spec
				if old.Status.HealthStatus == nil {
					c.Status.HealthStatus = nil // CSIVolumeHealth is a gate that is off
				}
			},
			CheckUpdate: persistentvolume.ValidateClaimStatusUpdate,
		},
		Table: typed.Table(claimCells,
			column.Name(),
			column.Text("Status", v1.PersistentVolumeClaimStatus{}.SwaggerDoc()["phase"]),
			column.Text("Volume", v1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeName"]),
			column.Text("Capacity", v1.PersistentVolumeClaimStatus{}.SwaggerDoc()["capacity"]),
			column.Text("Access Modes", v1.PersistentVolumeClaimStatus{}.SwaggerDoc()["accessModes"]),
			column.Text("StorageClass", "StorageClass of the pvc"),
			column.Text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
			column.Age(),
			column.Wide(column.Text("VolumeMode", v1.PersistentVolumeClaimSpec{}.SwaggerDoc()["volumeMode"])),
		),
	}
}

func claimCells(c *v1.PersistentVolumeClaim) []any {
	phase := string(c.Status.Phase)
	if c.DeletionTimestamp != nil {
		phase = "Terminating"
	}
	// What a claim has is known once it is bound.
	capacity, modes := "", ""
	if c.Spec.VolumeName != "" {
		storage := c.Status.Capacity[v1.ResourceStorage]
		capacity, modes = storage.String(), accessModes(c.Status.AccessModes)
	}
	return []any{c.Name, phase, c.Spec.VolumeName, capacity, modes, column.Deref(c.Spec.StorageClassName, ""),
		column.Deref(c.Spec.VolumeAttributesClassName, "<unset>"), column.Since(c.CreationTimestamp), column.Deref(c.Spec.VolumeMode, "<unset>")}
}

var shortModes = []struct {
	mode  v1.PersistentVolumeAccessMode
	short string
}{{v1.ReadWriteOnce, "RWO"}, {v1.ReadOnlyMany, "ROX"}, {v1.ReadWriteMany, "RWX"}, {v1.ReadWriteOncePod, "RWOP"}}

func accessModes(modes []v1.PersistentVolumeAccessMode) string {
	var out []string
	for _, known := range shortModes {
		for _, mode := range modes {
			if mode == known.mode {
				out = append(out, known.short)
				break
			}
		}
	}
	return strings.Join(out, ",")
}
