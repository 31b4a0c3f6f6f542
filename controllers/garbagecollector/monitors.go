package garbagecollector

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"hyperkube/reconcile"
)

// listTimeout is how long a kind that does not list may hold up finalizers: a
// custom resource whose conversion webhook is broken would do so for ever.
const listTimeout = 30 * time.Second

// ignored kinds come by the thousand, own nothing, and expire by themselves.
var ignored = []schema.GroupResource{{Resource: "events"}, {Group: "events.k8s.io", Resource: "events"}}

// monitors are the informers, one a kind.
type monitors struct {
	shared map[schema.GroupVersionResource]cache.SharedIndexInformer
	period time.Duration

	mu     sync.Mutex
	mapper meta.RESTMapper
	byKind map[schema.GroupVersionResource]*monitor
}

// monitor is one kind's informer.
type monitor struct {
	kind     schema.GroupVersionKind
	informer cache.SharedIndexInformer
	handle   cache.ResourceEventHandlerRegistration
	started  time.Time
	// stop ends the informer, where it is ours, after the handler is off.
	stop func()
}

// runMonitors asks discovery now and then every period until ctx ends. It returns
// when all informers of ours have stopped.
func (gc *GarbageCollector) runMonitors(ctx context.Context) {
	var informers sync.WaitGroup
	defer informers.Wait()
	defer gc.monitors.stopAll()
	ticker := time.NewTicker(gc.monitors.period)
	defer ticker.Stop()
	for {
		if err := gc.syncMonitors(ctx, &informers); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Asking discovery failed, will retry", "after", gc.monitors.period)
		}
		if !gc.monitors.any() {
			// Nothing at all is known yet: the apiserver is still starting.
			select {
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// syncMonitors starts an informer for every kind that is new, and stops those of
// kinds that are no longer served.
func (gc *GarbageCollector) syncMonitors(ctx context.Context, informers *sync.WaitGroup) error {
	groups, err := restmapper.GetAPIGroupResources(gc.discovery)
	if err != nil && len(groups) == 0 {
		return err
	}
	kinds := deletableKinds(groups)
	m := &gc.monitors
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mapper = restmapper.NewDiscoveryRESTMapper(groups)
	if m.byKind == nil {
		m.byKind = map[schema.GroupVersionResource]*monitor{}
	}
	for gvr, kind := range kinds {
		if m.byKind[gvr] == nil {
			started, startErr := gc.startMonitor(ctx, gvr, kind, informers)
			if startErr != nil {
				return startErr
			}
			m.byKind[gvr] = started
		}
	}
	for gvr, old := range m.byKind {
		if _, served := kinds[gvr]; served || err != nil {
			continue // after an error a missing kind may only not have answered
		}
		old.end()
		delete(m.byKind, gvr)
		apiVersion, kind := old.kind.ToAPIVersionAndKind()
		gc.enqueueAll(gc.graph.removeKind(apiVersion, kind))
	}
	return err
}

func (gc *GarbageCollector) startMonitor(ctx context.Context, gvr schema.GroupVersionResource, kind schema.GroupVersionKind, informers *sync.WaitGroup) (*monitor, error) {
	m := &monitor{kind: kind, started: gc.clock.Now(), stop: func() {}}
	m.informer = gc.monitors.shared[gvr]
	ours := m.informer == nil
	if ours {
		m.informer = metadatainformer.NewFilteredMetadataInformer(gc.metadata, gvr, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
		if err := m.informer.SetTransform(stripMetadata); err != nil {
			return nil, err
		}
	}
	apiVersion, name := kind.ToAPIVersionAndKind()
	handle, err := m.informer.AddEventHandler(reconcile.HandlerOf(func(e reconcile.Event) {
		gc.observe(e, apiVersion, name)
	}))
	if err != nil {
		return nil, err
	}
	m.handle = handle
	if ours {
		ctx, cancel := context.WithCancel(ctx)
		m.stop = cancel
		informers.Go(func() { m.informer.RunWithContext(ctx) })
	}
	return m, nil
}

// observe puts an event into the graph and enqueues what it concerns.
func (gc *GarbageCollector) observe(e reconcile.Event, apiVersion, kind string) {
	object := e.Object()
	id := identity{apiVersion, kind, object.GetNamespace(), object.GetName(), object.GetUID()}
	var look []string
	if e.Deleted() {
		for _, uid := range gc.graph.remove(id.uid) {
			look = append(look, string(uid))
		}
	} else {
		for _, uid := range gc.graph.observe(id, object) {
			look = append(look, string(uid))
		}
	}
	gc.Notify(e, look...)
}

// stripMetadata drops what the graph does not need, which is most of it.
func stripMetadata(object any) (any, error) {
	if o, ok := object.(*metav1.PartialObjectMetadata); ok {
		o.ManagedFields, o.Annotations, o.Labels = nil, nil, nil
	}
	return object, nil
}

// deletableKinds picks, for each resource that can be listed, watched and deleted,
// one version: the preferred one, where that has it.
func deletableKinds(groups []*restmapper.APIGroupResources) map[schema.GroupVersionResource]schema.GroupVersionKind {
	kinds := map[schema.GroupVersionResource]schema.GroupVersionKind{}
	for _, group := range groups {
		versions := []string{group.Group.PreferredVersion.Version}
		for _, version := range group.Group.Versions {
			versions = append(versions, version.Version)
		}
		taken := map[string]bool{}
		for _, version := range versions {
			gv := schema.GroupVersion{Group: group.Group.Name, Version: version}
			for _, r := range group.VersionedResources[version] {
				if taken[r.Name] || !deletable(r) || slices.Contains(ignored, gv.WithResource(r.Name).GroupResource()) {
					continue
				}
				taken[r.Name] = true
				kinds[gv.WithResource(r.Name)] = gv.WithKind(r.Kind)
			}
		}
	}
	return kinds
}

func deletable(r metav1.APIResource) bool {
	return !strings.Contains(r.Name, "/") && slices.Contains(r.Verbs, "delete") &&
		slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "watch")
}

func (m *monitor) end() {
	_ = m.informer.RemoveEventHandler(m.handle)
	m.stop()
}

func (m *monitors) stopAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.byKind {
		one.end()
	}
	m.byKind = nil
}

func (m *monitors) any() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byKind) > 0
}

// listed reports whether every kind has listed its objects, or had time enough to.
func (m *monitors) listed(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.byKind {
		if !one.handle.HasSynced() && now.Sub(one.started) < listTimeout {
			return false
		}
	}
	return len(m.byKind) > 0
}

func (m *monitors) mapping(kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mapper == nil {
		return nil, &meta.NoKindMatchError{GroupKind: kind.GroupKind(), SearchedVersions: []string{kind.Version}}
	}
	return m.mapper.RESTMapping(kind.GroupKind(), kind.Version)
}
