package horizontalpodautoscaler

import (
	"encoding/json"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// v1 knows one metric: the use of CPU. All else of an autoscaler travels through
// it in these annotations, so that who writes v1 back loses nothing.
const (
	metricsAnnotation        = "autoscaling.alpha.kubernetes.io/metrics"
	currentMetricsAnnotation = "autoscaling.alpha.kubernetes.io/current-metrics"
	conditionsAnnotation     = "autoscaling.alpha.kubernetes.io/conditions"
	behaviorAnnotation       = "autoscaling.alpha.kubernetes.io/behavior"
)

// ToV1 is a stored autoscaler as autoscaling/v1 shows it.
func ToV1(a *autoscalingv2.HorizontalPodAutoscaler) *autoscalingv1.HorizontalPodAutoscaler {
	out := &autoscalingv1.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: *a.ObjectMeta.DeepCopy(),
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{
			ObservedGeneration: a.Status.ObservedGeneration, LastScaleTime: a.Status.LastScaleTime,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	var others []autoscalingv2.MetricSpec
	for _, m := range a.Spec.Metrics {
		if r := m.Resource; r != nil && r.Name == v1.ResourceCPU && r.Target.AverageUtilization != nil && out.Spec.TargetCPUUtilizationPercentage == nil {
			out.Spec.TargetCPUUtilizationPercentage = r.Target.AverageUtilization
			continue
		}
		others = append(others, m)
	}
	for _, m := range a.Status.CurrentMetrics {
		if r := m.Resource; r != nil && r.Name == v1.ResourceCPU && r.Current.AverageUtilization != nil {
			out.Status.CurrentCPUUtilizationPercentage = r.Current.AverageUtilization
		}
	}
	annotate(&out.ObjectMeta, metricsAnnotation, others, len(others) > 0)
	annotate(&out.ObjectMeta, currentMetricsAnnotation, a.Status.CurrentMetrics, len(a.Status.CurrentMetrics) > 0)
	annotate(&out.ObjectMeta, conditionsAnnotation, a.Status.Conditions, len(a.Status.Conditions) > 0)
	annotate(&out.ObjectMeta, behaviorAnnotation, a.Spec.Behavior, a.Spec.Behavior != nil)
	return out
}

// ToV2 is what is stored of an autoscaling/v1 autoscaler.
func ToV2(a *autoscalingv1.HorizontalPodAutoscaler) *autoscalingv2.HorizontalPodAutoscaler {
	out := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: *a.ObjectMeta.DeepCopy(),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(a.Spec.ScaleTargetRef),
			MinReplicas:    a.Spec.MinReplicas, MaxReplicas: a.Spec.MaxReplicas,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			LastScaleTime: a.Status.LastScaleTime, ObservedGeneration: a.Status.ObservedGeneration,
			CurrentReplicas: a.Status.CurrentReplicas, DesiredReplicas: a.Status.DesiredReplicas,
		},
	}
	if n := a.Spec.TargetCPUUtilizationPercentage; n != nil {
		out.Spec.Metrics = append(out.Spec.Metrics, autoscalingv2.MetricSpec{
			Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricSource{
				Name: v1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: n},
			},
		})
	}
	var others []autoscalingv2.MetricSpec
	unannotate(&out.ObjectMeta, metricsAnnotation, &others)
	out.Spec.Metrics = append(out.Spec.Metrics, others...)
	unannotate(&out.ObjectMeta, currentMetricsAnnotation, &out.Status.CurrentMetrics)
	unannotate(&out.ObjectMeta, conditionsAnnotation, &out.Status.Conditions)
	unannotate(&out.ObjectMeta, behaviorAnnotation, &out.Spec.Behavior)
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

// unannotate takes a value back; what cannot be read stays an ordinary annotation.
func unannotate(m *metav1.ObjectMeta, key string, into any) {
	text, ok := m.Annotations[key]
	if !ok || json.Unmarshal([]byte(text), into) != nil {
		return
	}
	delete(m.Annotations, key)
}
