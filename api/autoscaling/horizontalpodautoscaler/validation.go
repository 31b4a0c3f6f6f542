package horizontalpodautoscaler

import (
	"errors"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// Validate checks a new autoscaler.
func Validate(a *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return validate(a, nil)
}

// ValidateUpdate checks a changed one. What was let in under fewer rules may stay.
func ValidateUpdate(a, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	return validate(a, old)
}

// versions says which apiVersion a reference may have.
type versions struct {
	any       bool // even one that cannot be read
	coreGroup bool // none at all, too
}

func validate(a, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	spec, path := &a.Spec, field.NewPath("spec")
	var errs field.ErrorList
	if least := spec.MinReplicas; least != nil && *least < 0 {
		errs = append(errs, rule.Declared(field.ErrorList{field.Invalid(path.Child("minReplicas"), *least, "must be greater than or equal to 0")})...)
	}
	if spec.MaxReplicas == 0 {
		errs = append(errs, rule.Declared(field.ErrorList{field.Required(path.Child("maxReplicas"), "")})...)
	} else if spec.MaxReplicas < 0 {
		errs = append(errs, rule.Declared(field.ErrorList{field.Invalid(path.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to 1")})...)
	}
	if least := spec.MinReplicas; least != nil && spec.MaxReplicas < *least {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), spec.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	errs = append(errs, validateReference(&spec.ScaleTargetRef, targetVersions(spec, old), path.Child("scaleTargetRef"))...)
	errs = append(errs, validateMetrics(spec, describedVersions(old), path.Child("metrics"))...)
	if b := spec.Behavior; b != nil {
		errs = append(errs, validateRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, validateRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// targetVersions: of what can be scaled, ReplicationControllers alone are of the core group.
func targetVersions(spec *autoscalingv2.HorizontalPodAutoscalerSpec, old *autoscalingv2.HorizontalPodAutoscaler) versions {
	ref := spec.ScaleTargetRef
	if old != nil && old.Spec.ScaleTargetRef.APIVersion == ref.APIVersion && old.Spec.ScaleTargetRef.Kind == ref.Kind {
		return versions{any: true}
	}
	return versions{coreGroup: ref.Kind == "ReplicationController"}
}

// describedVersions: metrics may be of anything.
func describedVersions(old *autoscalingv2.HorizontalPodAutoscaler) versions {
	allowed := versions{coreGroup: true}
	if old == nil {
		return allowed
	}
	for _, m := range old.Spec.Metrics {
		if m.Type == autoscalingv2.ObjectMetricSourceType && m.Object != nil && checkVersion(m.Object.DescribedObject.APIVersion, allowed) != nil {
			return versions{any: true}
		}
	}
	return allowed
}

func checkVersion(text string, allowed versions) error {
	if allowed.any {
		return nil
	}
	gv, err := schema.ParseGroupVersion(text)
	if err != nil {
		return err
	}
	if gv.Group == "" && !allowed.coreGroup {
		return errors.New("apiVersion must specify API group")
	}
	return nil
}

// validateReference: kind and name become parts of a URL.
func validateReference(ref *autoscalingv2.CrossVersionObjectReference, allowed versions, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct{ field, value string }{{"kind", ref.Kind}, {"name", ref.Name}} {
		errs = append(errs, rule.NonEmpty(part.value, path.Child(part.field))...)
		errs = append(errs, rule.All(pathvalidation.IsValidPathSegmentName(part.value), path.Child(part.field), part.value)...)
	}
	if err := checkVersion(ref.APIVersion, allowed); err != nil {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), ref.APIVersion, err.Error()))
	}
	return errs
}

func validateMetrics(spec *autoscalingv2.HorizontalPodAutoscalerSpec, described versions, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	fromZero := false
	for i := range spec.Metrics {
		m := &spec.Metrics[i]
		errs = append(errs, validateMetric(m, described, path.Index(i))...)
		fromZero = fromZero || m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	}
	// What only pods report would never bring them back from zero (KEP-2021).
	if spec.MinReplicas != nil && *spec.MinReplicas == 0 && !fromZero {
		errs = append(errs, field.Forbidden(path, "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	return errs
}

// source is one of the five fields of a metric.
type source struct {
	kind     autoscalingv2.MetricSourceType
	field    string
	set      bool
	validate func(path *field.Path) field.ErrorList
}

func sources(m *autoscalingv2.MetricSpec, described versions) []source {
	return []source{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(path *field.Path) field.ErrorList {
			errs := validateReference(&m.Object.DescribedObject, described, path.Child("describedObject"))
			errs = append(errs, validateIdentified(&m.Object.Metric, &m.Object.Target, path)...)
			return append(errs, needOne(m.Object.Target.Value == nil && m.Object.Target.AverageValue == nil, path.Child("target", "averageValue"), "must set either a target value or averageValue")...)
		}},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(path *field.Path) field.ErrorList {
			t := &m.External.Target
			errs := validateIdentified(&m.External.Metric, t, path)
			errs = append(errs, needOne(t.Value == nil && t.AverageValue == nil, path.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target")...)
			if t.Value != nil && t.AverageValue != nil {
				errs = append(errs, field.Forbidden(path.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
			}
			return errs
		}},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(path *field.Path) field.ErrorList {
			errs := validateIdentified(&m.Pods.Metric, &m.Pods.Target, path)
			return append(errs, needOne(m.Pods.Target.AverageValue == nil, path.Child("target", "averageValue"), "must specify a positive target averageValue")...)
		}},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(path *field.Path) field.ErrorList {
			errs := needOne(m.Resource.Name == "", path.Child("name"), "must specify a resource name")
			return append(errs, validateResourceTarget(&m.Resource.Target, path.Child("target"))...)
		}},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(path *field.Path) field.ErrorList {
			return validateContainerResource(m.ContainerResource, path)
		}},
	}
}

func needOne(missing bool, path *field.Path, text string) field.ErrorList {
	if !missing {
		return nil
	}
	return field.ErrorList{field.Required(path, text)}
}

// validateMetric asks for the one field that the type announces. Only the first that is set is looked into.
func validateMetric(m *autoscalingv2.MetricSpec, described versions, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if m.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric source type"))
	}
	errs = append(errs, rule.OneOf(m.Type, path.Child("type"), autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType,
		autoscalingv2.ResourceMetricSourceType, autoscalingv2.ContainerResourceMetricSourceType, autoscalingv2.ExternalMetricSourceType)...)
	set := 0
	var missing, others field.ErrorList
	for _, s := range sources(m, described) {
		if s.set {
			if set++; set == 1 {
				errs = append(errs, s.validate(path.Child(s.field))...)
			}
			if m.Type != s.kind {
				others = append(others, field.Forbidden(path.Child(s.field), "must populate the given metric source only"))
			}
		} else if m.Type == s.kind {
			missing = append(missing, field.Required(path.Child(s.field), "must populate information for the given metric source"))
		}
	}
	errs = append(errs, missing...)
	if set != 1 {
		errs = append(errs, others...)
	}
	return errs
}

func validateIdentified(id *autoscalingv2.MetricIdentifier, target *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if at := path.Child("metric", "name"); id.Name == "" {
		errs = append(errs, field.Required(at, "must specify a metric name"))
	} else {
		errs = append(errs, rule.All(pathvalidation.IsValidPathSegmentName(id.Name), at, id.Name)...)
	}
	return append(errs, validateTarget(target, path.Child("target"))...)
}

func validateContainerResource(c *autoscalingv2.ContainerResourceMetricSource, path *field.Path) field.ErrorList {
	errs := needOne(c.Name == "", path.Child("name"), "must specify a resource name")
	if c.Name != "" {
		errs = append(errs, pod.ValidateContainerResourceName(c.Name, path.Child("name"))...)
	}
	errs = append(errs, needOne(c.Container == "", path.Child("container"), "must specify a container")...)
	if c.Container != "" {
		errs = append(errs, rule.DNSLabel(c.Container, path.Child("container"))...)
	}
	return append(errs, validateResourceTarget(&c.Target, path.Child("target"))...)
}

func validateResourceTarget(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	errs := validateTarget(t, path)
	errs = append(errs, needOne(t.AverageUtilization == nil && t.AverageValue == nil, path.Child("averageUtilization"), "must set either a target raw value or a target utilization")...)
	if t.AverageUtilization != nil && t.AverageValue != nil {
		errs = append(errs, field.Forbidden(path.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func validateTarget(t *autoscalingv2.MetricTarget, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if t.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric target type"))
	}
	switch t.Type {
	case autoscalingv2.UtilizationMetricType, autoscalingv2.ValueMetricType, autoscalingv2.AverageValueMetricType:
	default:
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if q := t.Value; q != nil && q.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), q, "must be positive"))
	}
	if q := t.AverageValue; q != nil && q.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), q, "must be positive"))
	}
	if n := t.AverageUtilization; n != nil && *n < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), *n, "must be greater than 0"))
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
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), *w, fmt.Sprintf("must be less than or equal to %d", maxWindowSeconds)))
	}
	if s := r.SelectPolicy; s != nil {
		errs = append(errs, rule.OneOf(*s, path.Child("selectPolicy"), autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect, autoscalingv2.DisabledPolicySelect)...)
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(path.Child("policies"), "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := path.Child("policies").Index(i)
		errs = append(errs, rule.OneOf(p.Type, at.Child("type"), autoscalingv2.PodsScalingPolicy, autoscalingv2.PercentScalingPolicy)...)
		errs = append(errs, rule.Positive(int64(p.Value), at.Child("value"))...)
		errs = append(errs, rule.Positive(int64(p.PeriodSeconds), at.Child("periodSeconds"))...)
		if p.PeriodSeconds > maxPeriodSeconds {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", maxPeriodSeconds)))
		}
	}
	if r.Tolerance != nil {
		errs = append(errs, rule.NonNegativeQuantity(*r.Tolerance, path.Child("tolerance"))...)
	}
	return errs
}

// ValidateStatusUpdate checks the numbers a controller reports.
func ValidateStatusUpdate(a, old *autoscalingv2.HorizontalPodAutoscaler) field.ErrorList {
	var errs field.ErrorList
	for i, c := range a.Status.Conditions {
		if c.ObservedGeneration != nil {
			errs = append(errs, rule.NonNegative(*c.ObservedGeneration, field.NewPath("status", "conditions").Index(i).Child("observedGeneration"))...)
		}
	}
	return append(errs, rule.NonNegativeCounts(field.NewPath("status"), rule.Count{Field: "currentReplicas", N: int64(a.Status.CurrentReplicas)},
		rule.Count{Field: "desiredReplicas", N: int64(a.Status.DesiredReplicas)})...)
}
