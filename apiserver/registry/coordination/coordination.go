// Package coordination is the table of coordination.k8s.io/v1: leases, by which
// nodes show that they live and components agree on a leader.
//
// In Kubernetes: pkg/registry/coordination.
package coordination

import (
	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/coordination/lease"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of coordination.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{{
		Name: "leases", Singular: "lease", Kind: coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		New:     func() runtime.Object { return &coordinationv1.Lease{} },
		NewList: func() runtime.Object { return &coordinationv1.LeaseList{} },
		// A holder that did not read the lease must not take it: a PUT needs its version.
		Strategy: typed.Strategy[*coordinationv1.Lease]{Meta: registry.MetaRules{AnyFinalizer: true}, CreateOnUpdate: true, Conditional: true, Check: lease.Validate,
			OnCreate: func(l *coordinationv1.Lease) { lease.DropDisabled(l, nil) }, OnUpdate: lease.DropDisabled},
		Table: typed.Table(func(l *coordinationv1.Lease) []any {
			return []any{l.Name, column.Deref(l.Spec.HolderIdentity, ""), column.Since(l.CreationTimestamp)}
		}, column.Name(), column.Text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), column.Age()),
	}}
}
