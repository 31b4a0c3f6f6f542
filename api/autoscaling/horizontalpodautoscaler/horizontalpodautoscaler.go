// Package horizontalpodautoscaler is what is true of a HorizontalPodAutoscaler
// in both of its versions: v2 is stored, v1 is another view of it.
//
// In Kubernetes: pkg/apis/autoscaling (v2/defaults.go, validation, v1/conversion.go).
package horizontalpodautoscaler

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// SetDefaults fills what the writer left out: half a rule of scaling, too.
func SetDefaults(a *autoscalingv2.HorizontalPodAutoscaler) {
	if a.Spec.MinReplicas == nil {
		a.Spec.MinReplicas = ptr.To[int32](1)
	}
	if len(a.Spec.Metrics) == 0 {
		a.Spec.Metrics = []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{
				Name:   v1.ResourceCPU,
				Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To[int32](80)},
			},
		}}
	}
	a.Status.CurrentMetrics = rule.NoneIfEmpty(a.Status.CurrentMetrics)
	if b := a.Spec.Behavior; b != nil {
		b.ScaleUp = withDefaults(b.ScaleUp, 0, []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		})
		// How long to look back before going down is the controller's option: it stays open here.
		b.ScaleDown = withDefaults(b.ScaleDown, -1, []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15},
		})
	}
}

func withDefaults(r *autoscalingv2.HPAScalingRules, window int32, policies []autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	if r.SelectPolicy == nil {
		r.SelectPolicy = ptr.To(autoscalingv2.MaxChangePolicySelect)
	}
	if r.StabilizationWindowSeconds == nil && window >= 0 {
		r.StabilizationWindowSeconds = &window
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}
