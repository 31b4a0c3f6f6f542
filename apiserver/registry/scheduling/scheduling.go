// Package scheduling is the table of scheduling.k8s.io/v1.
//
// In Kubernetes: pkg/registry/scheduling.
package scheduling

import (
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/scheduling/priorityclass"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of scheduling.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{{
		Name: "priorityclasses", Singular: "priorityclass", Kind: schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		ShortNames: []string{"pc"}, ClusterScoped: true,
		New:     func() runtime.Object { return &schedulingv1.PriorityClass{} },
		NewList: func() runtime.Object { return &schedulingv1.PriorityClassList{} },
		Default: typed.Default(priorityclass.SetDefaults),
		Strategy: typed.Strategy[*schedulingv1.PriorityClass]{
			OnCreate:    func(pc *schedulingv1.PriorityClass) { pc.Generation = 1 },
			Check:       priorityclass.Validate,
			CheckUpdate: priorityclass.ValidateUpdate,
		},
		Hooks: registry.Hooks{CheckDelete: priorityclass.CheckDelete},
		Table: typed.Table(func(pc *schedulingv1.PriorityClass) []any {
			return []any{pc.Name, int64(pc.Value), pc.GlobalDefault, column.Since(pc.CreationTimestamp), column.Deref(pc.PreemptionPolicy, "")}
		},
			column.Name(),
			column.Number("Value", schedulingv1.PriorityClass{}.SwaggerDoc()["value"]),
			column.Bool("Global-Default", schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"]),
			column.Age(),
			column.Text("PreemptionPolicy", schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"]),
		),
	}}
}
