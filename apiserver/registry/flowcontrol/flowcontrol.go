// Package flowcontrol is the table of flowcontrol.apiserver.k8s.io/v1.
//
// In Kubernetes: pkg/registry/flowcontrol.
package flowcontrol

import (
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/flowcontrol/flowschema"
	"hyperkube/api/flowcontrol/prioritylevelconfiguration"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the table of flowcontrol.apiserver.k8s.io/v1.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{flowSchemas(env), priorityLevels()}
}

func kind(name string) schema.GroupVersionKind {
	return flowcontrolv1.SchemeGroupVersion.WithKind(name)
}

func flowSchemas(env *registry.Env) registry.Resource {
	type object = flowcontrolv1.FlowSchema
	return registry.Resource{
		Name: "flowschemas", Singular: "flowschema", Kind: kind("FlowSchema"), ClusterScoped: true,
		New:        func() runtime.Object { return &object{} },
		NewList:    func() runtime.Object { return &flowcontrolv1.FlowSchemaList{} },
		Default:    typed.Default(flowschema.SetDefaults),
		Background: followDangling(env),
		Strategy: typed.Strategy[*object]{
			Meta: registry.MetaRules{NameAgain: true},
			OnCreate: func(s *object) {
				s.Status, s.Generation = flowcontrolv1.FlowSchemaStatus{}, 1
				unlist(s)
			},
			OnUpdate: func(s, old *object) {
				s.Status = old.Status
				unlist(s)
				typed.Bump(s, s.Spec, old.Spec)
			},
			Check: flowschema.Validate,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*object]{
			Meta: registry.MetaRules{AnyFinalizer: true},
			OnUpdate: func(s, old *object) {
				s.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(s, old)
			},
			CheckUpdate: func(s, old *object) field.ErrorList { return flowschema.ValidateStatus(s) },
		},
		Table: typed.Table(func(s *object) []any {
			by, missing := "<none>", "?"
			if method := s.Spec.DistinguisherMethod; method != nil {
				by = string(method.Type)
			}
			for _, c := range s.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling {
					missing = string(c.Status)
				}
			}
			return []any{s.Name, s.Spec.PriorityLevelConfiguration.Name, int64(s.Spec.MatchingPrecedence), by, column.Since(s.CreationTimestamp), missing}
		},
			column.Name(),
			column.Text("PriorityLevel", flowcontrolv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"]),
			column.Text("MatchingPrecedence", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"]),
			column.Text("DistinguisherMethod", flowcontrolv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"]),
			column.Age(),
			column.Text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
		),
	}
}

// unlist: an answer shows namespaces that are none as null, however they were written.
func unlist(s *flowcontrolv1.FlowSchema) {
	for i := range s.Spec.Rules {
		for j := range s.Spec.Rules[i].ResourceRules {
			if r := &s.Spec.Rules[i].ResourceRules[j]; len(r.Namespaces) == 0 {
				r.Namespaces = nil
			}
		}
	}
}

func priorityLevels() registry.Resource {
	type object = flowcontrolv1.PriorityLevelConfiguration
	return registry.Resource{
		Name: "prioritylevelconfigurations", Singular: "prioritylevelconfiguration", Kind: kind("PriorityLevelConfiguration"), ClusterScoped: true,
		New:     func() runtime.Object { return &object{} },
		NewList: func() runtime.Object { return &flowcontrolv1.PriorityLevelConfigurationList{} },
		Default: typed.Default(prioritylevelconfiguration.SetDefaults),
		Strategy: typed.Strategy[*object]{
			Meta:     registry.MetaRules{NameAgain: true},
			OnCreate: func(p *object) { p.Status, p.Generation = flowcontrolv1.PriorityLevelConfigurationStatus{}, 1 },
			OnUpdate: func(p, old *object) {
				p.Status = old.Status
				typed.Bump(p, p.Spec, old.Spec)
			},
			Check: prioritylevelconfiguration.Validate,
		},
		Resets: map[string][]string{"status": {"metadata"}},
		StatusStrategy: typed.Strategy[*object]{
			Meta: registry.MetaRules{AnyFinalizer: true},
			OnUpdate: func(p, old *object) {
				p.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(p, old)
			},
			CheckUpdate: func(p, old *object) field.ErrorList { return prioritylevelconfiguration.ValidateStatus(p) },
		},
		Table: typed.Table(priorityLevelCells,
			column.Name(),
			column.Text("Type", flowcontrolv1.PriorityLevelConfigurationSpec{}.SwaggerDoc()["type"]),
			column.Text("NominalConcurrencyShares", flowcontrolv1.LimitedPriorityLevelConfiguration{}.SwaggerDoc()["nominalConcurrencyShares"]),
			column.Text("Queues", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queues"]),
			column.Text("HandSize", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["handSize"]),
			column.Text("QueueLengthLimit", flowcontrolv1.QueuingConfiguration{}.SwaggerDoc()["queueLengthLimit"]),
			column.Age(),
		),
	}
}

func priorityLevelCells(p *flowcontrolv1.PriorityLevelConfiguration) []any {
	shares, queues, hand, length := any("<none>"), any("<none>"), any("<none>"), any("<none>")
	if limited := p.Spec.Limited; limited != nil {
		shares = int64(ptr.Deref(limited.NominalConcurrencyShares, 0))
		if q := limited.LimitResponse.Queuing; q != nil {
			queues, hand, length = int64(q.Queues), int64(q.HandSize), int64(q.QueueLengthLimit)
		}
	}
	return []any{p.Name, string(p.Spec.Type), shares, queues, hand, length, column.Since(p.CreationTimestamp)}
}
