package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// proposal is what one metric comes to: a number of replicas, or a failure.
type proposal struct {
	replicas int32
	// metric describes it in the reason of a rescale.
	metric string
	status autoscalingv2.MetricStatus
	// reason and cause are for the condition and the event of a failure; err is cause as it
	// stands in the error of the whole look. All are empty for a success.
	reason string
	cause  error
	err    error
}

// measuring is one look at all metrics of an autoscaler.
type measuring struct {
	hpa *autoscalingv2.HorizontalPodAutoscaler
	// current is the scale's spec.replicas, present its status.replicas.
	current, present int32
	selector         labels.Selector
	pods             []*corev1.Pod
	client           MetricsClient
	config           Config
	tolerances       tolerances
	now              time.Time
}

// propose reads one metric and asks how many replicas it stands for.
func (m *measuring) propose(ctx context.Context, spec *autoscalingv2.MetricSpec) proposal {
	switch {
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		return m.resource(ctx, spec.Resource)
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		return m.containerResource(ctx, spec.ContainerResource)
	case spec.Type == autoscalingv2.PodsMetricSourceType && spec.Pods != nil:
		return m.podsMetric(spec.Pods)
	case spec.Type == autoscalingv2.ObjectMetricSourceType && spec.Object != nil:
		return m.object(spec.Object)
	case spec.Type == autoscalingv2.ExternalMetricSourceType && spec.External != nil:
		return m.external(spec.External)
	}
	err := fmt.Errorf("unknown metric source type %q", spec.Type)
	return proposal{reason: "InvalidMetricSourceType", cause: err, err: err}
}

func (m *measuring) resource(ctx context.Context, source *autoscalingv2.ResourceMetricSource) proposal {
	replicas, value, err := m.usageOf(ctx, source.Name, "", &source.Target)
	if err != nil {
		return proposal{reason: "FailedGetResourceMetric", cause: err, err: fmt.Errorf("failed to get %s resource metric value: %w", source.Name, err)}
	}
	name := fmt.Sprintf("%s resource", source.Name)
	if source.Target.AverageValue == nil {
		name += " utilization (percentage of request)"
	}
	return proposal{replicas: replicas, metric: name, status: autoscalingv2.MetricStatus{
		Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{Name: source.Name, Current: *value}}}
}

func (m *measuring) containerResource(ctx context.Context, source *autoscalingv2.ContainerResourceMetricSource) proposal {
	replicas, value, err := m.usageOf(ctx, source.Name, source.Container, &source.Target)
	if err != nil {
		return proposal{reason: "FailedGetContainerResourceMetric", cause: err, err: fmt.Errorf("failed to get %s container metric value: %w", source.Container, err)}
	}
	name := fmt.Sprintf("%s resource", source.Name)
	if source.Target.AverageValue == nil {
		name = fmt.Sprintf("%s container resource utilization (percentage of request)", source.Name)
	}
	return proposal{replicas: replicas, metric: name, status: autoscalingv2.MetricStatus{
		Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{
			Name: source.Name, Container: source.Container, Current: *value}}}
}

