package resourcequota

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"hyperkube/api/core/resourcequota"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

const (
	// fullResync is how often a quota is recounted although nothing was heard.
	fullResync = 5 * time.Minute
	// rest is how long a quota must stay as it is before its use may sink: longer than a write takes from its charge to
	// the watchers of its object.
	rest = 2 * time.Second
)

// Controller is the loop over quotas.
type Controller struct {
	*reconcile.Loop
	client   kubernetes.Interface
	rqLister corelisters.ResourceQuotaLister
	pods     corelisters.PodLister
	services corelisters.ServiceLister
	claims   corelisters.PersistentVolumeClaimLister
	counters counters
	clock    clock.PassiveClock

	mu sync.Mutex
	// seen says since when each quota is as it is.
	seen map[types.UID]version
}

type version struct {
	resourceVersion string
	since           time.Time
}

// New makes the controller.
func New(client kubernetes.Interface, metadata metadata.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	options = options.WithDefaults()
	core := factory.Core().V1()
	c := &Controller{
		client: client, rqLister: core.ResourceQuotas().Lister(), pods: core.Pods().Lister(), services: core.Services().Lister(),
		claims: core.PersistentVolumeClaims().Lister(), clock: options.Clock, seen: map[types.UID]version{},
	}
	c.counters = counters{discovery: client.Discovery(), metadata: metadata, deleted: c.quotasOf}
	c.Loop = reconcile.New("resourcequota", c.syncResourceQuota, options)
	c.counters.enqueue = c.Notify
	c.Watch(core.ResourceQuotas().Informer(), reconcile.Self)
	c.Watch(core.Pods().Informer(), c.when(usageChanged(schema.GroupResource{Resource: "pods"})))
	c.Watch(core.Services().Informer(), c.when(usageChanged(schema.GroupResource{Resource: "services"})))
	c.Watch(core.PersistentVolumeClaims().Informer(), c.when(usageChanged(schema.GroupResource{Resource: "persistentvolumeclaims"})))
	return c
}

// Run is the loop's, with the counters around it.
func (c *Controller) Run(ctx context.Context) error {
	defer c.counters.stopAll()
	return c.Loop.Run(ctx)
}

// when enqueues the quotas of an event's namespace if the event changes what they have used. Creations are charged by
// admission.
func (c *Controller) when(changed func(e reconcile.Event) bool) reconcile.Keys {
	return func(e reconcile.Event) []string {
		if e.Added() || !e.Deleted() && !changed(e) {
			return nil
		}
		return c.quotasOf(e.Object().GetNamespace())
	}
}

func (c *Controller) quotasOf(namespace string) []string {
	quotas, err := c.rqLister.ResourceQuotas(namespace).List(labels.Everything())
	if err != nil {
		return nil
	}
	keys := make([]string, len(quotas))
	for i, quota := range quotas {
		keys[i] = reconcile.KeyOf(quota)
	}
	return keys
}

// usageChanged: a pod has ended, was resized or given a deadline, a Service has another type, a claim another size or class.
func usageChanged(gr schema.GroupResource) func(e reconcile.Event) bool {
	evaluator := resourcequota.EvaluatorFor(gr)
	return func(e reconcile.Event) bool {
		old, isObject := e.Old.(runtime.Object)
		obj, isObjectToo := e.New.(runtime.Object)
		if !isObject || !isObjectToo {
			return false
		}
		return evaluator.ScopeChanged != nil && evaluator.ScopeChanged(old, obj) ||
			!resourcequota.Equal(evaluator.Usage(old, time.Time{}), evaluator.Usage(obj, time.Time{}))
	}
}

// syncResourceQuota is one turn; see the package comment.
func (c *Controller) syncResourceQuota(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	quota, err := c.rqLister.ResourceQuotas(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	used, err := c.calculateUsage(ctx, quota)
	if err != nil {
		return reconcile.Done, err
	}
	wait := c.holdSinking(quota, used)
	again := reconcile.Result{After: fullResync}
	if wait > 0 {
		again.After = wait
	}
	if resourcequota.Equal(quota.Spec.Hard, quota.Status.Hard) && resourcequota.Equal(used, quota.Status.Used) {
		return again, nil
	}
	update := quota.DeepCopy()
	update.Status = corev1.ResourceQuotaStatus{Hard: quota.Spec.Hard.DeepCopy(), Used: used}
	_, err = c.client.CoreV1().ResourceQuotas(quota.Namespace).UpdateStatus(ctx, update, metav1.UpdateOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return reconcile.Done, nil
	case apierrors.IsConflict(err):
		return reconcile.Result{Retry: true}, nil // it was charged meanwhile: the next turn sees that
	case err != nil:
		return reconcile.Done, fmt.Errorf("writing the status of quota %s: %w", key, err)
	}
	return again, nil
}

// holdSinking keeps in used what the status says where that is more and the quota has not rested, and returns how long
// to wait until it has; 0 when nothing was kept.
func (c *Controller) holdSinking(quota *corev1.ResourceQuota, used corev1.ResourceList) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	seen := c.seen[quota.UID]
	if seen.resourceVersion != quota.ResourceVersion {
		seen = version{quota.ResourceVersion, now}
		c.seen[quota.UID] = seen
		c.forget(now)
	}
	left := rest - now.Sub(seen.since)
	if left <= 0 {
		return 0
	}
	held := time.Duration(0)
	for name, quantity := range used {
		if before, ok := quota.Status.Used[name]; ok && quantity.Cmp(before) < 0 {
			used[name] = before.DeepCopy()
			held = left
		}
	}
	return held
}

