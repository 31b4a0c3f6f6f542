// Package storage is the table of storage.k8s.io/v1.
//
// In Kubernetes: pkg/registry/storage.
package storage

import (
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/storage/csidriver"
	"hyperkube/api/storage/csinode"
	"hyperkube/api/storage/csistoragecapacity"
	"hyperkube/api/storage/storageclass"
	"hyperkube/api/storage/volumeattachment"
	"hyperkube/api/storage/volumeattributesclass"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

func kind(name string) schema.GroupVersionKind { return storagev1.SchemeGroupVersion.WithKind(name) }

// Resources is the table of storage.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{storageClasses(), csiNodes(), csiDrivers(), csiStorageCapacities(), volumeAttachments(), volumeAttributesClasses()}
}

func storageClasses() registry.Resource {
	return registry.Resource{
		Name: "storageclasses", Singular: "storageclass", Kind: kind("StorageClass"),
		ShortNames: []string{"sc"}, ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &storagev1.StorageClass{} },
		NewList: func() runtime.Object { return &storagev1.StorageClassList{} },
		Default: typed.Default(storageclass.SetDefaults),
		Strategy: typed.Strategy[*storagev1.StorageClass]{
			Meta:        registry.MetaRules{NameAgain: true},
			Check:       storageclass.Validate,
			CheckUpdate: storageclass.ValidateUpdate,
			Warn:        storageclass.Warnings,
		},
		Table: typed.Table(func(c *storagev1.StorageClass) []any {
			name := c.Name
			if c.Annotations[storageclass.IsDefaultAnnotation] == "true" {
				name += " (default)"
			}
			return []any{name, c.Provisioner, column.Deref(c.ReclaimPolicy, "Delete"), column.Deref(c.VolumeBindingMode, "<unset>"),
				ptr.Deref(c.AllowVolumeExpansion, false), column.Since(c.CreationTimestamp)}
		},
			column.Name(),
			column.Text("Provisioner", storagev1.StorageClass{}.SwaggerDoc()["provisioner"]),
			column.Text("ReclaimPolicy", storagev1.StorageClass{}.SwaggerDoc()["reclaimPolicy"]),
			column.Text("VolumeBindingMode", storagev1.StorageClass{}.SwaggerDoc()["volumeBindingMode"]),
			column.Text("AllowVolumeExpansion", storagev1.StorageClass{}.SwaggerDoc()["allowVolumeExpansion"]),
			column.Age(),
		),
	}
}

func csiNodes() registry.Resource {
	return registry.Resource{
		Name: "csinodes", Singular: "csinode", Kind: kind("CSINode"), ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &storagev1.CSINode{} },
		NewList: func() runtime.Object { return &storagev1.CSINodeList{} },
		Default: typed.Default(csinode.SetDefaults),
		Strategy: typed.Strategy[*storagev1.CSINode]{
			Meta:        registry.MetaRules{NameAgain: true},
			OnCreate:    func(n *storagev1.CSINode) { n.Status = storagev1.CSINodeStatus{} },
			OnUpdate:    func(n, old *storagev1.CSINode) { n.Status = old.Status },
			Check:       csinode.Validate,
			CheckUpdate: csinode.ValidateUpdate,
			Conditional: true,
		},
		// All that there is of the status is the health of volumes, a feature that v1.37 has off: nobody can write it.
		StatusStrategy: typed.Strategy[*storagev1.CSINode]{
			OnUpdate: func(n, old *storagev1.CSINode) {
				n.Spec, n.Status = old.Spec, old.Status
				metav1.ResetObjectMetaForStatus(n, old)
			},
			CheckUpdate: func(n, old *storagev1.CSINode) field.ErrorList { return nil },
			Conditional: true,
		},
		Table: typed.Table(func(n *storagev1.CSINode) []any {
			return []any{n.Name, int64(len(n.Spec.Drivers)), column.Since(n.CreationTimestamp)}
		}, column.Name(), column.Number("Drivers", "Drivers indicates the number of CSI drivers registered on the node"), column.Age()),
	}
}

