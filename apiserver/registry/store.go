package registry

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/request"
	"hyperkube/apiserver/storage"
)

// Store is the generic store of one resource: it turns what a request wants into
// calls of storage, under the rules of the resource's Strategy and of the API
// conventions.
//
// Invariants:
//   - What a Store returns is shared with all readers: it is never changed.
//   - An object is stored only after admission and validation have seen it exactly as it is stored.
type Store struct {
	*Resource
	Storage storage.Interface

	env     *Env
	tracker tracker
	// views are the other versions that this resource is served in.
	views []*Resource
}

// NewStore makes the store of a resource and lets env find it.
func NewStore(env *Env, resource *Resource, backend storage.Interface) *Store {
	s := &Store{Resource: resource, Storage: backend, env: env}
	if s.Strategy == nil {
		s.Strategy = Plain{}
	}
	s.tracker.init(s)
	if env.stores == nil {
		env.stores = map[schema.GroupResource]*Store{}
	}
	env.stores[resource.GroupResource()] = s
	return s
}

// AddView tells the store of one more version that it is served in; before the first write.
func (s *Store) AddView(view *Resource) { s.views = append(s.views, view) }

// Write is how something is to be written.
type Write struct {
	// Subresource and View: the endpoint and its strategy; "" and nil for the resource's own.
	Subresource string
	View        Strategy
	// Manager is to own the changed fields in managedFields; "": they are not tracked.
	Manager string
	DryRun  bool
	// Options are shown to admission: *metav1.CreateOptions, UpdateOptions or PatchOptions.
	Options runtime.Object
	// Applied says that change has tracked managed fields itself (server-side apply).
	Applied bool
	// Unadmitted leaves admission out: the apiserver's own writes.
	Unadmitted bool
	// Replaces says that change does not touch the present object: it needs no copy of its own.
	Replaces bool
	// Kind is the version the writer speaks, which owns the fields; empty: the stored one.
	Kind schema.GroupVersionKind
	// spent is request.AdmissionAttributes.Spent of all turns.
	spent map[string]any
	// MayCreate makes an update of what does not exist a create: apply, or AllowCreateOnUpdate.
	MayCreate bool
}

// Get reads one object; resourceVersion as in storage.Interface.
func (s *Store) Get(ctx context.Context, namespace, name, resourceVersion string) (*storage.Object, error) {
	if err := s.checkScope(namespace, name); err != nil {
		return nil, err
	}
	obj, err := s.Storage.Get(ctx, s.key(namespace, name), resourceVersion)
	return obj, s.statusError(ctx, err, name)
}

// List reads the objects of namespace, or of all.
func (s *Store) List(ctx context.Context, namespace string, opts storage.ListOptions) (*storage.List, error) {
	list, err := s.Storage.List(ctx, s.prefix(namespace), opts)
	return list, s.statusError(ctx, err, "")
}

// Watch streams the changes in namespace, or in all.
func (s *Store) Watch(ctx context.Context, namespace string, opts storage.WatchOptions) (storage.Watcher, error) {
	watcher, err := s.Storage.Watch(ctx, s.prefix(namespace), opts)
	return watcher, s.statusError(ctx, err, "")
}

// GetCached reads from the watch cache. The object is shared: never change it.
func (s *Store) GetCached(ctx context.Context, namespace, name string) (runtime.Object, error) {
	return bare(s.Get(ctx, namespace, name, "0"))
}

// GetObject reads consistently with etcd. The object is shared: never change it.
func (s *Store) GetObject(ctx context.Context, namespace, name string) (runtime.Object, error) {
	return bare(s.Get(ctx, namespace, name, ""))
}

// ListCached reads from the watch cache. The objects are shared: never change them.
func (s *Store) ListCached(ctx context.Context, namespace string, selector labels.Selector) ([]runtime.Object, error) {
	return s.ListBy(ctx, namespace, storage.Predicate{Label: selector})
}

