package controllers

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	externalv1beta1 "k8s.io/metrics/pkg/apis/external_metrics/v1beta1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	"k8s.io/utils/ptr"

	"hyperkube/controllers"
	"hyperkube/test/integration"
)

// metricsAPI stands in for what an aggregated apiserver would answer for metrics.k8s.io and
// external.metrics.k8s.io: it takes these paths out of a client's requests.
type metricsAPI struct {
	next   http.RoundTripper
	client kubernetes.Interface

	mu    sync.Mutex
	cpu   string // what each pod uses; "" as long as the API does not exist
	queue string // the external metric; "" as long as the API does not exist
	// custom is what each object has of the custom metric "jobs"; "" as long as the API does not exist.
	custom string
}

func (m *metricsAPI) set(cpu, queue string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cpu, m.queue = cpu, queue
}

func (m *metricsAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	cpu, queue, custom := m.cpu, m.queue, m.custom
	m.mu.Unlock()
	switch {
	case custom != "" && r.URL.Path == "/apis":
		return m.withCustomMetrics(r)
	case custom != "" && strings.HasPrefix(r.URL.Path, customMetricsPath):
		return m.customMetric(r, custom)
	case cpu != "" && strings.HasPrefix(r.URL.Path, "/apis/metrics.k8s.io/v1beta1/"):
		pods, err := m.client.CoreV1().Pods("default").List(r.Context(), metav1.ListOptions{LabelSelector: r.URL.Query().Get("labelSelector")})
		if err != nil {
			return nil, err
		}
		list := metricsv1beta1.PodMetricsList{TypeMeta: metav1.TypeMeta{APIVersion: "metrics.k8s.io/v1beta1", Kind: "PodMetricsList"}}
		for _, pod := range pods.Items {
			list.Items = append(list.Items, metricsv1beta1.PodMetrics{ObjectMeta: pod.ObjectMeta, Timestamp: metav1.NewTime(time.Now().Add(time.Hour)),
				Containers: []metricsv1beta1.ContainerMetrics{{Name: "c", Usage: corev1.ResourceList{"cpu": resource.MustParse(cpu)}}}})
		}
		return answer(r, list), nil
	case queue != "" && strings.HasPrefix(r.URL.Path, "/apis/external.metrics.k8s.io/v1beta1/"):
		return answer(r, externalv1beta1.ExternalMetricValueList{
			TypeMeta: metav1.TypeMeta{APIVersion: "external.metrics.k8s.io/v1beta1", Kind: "ExternalMetricValueList"},
			Items:    []externalv1beta1.ExternalMetricValue{{MetricName: "queue", Value: resource.MustParse(queue)}}}), nil
	}
	return m.next.RoundTrip(r)
}

func answer(r *http.Request, object any) *http.Response {
	body, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(body)))}
}

// startAutoscaler runs a manager that looks at autoscalers every 100 ms and forgets
// recommendations after 300 ms.
func startAutoscaler(t *testing.T, cluster *integration.Cluster) *metricsAPI {
	api := &metricsAPI{client: cluster.Client}
	startManager(t, cluster, func(c *controllers.Config) {
		c.RESTConfig = rest.CopyConfig(c.RESTConfig)
		c.RESTConfig.Wrap(func(next http.RoundTripper) http.RoundTripper { api.next = next; return api })
		c.Client = kubernetes.NewForConfigOrDie(c.RESTConfig)
		c.Autoscaler.SyncPeriod, c.Autoscaler.DownscaleStabilization = 100*time.Millisecond, 300*time.Millisecond
		c.Autoscaler.CPUInitializationPeriod = time.Nanosecond
	})
	runPods(t, cluster.Client)
	eventually(t, "default account", func() error {
		_, err := cluster.Client.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return api
}

func autoscaler(name, kind, target string, least, most int32, metric autoscalingv2.MetricSpec) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: kind, Name: target},
		MinReplicas:    &least, MaxReplicas: most, Metrics: []autoscalingv2.MetricSpec{metric}}}
}

func cpuMetric(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: "cpu",
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}
}

func queueMetric(each string) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
		Metric: autoscalingv2.MetricIdentifier{Name: "queue"},
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: ptr.To(resource.MustParse(each))}}}
}

// tells checks a condition of an autoscaler: "Type=Status Reason", and a part of its message.
func tells(t *testing.T, client kubernetes.Interface, name, wanted, part string) {
	t.Helper()
	eventually(t, name+" "+wanted, func() error {
		hpa, err := client.AutoscalingV2().HorizontalPodAutoscalers("default").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var all []string
		for _, c := range hpa.Status.Conditions {
			said := fmt.Sprintf("%s=%s %s", c.Type, c.Status, c.Reason)
			if said == wanted && strings.Contains(c.Message, part) {
				return nil
			}
			all = append(all, said+": "+c.Message)
		}
		return fmt.Errorf("conditions\n%s", strings.Join(all, "\n"))
	})
}

