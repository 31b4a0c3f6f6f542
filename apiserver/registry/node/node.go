// Package node is the table of node.k8s.io/v1: runtime classes.
//
// In Kubernetes: pkg/registry/node.
package node

import (
	nodev1 "k8s.io/api/node/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/nodelabel"
	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of node.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	check := func(c *nodev1.RuntimeClass) field.ErrorList {
		errs := rule.DNSLabel(c.Handler, field.NewPath("handler"))
		if c.Overhead != nil {
			errs = append(errs, pod.ValidateOverhead(c.Overhead.PodFixed, field.NewPath("overhead", "podFixed"))...)
		}
		if s := c.Scheduling; s != nil {
			errs = append(errs, metav1validation.ValidateLabels(s.NodeSelector, field.NewPath("scheduling", "nodeSelector"))...)
			errs = append(errs, pod.ValidateTolerations(s.Tolerations, field.NewPath("scheduling", "tolerations"))...)
		}
		return errs
	}
	return []registry.Resource{{
		Name: "runtimeclasses", Singular: "runtimeclass", Kind: nodev1.SchemeGroupVersion.WithKind("RuntimeClass"),
		ClusterScoped: true,
		New:           func() runtime.Object { return &nodev1.RuntimeClass{} },
		NewList:       func() runtime.Object { return &nodev1.RuntimeClassList{} },
		Strategy: typed.Strategy[*nodev1.RuntimeClass]{
			Check: check,
			CheckUpdate: func(c, old *nodev1.RuntimeClass) field.ErrorList {
				return append(check(c), rule.Immutable(c.Handler, old.Handler, field.NewPath("handler"))...)
			},
			Warn: func(c *nodev1.RuntimeClass) []string {
				if c.Scheduling == nil {
					return nil
				}
				return nodelabel.WarnMap(c.Scheduling.NodeSelector, func(string) *field.Path { return field.NewPath("scheduling", "nodeSelector") })
			},
		},
		Table: typed.Table(func(c *nodev1.RuntimeClass) []any {
			return []any{c.Name, c.Handler, column.Since(c.CreationTimestamp)}
		}, column.Name(), column.Text("Handler", nodev1.RuntimeClass{}.SwaggerDoc()["handler"]), column.Age()),
	}}
}