// usageOf asks what the pods, or one container of each, use of a resource, and compares it
// with an amount or with a share of what they request.
func (m *measuring) usageOf(ctx context.Context, name corev1.ResourceName, container string, target *autoscalingv2.MetricTarget) (int32, *autoscalingv2.MetricValueStatus, error) {
	what := "usage"
	switch {
	case target.AverageValue != nil:
	case target.AverageUtilization != nil:
		what = "utilization"
	default:
		return 0, nil, errors.New("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	metrics, err := m.client.GetResourceMetric(ctx, name, m.hpa.Namespace, m.selector, container)
	if err != nil {
		return 0, nil, fmt.Errorf("failed to get %s %s: unable to get metrics for resource %s: %w", name, what, name, err)
	}
	if what == "usage" {
		r := &valueRatio{target: target.AverageValue.MilliValue()}
		replicas, err := m.replicas(metrics, name, r)
		if err != nil {
			return 0, nil, fmt.Errorf("failed to get %s usage: %w", name, err)
		}
		return replicas, &autoscalingv2.MetricValueStatus{AverageValue: milli(*r.average)}, nil
	}
	r := &utilizationRatio{target: *target.AverageUtilization, pods: m.pods, container: container, resource: name}
	replicas, err := m.replicas(metrics, name, r)
	if err != nil {
		return 0, nil, fmt.Errorf("failed to get %s utilization: %w", name, err)
	}
	return replicas, &autoscalingv2.MetricValueStatus{AverageUtilization: r.utilization, AverageValue: milli(r.average)}, nil
}

func (m *measuring) replicas(metrics PodMetricsInfo, name corev1.ResourceName, r ratio) (int32, error) {
	if len(m.pods) == 0 {
		return 0, errNoPods
	}
	return podMetricReplicas(podUsage{
		pods: m.pods, metrics: metrics, resource: name, current: m.current, tolerances: m.tolerances,
		initialization: m.config.CPUInitializationPeriod, readinessDelay: m.config.InitialReadinessDelay, now: m.now,
	}, r)
}

func (m *measuring) podsMetric(source *autoscalingv2.PodsMetricSource) proposal {
	fail := func(err error) proposal {
		return proposal{reason: "FailedGetPodsMetric", cause: err, err: fmt.Errorf("failed to get pods metric value: %w", err)}
	}
	name := source.Metric.Name
	selector, err := metav1.LabelSelectorAsSelector(source.Metric.Selector)
	if err != nil {
		return fail(err)
	}
	if source.Target.AverageValue == nil {
		return fail(errors.New("invalid pods metric source: no average value target was set"))
	}
	metrics, err := m.client.GetRawMetric(name, m.hpa.Namespace, m.selector, selector)
	if err != nil {
		return fail(fmt.Errorf("unable to get metric %s: %w", name, err))
	}
	r := &valueRatio{target: source.Target.AverageValue.MilliValue()}
	replicas, err := m.replicas(metrics, "", r)
	if err != nil {
		return fail(err)
	}
	return proposal{replicas: replicas, metric: "pods metric " + name, status: autoscalingv2.MetricStatus{
		Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricStatus{
			Metric: source.Metric, Current: autoscalingv2.MetricValueStatus{AverageValue: milli(*r.average)}}}}
}

func (m *measuring) object(source *autoscalingv2.ObjectMetricSource) proposal {
	fail := func(cause, err error) proposal {
		return proposal{reason: "FailedGetObjectMetric", cause: cause, err: fmt.Errorf("failed to get object metric value: %w", err)}
	}
	name, ref := source.Metric.Name, source.DescribedObject
	selector, err := metav1.LabelSelectorAsSelector(source.Metric.Selector)
	if err != nil {
		return fail(err, err)
	}
	whole := source.Target.Type == autoscalingv2.ValueMetricType && source.Target.Value != nil
	shared := source.Target.Type == autoscalingv2.AverageValueMetricType && source.Target.AverageValue != nil
	if !whole && !shared {
		err := errors.New("invalid object metric source: neither a value target nor an average value target was set")
		return fail(err, err)
	}
	value, err := m.client.GetObjectMetric(name, m.hpa.Namespace, &ref, selector)
	if err != nil {
		err = fmt.Errorf("unable to get metric %s: %w on %s %s/%s", name, err, ref.Kind, m.hpa.Namespace, ref.Name)
		if shared {
			return fail(err, fmt.Errorf("failed to get %s object metric: %w", name, err))
		}
		return fail(err, err)
	}
	status := autoscalingv2.MetricStatus{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricStatus{
		DescribedObject: ref, Metric: source.Metric}}
	if shared {
		replicas, each := sharedReplicas(value, source.Target.AverageValue.MilliValue(), m.present, m.tolerances)
		status.Object.Current.AverageValue = milli(each)
		return proposal{replicas: replicas, metric: described("external metric", source.Metric), status: status}
	}
	replicas, err := wholeReplicas(value, source.Target.Value.MilliValue(), m.current, m.pods, m.tolerances)
	if err != nil {
		return fail(err, err)
	}
	status.Object.Current.Value = milli(value)
	return proposal{replicas: replicas, metric: fmt.Sprintf("%s metric %s", ref.Kind, name), status: status}
}

func (m *measuring) external(source *autoscalingv2.ExternalMetricSource) proposal {
	name := source.Metric.Name
	fail := func(cause error, format string) proposal {
		err := fmt.Errorf(format, name, cause)
		return proposal{reason: "FailedGetExternalMetric", cause: cause, err: fmt.Errorf("failed to get %s external metric value: %w", name, err)}
	}
	shared, failure := source.Target.AverageValue != nil, "failed to get external metric %s: %w"
	if shared {
		failure = "failed to get %s external metric: %w"
	} else if source.Target.Value == nil {
		return fail(errors.New("invalid external metric source: neither a value target nor an average value target was set"), "%[2]w")
	}
	selector, err := metav1.LabelSelectorAsSelector(source.Metric.Selector)
	if err != nil {
		return fail(err, failure)
	}
	values, err := m.client.GetExternalMetric(name, m.hpa.Namespace, selector)
	if err != nil {
		return fail(fmt.Errorf("unable to get external metric %s/%s/%+v: %w", m.hpa.Namespace, name, source.Metric.Selector, err), failure)
	}
	value := sum(values)
	status := autoscalingv2.MetricStatus{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricStatus{Metric: source.Metric}}
	if shared {
		replicas, each := sharedReplicas(value, source.Target.AverageValue.MilliValue(), m.present, m.tolerances)
		status.External.Current.AverageValue = milli(each)
		return proposal{replicas: replicas, metric: described("external metric", source.Metric), status: status}
	}
	replicas, err := wholeReplicas(value, source.Target.Value.MilliValue(), m.current, m.pods, m.tolerances)
	if err != nil {
		return fail(err, failure)
	}
	status.External.Current.Value = milli(value)
	return proposal{replicas: replicas, metric: described("external metric", source.Metric), status: status}
}

// described is a metric with its selector, as upstream prints it: of an object's average
// value, too, it says "external".
func described(kind string, metric autoscalingv2.MetricIdentifier) string {
	return fmt.Sprintf("%s %s(%+v)", kind, metric.Name, metric.Selector)
}

// sum stops at the largest number instead of beginning anew below zero.
func sum(values []int64) int64 {
	total := int64(0)
	for _, v := range values {
		if v > 0 && total > math.MaxInt64-v {
			return math.MaxInt64
		}
		total += v
	}
	return total
}

func milli(value int64) *resource.Quantity {
	return resource.NewMilliQuantity(value, resource.DecimalSI)
}
