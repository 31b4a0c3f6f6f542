package resourcequota

import (
	"context"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"

	"hyperkube/reconcile"
)

// counters are the informers of what is only counted: of each object the name is kept, and of each resource nothing before a
// quota counts it.
type counters struct {
	discovery discovery.DiscoveryInterface
	metadata  metadata.Interface
	// deleted names the keys to sync when something in a namespace has gone.
	deleted func(namespace string) []string
	// enqueue takes them.
	enqueue func(e reconcile.Event, keys ...string)

	mu      sync.Mutex
	started map[schema.GroupResource]*counter
	running sync.WaitGroup
}

type counter struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
}

var errNotListed = errors.New("its objects are not listed yet")

// count returns how many objects of gr are in namespace. An unknown resource has none: it may be a custom one that is defined later.
func (c *counters) count(ctx context.Context, gr schema.GroupResource, namespace string) (int64, error) {
	one, err := c.counter(ctx, gr)
	if meta.IsNoMatchError(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !one.informer.HasSynced() {
		return 0, errNotListed // tried again with backoff
	}
	keys, err := one.informer.GetIndexer().IndexKeys(cache.NamespaceIndex, namespace)
	return int64(len(keys)), err
}

// counter returns the informer of gr, which it starts when it is first asked for.
func (c *counters) counter(ctx context.Context, gr schema.GroupResource) (*counter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.started[gr]; one != nil {
		return one, nil
	}
	groups, err := restmapper.GetAPIGroupResources(c.discovery)
	if err != nil && len(groups) == 0 {
		return nil, err
	}
	gvr, err := restmapper.NewDiscoveryRESTMapper(groups).ResourceFor(gr.WithVersion(""))
	if err != nil {
		return nil, err
	}
	informer := metadatainformer.NewFilteredMetadataInformer(c.metadata, gvr, metav1.NamespaceAll, 0,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}, nil).Informer()
	if err := informer.SetTransform(bare); err != nil {
		return nil, err
	}
	if _, err := informer.AddEventHandler(reconcile.HandlerOf(func(e reconcile.Event) {
		if e.Deleted() {
			c.enqueue(e, c.deleted(e.Old.GetNamespace())...)
		}
	})); err != nil {
		return nil, err
	}
	// The informer outlives the turn that asked for it: stopAll ends it.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	one := &counter{informer, stop}
	if c.started == nil {
		c.started = map[schema.GroupResource]*counter{}
	}
	c.started[gr] = one
	c.running.Go(func() { informer.RunWithContext(run) })
	return one, nil
}

// bare drops all but what names an object.
func bare(object any) (any, error) {
	if o, ok := object.(*metav1.PartialObjectMetadata); ok {
		o.ManagedFields, o.Annotations, o.Labels, o.OwnerReferences, o.Finalizers = nil, nil, nil, nil, nil
	}
	return object, nil
}

func (c *counters) stopAll() {
	c.mu.Lock()
	for _, one := range c.started {
		one.stop()
	}
	c.started = nil
	c.mu.Unlock()
	c.running.Wait()
}

func quantityOf(count int64) resource.Quantity {
	return *resource.NewQuantity(count, resource.DecimalSI)
}
