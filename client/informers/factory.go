// Package informers is the shared informer factory of our components: one
// watch and one cache a kind, however many loops of a process read it.
//
//	factory := informers.NewSharedInformerFactory(client, 0)
//	pods := factory.Core().V1().Pods()      // .Informer() asks for it, .Lister() reads it
//	factory.StartWithContext(ctx)           // those asked for so far: list, then watch
//	factory.WaitForCacheSyncWithContext(ctx)
//
// Informers and listers themselves are client-go's. Only the factory is ours,
// because client-go's names every kind of every group in every version, and a
// Go program that can call methods by name (text/template in kubectl,
// comparisons in etcd) keeps all methods of all types it names: 147 kinds,
// 9 MiB of this binary, for the twenty kinds that are watched. A group that a
// new controller needs is one more line in the two lists below.
//
// Invariants: an informer runs at most once; none starts after Shutdown.
//
// # In Kubernetes
//
// k8s.io/client-go/informers/factory.go, generated, whose factory can be used
// wherever ours can. Left out: custom resync periods, and ForResource, which
// takes a kind by name.
package informers

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers/apps"
	"k8s.io/client-go/informers/autoscaling"
	"k8s.io/client-go/informers/batch"
	"k8s.io/client-go/informers/certificates"
	"k8s.io/client-go/informers/coordination"
	"k8s.io/client-go/informers/core"
	"k8s.io/client-go/informers/discovery"
	"k8s.io/client-go/informers/internalinterfaces"
	"k8s.io/client-go/informers/networking"
	"k8s.io/client-go/informers/policy"
	"k8s.io/client-go/informers/rbac"
	"k8s.io/client-go/informers/storage"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// SharedInformerFactory makes informers, starts them together and ends them together.
type SharedInformerFactory interface {
	internalinterfaces.SharedInformerFactory
	// StartWithContext starts the informers asked for so far; they run until ctx ends.
	StartWithContext(ctx context.Context)
	// Shutdown waits for the informers to end, once their context has.
	Shutdown()
	WaitForCacheSync(stop <-chan struct{}) map[reflect.Type]bool
	// WaitForCacheSyncWithContext waits until each started informer has its first list, or ctx ends.
	WaitForCacheSyncWithContext(ctx context.Context) cache.SyncResult

	Apps() apps.Interface
	Autoscaling() autoscaling.Interface
	Batch() batch.Interface
	Certificates() certificates.Interface
	Coordination() coordination.Interface
	Core() core.Interface
	Discovery() discovery.Interface
	Networking() networking.Interface
	Policy() policy.Interface
	Rbac() rbac.Interface
	Storage() storage.Interface
}

type sharedInformerFactory struct {
	client    kubernetes.Interface
	resync    time.Duration
	tweak     internalinterfaces.TweakListOptionsFunc
	transform cache.TransformFunc

	mu        sync.Mutex
	informers map[reflect.Type]cache.SharedIndexInformer
	started   map[reflect.Type]bool
	ended     bool // Shutdown was called
	running   sync.WaitGroup
}

// SharedInformerOption changes what all informers of a factory have in common.
type SharedInformerOption func(*sharedInformerFactory)

// WithTweakListOptions narrows what is listed and watched.
func WithTweakListOptions(tweak internalinterfaces.TweakListOptionsFunc) SharedInformerOption {
	return func(f *sharedInformerFactory) { f.tweak = tweak }
}

// WithTransform changes each object before it is kept, to keep less of it.
func WithTransform(transform cache.TransformFunc) SharedInformerOption {
	return func(f *sharedInformerFactory) { f.transform = transform }
}

// NewSharedInformerFactory makes informers of all namespaces. Every resync (0: never)
// their handlers are told of each object again.
func NewSharedInformerFactory(client kubernetes.Interface, resync time.Duration) SharedInformerFactory {
	return NewSharedInformerFactoryWithOptions(client, resync)
}

// NewSharedInformerFactoryWithOptions is NewSharedInformerFactory, with options.
func NewSharedInformerFactoryWithOptions(client kubernetes.Interface, resync time.Duration, options ...SharedInformerOption) SharedInformerFactory {
	f := &sharedInformerFactory{client: client, resync: resync,
		informers: map[reflect.Type]cache.SharedIndexInformer{}, started: map[reflect.Type]bool{}}
	for _, option := range options {
		option(f)
	}
	return f
}

// InformerFor returns the one informer of object's type, which make makes the first time.
func (f *sharedInformerFactory) InformerFor(object runtime.Object, make internalinterfaces.NewInformerFunc) cache.SharedIndexInformer {
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := reflect.TypeOf(object)
	informer, found := f.informers[kind]
	if found {
		return informer
	}
	informer = make(f.client, f.resync)
	if f.transform != nil {
		if err := informer.SetTransform(f.transform); err != nil {
			panic(fmt.Sprintf("informer of %v: it has just been made and yet runs: %v", kind, err))
		}
	}
	f.informers[kind] = informer
	return informer
}

func (f *sharedInformerFactory) StartWithContext(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return
	}
	for kind, informer := range f.informers {
		if !f.started[kind] {
			f.started[kind] = true
			f.running.Go(func() { informer.RunWithContext(ctx) })
		}
	}
}

func (f *sharedInformerFactory) Start(stop <-chan struct{}) {
	f.StartWithContext(wait.ContextForChannel(stop))
}

func (f *sharedInformerFactory) Shutdown() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.running.Wait()
}

func (f *sharedInformerFactory) WaitForCacheSyncWithContext(ctx context.Context) cache.SyncResult {
	f.mu.Lock()
	waiting := map[reflect.Type]cache.SharedIndexInformer{}
	for kind := range f.started {
		waiting[kind] = f.informers[kind]
	}
	f.mu.Unlock()
	result := cache.SyncResult{Synced: map[reflect.Type]bool{}}
	for kind, informer := range waiting {
		if result.Synced[kind] = cache.WaitFor(ctx, "", informer.HasSyncedChecker()); !result.Synced[kind] {
			result.Err = context.Cause(ctx)
		}
	}
	return result
}

func (f *sharedInformerFactory) WaitForCacheSync(stop <-chan struct{}) map[reflect.Type]bool {
	return f.WaitForCacheSyncWithContext(wait.ContextForChannel(stop)).Synced
}

// InformerName would name the informers in client-go's own metrics, which are
// process-wide: ours have none.
func (f *sharedInformerFactory) InformerName() *cache.InformerName { return nil }

func (f *sharedInformerFactory) Apps() apps.Interface {
	return apps.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Autoscaling() autoscaling.Interface {
	return autoscaling.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Batch() batch.Interface {
	return batch.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Certificates() certificates.Interface {
	return certificates.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Coordination() coordination.Interface {
	return coordination.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Core() core.Interface {
	return core.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Discovery() discovery.Interface {
	return discovery.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Networking() networking.Interface {
	return networking.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Policy() policy.Interface {
	return policy.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Rbac() rbac.Interface {
	return rbac.New(f, metav1.NamespaceAll, f.tweak)
}

func (f *sharedInformerFactory) Storage() storage.Interface {
	return storage.New(f, metav1.NamespaceAll, f.tweak)
}
