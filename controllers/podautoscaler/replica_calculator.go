package podautoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	podutil "hyperkube/api/core/pod"
)

// tolerances are how far below and above 1 the ratio is still taken for 1.
type tolerances struct{ scaleDown, scaleUp float64 }

func (t tolerances) isWithin(ratio float64) bool {
	return 1-t.scaleDown <= ratio && ratio <= 1+t.scaleUp
}

// podUsage is what the number of replicas follows from, where each pod has a value.
type podUsage struct {
	pods     []*corev1.Pod
	metrics  PodMetricsInfo
	resource corev1.ResourceName // "" for a metric that is none
	current  int32               // replicas in the scale's spec
	tolerances
	initialization, readinessDelay time.Duration // see Config
	now                            time.Time
}

// ratio compares what pods use with the target.
type ratio interface {
	// of is usage divided by target, over the pods that have a metric.
	of(PodMetricsInfo) (float64, error)
	// full is what a pod without metric is taken to use when the others say "fewer".
	full(pod string) int64
}

// podMetricReplicas is how many pods there should be for a metric of pods.
//
//  1. Take only the metrics of pods that count; without any there is no answer.
//  2. If all pods have one, the ratio decides, unless it is within the tolerance.
//  3. Else the others get a value by which the step becomes smaller, and the ratio is taken
//     anew: full usage when it said "fewer", none when it said "more".
//  4. If that turns the direction around, or is within the tolerance, all stays as it is.
func podMetricReplicas(u podUsage, r ratio) (int32, error) {
	// Step 1: take only the metrics of pods that count.
	g := groupPods(u)
	if len(g.metrics) == 0 {
		return 0, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	first, err := r.of(g.metrics)
	if err != nil {
		return 0, err
	}
	// Step 2: if all pods have one, the ratio decides.
	growsWithUnready := len(g.unready) > 0 && first > 1
	if !growsWithUnready && len(g.missing) == 0 {
		if u.isWithin(first) {
			return u.current, nil
		}
		return ceil32(first * float64(g.ready)), nil
	}
	// Step 3: the others get a value.
	for _, name := range g.missing {
		switch {
		case first < 1:
			g.metrics[name] = PodMetric{Value: r.full(name)}
		case first > 1:
			g.metrics[name] = PodMetric{}
		}
	}
	if growsWithUnready {
		for _, name := range g.unready {
			g.metrics[name] = PodMetric{}
		}
	}
	second, err := r.of(g.metrics)
	if err != nil {
		return 0, err
	}
	// Step 4: never in the other direction.
	if u.isWithin(second) || first < 1 && second > 1 || first > 1 && second < 1 {
		return u.current, nil
	}
	replicas := ceil32(second * float64(len(g.metrics)))
	if second < 1 && replicas > u.current || second > 1 && replicas < u.current {
		return u.current, nil
	}
	return replicas, nil
}

// groups are the pods of a metric, by how they count. Pods that go or have failed are in none.
type groups struct {
	metrics          PodMetricsInfo // of ready pods, and of pods whose readiness does not matter
	ready            int
	unready, missing []string
}

func groupPods(u podUsage) groups {
	g := groups{metrics: PodMetricsInfo{}}
	for name, m := range u.metrics {
		g.metrics[name] = m // also of pods that the cache does not have yet
	}
	for _, pod := range u.pods {
		metric, found := u.metrics[pod.Name]
		switch {
		case pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed:
			delete(g.metrics, pod.Name)
		case pod.Status.Phase == corev1.PodPending, found && u.resource == corev1.ResourceCPU && u.isUnready(pod, metric):
			delete(g.metrics, pod.Name)
			g.unready = append(g.unready, pod.Name)
		case !found:
			g.missing = append(g.missing, pod.Name)
		default:
			g.ready++
		}
	}
	return g
}

// isUnready tells that a pod's CPU says nothing of its load: soon after its start, that it is
// not ready or was not for the whole window of the metric; later, that it never was ready.
func (u podUsage) isUnready(pod *corev1.Pod, metric PodMetric) bool {
	_, ready := podutil.GetPodCondition(&pod.Status, corev1.PodReady)
	if ready == nil || pod.Status.StartTime == nil {
		return true
	}
	started := pod.Status.StartTime.Time
	if started.Add(u.initialization).After(u.now) {
		return ready.Status == corev1.ConditionFalse || metric.Timestamp.Before(ready.LastTransitionTime.Add(metric.Window))
	}
	return ready.Status == corev1.ConditionFalse && started.Add(u.readinessDelay).After(ready.LastTransitionTime.Time)
}

// valueRatio is the ratio of an average value to a target value.
type valueRatio struct {
	target int64
	// average is that of the first call, for the status: what is measured, nothing assumed.
	average *int64
}

func (r *valueRatio) of(metrics PodMetricsInfo) (float64, error) {
	sum := int64(0)
	for _, m := range metrics {
		sum += m.Value
	}
	average := sum / int64(len(metrics))
	if r.average == nil {
		r.average = &average
	}
	return float64(average) / float64(r.target), nil
}

func (r *valueRatio) full(string) int64 { return r.target }

// utilizationRatio is the ratio of a percentage of requests to a target percentage.
type utilizationRatio struct {
	target    int32
	pods      []*corev1.Pod
	container string
	resource  corev1.ResourceName
	// requests are read at the first call: without a metric it does not matter that one is missing.
	requests map[string]int64
	// utilization and average are those of the first call.
	utilization *int32
	average     int64
}

func (r *utilizationRatio) of(metrics PodMetricsInfo) (float64, error) {
	if r.requests == nil {
		var err error
		if r.requests, err = calculateRequests(r.pods, r.container, r.resource); err != nil {
			return 0, err
		}
	}
	used, requested, n := int64(0), int64(0), int64(0)
	for name, m := range metrics {
		if request, ok := r.requests[name]; ok {
			used, requested, n = used+m.Value, requested+request, n+1
		}
	}
	// Where none of the pods is known the metrics are older or newer than the cache.
	if requested == 0 {
		return 0, errors.New("no metrics returned matched known pods")
	}
	utilization := int32(used * 100 / requested)
	if r.utilization == nil {
		r.utilization, r.average = &utilization, used/n
	}
	return float64(utilization) / float64(r.target), nil
}

// full is all of the request; with a target above that, the target.
func (r *utilizationRatio) full(pod string) int64 {
	return r.requests[pod] * int64(max(100, r.target)) / 100
}

// calculateRequests are the requests of pods in thousandths: of one container if that is
// named, of the whole pod where that has some of its own, else the sum over the containers.
func calculateRequests(pods []*corev1.Pod, container string, resource corev1.ResourceName) (map[string]int64, error) {
	requests := map[string]int64{}
	for _, pod := range pods {
		request, err := podRequest(pod, container, resource)
		if err != nil {
			return nil, err
		}
		requests[pod.Name] = request
	}
	return requests, nil
}

func podRequest(pod *corev1.Pod, container string, resource corev1.ResourceName) (int64, error) {
	if container == "" && resourcehelper.IsPodLevelRequestsSet(pod) {
		request, ok := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})[resource]
		if !ok {
			return 0, fmt.Errorf("missing pod-level request for %s in Pod %s", resource, pod.Name)
		}
		return request.MilliValue(), nil
	}
	sum, found := int64(0), false
	for _, c := range longRunning(pod) {
		if container != "" && container != c.Name {
			continue
		}
		request, ok := c.Resources.Requests[resource]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", resource, c.Name, pod.Name)
		}
		sum, found = sum+request.MilliValue(), true
	}
	if container != "" && !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", container, pod.Name)
	}
	return sum, nil
}

