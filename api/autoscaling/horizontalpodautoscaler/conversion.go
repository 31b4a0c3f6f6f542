package horizontalpodautoscaler

import (
	"encoding/json"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// v1 knows one metric: the use of CPU. All else of an autoscaler travels through it in these annotations, in the shapes that the
// elder versions of the API gave it, so that who writes v1 back loses nothing.
const (
	metricsAnnotation        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsAnnotation = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation       = "autoscaling.alpha.kubernetes.io/behavior"
)

// travelling are the annotations that only ever come of a conversion; the last two are of elder releases.
var travelling = []string{
	metricsAnnotation, currentMetricsAnnotation, conditionsAnnotation, behaviorAnnotation,
	"autoscaling.alpha.kubernetes.io/scale-down-tolerance", "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
}

// ToV1 is a stored autoscaler as autoscaling/v1 shows it.
func ToV1(a *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv1.HorizontalPodAutoscaler {
	out := &autoscalingv1.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: withoutTravelling(&a.ObjectMeta),
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: a.Status.ObservedGeneration, LastScaleTime: a.Status.LastScaleTime,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	var others []autoscalingv1.MetricSpec
	for i := range a.Spec.Metrics {
		m := &a.Spec.Metrics[i]
		switch r := m.Resource; {
		case r == nil || r.Name != v1.ResourceCPU || r.Target.AverageUtilization == nil:
			others = append(others, metricToV1(m))
		case out.Spec.TargetCPUUtilizationPercentage == nil:
			out.Spec.TargetCPUUtilizationPercentage = r.Target.AverageUtilization
		}
	}
	var current []autoscalingv1.MetricStatus
	for i := range a.Status.CurrentMetrics {
		m := &a.Status.CurrentMetrics[i]
		if r := m.Resource; r != nil && r.Name == v1.ResourceCPU && r.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = r.Current.AverageUtilization
		}
		// The use of CPU travels too, for its value beside the percentage.
		current = append(current, currentToV1(m))
	}
	annotate(&out.ObjectMeta, metricsAnnotation, others, len(others) > 0)
	annotate(&out.ObjectMeta, currentMetricsAnnotation, current, len(current) > 0)
	annotate(&out.ObjectMeta, conditionsAnnotation, a.Status.Conditions, len(a.Status.Conditions) > 0)
	annotate(&out.ObjectMeta, behaviorAnnotation, behaviorToV1(a.Spec.Behavior), a.Spec.Behavior != nil)
	return out
}

// ToV2 is what is stored of an autoscaling/v1 autoscaler, without its defaults.
func ToV2(a *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	out := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: withoutTravelling(&a.ObjectMeta),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			LastScaleTime: a.Status.LastScaleTime, ObservedGeneration: a.Status.ObservedGeneration,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	var others []autoscalingv1.MetricSpec
	travelled(a.Annotations, metricsAnnotation, &others)
	for i := range others {
		out.Spec.Metrics = append(out.Spec.Metrics, metricToV2(&others[i]))
	}
	if n := a.Spec.TargetCPUUtilizationPercentage; n != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, autoscalingv2.MetricSpec{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{Name: v1.ResourceCPU, Target: use(n, nil)},
		})
	}
	var current []autoscalingv1.MetricStatus
	if travelled(a.Annotations, currentMetricsAnnotation, &current) {
		for i := range current {
			out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, currentToV2(&current[i]))
		}
	} else if n := a.Status.CurrentCPUUtilizationPercentage; n != nil {
		out.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{
			Type:     autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: v1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: n}},
		}}
	}
	travelled(a.Annotations, conditionsAnnotation, &out.Status.Conditions)
	var behavior autoscalingv2.HorizontalPodAutoscalerBehavior
	if travelled(a.Annotations, behaviorAnnotation, &behavior) && behavior != (autoscalingv2.HorizontalPodAutoscalerBehavior{}) {
		out.Spec.Behavior = &behavior
	}
	return out
}

func withoutTravelling(m *metav1.ObjectMeta) metav1.ObjectMeta {
	out := *m.DeepCopy()
	for _, key := range travelling {
		delete(out.Annotations, key)
	}
	return out
}

func annotate(m *metav1.ObjectMeta, key string, value any, set bool) {
	if !set {
		return
	}
	text, err := json.Marshal(value)
	if err != nil {
		return
	}
	m.Annotations = maps.Clone(m.Annotations)
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	m.Annotations[key] = string(text)
}

// travelled takes a value back; what cannot be read is lost.
func travelled(annotations map[string]string, key string, into any) bool {
	text, ok := annotations[key]
	return ok && json.Unmarshal([]byte(text), into) == nil
}
