// Package manager keeps the objects that pods of this node refer to: config maps
// and secrets for volumes and environment, tokens of service accounts. An object
// is held, and watched for changes, from the first pod that names it to the last.
//
// In Kubernetes: pkg/kubelet/util/manager, pkg/kubelet/token. Its three ways of
// noticing changes (get, TTL cache, watch) are one here: a GET when it is first
// needed, since a pod waits for it, and a watch from then on.
package manager

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Source reads one kind of object.
type Source struct {
	Kind string // for messages: "configmap"
	Type runtime.Object
	// Client is what Get, List and Watch call; the reflector asks it how it lists.
	Client any
	Get    func(ctx context.Context, namespace, name string) (runtime.Object, error)
	List   func(ctx context.Context, namespace string, options metav1.ListOptions) (runtime.Object, error)
	Watch  func(ctx context.Context, namespace string, options metav1.ListOptions) (watch.Interface, error)
}

type key struct{ namespace, name string }

// item is one object in use.
type item struct {
	users  map[types.UID]bool
	cancel context.CancelFunc

	mu     sync.Mutex
	object runtime.Object // nil until known
	synced bool           // the watch has said what there is; object nil then means that there is none
}

// Manager holds the objects of one kind. It is safe for concurrent use.
//
// Invariant: an item exists if and only if users is not empty.
type Manager struct {
	source  Source
	changed func(pods []types.UID)
	ctx     context.Context // ends all watches

	mu    sync.Mutex
	items map[key]*item
	pods  map[types.UID]map[key]bool
	group sync.WaitGroup
}

// New makes a manager whose watches end with ctx. changed is called with the
// pods that use an object when that object changes.
func New(ctx context.Context, source Source, changed func([]types.UID)) *Manager {
	return &Manager{source: source, changed: changed, ctx: ctx, items: map[key]*item{}, pods: map[types.UID]map[key]bool{}}
}

// SetPod says which objects (in its namespace) a pod uses; none when it is gone.
func (m *Manager) SetPod(uid types.UID, namespace string, names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := map[key]bool{}
	for _, name := range names {
		k := key{namespace, name}
		wanted[k] = true
		if m.items[k] == nil {
			m.items[k] = m.start(k)
		}
		m.items[k].users[uid] = true
	}
	for k := range m.pods[uid] {
		if wanted[k] {
			continue
		}
		delete(m.items[k].users, uid)
		if len(m.items[k].users) == 0 {
			m.items[k].cancel()
			delete(m.items, k)
		}
	}
	if len(wanted) == 0 {
		delete(m.pods, uid)
	} else {
		m.pods[uid] = wanted
	}
}

// Get returns the object; from memory if it is in use and known.
func (m *Manager) Get(ctx context.Context, namespace, name string) (runtime.Object, error) {
	m.mu.Lock()
	it := m.items[key{namespace, name}]
	m.mu.Unlock()
	if it != nil {
		it.mu.Lock()
		object := it.object
		it.mu.Unlock()
		if object != nil {
			return object, nil
		}
	}
	object, err := m.source.Get(ctx, namespace, name)
	if apierrors.IsNotFound(err) {
		// Said as upstream says it: `configmap "x" not found`, once.
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: m.source.Kind}, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", m.source.Kind, name, err)
	}
	if it != nil {
		it.mu.Lock()
		if it.object == nil && !it.synced {
			it.object = object
		}
		it.mu.Unlock()
	}
	return object, nil
}

// Wait returns when all watches have ended, after the context did.
func (m *Manager) Wait() { m.group.Wait() }

// start begins to watch one object.
func (m *Manager) start(k key) *item {
	ctx, cancel := context.WithCancel(m.ctx)
	it := &item{users: map[types.UID]bool{}, cancel: cancel}
	selector := fields.OneTermEqualSelector("metadata.name", k.name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return m.source.List(ctx, k.namespace, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return m.source.Watch(ctx, k.namespace, o)
		},
	}
	store := &itemStore{manager: m, key: k, item: it}
	reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, m.source.Client), m.source.Type, store, cache.ReflectorOptions{Name: "kubelet " + m.source.Kind})
	m.group.Go(func() { reflector.RunWithContext(ctx) })
	return it
}

// set takes what the watch says; object is nil when it was deleted.
func (m *Manager) set(k key, it *item, object runtime.Object) {
	it.mu.Lock()
	changed := it.synced || it.object != nil
	if changed && object != nil && it.object != nil && version(object) == version(it.object) {
		changed = false
	}
	it.object, it.synced = object, true
	it.mu.Unlock()
	if !changed || object == nil {
		return
	}
	m.mu.Lock()
	users := make([]types.UID, 0, len(it.users))
	for uid := range it.users {
		users = append(users, uid)
	}
	m.mu.Unlock()
	m.changed(users)
}

func version(object runtime.Object) string {
	accessor, err := meta.Accessor(object)
	if err != nil {
		return ""
	}
	return accessor.GetResourceVersion()
}

// itemStore is the cache.ReflectorStore of one object.
type itemStore struct {
	manager *Manager
	key     key
	item    *item
}

func (s *itemStore) Add(object any) error {
	s.manager.set(s.key, s.item, object.(runtime.Object))
	return nil
}
func (s *itemStore) Update(object any) error { return s.Add(object) }
func (s *itemStore) Delete(any) error {
	s.manager.set(s.key, s.item, nil)
	return nil
}
func (s *itemStore) Replace(list []any, _ string) error {
	if len(list) == 0 {
		s.manager.set(s.key, s.item, nil)
		return nil
	}
	return s.Add(list[0])
}
func (s *itemStore) Resync() error { return nil }