// longRunning are the containers that run beside each other: init containers that restart, too.
func longRunning(pod *corev1.Pod) []corev1.Container {
	containers := append([]corev1.Container{}, pod.Spec.Containers...)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	return containers
}

// wholeReplicas is how many pods there should be for a metric that is one value for all of
// them. Without pods the target is what one of them can bear.
func wholeReplicas(value, target int64, current int32, pods []*corev1.Pod, t tolerances) (int32, error) {
	ratio := float64(value) / float64(target)
	if current == 0 {
		return ceil32(ratio), nil
	}
	if t.isWithin(ratio) {
		return current, nil
	}
	if len(pods) == 0 {
		return 0, fmt.Errorf("unable to calculate ready pods: %w", errNoPods)
	}
	ready := 0
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodRunning && podutil.IsPodReady(pod) {
			ready++
		}
	}
	return ceil32(ratio * float64(ready)), nil
}

// sharedReplicas is how many pods there should be so that each gets target of the value; and
// what each has now.
func sharedReplicas(value, target int64, present int32, t tolerances) (replicas int32, each int64) {
	replicas = present
	if !t.isWithin(float64(value) / (float64(target) * float64(present))) {
		replicas = ceil32(float64(value) / float64(target))
	}
	if present == 0 {
		return replicas, value
	}
	return replicas, ceil64(float64(value) / float64(present))
}

var errNoPods = errors.New("no pods returned by selector while calculating replica count")

// ceil32 and ceil64 round up, within what fits: what a metrics server returns may be anything.
func ceil32(f float64) int32 {
	return int32(min(max(math.Ceil(f), 0), math.MaxInt32))
}

func ceil64(f float64) int64 {
	if f >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(math.Ceil(f))
}
