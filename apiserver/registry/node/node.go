// Package node is the table of node.k8s.io/v1: runtime classes.
//
// In Kubernetes: pkg/registry/node.
package node

import (
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/node/runtimeclass"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of node.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{{
		Name: "runtimeclasses", Singular: "runtimeclass", Kind: nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		ClusterScoped: true,
		New:           func() runtime.Object { return &nodev1.RuntimeClass{} },
		NewList:       func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Strategy: typed.Strategy[*nodev1.RuntimeClass]{
			Meta:           registry.MetaRules{AnyFinalizer: true, NameAgain: true},
			Check:          runtimeclass.Validate,
			CheckUpdate:    runtimeclass.ValidateUpdate,
			Warn:           runtimeclass.Warnings,
			CreateOnUpdate: true,
			Conditional:    true,
		},
		Table: typed.Table(func(c *nodev1.RuntimeClass) []any {
			return []any{c.Name, c.Handler, column.Since(c.CreationTimestamp)}
		}, column.Name(), column.Text("Handler", ""), column.Age()),
	}}
}
