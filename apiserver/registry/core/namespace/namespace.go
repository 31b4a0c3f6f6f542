// Package namespace is the apiserver's room of Namespaces. A namespace that is
// deleted stays, Terminating, until its controller has emptied it and takes the
// finalizer "kubernetes" out of spec.finalizers through /finalize.
//
// In Kubernetes: pkg/registry/core/namespace.
package namespace

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/core/namespace"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resource is the line of namespaces in the table of the core group.
func Resource(env *registry.Env) registry.Resource {
	return registry.Resource{
		Name: "namespaces", Singular: "namespace", Kind: v1.SchemeGroupVersion.WithKind("Namespace"),
		ShortNames: []string{"ns"}, ClusterScoped: true,
		New:            func() runtime.Object { return &v1.Namespace{} },
		NewList:        func() runtime.Object { return &v1.NamespaceList{} },
		Default:        typed.Default(namespace.SetDefaults),
		Strategy:       strategy,
		StatusStrategy: statusStrategy,
		Resets:         map[string][]string{"finalize": {"status"}},
		Fields: typed.Fields(func(ns *v1.Namespace) fields.Set {
			return fields.Set{"status.phase": string(ns.Status.Phase)}
		}),
		Table: table,
		// Each namespace takes all that is in it along: nobody is to delete them by the dozen.
		Without: []string{"deletecollection"},
		Subresources: map[string]registry.Subresource{
			"finalize": {
				Kind: v1.SchemeGroupVersion.WithKind("Namespace"), New: func() runtime.Object { return &v1.Namespace{} },
				View: finalizeStrategy, Without: []string{"get", "patch"},
			},
		},
		Hooks: registry.Hooks{
			MarkDeleted: func(obj runtime.Object) { obj.(*v1.Namespace).Status.Phase = v1.NamespaceTerminating },
			Held:        func(obj runtime.Object) bool { return len(obj.(*v1.Namespace).Spec.Finalizers) > 0 },
		},
	}
}

var strategy = typed.Strategy[*v1.Namespace]{
	Name: validation.ValidateNamespaceName,
	Meta: registry.MetaRules{NameAgain: true},
	OnCreate: func(ns *v1.Namespace) {
		ns.Status = v1.NamespaceStatus{Phase: v1.NamespaceActive}
		if !slices.Contains(ns.Spec.Finalizers, v1.FinalizerKubernetes) {
			ns.Spec.Finalizers = append(ns.Spec.Finalizers, v1.FinalizerKubernetes)
		}
		// A generated name is known only now.
		namespace.SetNameLabel(ns)
	},
	OnUpdate: func(ns, old *v1.Namespace) {
		ns.Spec.Finalizers = old.Spec.Finalizers
		ns.Status = old.Status
		namespace.SetNameLabel(ns)
	},
	Check: namespace.Validate,
}

var statusStrategy = typed.Strategy[*v1.Namespace]{
	OnUpdate:    func(ns, old *v1.Namespace) { ns.Spec = old.Spec },
	CheckUpdate: namespace.ValidateStatusUpdate,
}

var finalizeStrategy = typed.Strategy[*v1.Namespace]{
	OnUpdate:    func(ns, old *v1.Namespace) { ns.Status = old.Status },
	CheckUpdate: namespace.ValidateFinalizeUpdate,
}

var table = typed.Table(func(ns *v1.Namespace) []any {
	return []any{ns.Name, string(ns.Status.Phase), column.Since(ns.CreationTimestamp)}
}, column.Name(), column.Text("Status", "The status of the namespace"), column.Age())
