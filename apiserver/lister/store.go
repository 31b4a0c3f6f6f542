package lister

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/registry"
)

// Live reads resource consistently with etcd; for decisions where a second's delay would leak.
func Live[T runtime.Object](env *registry.Env, resource schema.GroupResource) Lister[T] {
	return fromStore[T]{env: env, resource: resource, live: true}
}

// Cached reads resource from its watch cache. A resource that is not served has no objects.
func Cached[T runtime.Object](env *registry.Env, resource schema.GroupResource) Lister[T] {
	return fromStore[T]{env: env, resource: resource}
}

// Confirmed is Cached, but asks etcd before it says that something does not exist.
func Confirmed[T runtime.Object](env *registry.Env, resource schema.GroupResource) Lister[T] {
	return fromStore[T]{env: env, resource: resource, confirm: true}
}

type fromStore[T runtime.Object] struct {
	env      *registry.Env
	resource schema.GroupResource
	// confirm: a miss is asked again of etcd. live: everything is (Get only).
	confirm, live bool
}

func (l fromStore[T]) Get(namespace, name string) (T, error) {
	var none T
	store := l.env.Store(l.resource)
	if store == nil {
		return none, apierrors.NewNotFound(l.resource, name)
	}
	var obj runtime.Object
	var err error
	if !l.live {
		obj, err = store.GetCached(context.Background(), namespace, name)
	}
	if l.live || l.confirm && apierrors.IsNotFound(err) {
		obj, err = store.GetObject(context.Background(), namespace, name)
	}
	if err != nil {
		return none, err
	}
	return typed[T](obj)
}

func (l fromStore[T]) List(namespace string) ([]T, error) {
	store := l.env.Store(l.resource)
	if store == nil {
		return nil, nil
	}
	objects, err := store.ListCached(context.Background(), namespace, nil)
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(objects))
	for _, obj := range objects {
		t, err := typed[T](obj)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func typed[T runtime.Object](obj runtime.Object) (T, error) {
	t, ok := obj.(T)
	if !ok {
		return t, fmt.Errorf("the store holds a %T where a %T was expected", obj, t)
	}
	return t, nil
}