func csiDrivers() registry.Resource {
	return registry.Resource{
		Name: "csidrivers", Singular: "csidriver", Kind: kind("CSIDriver"), ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &storagev1.CSIDriver{} },
		NewList: func() runtime.Object { return &storagev1.CSIDriverList{} },
		Default: typed.Default(csidriver.SetDefaults),
		Strategy: typed.Strategy[*storagev1.CSIDriver]{
			OnUpdate:    func(d, old *storagev1.CSIDriver) { typed.Bump(d, d.Spec, old.Spec) },
			Check:       csidriver.Validate,
			CheckUpdate: csidriver.ValidateUpdate,
			Warn:        func(d *storagev1.CSIDriver) []string { return csidriver.Warnings(d, nil) },
			WarnUpdate:  csidriver.Warnings,
			Conditional: true,
		},
		Table: typed.Table(func(d *storagev1.CSIDriver) []any {
			var modes, audiences []string
			for _, mode := range d.Spec.VolumeLifecycleModes {
				modes = append(modes, string(mode))
			}
			for _, request := range d.Spec.TokenRequests {
				audiences = append(audiences, request.Audience)
			}
			return []any{d.Name, ptr.Deref(d.Spec.AttachRequired, true), ptr.Deref(d.Spec.PodInfoOnMount, false), ptr.Deref(d.Spec.StorageCapacity, false),
				column.Or(strings.Join(audiences, ","), "<unset>"), ptr.Deref(d.Spec.RequiresRepublish, false), column.Or(strings.Join(modes, ","), "<none>"), column.Since(d.CreationTimestamp)}
		},
			column.Name(),
			column.Bool("AttachRequired", storagev1.CSIDriverSpec{}.SwaggerDoc()["attachRequired"]),
			column.Bool("PodInfoOnMount", storagev1.CSIDriverSpec{}.SwaggerDoc()["podInfoOnMount"]),
			column.Bool("StorageCapacity", storagev1.CSIDriverSpec{}.SwaggerDoc()["storageCapacity"]),
			column.Text("TokenRequests", storagev1.CSIDriverSpec{}.SwaggerDoc()["tokenRequests"]),
			column.Bool("RequiresRepublish", storagev1.CSIDriverSpec{}.SwaggerDoc()["requiresRepublish"]),
			column.Text("Modes", storagev1.CSIDriverSpec{}.SwaggerDoc()["volumeLifecycleModes"]),
			column.Age(),
		),
	}
}

func csiStorageCapacities() registry.Resource {
	return registry.Resource{
		Name: "csistoragecapacities", Singular: "csistoragecapacity", Kind: kind("CSIStorageCapacity"),
		New:     func() runtime.Object { return &storagev1.CSIStorageCapacity{} },
		NewList: func() runtime.Object { return &storagev1.CSIStorageCapacityList{} },
		Strategy: typed.Strategy[*storagev1.CSIStorageCapacity]{
			Meta:        registry.MetaRules{NameAgain: true},
			Check:       csistoragecapacity.Validate,
			CheckUpdate: csistoragecapacity.ValidateUpdate,
			Conditional: true,
			Warn:        csistoragecapacity.Warnings,
		},
	}
}

func volumeAttachments() registry.Resource {
	return registry.Resource{
		Name: "volumeattachments", Singular: "volumeattachment", Kind: kind("VolumeAttachment"),
		ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &storagev1.VolumeAttachment{} },
		NewList: func() runtime.Object { return &storagev1.VolumeAttachmentList{} },
		Strategy: typed.Strategy[*storagev1.VolumeAttachment]{
			Meta:        registry.MetaRules{NameAgain: true},
			OnCreate:    func(a *storagev1.VolumeAttachment) { a.Status = storagev1.VolumeAttachmentStatus{} },
			OnUpdate:    func(a, old *storagev1.VolumeAttachment) { a.Status = old.Status },
			Check:       volumeattachment.Validate,
			CheckUpdate: volumeattachment.ValidateUpdate,
			Conditional: true,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*storagev1.VolumeAttachment]{
			OnUpdate: func(a, old *storagev1.VolumeAttachment) {
				a.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(a, old)
			},
			CheckUpdate: volumeattachment.ValidateUpdate,
			Conditional: true,
		},
		Table: typed.Table(func(a *storagev1.VolumeAttachment) []any {
			return []any{a.Name, a.Spec.Attacher, column.Deref(a.Spec.Source.PersistentVolumeName, ""), a.Spec.NodeName, a.Status.Attached, column.Since(a.CreationTimestamp)}
		},
			column.Name(),
			metav1.TableColumnDefinition{Name: "Attacher", Type: "string", Format: "name", Description: storagev1.VolumeAttachmentSpec{}.SwaggerDoc()["attacher"]},
			column.Text("PV", storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"]),
			column.Text("Node", storagev1.VolumeAttachmentSpec{}.SwaggerDoc()["nodeName"]),
			column.Bool("Attached", storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"]),
			column.Age(),
		),
	}
}

func volumeAttributesClasses() registry.Resource {
	return registry.Resource{
		Name: "volumeattributesclasses", Singular: "volumeattributesclass", Kind: kind("VolumeAttributesClass"),
		ShortNames: []string{"vac"}, ClusterScoped: true, ReturnDeletedObject: true,
		New:     func() runtime.Object { return &storagev1.VolumeAttributesClass{} },
		NewList: func() runtime.Object { return &storagev1.VolumeAttributesClassList{} },
		Strategy: typed.Strategy[*storagev1.VolumeAttributesClass]{
			Meta:        registry.MetaRules{NameAgain: true},
			Check:       volumeattributesclass.Validate,
			CheckUpdate: volumeattributesclass.ValidateUpdate,
		},
		Table: typed.Table(func(c *storagev1.VolumeAttributesClass) []any {
			return []any{c.Name, c.DriverName, column.Since(c.CreationTimestamp)}
		}, column.Name(), column.Text("DriverName", storagev1.VolumeAttributesClass{}.SwaggerDoc()["driverName"]), column.Age()),
	}
}
