package controllers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	customv1beta2 "k8s.io/metrics/pkg/apis/custom_metrics/v1beta2"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

const customMetricsPath = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/"

// withCustomMetrics is the apiserver's list of groups and one more: the client looks there for the version to ask.
func (m *metricsAPI) withCustomMetrics(r *http.Request) (*http.Response, error) {
	r = utilnet.CloneRequest(r)
	r.Header.Set("Accept", "application/json")
	response, err := m.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var groups metav1.APIGroupList
	if err := json.NewDecoder(response.Body).Decode(&groups); err != nil {
		return nil, err
	}
	version := metav1.GroupVersionForDiscovery{GroupVersion: "custom.metrics.k8s.io/v1beta2", Version: "v1beta2"}
	groups.Groups = append(groups.Groups, metav1.APIGroup{Name: "custom.metrics.k8s.io", Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version})
	return answer(r, groups), nil
}

// customMetric answers for pods/*/jobs (each selected pod) and deployments.apps/NAME/jobs.
func (m *metricsAPI) customMetric(r *http.Request, value string) (*http.Response, error) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, customMetricsPath), "/")
	list := customv1beta2.MetricValueList{TypeMeta: metav1.TypeMeta{APIVersion: "custom.metrics.k8s.io/v1beta2", Kind: "MetricValueList"}}
	add := func(kind, name string) {
		list.Items = append(list.Items, customv1beta2.MetricValue{DescribedObject: corev1.ObjectReference{Kind: kind, Namespace: "default", Name: name},
			Metric: customv1beta2.MetricIdentifier{Name: "jobs"}, Timestamp: metav1.NewTime(time.Now().Add(time.Hour)), Value: resource.MustParse(value)})
	}
	switch {
	case len(parts) == 3 && parts[0] == "pods" && parts[1] == "*" && parts[2] == "jobs":
		pods, err := m.client.CoreV1().Pods("default").List(r.Context(), metav1.ListOptions{LabelSelector: r.URL.Query().Get("labelSelector")})
		if err != nil {
			return nil, err
		}
		for _, pod := range pods.Items {
			add("Pod", pod.Name)
		}
	case len(parts) == 3 && parts[0] == "deployments.apps" && parts[2] == "jobs":
		add("Deployment", parts[1])
	default:
		return nil, fmt.Errorf("asked for %s", r.URL.Path)
	}
	return answer(r, list), nil
}

// Each kind of metric through its own API: without the API the condition and the events say which is missing, with it the workload
// grows. The clients are those of k8s.io/metrics, as in the program; only the servers behind the aggregation are stood in for.
func TestAutoscalerOfEachMetric(t *testing.T) {
	cluster := integration.Start(t)
	api := startAutoscaler(t, cluster)
	ctx, client := t.Context(), cluster.Client
	jobs, one := autoscalingv2.MetricIdentifier{Name: "jobs"}, resource.MustParse("1")
	average := autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &one}
	kinds := []struct {
		name   string
		metric autoscalingv2.MetricSpec
		// reason is the event's and the condition's without the API, cause how its text ends.
		reason, cause string
	}{
		{"pods", autoscalingv2.MetricSpec{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{Metric: jobs, Target: average}},
			"FailedGetPodsMetric", "unable to get metric jobs: unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"},
		{"object", autoscalingv2.MetricSpec{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{Metric: jobs, Target: average,
			DescribedObject: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "object"}}},
			"FailedGetObjectMetric", "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered"},
		{"external", queueMetric("1"),
			"FailedGetExternalMetric", "unable to fetch metrics from external metrics API: the server could not find the requested resource (get queue.external.metrics.k8s.io)"},
		{"container", autoscalingv2.MetricSpec{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
			Name: "cpu", Container: "c", Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To[int32](50)}}},
			"FailedGetContainerResourceMetric", "unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"},
	}
	for _, kind := range kinds {
		d := deployment(kind.name, "one", 1)
		d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("100m")}
		if _, err := client.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.AutoscalingV2().HorizontalPodAutoscalers("default").Create(ctx, autoscaler(kind.name, "Deployment", kind.name, 1, 3, kind.metric), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range kinds {
		tells(t, client, kind.name, "ScalingActive=False "+kind.reason, kind.cause)
		warned(t, client, kind.name, kind.reason, kind.cause)
		warned(t, client, kind.name, "FailedComputeMetricsReplicas", "invalid metrics (1 invalid out of 1), first error is: failed to get")
	}
	api.mu.Lock()
	api.cpu, api.queue, api.custom = "200m", "9", "9"
	api.mu.Unlock()
	for _, kind := range kinds {
		replicasOf(t, client, kind.name, 3)
		tells(t, client, kind.name, "ScalingActive=True ValidMetricFound", "the HPA was able to successfully calculate a replica count from")
	}
}

// warned waits for an event about an autoscaler.
func warned(t *testing.T, client kubernetes.Interface, name, reason, part string) {
	t.Helper()
	eventually(t, reason+" of "+name, func() error {
		events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + name + ",reason=" + reason})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Type == corev1.EventTypeWarning && strings.Contains(e.Message, part) {
				return nil
			}
		}
		return fmt.Errorf("events %+v", events.Items)
	})
}
