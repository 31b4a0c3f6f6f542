package volumebinding

import (
	"maps"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"
)

// assumeCache is an informer's cache, and over it the objects as the scheduler has decided to change them. An
// assumed object counts until the informer brings a newer one: then somebody has written, we or another, and
// what is in the store is right.
type assumeCache[T metav1.Object] struct {
	lister     func(namespace, name string) (T, error)
	listerList func(labels.Selector) ([]T, error)

	mu      sync.RWMutex
	assumed map[string]T
}

func newAssumeCache[T metav1.Object](lister func(namespace, name string) (T, error)) *assumeCache[T] {
	return &assumeCache[T]{lister: lister, assumed: map[string]T{}}
}

func (c *assumeCache[T]) withList(list func(labels.Selector) ([]T, error)) *assumeCache[T] {
	c.listerList = list
	return c
}

// get returns the object as assumed, or as the API has it.
func (c *assumeCache[T]) get(namespace, name string) (T, error) {
	object, err := c.lister(namespace, name)
	if err != nil {
		return object, err
	}
	return c.over(object), nil
}

// list returns all objects, as assumed or as the API has them.
func (c *assumeCache[T]) list() ([]T, error) {
	stored, err := c.listerList(labels.Everything())
	if err != nil {
		return nil, err
	}
	all := make([]T, len(stored))
	for i, object := range stored {
		all[i] = c.over(object)
	}
	return all, nil
}

func (c *assumeCache[T]) over(object T) T {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if assumed, ok := c.assumed[keyOf(object)]; ok && assumed.GetUID() == object.GetUID() && !newer(object, assumed) {
		return assumed
	}
	return object
}

// assume lets object stand for the stored one; also when it has been written and the informer is behind.
func (c *assumeCache[T]) assume(object T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.assumed, func(_ string, old T) bool { // those that are out of date, for which nobody would ask again
		stored, err := c.lister(old.GetNamespace(), old.GetName())
		return err != nil || newer(stored, old)
	})
	c.assumed[keyOf(object)] = object
}

// restore forgets what was assumed of an object.
func (c *assumeCache[T]) restore(object T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.assumed, keyOf(object))
}

func keyOf(object metav1.Object) string {
	return cache.NewObjectName(object.GetNamespace(), object.GetName()).String()
}

// newer says whether a has been written after b. Versions that are no numbers, of an apiserver unknown to us, count as new.
func newer(a, b metav1.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err != nil || order > 0
}
