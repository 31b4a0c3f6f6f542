package core

import (
	"strconv"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/pod"
	"hyperkube/api/core/replicationcontroller"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/scale"
	"hyperkube/apiserver/registry/typed"
)

// What the core group has of pods in the plural: replication controllers and bare templates.

func replicationControllers(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "replicationcontrollers", Singular: "replicationcontroller", Kind: v1.SchemeGroupVersion.WithKind("ReplicationController"),
		ShortNames: []string{"rc"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &v1.ReplicationController{} },
		NewList: func() runtime.Object { return &v1.ReplicationControllerList{} },
		Default: typed.Default(replicationcontroller.SetDefaults),
		Strategy: typed.Strategy[*v1.ReplicationController]{
			OnCreate: func(rc *v1.ReplicationController) {
				rc.Status, rc.Generation = v1.ReplicationControllerStatus{}, 1
			},
			OnUpdate: func(rc, old *v1.ReplicationController) {
				rc.Status = old.Status
				typed.Bump(rc, rc.Spec, old.Spec)
			},
			Check:      replicationcontroller.Validate,
			Warn:       replicationcontroller.Warnings,
			WarnUpdate: replicationcontroller.WarningsOnUpdate,
		},
		StatusStrategy: typed.Strategy[*v1.ReplicationController]{
			OnUpdate:    func(rc, old *v1.ReplicationController) { rc.Spec = old.Spec },
			CheckUpdate: replicationcontroller.ValidateStatusUpdate,
		},
		Fields: typed.Fields(func(rc *v1.ReplicationController) fields.Set {
			return fields.Set{"status.replicas": strconv.Itoa(int(rc.Status.Replicas))}
		}),
		Table:           replicationControllerTable,
		StorageRoot:     "controllers",
		OrphanByDefault: true,
		Subresources: map[string]registry.Subresource{"scale": scale.Of[*v1.ReplicationController]{
			Resource: schema.GroupResource{Resource: "replicationcontrollers"},
			Read: func(rc *v1.ReplicationController) (int32, int32, string) {
				return ptr.Deref(rc.Spec.Replicas, 0), rc.Status.Replicas, labels.SelectorFromSet(rc.Spec.Selector).String()
			},
			Set: func(rc *v1.ReplicationController, n int32) { rc.Spec.Replicas = &n },
		}.Subresource(env)},
	}
}

var replicationControllerTable = typed.Table(func(rc *v1.ReplicationController) []any {
	var containers []v1.Container
	if rc.Spec.Template != nil {
		containers = rc.Spec.Template.Spec.Containers
	}
	names, images := column.ContainerCells(containers)
	return []any{rc.Name, int64(ptr.Deref(rc.Spec.Replicas, 0)), int64(rc.Status.Replicas), int64(rc.Status.ReadyReplicas),
		column.Since(rc.CreationTimestamp), names, images, labels.FormatLabels(rc.Spec.Selector)}
}, append([]metav1.TableColumnDefinition{
	column.Name(),
	column.Number("Desired", v1.ReplicationControllerSpec{}.SwaggerDoc()["replicas"]),
	column.Number("Current", v1.ReplicationControllerStatus{}.SwaggerDoc()["replicas"]),
	column.Number("Ready", v1.ReplicationControllerStatus{}.SwaggerDoc()["readyReplicas"]),
	column.Age(),
}, append(column.ContainersAndImages(), column.Wide(column.Text("Selector", v1.ReplicationControllerSpec{}.SwaggerDoc()["selector"])))...)...)

func podTemplates() registry.Resource {
	return registry.Resource{
		Name: "podtemplates", Singular: "podtemplate", Kind: v1.SchemeGroupVersion.WithKind("PodTemplate"),
		ReturnDeletedObject: true,
		New:                 func() runtime.Object { return &v1.PodTemplate{} },
		NewList:             func() runtime.Object { return &v1.PodTemplateList{} },
		Default:             typed.Default(func(t *v1.PodTemplate) { pod.SetDefaultsPodTemplate(&t.Template) }),
		Strategy: typed.Strategy[*v1.PodTemplate]{
			OnCreate: func(t *v1.PodTemplate) { t.Generation = 1 },
			OnUpdate: func(t, old *v1.PodTemplate) { typed.Bump(t, t.Template, old.Template) },
			Check: func(t *v1.PodTemplate) field.ErrorList {
				return pod.ValidatePodTemplateSpec(&t.Template, field.NewPath("template"))
			},
			Warn: func(t *v1.PodTemplate) []string {
				return pod.WarningsForTemplate(&t.Template, field.NewPath("template"))
			},
		},
		Table: typed.Table(func(t *v1.PodTemplate) []any {
			names, images := column.ContainerCells(t.Template.Spec.Containers)
			return []any{t.Name, names, images, labels.FormatLabels(t.Template.Labels)}
		},
			column.Name(),
			column.Text("Containers", "Names of each container in the template."),
			column.Text("Images", "Images referenced by each container in the template."),
			column.Text("Pod Labels", "The labels for the pod template."),
		),
	}
}