func replicasOf(t *testing.T, client kubernetes.Interface, name string, want int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d replicas of %s", want, name), func() error {
		d, err := client.AppsV1().Deployments("default").Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && (*d.Spec.Replicas != want || d.Status.ReadyReplicas != want) {
			err = fmt.Errorf("spec %d, ready %d", *d.Spec.Replicas, d.Status.ReadyReplicas)
		}
		return err
	})
}

// Without the metrics API it says so; with it, the workload follows its pods' CPU up and down,
// and the events tell of each step. A second autoscaler on the same pods stops both.
func TestAutoscaler(t *testing.T) {
	cluster := integration.Start(t)
	api := startAutoscaler(t, cluster)
	ctx, client := t.Context(), cluster.Client
	hpas := client.AutoscalingV2().HorizontalPodAutoscalers("default")
	web := deployment("web", "one", 2)
	web.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("100m")}
	if _, err := client.AppsV1().Deployments("default").Create(ctx, web, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	replicasOf(t, client, "web", 2)
	if _, err := hpas.Create(ctx, autoscaler("web", "Deployment", "web", 1, 5, cpuMetric(50)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tells(t, client, "web", "AbleToScale=True SucceededGetScale", "the HPA controller was able to get the target's current scale")
	tells(t, client, "web", "ScalingActive=False FailedGetResourceMetric", "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for resource cpu: "+
		"unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)")

	api.set("100m", "")
	replicasOf(t, client, "web", 5)
	tells(t, client, "web", "ScalingActive=True ValidMetricFound", "cpu resource utilization (percentage of request)")
	tells(t, client, "web", "ScalingLimited=True TooManyReplicas", "")
	api.set("1m", "")
	replicasOf(t, client, "web", 1)
	tells(t, client, "web", "ScaledToZero=False NotScaledToZero", "")
	autoscalerEvents(t, client)

	if _, err := hpas.Create(ctx, autoscaler("other", "Deployment", "web", 1, 5, cpuMetric(50)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tells(t, client, "web", "ScalingActive=False AmbiguousSelector", "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]")
	if err := hpas.Delete(ctx, "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	tells(t, client, "web", "ScalingActive=True ValidMetricFound", "")
}

func autoscalerEvents(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	eventually(t, "the events", func() error {
		events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.kind=HorizontalPodAutoscaler"})
		if err != nil {
			return err
		}
		var all strings.Builder
		for _, e := range events.Items {
			fmt.Fprintf(&all, "%s %s: %s\n", e.Type, e.Reason, e.Message)
		}
		for _, want := range []string{
			"Warning FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics",
			"Warning FailedComputeMetricsReplicas: invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: failed to get cpu utilization",
			"Normal SuccessfulRescale: New size: 4; reason: cpu resource utilization (percentage of request) above target",
			"Normal SuccessfulRescale: New size: 1; reason: All metrics below target",
		} {
			if !strings.Contains(all.String(), want) {
				return fmt.Errorf("no %q in\n%s", want, &all)
			}
		}
		return nil
	})
}

// An external metric takes a workload to zero and back; one that a person has switched off
// stays so (KEP-2021). A target that does not exist is said, and found when it comes.
func TestAutoscalerToZero(t *testing.T) {
	cluster := integration.Start(t)
	api := startAutoscaler(t, cluster)
	api.set("", "0")
	ctx, client := t.Context(), cluster.Client
	hpas, deployments := client.AutoscalingV2().HorizontalPodAutoscalers("default"), client.AppsV1().Deployments("default")
	if _, err := hpas.Create(ctx, autoscaler("cpu", "Deployment", "worker", 0, 5, cpuMetric(50)), metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("minReplicas 0 with a metric of pods only: %v, want it refused", err)
	}
	if _, err := hpas.Create(ctx, autoscaler("worker", "Deployment", "worker", 0, 5, queueMetric("10")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tells(t, client, "worker", "AbleToScale=False FailedGetScale", `deployments.apps "worker" not found`)
	if _, err := deployments.Create(ctx, deployment("worker", "one", 2), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	replicasOf(t, client, "worker", 0)
	tells(t, client, "worker", "ScaledToZero=True ScaledToZero", "")
	api.set("", "25")
	replicasOf(t, client, "worker", 3)
	tells(t, client, "worker", "ScaledToZero=False NotScaledToZero", "")

	scale, err := deployments.GetScale(ctx, "worker", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale.Spec.Replicas = 0
	if _, err := deployments.UpdateScale(ctx, "worker", scale, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	tells(t, client, "worker", "ScalingActive=False ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
	replicasOf(t, client, "worker", 0)

	if _, err := hpas.Create(ctx, autoscaler("lost", "Ship", "x", 1, 5, cpuMetric(50)), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	tells(t, client, "lost", "AbleToScale=False FailedGetScale", `no matches for kind "Ship" in group "apps"`)
}
