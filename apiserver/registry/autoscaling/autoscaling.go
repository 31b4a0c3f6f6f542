// Package autoscaling is the table of autoscaling: one autoscaler, stored as v2,
// served in both versions.
//
// In Kubernetes: pkg/registry/autoscaling.
package autoscaling

import (
	"fmt"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	hpa "hyperkube/api/autoscaling/horizontalpodautoscaler"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
	"hyperkube/apiserver/registry/typed"
)

const plural = "horizontalpodautoscalers"

// Resources is the table of both versions.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{{
		Name: plural, Singular: "horizontalpodautoscaler", Kind: autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		ShortNames: []string{"hpa"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		Default: typed.Default(hpa.SetDefaults),
		Strategy: typed.Strategy[*autoscalingv2.HorizontalPodAutoscaler]{
			OnCreate: func(a *autoscalingv2.HorizontalPodAutoscaler) {
				a.Status, a.Generation = autoscalingv2.HorizontalPodAutoscalerStatus{}, 1
			},
			OnUpdate: func(a, old *autoscalingv2.HorizontalPodAutoscaler) {
				a.Status = old.Status
				typed.Bump(a, a.Spec, old.Spec)
			},
			Check:       hpa.Validate,
			CheckUpdate: hpa.ValidateUpdate,
		},
		StatusStrategy: typed.Strategy[*autoscalingv2.HorizontalPodAutoscaler]{
			OnUpdate:    func(a, old *autoscalingv2.HorizontalPodAutoscaler) { a.Spec = old.Spec },
			CheckUpdate: hpa.ValidateStatusUpdate,
		},
		Table: typed.Table(cells, columns...),
	}, {
		Name: plural, Singular: "horizontalpodautoscaler", Kind: autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		ShortNames: []string{"hpa"}, Categories: []string{"all"},
		New:     func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		NewList: func() runtime.Object { return &autoscalingv1.HorizontalPodAutoscalerList{} },
		View: &registry.View{
			Of: schema.GroupResource{Group: autoscalingv2.GroupName, Resource: plural},
			ToServed: func(stored runtime.Object) runtime.Object {
				return hpa.ToV1(stored.(*autoscalingv2.HorizontalPodAutoscaler))
			},
			ToStored: func(served runtime.Object) runtime.Object {
				a := hpa.ToV2(served.(*autoscalingv1.HorizontalPodAutoscaler))
				hpa.SetDefaults(a)
				return a
			},
		},
		Table: typed.Table(func(a *autoscalingv1.HorizontalPodAutoscaler) []any { return cells(hpa.ToV2(a)) }, columns...),
	}}
}

var columns = []metav1.TableColumnDefinition{
	column.Name(),
	column.Text("Reference", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["scaleTargetRef"]),
	column.Text("Targets", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["metrics"]),
	column.Text("MinPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["minReplicas"]),
	column.Text("MaxPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["maxReplicas"]),
	column.Text("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
	column.Age(),
}

func cells(a *autoscalingv2.HorizontalPodAutoscaler) []any {
	ref := a.Spec.ScaleTargetRef
	return []any{a.Name, ref.Kind + "/" + ref.Name, targets(a), column.Deref(a.Spec.MinReplicas, "<unset>"),
		int64(a.Spec.MaxReplicas), int64(a.Status.CurrentReplicas), column.Since(a.CreationTimestamp)}
}

// targets are "present/wanted" of the first two metrics.
func targets(a *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(a.Spec.Metrics) == 0 {
		return "<none>"
	}
	const most = 2
	var list []string
	for i, m := range a.Spec.Metrics {
		if i == most {
			return fmt.Sprintf("%s + %d more...", strings.Join(list, ", "), len(a.Spec.Metrics)-most)
		}
		var current *autoscalingv2.MetricStatus
		if i < len(a.Status.CurrentMetrics) {
			current = &a.Status.CurrentMetrics[i]
		}
		list = append(list, target(&m, current))
	}
	return strings.Join(list, ", ")
}

func target(m *autoscalingv2.MetricSpec, current *autoscalingv2.MetricStatus) string {
	wanted, value, prefix := autoscalingv2.MetricTarget{}, autoscalingv2.MetricValueStatus{}, ""
	switch {
	case m.Resource != nil:
		wanted, prefix = m.Resource.Target, string(m.Resource.Name)+": "
		if current != nil && current.Resource != nil {
			value = current.Resource.Current
		}
	case m.ContainerResource != nil:
		wanted, prefix = m.ContainerResource.Target, string(m.ContainerResource.Name)+": "
		if current != nil && current.ContainerResource != nil {
			value = current.ContainerResource.Current
		}
	case m.Pods != nil:
		wanted = m.Pods.Target
		if current != nil && current.Pods != nil {
			value = current.Pods.Current
		}
	case m.Object != nil:
		wanted = m.Object.Target
		if current != nil && current.Object != nil {
			value = current.Object.Current
		}
	case m.External != nil:
		wanted = m.External.Target
		if current != nil && current.External != nil {
			value = current.External.Current
		}
	default:
		return "<unknown type>"
	}
	text := prefix + pair(&value, &wanted)
	if wanted.AverageValue != nil && (m.Object != nil || m.External != nil) {
		text += " (avg)" // for the others it is an average anyway
	}
	return text
}

func pair(value *autoscalingv2.MetricValueStatus, wanted *autoscalingv2.MetricTarget) string {
	text := func(q *resource.Quantity) string {
		if q == nil {
			return "<unknown>"
		}
		return q.String()
	}
	switch {
	case wanted.AverageValue != nil:
		return fmt.Sprintf("%s/%s", text(value.AverageValue), wanted.AverageValue.String())
	case wanted.Value != nil:
		return fmt.Sprintf("%s/%s", text(value.Value), wanted.Value.String())
	}
	present := "<unknown>"
	if value.AverageUtilization != nil {
		present = fmt.Sprintf("%d%%", *value.AverageUtilization)
	}
	if wanted.AverageUtilization == nil {
		return present + "/<auto>"
	}
	return fmt.Sprintf("%s/%d%%", present, *wanted.AverageUtilization)
}
