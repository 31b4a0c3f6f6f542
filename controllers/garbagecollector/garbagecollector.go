package garbagecollector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/lru"

	"hyperkube/flow"
	"hyperkube/reconcile"
)

// GarbageCollector is the loop over objects, by UID.
type GarbageCollector struct {
	*reconcile.Loop
	metadata  metadata.Interface
	discovery discovery.DiscoveryInterface
	recorder  record.EventRecorder
	clock     clock.PassiveClock
	graph     *graph
	monitors  monitors
	// absentOwnerCache remembers owners that were not found, by place and UID. A UID
	// never comes back, so an entry is never wrong. Otherwise a thousand pods of one
	// deleted owner would ask for it a thousand times.
	absentOwnerCache *lru.Cache
}

// Config says what the collector reads with.
type Config struct {
	Metadata  metadata.Interface
	Discovery discovery.DiscoveryInterface
	// Shared are informers that others hold anyway. For their kinds no second one
	// is made.
	Shared map[schema.GroupVersionResource]cache.SharedIndexInformer
	// SyncPeriod is how often discovery is asked for new kinds; default 30 s.
	SyncPeriod time.Duration
}

// New makes the controller.
func New(config Config, recorder record.EventRecorder, options reconcile.Options) *GarbageCollector {
	options = options.WithDefaults()
	if config.SyncPeriod == 0 {
		config.SyncPeriod = 30 * time.Second
	}
	gc := &GarbageCollector{
		metadata: config.Metadata, discovery: config.Discovery, recorder: recorder, clock: options.Clock,
		graph:            newGraph(),
		monitors:         monitors{shared: config.Shared, period: config.SyncPeriod},
		absentOwnerCache: lru.New(500),
	}
	gc.Loop = reconcile.New("garbagecollector", gc.syncItem, options)
	return gc
}

// Run keeps the monitors in step with discovery, and runs the loop.
func (gc *GarbageCollector) Run(ctx context.Context) error {
	monitored := make(chan struct{})
	go func() {
		defer close(monitored)
		gc.runMonitors(ctx)
	}()
	err := gc.Loop.Run(ctx)
	<-monitored
	return err
}

// syncItem is one turn for one object.
func (gc *GarbageCollector) syncItem(ctx context.Context, key string) (reconcile.Result, error) {
	item, dependents, ok := gc.graph.snapshot(types.UID(key))
	if !ok {
		return reconcile.Done, nil
	}
	// An error of the monitors' making: dependents that no informer has listed yet
	// would be forgotten.
	if (item.orphaning || item.deletingDependents) && !gc.monitors.listed(gc.clock.Now()) {
		return reconcile.Result{After: time.Second}, nil
	}
	var err error
	if item.orphaning {
		err = gc.attemptToOrphan(ctx, item, dependents)
	} else {
		err = gc.attemptToDeleteItem(ctx, item, dependents)
	}
	if meta.IsNoMatchError(err) {
		// The kind is not served, or not known yet. What cannot be looked up is kept.
		klog.FromContext(ctx).V(2).Info("Kind is not known, will look again", "err", err)
		return reconcile.Result{After: gc.monitors.period}, nil
	}
	return reconcile.Done, err
}

// attemptToDeleteItem deletes the item if it has owners and all are gone:
//
//  1. ask the API for the item; if it does not exist, correct the graph,
//  2. if it waits for its dependents, see to those,
//  3. ask the API for its owners,
//  4. with an owner left, remove the references to those that are gone,
//  5. with none left, delete it: in the foreground if an owner waits for that and
//     the item has dependents itself.
func (gc *GarbageCollector) attemptToDeleteItem(ctx context.Context, item node, dependents []node) error {
	if item.beingDeleted && !item.deletingDependents {
		return nil // it is on its way; its end will be an event
	}
	// Step 1: ask the API for the item.
	latest, err := gc.getObject(ctx, item.identity)
	if apierrors.IsNotFound(err) || err == nil && latest.UID != item.uid {
		gc.enqueueAll(gc.correct(item))
		return nil
	}
	if err != nil {
		return err
	}
	// Step 2: if it waits for its dependents, see to those.
	if item.deletingDependents {
		return gc.processDeletingDependentsItem(ctx, item, dependents)
	}
	refs := latest.OwnerReferences
	if len(refs) == 0 {
		return nil
	}
	// Step 3: ask the API for its owners.
	owners, err := gc.classifyReferences(ctx, item, refs)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).V(4).Info("Owners", "item", item.identity, "solid", len(owners.solid), "dangling", len(owners.dangling), "waiting", len(owners.waiting))
	// Step 4: with an owner left, remove the references to those that are gone.
	if len(owners.solid) > 0 {
		if len(owners.dangling)+len(owners.waiting) == 0 {
			return nil
		}
		return gc.patchOwners(ctx, item.identity, latest, owners.solid)
	}
	// Step 5: with none left, delete it.
	tellDecision(ctx, item, owners)
	if len(owners.waiting) > 0 && len(dependents) > 0 {
		if slices.ContainsFunc(dependents, func(d node) bool { return d.deletingDependents }) {
			// A circle: the dependent waits for us, and we would wait for it. Nobody is
			// blocked by us any more, so that one end opens.
			if err := gc.unblockOwnerReferences(ctx, item.identity, latest); err != nil {
				return err
			}
		}
		return gc.deleteObject(ctx, item.identity, latest, metav1.DeletePropagationForeground)
	}
	return gc.deleteObject(ctx, item.identity, latest, propagationOf(latest))
}

