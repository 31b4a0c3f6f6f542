// Package lister is how authn, authz, admission and registry rooms read other
// resources: typed, from the watch cache, without an informer of their own (the
// apiserver is its own cache). Objects handed out are shared and never changed.
//
// Cached trusts the cache even when it says "not found". Confirmed asks etcd
// before it believes that: a namespace or a service account is often used by
// the next request after the one that made it, which may be before the watch
// event has come back from etcd.
//
// In Kubernetes: client-go's generated listers over shared informers, fed through
// a loopback client, and the "live lookup" that namespace lifecycle, service
// account admission and the token authenticator each do on a miss.
package lister

import (
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Lister reads one resource. namespace is "" for cluster-scoped resources and, in
// List, for all namespaces. Get's error for a missing object is a NotFound
// status.
type Lister[T any] interface {
	Get(namespace, name string) (T, error)
	List(namespace string) ([]T, error)
}

// Slice is a Lister of fixed objects, in the order of their keys: for tests, and for
// policy that is known before the store is.
func Slice[T metav1.Object](resource schema.GroupResource, objects ...T) Lister[T] {
	sorted := append([]T(nil), objects...)
	sort.SliceStable(sorted, func(i, j int) bool { return key(sorted[i]) < key(sorted[j]) })
	return slice[T]{resource, sorted}
}

type slice[T metav1.Object] struct {
	resource schema.GroupResource
	objects  []T
}

func (s slice[T]) Get(namespace, name string) (T, error) {
	for _, o := range s.objects {
		if o.GetNamespace() == namespace && o.GetName() == name {
			return o, nil
		}
	}
	var none T
	return none, apierrors.NewNotFound(s.resource, name)
}

func (s slice[T]) List(namespace string) ([]T, error) {
	var out []T
	for _, o := range s.objects {
		if namespace == "" || o.GetNamespace() == namespace {
			out = append(out, o)
		}
	}
	return out, nil
}

func key(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }
