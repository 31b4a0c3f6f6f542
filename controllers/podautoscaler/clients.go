package podautoscaler

import (
	"context"
	"fmt"
	"sync"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
	resourceclient "k8s.io/metrics/pkg/client/clientset/versioned/typed/metrics/v1beta1"
	customclient "k8s.io/metrics/pkg/client/custom_metrics"
	externalclient "k8s.io/metrics/pkg/client/external_metrics"
	"k8s.io/utils/clock"
)

// kinds knows by which resource a kind is served. What it once read it keeps, until that
// is found to be wrong.
type kinds struct {
	*restmapper.DeferredDiscoveryRESTMapper
	clock clock.PassiveClock

	mu   sync.Mutex
	read time.Time
}

// rereadAfter bounds how often a target that does not exist makes the discovery be read again.
const rereadAfter = 30 * time.Second

// doubt is called where a kind or its resource was not found: it may have come, or moved to
// another version, since the discovery was read.
func (k *kinds) doubt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.clock.Now(); now.Sub(k.read) >= rereadAfter {
		k.read = now
		k.Reset()
	}
}

// newScaleClient makes a client of the scale subresource of any kind.
func newScaleClient(config *rest.Config, served discovery.DiscoveryInterface, clock clock.PassiveClock) (*kinds, scale.ScalesGetter, error) {
	mapper := &kinds{restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(served)), clock, sync.Mutex{}, clock.Now()}
	scales, err := scale.NewForConfig(speakingJSON(config), mapper, dynamic.LegacyAPIPathResolverFunc, scale.NewDiscoveryScaleKindResolver(served))
	return mapper, scales, err
}

// speakingJSON is config without protobuf: the scale client writes JSON whatever it announces,
// and servers of metrics are not ours.
func speakingJSON(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	return config
}

// PodMetric is one pod's value, in thousandths, and the time over which it was measured.
type PodMetric struct {
	Timestamp time.Time
	Window    time.Duration
	Value     int64
}

// PodMetricsInfo has the values of pods by name.
type PodMetricsInfo map[string]PodMetric

// MetricsClient reads the three metrics APIs. All values are in thousandths.
type MetricsClient interface {
	// GetResourceMetric is what the selected pods use of a resource; of one container, if that is named.
	GetResourceMetric(ctx context.Context, resource corev1.ResourceName, namespace string, selector labels.Selector, container string) (PodMetricsInfo, error)
	// GetRawMetric is a metric of each of the selected pods.
	GetRawMetric(metric, namespace string, selector, metricSelector labels.Selector) (PodMetricsInfo, error)
	// GetObjectMetric is a metric of one object.
	GetObjectMetric(metric, namespace string, object *autoscalingv2.CrossVersionObjectReference, metricSelector labels.Selector) (int64, error)
	// GetExternalMetric is all series of a metric that belongs to no object.
	GetExternalMetric(metric, namespace string, selector labels.Selector) ([]int64, error)
}

// restMetricsClient asks the apiserver, behind which the metrics APIs are aggregated.
type restMetricsClient struct {
	resources resourceclient.PodMetricsesGetter
	custom    customclient.CustomMetricsClient
	versions  customclient.AvailableAPIsGetter
	external  externalclient.ExternalMetricsClient
}

func newRESTMetricsClient(config *rest.Config, served discovery.DiscoveryInterface, mapper *kinds) (*restMetricsClient, error) {
	config = speakingJSON(config)
	resources, err := resourceclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	external, err := externalclient.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	versions := customclient.NewAvailableAPIsGetter(served)
	return &restMetricsClient{resources, customclient.NewForConfig(config, mapper, versions), versions, external}, nil
}

func (c *restMetricsClient) GetResourceMetric(ctx context.Context, resource corev1.ResourceName, namespace string, selector labels.Selector, container string) (PodMetricsInfo, error) {
	list, err := c.resources.PodMetricses(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from resource metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no metrics returned from resource metrics API")
	}
	info := PodMetricsInfo{}
	for i := range list.Items {
		m := &list.Items[i]
		value, found, err := usage(m, resource, container)
		if err != nil {
			return nil, fmt.Errorf("failed to get container metrics: %w", err)
		}
		if found {
			info[m.Name] = PodMetric{m.Timestamp.Time, m.Window.Duration, value}
		}
	}
	return info, nil
}

// usage is what a pod, or one of its containers, uses. A pod one container of which does not
// say is as one without metric: the sum of the others would be too small.
func usage(m *metricsv1beta1.PodMetrics, resource corev1.ResourceName, container string) (value int64, found bool, err error) {
	for _, c := range m.Containers {
		used, ok := c.Usage[resource]
		switch {
		case container == "" && !ok:
			return 0, false, nil
		case container == "":
			value += used.MilliValue()
		case c.Name == container:
			return used.MilliValue(), ok, nil
		}
	}
	if container != "" {
		return 0, false, fmt.Errorf("container %s not present in metrics for pod %s/%s", container, m.Namespace, m.Name)
	}
	return value, len(m.Containers) > 0, nil
}

func (c *restMetricsClient) GetRawMetric(metric, namespace string, selector, metricSelector labels.Selector) (PodMetricsInfo, error) {
	list, err := c.custom.NamespacedMetrics(namespace).GetForObjects(schema.GroupKind{Kind: "Pod"}, selector, metric, metricSelector)
	if err != nil {
		c.versions.Invalidate()
		return nil, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no metrics returned from custom metrics API")
	}
	info := PodMetricsInfo{}
	for _, m := range list.Items {
		window := time.Minute
		if m.WindowSeconds != nil {
			window = time.Duration(*m.WindowSeconds) * time.Second
		}
		info[m.DescribedObject.Name] = PodMetric{m.Timestamp.Time, window, m.Value.MilliValue()}
	}
	return info, nil
}

func (c *restMetricsClient) GetObjectMetric(metric, namespace string, object *autoscalingv2.CrossVersionObjectReference, metricSelector labels.Selector) (int64, error) {
	kind := schema.FromAPIVersionAndKind(object.APIVersion, object.Kind).GroupKind()
	from, name := customclient.MetricsInterface(c.custom.NamespacedMetrics(namespace)), object.Name
	if kind == (schema.GroupKind{Kind: "Namespace"}) {
		// Only the own namespace may be asked for, whatever name the reference has.
		from, name = c.custom.RootScopedMetrics(), namespace
	}
	value, err := from.GetForObject(kind, name, metric, metricSelector)
	if err != nil {
		c.versions.Invalidate()
		return 0, fmt.Errorf("unable to fetch metrics from custom metrics API: %w", err)
	}
	return value.Value.MilliValue(), nil
}

func (c *restMetricsClient) GetExternalMetric(metric, namespace string, selector labels.Selector) ([]int64, error) {
	list, err := c.external.NamespacedMetrics(namespace).List(metric, selector)
	if err != nil {
		return nil, fmt.Errorf("unable to fetch metrics from external metrics API: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, fmt.Errorf("no metrics returned from external metrics API")
	}
	values := make([]int64, len(list.Items))
	for i := range list.Items {
		values[i] = list.Items[i].Value.MilliValue()
	}
	return values, nil
}