// ListBy is ListCached with a field selector beside.
func (s *Store) ListBy(ctx context.Context, namespace string, predicate storage.Predicate) ([]runtime.Object, error) {
	list, err := s.List(ctx, namespace, storage.ListOptions{ResourceVersion: "0", Predicate: predicate})
	if err != nil {
		return nil, err
	}
	objects := make([]runtime.Object, len(list.Items))
	for i, item := range list.Items {
		objects[i] = item.Object
	}
	return objects, nil
}

// CreateObject stores a new object with all that a POST does: defaults, strategy, admission, validation. Whom opts do not name as its
// manager, the apiserver is.
func (s *Store) CreateObject(ctx context.Context, namespace string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
	if s.Default != nil {
		s.Default(obj)
	}
	return bare(s.Create(ctx, namespace, obj, Write{Options: opts, DryRun: len(opts.DryRun) > 0, Manager: cmp.Or(opts.FieldManager, OwnManager)}))
}

// UpdateObject changes an object with all that a PUT does; change gets a copy of the present object and may run again
// after a conflict. In a request for a subresource (scale), the changed fields are owned there.
func (s *Store) UpdateObject(ctx context.Context, namespace, name string, change Change, opts *metav1.UpdateOptions) (runtime.Object, error) {
	obj, _, err := s.Update(ctx, namespace, name, change, functionWrite(ctx, opts))
	return bare(obj, err)
}

// ApplyObject is UpdateObject for a change that tracks managed fields itself.
func (s *Store) ApplyObject(ctx context.Context, namespace, name string, change Change, opts *metav1.UpdateOptions) (runtime.Object, error) {
	w := functionWrite(ctx, opts)
	w.Applied = true
	obj, _, err := s.Update(ctx, namespace, name, change, w)
	return bare(obj, err)
}

func functionWrite(ctx context.Context, opts *metav1.UpdateOptions) Write {
	subresource := ""
	if info := request.InfoFrom(ctx); info != nil {
		subresource = info.Subresource
	}
	// Of a subresource's own shape, admission has been asked by the endpoint.
	return Write{Subresource: subresource, Unadmitted: subresource != "", Options: opts, DryRun: len(opts.DryRun) > 0, Manager: cmp.Or(opts.FieldManager, OwnManager)}
}

// DeleteObject deletes as a DELETE does. gone is false while the object waits for its grace period or finalizers.
func (s *Store) DeleteObject(ctx context.Context, namespace, name string, opts *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj, gone, err := s.Delete(ctx, namespace, name, opts)
	if err != nil {
		return nil, false, err
	}
	return obj.Object, gone, nil
}

func bare(obj *storage.Object, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	return obj.Object, nil
}

// GroupResource names the resource without its version.
func (r *Resource) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.Kind.Group, Resource: r.Name}
}

// GroupVersionResource names the resource as it is served.
func (r *Resource) GroupVersionResource() schema.GroupVersionResource {
	return r.Kind.GroupVersion().WithResource(r.Name)
}

func (s *Store) statusError(ctx context.Context, err error, name string) error {
	if err == nil {
		return nil
	}
	return storage.StatusError(err, s.asked(ctx), name)
}

func (s *Store) key(namespace, name string) string {
	if s.ClusterScoped {
		return name
	}
	return namespace + "/" + name
}

func (s *Store) prefix(namespace string) string {
	if s.ClusterScoped || namespace == "" {
		return ""
	}
	return namespace + "/"
}

// checkScope refuses what can be no key: it would otherwise read or write beside its namespace.
func (s *Store) checkScope(namespace, name string) error {
	if !s.ClusterScoped && namespace == "" {
		return errors.NewBadRequest("an empty namespace may not be set when a resource name is provided")
	}
	if !isPathSegment(name) {
		return errors.NewBadRequest("the name of a " + s.Kind.Kind + " may not be empty, '.' or '..', nor contain '/' or '%'")
	}
	return nil
}
