package podautoscaler

import (
	"context"
	"fmt"
	"sync"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	autoscalinglisters "k8s.io/client-go/listers/autoscaling/v2"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Config is the controller's configuration. Zero durations and tolerance stand for the defaults.
type Config struct {
	// RESTConfig is for the clients of scales and metrics.
	RESTConfig *rest.Config
	// SyncPeriod is how often an autoscaler is looked at. Default 15 s.
	SyncPeriod time.Duration
	// DownscaleStabilization is how far back recommendations count against going down, where
	// the autoscaler does not say. Default 5 minutes.
	DownscaleStabilization time.Duration
	// Tolerance is how far from 1 the ratio may be without a step. Default 0.1.
	Tolerance float64
	// CPUInitializationPeriod is how long after a pod's start its CPU counts only while it is
	// ready. Default 5 minutes.
	CPUInitializationPeriod time.Duration
	// InitialReadinessDelay is how long after a pod's start becoming unready still means that it
	// has never been ready. Default 30 s.
	InitialReadinessDelay time.Duration
}

func (c *Config) complete() {
	for _, d := range []struct {
		field  *time.Duration
		preset time.Duration
	}{
		{&c.SyncPeriod, 15 * time.Second}, {&c.DownscaleStabilization, 5 * time.Minute},
		{&c.CPUInitializationPeriod, 5 * time.Minute}, {&c.InitialReadinessDelay, 30 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.preset
		}
	}
	if c.Tolerance == 0 {
		c.Tolerance = 0.1
	}
}

// HorizontalController is the loop over HorizontalPodAutoscalers.
type HorizontalController struct {
	*reconcile.Loop
	config    Config
	client    kubernetes.Interface
	scales    scale.ScalesGetter
	mapper    *kinds
	metrics   MetricsClient
	recorder  record.EventRecorder
	hpaLister autoscalinglisters.HorizontalPodAutoscalerLister
	podLister corelisters.PodLister
	clock     clock.PassiveClock

	mu sync.Mutex
	// histories and selectors have an entry for each autoscaler that was looked at, by key.
	// A history is used by the run of its key only, of which there is never more than one.
	histories map[string]*history
	selectors map[string]labels.Selector
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, config Config, options reconcile.Options) (*HorizontalController, error) {
	config.complete()
	options = options.WithDefaults()
	// The next try after a failure is the next regular look: a metric that is not there yet
	// would otherwise be reported ten times in its first second.
	options.MinBackoff, options.MaxBackoff = config.SyncPeriod, config.SyncPeriod
	mapper, scales, err := newScaleClient(config.RESTConfig, client.Discovery(), options.Clock)
	if err != nil {
		return nil, fmt.Errorf("scale client: %w", err)
	}
	metrics, err := newRESTMetricsClient(config.RESTConfig, client.Discovery(), mapper)
	if err != nil {
		return nil, fmt.Errorf("metrics clients: %w", err)
	}
	hpas, pods := factory.Autoscaling().V2().HorizontalPodAutoscalers(), factory.Core().V1().Pods()
	c := &HorizontalController{
		config: config, client: client, scales: scales, mapper: mapper, metrics: metrics, recorder: recorder,
		hpaLister: hpas.Lister(), podLister: pods.Lister(), clock: options.Clock,
		histories: map[string]*history{}, selectors: map[string]labels.Selector{},
	}
	c.Loop = reconcile.New("horizontalpodautoscaler", c.sync, options)
	c.Watch(hpas.Informer(), changedSpec)
	// Pods are only read: what they use changes without an event.
	c.Watch(pods.Informer(), func(reconcile.Event) []string { return nil })
	return c, nil
}

// changedSpec leaves out changes of the status: they are our own, and each would be followed
// by another look.
func changedSpec(e reconcile.Event) []string {
	if e.Old != nil && e.New != nil && e.Old.GetGeneration() == e.New.GetGeneration() {
		return nil
	}
	return reconcile.Self(e)
}

func (c *HorizontalController) sync(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	shared, err := c.hpaLister.HorizontalPodAutoscalers(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		c.forget(key)
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	return reconcile.Result{After: c.config.SyncPeriod}, c.reconcileAutoscaler(ctx, key, shared)
}

// reconcileAutoscaler is one look at one autoscaler:
//
//  1. read the target's scale,
//  2. decide how many replicas there should be,
//  3. write the scale,
//  4. write the status.
//
// An error comes after the status that tells of it.
func (c *HorizontalController) reconcileAutoscaler(ctx context.Context, key string, shared *autoscalingv2.HorizontalPodAutoscaler) error {
	hpa := shared.DeepCopy()
	ref := hpa.Spec.ScaleTargetRef
	target := fmt.Sprintf("%s/%s/%s", ref.Kind, hpa.Namespace, ref.Name)

	// Step 1: read the target's scale.
	current, resource, err := c.scaleOf(ctx, hpa)
	if err != nil {
		c.recorder.Event(hpa, corev1.EventTypeWarning, "FailedGetScale", err.cause.Error())
		c.setCondition(hpa, no(autoscalingv2.AbleToScale, "FailedGetScale", "the HPA controller was unable to get the target's current scale: %v", err.cause))
		return c.finish(ctx, shared, hpa, err)
	}
	c.setCondition(hpa, yes(autoscalingv2.AbleToScale, "SucceededGetScale", "the HPA controller was able to get the target's current scale"))

	// Step 2: decide.
	d := c.decide(ctx, key, hpa, current)
	for _, e := range d.events {
		c.recorder.Event(hpa, corev1.EventTypeWarning, e.reason, e.message)
	}
	for _, condition := range d.conditions {
		c.setCondition(hpa, condition)
	}
	before := current.Spec.Replicas
	c.setStatus(hpa, before, d)
	if d.failed {
		return c.finish(ctx, shared, hpa, fmt.Errorf("failed to compute desired number of replicas based on listed metrics for %s: %w", target, d.err))
	}

	// Step 3: write the scale.
	if d.replicas != before {
		current.Spec.Replicas = d.replicas
		if _, err := c.scales.Scales(hpa.Namespace).Update(ctx, resource, current, metav1.UpdateOptions{}); err != nil {
			c.recorder.Eventf(hpa, corev1.EventTypeWarning, "FailedRescale", "New size: %d; reason: %s; error: %v", d.replicas, d.reason, err)
			c.setCondition(hpa, no(autoscalingv2.AbleToScale, "FailedUpdateScale", "the HPA controller was unable to update the target scale: %v", err))
			hpa.Status.DesiredReplicas = shared.Status.DesiredReplicas
			return c.finish(ctx, shared, hpa, fmt.Errorf("failed to rescale %s: %w", target, err))
		}
		c.rescaled(ctx, key, hpa, before, d)
	}

	// Step 4: write the status.
	return c.finish(ctx, shared, hpa, d.err)
}

// rescaled notes a step that was taken: in the history, an event and the status.
func (c *HorizontalController) rescaled(ctx context.Context, key string, hpa *autoscalingv2.HorizontalPodAutoscaler, before int32, d decision) {
	now := c.clock.Now()
	c.history(key).stepped(hpa.Spec.Behavior, before, d.replicas, now)
	hpa.Status.LastScaleTime = &metav1.Time{Time: now}
	c.setCondition(hpa, yes(autoscalingv2.AbleToScale, "SucceededRescale", "the HPA controller was able to update the target scale to %d", d.replicas))
	if before > 0 && d.replicas == 0 && hasObjectOrExternalMetrics(hpa) {
		c.setCondition(hpa, yes(autoscalingv2.ScaledToZero, "ScaledToZero", "the HPA controller scaled the workload to zero"))
	} else {
		c.setCondition(hpa, no(autoscalingv2.ScaledToZero, "NotScaledToZero", "the HPA controller did not scale the workload to zero"))
	}
	c.recorder.Eventf(hpa, corev1.EventTypeNormal, "SuccessfulRescale", "New size: %d; reason: %s", d.replicas, d.reason)
	klog.FromContext(ctx).Info("Rescaled", "from", before, "to", d.replicas, "reason", d.reason)
}

// scaleError is why a scale could not be read: err is returned, cause is shown.
type scaleError struct {
	error
	cause error
}

// scaleOf reads the scale of the autoscaler's target. A kind may be served by more than one
// resource; the first that has the object is it.
func (c *HorizontalController) scaleOf(ctx context.Context, hpa *autoscalingv2.HorizontalPodAutoscaler) (*autoscalingv1.Scale, schema.GroupResource, *scaleError) {
	ref, none := hpa.Spec.ScaleTargetRef, schema.GroupResource{}
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, none, &scaleError{fmt.Errorf("invalid API version in scale target reference: %w", err), err}
	}
	mappings, err := c.mapper.RESTMappings(schema.GroupKind{Group: gv.Group, Kind: ref.Kind})
	if err != nil {
		c.mapper.doubt()
		return nil, none, &scaleError{fmt.Errorf("unable to determine resource for scale target reference: %w", err), err}
	}
	for _, mapping := range mappings {
		resource := mapping.Resource.GroupResource()
		found, getErr := c.scales.Scales(hpa.Namespace).Get(ctx, resource, ref.Name, metav1.GetOptions{})
		if getErr == nil {
			return found, resource, nil
		}
		if err == nil {
			err = getErr
		}
	}
	c.mapper.doubt()
	return nil, none, &scaleError{fmt.Errorf("failed to query scale subresource for %s/%s/%s: %w", ref.Kind, hpa.Namespace, ref.Name, err), err}
}

// setStatus fills all of the status but its conditions.
func (c *HorizontalController) setStatus(hpa *autoscalingv2.HorizontalPodAutoscaler, current int32, d decision) {
	hpa.Status.ObservedGeneration = &hpa.Generation
	hpa.Status.CurrentReplicas = current
	hpa.Status.CurrentMetrics = d.metrics
	if !d.failed {
		hpa.Status.DesiredReplicas = d.replicas
	}
}

// finish writes the status where it changed, and returns what the run ends with.
func (c *HorizontalController) finish(ctx context.Context, before, hpa *autoscalingv2.HorizontalPodAutoscaler, outcome error) error {
	if equality.Semantic.DeepEqual(before.Status, hpa.Status) {
		return outcome
	}
	_, err := c.client.AutoscalingV2().HorizontalPodAutoscalers(hpa.Namespace).UpdateStatus(ctx, hpa, metav1.UpdateOptions{})
	switch {
	case err == nil:
		return outcome
	case outcome != nil:
		klog.FromContext(ctx).Info("Status not written", "err", err)
		return outcome
	}
	if !apierrors.IsConflict(err) {
		c.recorder.Event(hpa, corev1.EventTypeWarning, "FailedUpdateStatus", err.Error())
	}
	return fmt.Errorf("failed to update status for %s: %w", hpa.Name, err)
}

// setCondition writes a condition; its time moves only when its status does.
func (c *HorizontalController) setCondition(hpa *autoscalingv2.HorizontalPodAutoscaler, wanted autoscalingv2.HorizontalPodAutoscalerCondition) {
	wanted.ObservedGeneration = &hpa.Generation
	for i := range hpa.Status.Conditions {
		if present := &hpa.Status.Conditions[i]; present.Type == wanted.Type {
			wanted.LastTransitionTime = present.LastTransitionTime
			if present.Status != wanted.Status {
				wanted.LastTransitionTime = metav1.NewTime(c.clock.Now())
			}
			*present = wanted
			return
		}
	}
	wanted.LastTransitionTime = metav1.NewTime(c.clock.Now())
	hpa.Status.Conditions = append(hpa.Status.Conditions, wanted)
}

func (c *HorizontalController) history(key string) *history {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.histories[key] == nil {
		c.histories[key] = &history{}
	}
	return c.histories[key]
}

func (c *HorizontalController) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.histories, key)
	delete(c.selectors, key)
}

// condition is a condition of the status without its time.
func condition(kind autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason, message string) autoscalingv2.HorizontalPodAutoscalerCondition {
	return autoscalingv2.HorizontalPodAutoscalerCondition{Type: kind, Status: status, Reason: reason, Message: message}
}

func yes(kind autoscalingv2.HorizontalPodAutoscalerConditionType, reason, message string, args ...any) autoscalingv2.HorizontalPodAutoscalerCondition {
	return condition(kind, corev1.ConditionTrue, reason, fmt.Sprintf(message, args...))
}

func no(kind autoscalingv2.HorizontalPodAutoscalerConditionType, reason, message string, args ...any) autoscalingv2.HorizontalPodAutoscalerCondition {
	return condition(kind, corev1.ConditionFalse, reason, fmt.Sprintf(message, args...))
}

func isTrue(hpa *autoscalingv2.HorizontalPodAutoscaler, kind autoscalingv2.HorizontalPodAutoscalerConditionType) bool {
	for _, c := range hpa.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