// forget drops what was seen of quotas long gone: to be forgotten too early only means to rest again.
func (c *Controller) forget(now time.Time) {
	const many = 1000
	if len(c.seen) < many {
		return
	}
	for uid, seen := range c.seen {
		if now.Sub(seen.since) > 2*fullResync {
			delete(c.seen, uid)
		}
	}
}

// calculateUsage measures what the quota's scope holds: for each name of spec.hard that anything measures.
func (c *Controller) calculateUsage(ctx context.Context, quota *corev1.ResourceQuota) (corev1.ResourceList, error) {
	used := corev1.ResourceList{}
	for _, list := range []struct {
		resource string
		objects  func() ([]runtime.Object, error)
	}{
		{"pods", listOf(c.pods.Pods(quota.Namespace).List)},
		{"services", listOf(c.services.Services(quota.Namespace).List)},
		{"persistentvolumeclaims", listOf(c.claims.PersistentVolumeClaims(quota.Namespace).List)},
		{"resourceclaims.resource.k8s.io", func() ([]runtime.Object, error) { return c.resourceClaims(ctx, quota.Namespace) }},
	} {
		evaluator := resourcequota.EvaluatorFor(schema.ParseGroupResource(list.resource))
		if err := c.measure(quota, evaluator, list.objects, used); err != nil {
			return nil, err
		}
	}
	for name := range quota.Spec.Hard {
		gr, counted := resourcequota.CountedBy(name)
		if _, measured := used[name]; measured || !counted {
			continue
		}
		count, err := c.counters.count(ctx, gr, quota.Namespace)
		if err != nil {
			return nil, fmt.Errorf("counting %s: %w", gr, err)
		}
		if len(quota.Spec.Scopes) > 0 || quota.Spec.ScopeSelector != nil {
			count = 0 // only pods and claims have scopes
		}
		used[name] = quantityOf(count)
	}
	return used, nil
}

// measure adds to used what evaluator says of the objects.
func (c *Controller) measure(quota *corev1.ResourceQuota, evaluator *resourcequota.Evaluator, list func() ([]runtime.Object, error), used corev1.ResourceList) error {
	names := evaluator.MatchingResources(resourcequota.ResourceNames(quota.Spec.Hard))
	if len(names) == 0 {
		return nil
	}
	objects, err := list()
	if err != nil {
		return err
	}
	sum := corev1.ResourceList{}
	for _, name := range names {
		sum[name] = quantityOf(0)
	}
	for _, obj := range objects {
		if evaluator.Matches(quota, quota.Spec.Hard, obj) {
			sum = resourcequota.Add(sum, resourcequota.Mask(evaluator.Usage(obj, c.clock.Now()), names))
		}
	}
	for name, quantity := range sum {
		used[name] = quantity
	}
	return nil
}

// resourceClaims are asked for anew: few quotas name devices, and none is worth a cache of all claims. A counter tells of deletions.
func (c *Controller) resourceClaims(ctx context.Context, namespace string) ([]runtime.Object, error) {
	if _, err := c.counters.count(ctx, schema.ParseGroupResource("resourceclaims.resource.k8s.io"), namespace); err != nil {
		return nil, fmt.Errorf("counting resourceclaims.resource.k8s.io: %w", err)
	}
	list, err := c.client.ResourceV1().ResourceClaims(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	objects := make([]runtime.Object, len(list.Items))
	for i := range list.Items {
		objects[i] = &list.Items[i]
	}
	return objects, nil
}

// listOf makes a typed lister's list one of objects.
func listOf[T runtime.Object](list func(labels.Selector) ([]T, error)) func() ([]runtime.Object, error) {
	return func() ([]runtime.Object, error) {
		items, err := list(labels.Everything())
		objects := make([]runtime.Object, len(items))
		for i, item := range items {
			objects[i] = item
		}
		return objects, err
	}
}
