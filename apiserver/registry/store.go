package registry

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// Store is the generic store of one resource.
type Store struct {
	*Resource
	env *Env
}

// GetCached reads from the watch cache. The object is shared: never change it.
func (s *Store) GetCached(ctx context.Context, namespace, name string) (runtime.Object, error) {
	panic("being built")
}

// ListCached reads from the watch cache. The objects are shared: never change them.
func (s *Store) ListCached(ctx context.Context, namespace string, selector labels.Selector) ([]runtime.Object, error) {
	panic("being built")
}

// GetObject reads consistently with etcd. The object is shared: never change it.
func (s *Store) GetObject(ctx context.Context, namespace, name string) (runtime.Object, error) {
	panic("being built")
}

// CreateObject stores a new object with all that a POST does: defaults, strategy, admission, validation.
func (s *Store) CreateObject(ctx context.Context, namespace string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
	panic("being built")
}

// UpdateObject changes an object with all that a PUT does; change gets a copy of the present object and may run again
// after a conflict. view is the strategy under which it is written: nil for the resource's own.
func (s *Store) UpdateObject(ctx context.Context, namespace, name string, view Strategy, change func(current runtime.Object) (runtime.Object, error), opts *metav1.UpdateOptions) (runtime.Object, error) {
	panic("being built")
}

// GuaranteedUpdate changes an object under no strategy, admission or validation: for the apiserver's own writes
// (binding a pod, the endpoints of the kubernetes Service).
func (s *Store) GuaranteedUpdate(ctx context.Context, namespace, name string, dryRun bool, change func(current runtime.Object) (runtime.Object, error)) (runtime.Object, error) {
	panic("being built")
}

// DeleteObject deletes as a DELETE does. gone is false while the object waits for its grace period or finalizers.
func (s *Store) DeleteObject(ctx context.Context, namespace, name string, opts *metav1.DeleteOptions) (obj runtime.Object, gone bool, err error) {
	panic("being built")
}
