package reconcile

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// Event is what an informer said: an object appeared (Old is nil), changed, or
// went away (New is nil). The objects belong to the informer's cache: read only.
type Event struct {
	Old, New metav1.Object
}

// Object is the object as last known.
func (e Event) Object() metav1.Object {
	if e.New != nil {
		return e.New
	}
	return e.Old
}

// Added and Deleted tell the two events that have only one object.
func (e Event) Added() bool   { return e.Old == nil }
func (e Event) Deleted() bool { return e.New == nil }

// Keys names the keys that an event concerns: none, one or many.
type Keys func(e Event) []string

// Self is the object's own key: "namespace/name", or "name" where there are no
// namespaces.
func Self(e Event) []string {
	return []string{KeyOf(e.Object())}
}

// KeyOf is the key of an object.
func KeyOf(object metav1.Object) string {
	return cache.NewObjectName(object.GetNamespace(), object.GetName()).String()
}

// Owner is the key of the object's controlling owner, when that is of the given
// kind; of both, when it changed hands.
func Owner(kind schema.GroupVersionKind) Keys {
	return func(e Event) []string {
		var keys []string
		for _, object := range []metav1.Object{e.Old, e.New} {
			if object == nil {
				continue
			}
			if key, ok := ownerKey(object, kind); ok && (len(keys) == 0 || keys[0] != key) {
				keys = append(keys, key)
			}
		}
		return keys
	}
}

func ownerKey(object metav1.Object, kind schema.GroupVersionKind) (string, bool) {
	ref := metav1.GetControllerOf(object)
	if ref == nil || ref.Kind != kind.Kind {
		return "", false
	}
	if gv, err := schema.ParseGroupVersion(ref.APIVersion); err != nil || gv.Group != kind.Group {
		return "", false
	}
	return cache.NewObjectName(object.GetNamespace(), ref.Name).String(), true
}

// HandlerOf adapts handle to the informer's three calls.
func HandlerOf(handle func(Event)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			if o, ok := object.(metav1.Object); ok {
				handle(Event{New: o})
			}
		},
		UpdateFunc: func(before, after any) {
			old, okOld := before.(metav1.Object)
			o, ok := after.(metav1.Object)
			if ok && okOld {
				handle(Event{Old: old, New: o})
			}
		},
		DeleteFunc: func(object any) {
			// A deletion that the watch missed is found by the next list. The tombstone
			// then holds the last state that was seen, which may be old.
			if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = tombstone.Obj
			}
			if o, ok := object.(metav1.Object); ok {
				handle(Event{Old: o})
			}
		},
	}
}
