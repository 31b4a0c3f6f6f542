package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
)

// decision is what a look at an autoscaler comes to.
type decision struct {
	// replicas is how many there should be; reason is why, when that is another number than
	// there is.
	replicas int32
	reason   string
	metrics  []autoscalingv2.MetricStatus
	// conditions are to be set, in this order.
	conditions []autoscalingv2.HorizontalPodAutoscalerCondition
	events     []warning
	// failed: there is no answer, and nothing is to be done. err may be there without it, when
	// some metrics could not be read but the others want more pods.
	failed bool
	err    error
}

// warning is an event that tells of a failure.
type warning struct{ reason, message string }

// decide asks for the metrics, if they matter, and decides.
func (c *HorizontalController) decide(ctx context.Context, key string, hpa *autoscalingv2.HorizontalPodAutoscaler, current *autoscalingv1.Scale) decision {
	now := c.clock.Now()
	h := c.history(key)
	h.begin(current.Spec.Replicas, now)
	if d, done := withoutMetrics(hpa, current.Spec.Replicas); done {
		return d
	}
	selector, pods, err := c.selectedPods(key, hpa, current.Status.Selector)
	if err != nil {
		return *err
	}
	m := measuring{
		hpa: hpa, current: current.Spec.Replicas, present: current.Status.Replicas, selector: selector, pods: pods,
		client: c.metrics, config: c.config, now: now,
		tolerances: toleranceOf(hpa.Spec.Behavior, c.config.Tolerance),
	}
	proposals := make([]proposal, len(hpa.Spec.Metrics))
	for i := range hpa.Spec.Metrics {
		proposals[i] = m.propose(ctx, &hpa.Spec.Metrics[i])
	}
	return fromMetrics(proposals, hpa, limits{
		min: minReplicas(hpa), max: hpa.Spec.MaxReplicas, current: current.Spec.Replicas,
		behavior: hpa.Spec.Behavior, downWindow: c.config.DownscaleStabilization, now: now,
	}, h)
}

func minReplicas(hpa *autoscalingv2.HorizontalPodAutoscaler) int32 {
	return ptr.Deref(hpa.Spec.MinReplicas, 1)
}

