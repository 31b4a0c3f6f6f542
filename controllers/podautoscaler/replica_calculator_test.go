package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
)

var testTime = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// fakeMetrics answers with what the test says.
type fakeMetrics struct {
	pods   PodMetricsInfo
	values []int64
	err    error
}

func (f fakeMetrics) GetResourceMetric(context.Context, corev1.ResourceName, string, labels.Selector, string) (PodMetricsInfo, error) {
	return f.pods, f.err
}
func (f fakeMetrics) GetRawMetric(string, string, labels.Selector, labels.Selector) (PodMetricsInfo, error) {
	return f.pods, f.err
}
func (f fakeMetrics) GetObjectMetric(string, string, *autoscalingv2.CrossVersionObjectReference, labels.Selector) (int64, error) {
	return sum(f.values), f.err
}
func (f fakeMetrics) GetExternalMetric(string, string, labels.Selector) ([]int64, error) {
	return f.values, f.err
}

// pod makes pod p<i>, ready for an hour, whose one container requests a CPU.
func pod(i int, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("1Gi")}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: ptr.To(metav1.NewTime(testTime.Add(-time.Hour))),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(testTime.Add(-time.Hour))}}},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func pods(n int, change ...func(*corev1.Pod)) []*corev1.Pod {
	var all []*corev1.Pod
	for i := range n {
		all = append(all, pod(i))
	}
	for i, c := range change {
		c(all[len(all)-1-i])
	}
	return all
}

// using gives the first pods these values in thousandths.
func using(values ...int64) PodMetricsInfo {
	info := PodMetricsInfo{}
	for i, v := range values {
		info[fmt.Sprint("p", i)] = PodMetric{Timestamp: testTime, Window: time.Minute, Value: v}
	}
	return info
}

func startedAgo(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = ptr.To(metav1.NewTime(testTime.Add(-d)))
		p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(testTime.Add(-d))
	}
}

func unready(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func pending(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
func failed(p *corev1.Pod)  { p.Status.Phase = corev1.PodFailed }
func going(p *corev1.Pod)   { p.DeletionTimestamp = ptr.To(metav1.NewTime(testTime)) }

func percent(target int32) *autoscalingv2.MetricSpec {
	return &autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu",
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target}}}
}

func average(q string) autoscalingv2.MetricTarget {
	return autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr.To(resource.MustParse(q))}
}

func whole(q string) autoscalingv2.MetricTarget {
	return autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: ptr.To(resource.MustParse(q))}
}

func podsMetric(q string) *autoscalingv2.MetricSpec {
	return &autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "qps"}, Target: average(q)}}
}

func objectMetric(target autoscalingv2.MetricTarget) *autoscalingv2.MetricSpec {
	return &autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
		DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Service", Name: "web"},
		Metric:          autoscalingv2.MetricIdentifier{Name: "hits"}, Target: target}}
}

func externalMetric(target autoscalingv2.MetricTarget) *autoscalingv2.MetricSpec {
	return &autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue"}, Target: target}}
}

func container(name string) *autoscalingv2.MetricSpec {
	return &autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
		Name: "cpu", Container: name, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To[int32](50)}}}
}