// propagationOf is what the item's own finalizers ask for.
func propagationOf(object *metav1.PartialObjectMetadata) metav1.DeletionPropagation {
	switch {
	case slices.Contains(object.Finalizers, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(object.Finalizers, metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// correct takes an item out of the graph that the API does not have.
func (gc *GarbageCollector) correct(item node) []types.UID {
	if item.virtual {
		return gc.graph.removeVirtual(item.identity)
	}
	return gc.graph.remove(item.uid)
}

func (gc *GarbageCollector) enqueueAll(uids []types.UID) {
	for _, uid := range uids {
		gc.Enqueue(string(uid))
	}
}

// processDeletingDependentsItem lets go of an item whose last blocking dependent
// has gone, or sees that the dependents go.
func (gc *GarbageCollector) processDeletingDependentsItem(ctx context.Context, item node, dependents []node) error {
	blocking := false
	for _, dependent := range dependents {
		if !dependent.blocksOwner(item.uid) {
			continue
		}
		blocking = true
		if !dependent.beingDeleted {
			gc.Enqueue(string(dependent.uid))
		}
	}
	if blocking {
		return nil // the last one's end brings us here again
	}
	return gc.removeFinalizer(ctx, item.identity, metav1.FinalizerDeleteDependents)
}

// attemptToOrphan removes the references to an owner that is being deleted, then
// lets it go.
func (gc *GarbageCollector) attemptToOrphan(ctx context.Context, owner node, dependents []node) error {
	var errs []error
	for _, dependent := range dependents {
		errs = append(errs, gc.removeOwner(ctx, dependent.identity, owner.uid))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("orphaning the dependents of %s %s/%s: %w", owner.kind, owner.namespace, owner.name, err)
	}
	return gc.removeFinalizer(ctx, owner.identity, metav1.FinalizerOrphanDependents)
}

// classified are an item's references: to owners that exist, to those that do
// not, and to those that wait for their dependents to go.
type classified struct {
	solid, dangling, waiting []metav1.OwnerReference
}

// tellDecision lets the record of the cluster know why the item is deleted.
func tellDecision(ctx context.Context, item node, owners classified) {
	var why []string
	for _, ref := range owners.dangling {
		why = append(why, ref.Kind+" "+ref.Name+" is gone")
	}
	for _, ref := range owners.waiting {
		why = append(why, ref.Kind+" "+ref.Name+" waits for its dependents to go")
	}
	flow.Report(ctx, flow.Effect{What: "no owner is left", Kind: item.kind, Namespace: item.namespace, Name: item.name, Depth: 1, Detail: strings.Join(why, ", ")})
}

func (gc *GarbageCollector) classifyReferences(ctx context.Context, item node, refs []metav1.OwnerReference) (classified, error) {
	var result classified
	for _, ref := range refs {
		owner, err := gc.getOwner(ctx, item, ref)
		switch {
		case err != nil:
			return result, err
		case owner == nil:
			result.dangling = append(result.dangling, ref)
		case owner.DeletionTimestamp != nil && slices.Contains(owner.Finalizers, metav1.FinalizerDeleteDependents):
			result.waiting = append(result.waiting, ref)
		default:
			result.solid = append(result.solid, ref)
		}
	}
	return result, nil
}

// getOwner returns the owner as the API has it; nil when it does not exist, or is
// of another namespace.
func (gc *GarbageCollector) getOwner(ctx context.Context, item node, ref metav1.OwnerReference) (*metav1.PartialObjectMetadata, error) {
	id := identity{ref.APIVersion, ref.Kind, item.namespace, ref.Name, ref.UID}
	if _, absent := gc.absentOwnerCache.Get(id); absent {
		return nil, nil
	}
	owner, err := gc.getObject(ctx, id)
	if errors.Is(err, errNamespacedOwnerOfClusterScoped) {
		gc.recorder.Eventf(item.reference(), corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
			"ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q", ref.APIVersion, ref.Kind, item.namespace, ref.Name, ref.UID, item.namespace)
		// Upstream keeps such an object: its reference cannot be checked.
		return nil, &meta.NoKindMatchError{GroupKind: schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()}
	}
	if apierrors.IsNotFound(err) || err == nil && owner.UID != ref.UID {
		if n, _, known := gc.graph.snapshot(ref.UID); known && !n.virtual && n.namespace != item.namespace && n.namespace != "" {
			gc.recorder.Eventf(item.reference(), corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
				"ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q", ref.APIVersion, ref.Kind, item.namespace, ref.Name, ref.UID, item.namespace)
		}
		gc.absentOwnerCache.Add(id, nil)
		return nil, nil
	}
	return owner, err
}

func (id identity) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: id.apiVersion, Kind: id.kind, Namespace: id.namespace, Name: id.name, UID: id.uid}
}
