// Package policy is the table of policy/v1. Evictions are a subresource of pods.
//
// In Kubernetes: pkg/registry/policy.
package policy

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/api/policy/poddisruptionbudget"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of policy/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{{
		Name: "poddisruptionbudgets", Singular: "poddisruptionbudget", Kind: policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		ShortNames: []string{"pdb"},
		New:        func() runtime.Object { return &policyv1.PodDisruptionBudget{} },
		NewList:    func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
		Strategy: typed.Strategy[*policyv1.PodDisruptionBudget]{
			Meta: registry.MetaRules{None: true},
			// Until its controller has counted, a budget allows nothing.
			OnCreate: func(pdb *policyv1.PodDisruptionBudget) {
				pdb.Status, pdb.Generation = policyv1.PodDisruptionBudgetStatus{}, 1
			},
			OnUpdate: func(pdb, old *policyv1.PodDisruptionBudget) {
				pdb.Status = old.Status
				typed.Bump(pdb, pdb.Spec, old.Spec)
			},
			Check: poddisruptionbudget.Validate,
			// Who has not read a budget may not overwrite it.
			Conditional: true,
		},
		StatusStrategy: typed.Strategy[*policyv1.PodDisruptionBudget]{
			Meta:        registry.MetaRules{None: true},
			OnUpdate:    func(pdb, old *policyv1.PodDisruptionBudget) { pdb.Spec = old.Spec },
			CheckUpdate: poddisruptionbudget.ValidateStatusUpdate,
			Conditional: true,
		},
		Table: table,
	}}
}

var table = typed.Table(func(pdb *policyv1.PodDisruptionBudget) []any {
	least, most := "N/A", "N/A"
	if n := pdb.Spec.MinAvailable; n != nil {
		least = n.String()
	}
	if n := pdb.Spec.MaxUnavailable; n != nil {
		most = n.String()
	}
	return []any{pdb.Name, least, most, int64(pdb.Status.DisruptionsAllowed), column.Since(pdb.CreationTimestamp)}
},
	column.Name(),
	column.Text("Min Available", "The minimum number of pods that must be available."),
	column.Text("Max Unavailable", "The maximum number of pods that may be unavailable."),
	column.Number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
	column.Age(),
)