// withoutMetrics decides where metrics are not needed.
func withoutMetrics(hpa *autoscalingv2.HorizontalPodAutoscaler, current int32) (decision, bool) {
	least := minReplicas(hpa)
	switch {
	case current == 0 && !returnsFromZero(hpa):
		return decision{replicas: 0, conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{
			no(autoscalingv2.ScalingActive, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")}}, true
	case current == 0:
		return decision{}, false
	case current > hpa.Spec.MaxReplicas:
		return decision{replicas: hpa.Spec.MaxReplicas, reason: "Current number of replicas above Spec.MaxReplicas"}, true
	case current < least:
		return decision{replicas: least, reason: "Current number of replicas below Spec.MinReplicas"}, true
	}
	return decision{}, false
}

// returnsFromZero tells a target that was taken to zero by its autoscaler from one that a
// person switched off (KEP-2021).
func returnsFromZero(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	return isTrue(hpa, autoscalingv2.ScaledToZero) && (hasObjectOrExternalMetrics(hpa) || minReplicas(hpa) != 0)
}

// hasObjectOrExternalMetrics: there is a metric that goes on when no pod runs.
func hasObjectOrExternalMetrics(hpa *autoscalingv2.HorizontalPodAutoscaler) bool {
	return slices.ContainsFunc(hpa.Spec.Metrics, func(m autoscalingv2.MetricSpec) bool {
		return m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
	})
}

// fromMetrics decides by what the metrics propose.
func fromMetrics(proposals []proposal, hpa *autoscalingv2.HorizontalPodAutoscaler, l limits, h *history) decision {
	d := decision{replicas: l.current}
	var wanted, highest = int32(0), ""
	var firstFailure *proposal
	failures := 0
	for i := range proposals {
		p := &proposals[i]
		d.metrics = append(d.metrics, p.status)
		if p.err != nil {
			failures++
			if firstFailure == nil {
				firstFailure = p
			}
			d.events = append(d.events, warning{p.reason, p.cause.Error()})
			continue
		}
		if highest == "" || p.replicas > wanted {
			wanted, highest = p.replicas, p.metric
		}
	}
	if firstFailure != nil {
		d.err = fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %w", failures, len(proposals), firstFailure.err)
		// A failing metric might be the one that wants the pods to stay.
		if failures == len(proposals) || wanted < l.current {
			d.failed = true
			d.conditions = append(d.conditions, no(autoscalingv2.ScalingActive, firstFailure.reason, "the HPA was unable to compute the replica count: %v", firstFailure.cause))
			d.events = append(d.events, warning{"FailedComputeMetricsReplicas", d.err.Error()})
			return d
		}
	}
	d.conditions = append(d.conditions, yes(autoscalingv2.ScalingActive, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from %s", highest))
	switch {
	case wanted > l.current:
		d.reason = highest + " above target"
	case wanted < l.current:
		d.reason = "All metrics below target"
	}
	replicas, conditions := normalize(wanted, l, h)
	if l.current == 0 && isTrue(hpa, autoscalingv2.ScaledToZero) {
		// minReplicas was raised meanwhile: no metric is needed to leave zero.
		replicas = max(replicas, l.min)
	}
	d.replicas, d.conditions = replicas, append(d.conditions, conditions...)
	return d
}

func toleranceOf(b *autoscalingv2.HorizontalPodAutoscalerBehavior, preset float64) tolerances {
	t := tolerances{preset, preset}
	if b != nil && b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
		t.scaleDown = b.ScaleDown.Tolerance.AsApproximateFloat64()
	}
	if b != nil && b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
		t.scaleUp = b.ScaleUp.Tolerance.AsApproximateFloat64()
	}
	return t
}

// selectedPods are the pods of the target. They must be its autoscaler's alone: two that
// count the same pods would each undo what the other did.
func (c *HorizontalController) selectedPods(key string, hpa *autoscalingv2.HorizontalPodAutoscaler, text string) (labels.Selector, []*corev1.Pod, *decision) {
	if text == "" {
		return nil, nil, noSelector("SelectorRequired", "selector is required", "the HPA target's scale is missing a selector")
	}
	selector, err := labels.Parse(text)
	if err != nil {
		message := fmt.Sprintf("couldn't convert selector into a corresponding internal selector object: %v", err)
		return nil, nil, noSelector("InvalidSelector", message, message)
	}
	pods, err := c.podLister.Pods(hpa.Namespace).List(selector)
	if err != nil {
		return nil, nil, &decision{failed: true, err: err}
	}
	if others := c.autoscalersOf(key, selector, pods); len(others) > 1 {
		message := fmt.Sprintf("pods by selector %v are controlled by multiple HPAs: %v", text, others)
		failure := noSelector("AmbiguousSelector", message, message)
		failure.conditions[0].Reason = "AmbiguousSelector"
		return nil, nil, failure
	}
	return selector, pods, nil
}

func noSelector(event, eventMessage, message string) *decision {
	err := errors.New(eventMessage)
	return &decision{
		failed: true, err: err,
		conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{no(autoscalingv2.ScalingActive, "InvalidSelector", "%s", message)},
		events:     []warning{{event, eventMessage}, {"FailedComputeMetricsReplicas", err.Error()}},
	}
}

// autoscalersOf are the keys of all autoscalers of the namespace that select one of the pods,
// as far as each has said by which selector; this one says so now.
func (c *HorizontalController) autoscalersOf(key string, selector labels.Selector, pods []*corev1.Pod) []string {
	namespace, _, _ := strings.Cut(key, "/")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.selectors[key] = selector
	found := map[string]bool{}
	for other, s := range c.selectors {
		if !strings.HasPrefix(other, namespace+"/") {
			continue
		}
		found[other] = slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return s.Matches(labels.Set(p.Labels)) })
	}
	maps.DeleteFunc(found, func(_ string, selects bool) bool { return !selects })
	return slices.Sorted(maps.Keys(found))
}