// What each kind of metric comes to, and how pods count that have none or none that counts.
func TestPropose(t *testing.T) {
	for name, test := range map[string]struct {
		spec    *autoscalingv2.MetricSpec
		pods    []*corev1.Pod
		metrics fakeMetrics
		current int32
		want    string // replicas and metric; or the error
	}{
		"more":                            {percent(50), pods(2), fakeMetrics{pods: using(1000, 1000)}, 2, "4 cpu resource utilization (percentage of request)"},
		"fewer":                           {percent(80), pods(4), fakeMetrics{pods: using(100, 100, 100, 100)}, 4, "1 cpu resource utilization (percentage of request)"},
		"within the tolerance":            {percent(50), pods(2), fakeMetrics{pods: using(540, 540)}, 2, "2 cpu resource utilization (percentage of request)"},
		"just outside":                    {percent(50), pods(2), fakeMetrics{pods: using(560, 560)}, 2, "3 cpu resource utilization (percentage of request)"},
		"fewer, one missing: it uses all": {percent(50), pods(3), fakeMetrics{pods: using(100, 100)}, 3, "3 cpu resource utilization (percentage of request)"},
		"a target over 100: missing ones use that": {percent(200), pods(3), fakeMetrics{pods: using(100, 100)}, 3, "2 cpu resource utilization (percentage of request)"},
		"more, one missing: it uses nothing":       {percent(50), pods(3), fakeMetrics{pods: using(1500, 1500)}, 3, "6 cpu resource utilization (percentage of request)"},
		"more, many missing: no step":              {percent(80), pods(4), fakeMetrics{pods: using(1000)}, 4, "4 cpu resource utilization (percentage of request)"},
		"a starting pod's CPU does not count":      {percent(50), pods(3, func(p *corev1.Pod) { startedAgo(time.Minute)(p); unready(p) }), fakeMetrics{pods: using(1000, 1000, 9000)}, 3, "4 cpu resource utilization (percentage of request)"},
		"ready, but not for a whole window":        {percent(50), pods(2, startedAgo(30*time.Second)), fakeMetrics{pods: using(500, 5000)}, 2, "2 cpu resource utilization (percentage of request)"},
		"ready for a window: counts":               {percent(50), pods(2, startedAgo(2*time.Minute)), fakeMetrics{pods: using(500, 1000)}, 2, "3 cpu resource utilization (percentage of request)"},
		"never was ready: does not count":          {percent(50), pods(2, unready), fakeMetrics{pods: using(500, 5000)}, 2, "2 cpu resource utilization (percentage of request)"},
		"was ready once: counts": {percent(50), pods(2, func(p *corev1.Pod) {
			unready(p)
			p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(testTime.Add(-30 * time.Minute))
		}), fakeMetrics{pods: using(500, 1500)}, 2, "4 cpu resource utilization (percentage of request)"},
		"pending ones use nothing on the way up":     {percent(50), pods(3, pending), fakeMetrics{pods: using(1000, 1000)}, 3, "4 cpu resource utilization (percentage of request)"},
		"pending ones do not matter on the way down": {percent(50), pods(3, pending), fakeMetrics{pods: using(100, 100)}, 3, "1 cpu resource utilization (percentage of request)"},
		"failed and going ones are not there":        {percent(50), pods(4, failed, going), fakeMetrics{pods: using(1000, 1000, 1, 1)}, 4, "4 cpu resource utilization (percentage of request)"},
		"all unready": {percent(50), pods(1, unready), fakeMetrics{pods: using(1)}, 1,
			"FailedGetResourceMetric failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)"},
		"no request": {percent(50), pods(1, func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }), fakeMetrics{pods: using(1)}, 1,
			"FailedGetResourceMetric failed to get cpu utilization: missing request for cpu in container c of Pod p0"},
		"no pods": {percent(50), nil, fakeMetrics{pods: using(1)}, 1,
			"FailedGetResourceMetric failed to get cpu utilization: no pods returned by selector while calculating replica count"},
		"unknown pods": {percent(50), pods(1, failed), fakeMetrics{pods: PodMetricsInfo{"x": {Value: 1}}}, 1,
			"FailedGetResourceMetric failed to get cpu utilization: no metrics returned matched known pods"},
		"no API": {percent(50), pods(1), fakeMetrics{err: errors.New("unable to fetch")}, 1,
			"FailedGetResourceMetric failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch"},
		"a container": {container("c"), pods(2), fakeMetrics{pods: using(1000, 1000)}, 2, "4 cpu container resource utilization (percentage of request)"},
		"no such container": {container("x"), pods(1), fakeMetrics{pods: using(1)}, 1,
			"FailedGetContainerResourceMetric failed to get cpu utilization: container x not found in Pod p0"},
		"an amount": {&autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "memory", Target: average("100")}},
			pods(2), fakeMetrics{pods: using(200000, 300000)}, 2, "5 memory resource"},
		"pods metric":                       {podsMetric("10"), pods(2), fakeMetrics{pods: using(20000, 10000)}, 2, "3 pods metric qps"},
		"pods metric: readiness is nothing": {podsMetric("10"), pods(2, unready), fakeMetrics{pods: using(10000, 20000)}, 2, "3 pods metric qps"},
		"pods metric, missing, fewer":       {podsMetric("10"), pods(3), fakeMetrics{pods: using(1000, 1000)}, 3, "2 pods metric qps"},
		"pods metric fails":                 {podsMetric("10"), pods(2), fakeMetrics{err: errors.New("no")}, 2, "FailedGetPodsMetric unable to get metric qps: no"},
		"object":                            {objectMetric(whole("10")), pods(3, unready), fakeMetrics{values: []int64{20000}}, 3, "4 Service metric hits"},
		"object shared":                     {objectMetric(average("10")), pods(3), fakeMetrics{values: []int64{61000}}, 3, "7 external metric hits(nil)"},
		"object fails":                      {objectMetric(whole("10")), pods(3), fakeMetrics{err: errors.New("no")}, 3, "FailedGetObjectMetric unable to get metric hits: no on Service ns/web"},
		"external":                          {externalMetric(whole("10")), pods(2), fakeMetrics{values: []int64{10000, 10000}}, 2, "4 external metric queue(nil)"},
		"external from nothing":             {externalMetric(whole("10")), nil, fakeMetrics{values: []int64{25000}}, 0, "3 external metric queue(nil)"},
		"external to nothing":               {externalMetric(whole("10")), pods(2), fakeMetrics{values: []int64{0}}, 2, "0 external metric queue(nil)"},
		"external shared, from nothing":     {externalMetric(average("10")), nil, fakeMetrics{values: []int64{25000}}, 0, "3 external metric queue(nil)"},
		"external beyond all numbers":       {externalMetric(average("1m")), pods(1), fakeMetrics{values: []int64{1 << 62, 1 << 62}}, 1, "2147483647 external metric queue(nil)"},
		"external fails":                    {externalMetric(whole("10")), pods(2), fakeMetrics{err: errors.New("no")}, 2, "FailedGetExternalMetric unable to get external metric ns/queue/nil: no"},
	} {
		config := Config{}
		config.complete()
		m := measuring{hpa: &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}}, current: test.current, present: test.current,
			selector: labels.Everything(), pods: test.pods, client: test.metrics, config: config, tolerances: tolerances{0.1, 0.1}, now: testTime}
		p := m.propose(t.Context(), test.spec)
		got := fmt.Sprint(p.replicas, " ", p.metric)
		if p.err != nil {
			got = p.reason + " " + p.cause.Error()
			if !strings.Contains(p.err.Error(), p.cause.Error()) {
				t.Errorf("%s: error %q without its cause %q", name, p.err, p.cause)
			}
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// A pod's own requests stand for its containers', and init containers that go on count (KEP-2837, KEP-753).
func TestRequests(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	cpu := func(q string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse(q)}}
	}
	sidecar := pod(0, func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "side", RestartPolicy: &always, Resources: cpu("500m")}, {Name: "init", Resources: cpu("9")}}
	})
	own := pod(0, func(p *corev1.Pod) { r := cpu("3"); p.Spec.Resources = &r })
	for name, test := range map[string]struct {
		pod       *corev1.Pod
		container string
		want      int64
	}{
		"containers and sidecars": {sidecar, "", 1500},
		"the sidecar":             {sidecar, "side", 500},
		"the pod's own":           {own, "", 3000},
		"one container of it":     {own, "c", 1000},
	} {
		got, err := calculateRequests([]*corev1.Pod{test.pod}, test.container, "cpu")
		if err != nil || got["p0"] != test.want {
			t.Errorf("%s: %d, %v; want %d", name, got["p0"], err, test.want)
		}
	}
}
