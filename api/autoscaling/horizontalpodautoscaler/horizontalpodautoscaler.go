// Package horizontalpodautoscaler is what is true of a HorizontalPodAutoscaler
// in both of its versions: v2 is stored, v1 is another view of it.
//
// In Kubernetes: pkg/apis/autoscaling (v2/defaults.go, validation, v1/conversion.go).
package horizontalpodautoscaler

import (
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	if len(r.Policies) == 0 {
		r.Policies = policies
	}
	return r
}

// Validate checks an autoscaler on its own.
func Validate(a *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	spec, path := &a.Spec, field.NewPath("spec")
	var errs field.ErrorList
	least := ptr.Deref(spec.MinReplicas, 1)
	if least < 0 {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), least, "must be greater than or equal to 0"))
	}
	if least == 0 && !slices.ContainsFunc(spec.Metrics, livesWithoutPods) {
		errs = append(errs, field.Forbidden(path.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if spec.MaxReplicas < 1 {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), spec.MaxReplicas, "must be greater than 0"))
	}
	if spec.MaxReplicas < least {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateReference(&spec.ScaleTargetRef, path.Child("scaleTargetRef"))...)
	for i := range spec.Metrics {
		errs = append(errs, validateMetric(&spec.Metrics[i], path.Child("metrics").Index(i))...)
	}
	if b := spec.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// livesWithoutPods: what only pods report would never bring them back from zero (KEP-2021).
func livesWithoutPods(m autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
}

func validateMetric(m *autoscalingv2.MetricSpec, path *field.Path) field.ErrorList {
	errs := rule.Supported(m.Type, path.Child("type"), autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType,
		autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType)
	target, name, at := source(m)
	if target == nil {
		if len(errs) == 0 {
			errs = append(errs, field.Required(path.Child(at), "must populate information for the given metric source"))
		}
		return errs
	}
	nameAt := path.Child(at, "name")
	if m.Resource == nil && m.ContainerResource == nil {
		nameAt = path.Child(at, "metric", "name")
	}
	errs = append(errs, rule.NonEmpty(name, nameAt)...)
	if m.Object != nil && at == "object" {
		errs = append(errs, validateReference(&m.Object.DescribedObject, path.Child("object", "describedObject"))...)
	}
	return append(errs, validateTarget(target, path.Child(at, "target"))...)
}

// validateReference: kind and name become parts of a URL.
func validateReference(ref *autoscalingv2.CrossVersionObjectReference, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct{ field, value string }{{"kind", ref.Kind}, {"name", ref.Name}} {
		errs = append(errs, rule.NonEmpty(part.value, path.Child(part.field))...)
		errs = append(errs, rule.All(pathvalidation.IsValidPathSegmentName(part.value), path.Child(part.field), part.value)...)
	}
	return errs
}

// source is the target, the name and the field of the metric that m.Type announces.
func source(m *autoscalingv2.MetricSpec) (*autoscalingv2.MetricTarget, string, string) {
	switch {
	case m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil:
		return &m.Object.Target, m.Object.Metric.Name, "object"
	case m.Type == autoscalingv2.PodsMetricSourceType && m.Pods != nil:
		return &m.Pods.Target, m.Pods.Metric.Name, "pods"
	case m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil:
		return &m.Resource.Target, string(m.Resource.Name), "resource"
	case m.Type == autoscalingv2.ContainerResourceMetricSourceType && m.ContainerResource != nil:
		return &m.ContainerResource.Target, string(m.ContainerResource.Name), "containerResource"
	case m.Type == autoscalingv2.ExternalMetricSourceType && m.External != nil:
		return &m.External.Target, m.External.Metric.Name, "external"
	}
	fields := map[autoscalingv2.MetricSourceType]string{
		autoscalingv2.ObjectMetricSourceType: "object", autoscalingv2.PodsMetricSourceType: "pods", autoscalingv2.ResourceMetricSourceType: "resource",
		autoscalingv2.ContainerResourceMetricSourceType: "containerResource", autoscalingv2.ExternalMetricSourceType: "external",
	}
	return nil, "", fields[m.Type]
}

func validateTarget(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	errs := rule.Supported(t.Type, path.Child("type"), autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType)
	if t.AverageUtilization == nil && t.AverageValue == nil && t.Value == nil {
		errs = append(errs, field.Required(path.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	}
	if n := t.AverageUtilization; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), *n, "must be greater than 0"))
	}
	if q := t.Value; q != nil && q.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), q, "must be positive"))
	}
	if q := t.AverageValue; q != nil && q.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), q, "must be positive"))
	}
	return errs
}

const maxWindowSeconds, maxPeriodSeconds = 3600, 1800

func validateRules(r *autoscalingv2.HPAScalingRules, path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), *w, "must be greater than or equal to zero"))
	} else if w != nil && *w > maxWindowSeconds {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), *w, "must be less than or equal to 3600"))
	}
	if s := r.SelectPolicy; s != nil {
		errs = append(errs, rule.Supported(*s, path.Child("selectPolicy"), autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)...)
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(path.Child("policies"), "must specify at least one Policy"))
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(path.Child("tolerance"), t.String(), "must be greater than or equal to 0"))
	}
	for i, p := range r.Policies {
		at := path.Child("policies").Index(i)
		errs = append(errs, rule.Supported(p.Type, at.Child("type"), autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)...)
		errs = append(errs, rule.Positive(int64(p.Value), at.Child("value"))...)
		errs = append(errs, rule.Positive(int64(p.PeriodSeconds), at.Child("periodSeconds"))...)
		if p.PeriodSeconds > maxPeriodSeconds {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be less than or equal to 1800"))
		}
	}
	return errs
}

// ValidateStatusUpdate checks the numbers a controller reports.
func ValidateStatusUpdate(a, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	path := field.NewPath("status")
	return append(rule.NonNegative(int64(a.Status.CurrentReplicas), path.Child("currentReplicas")),
		rule.NonNegative(int64(a.Status.DesiredReplicas), path.Child("desiredReplicas"))...)
}
