package registry

import (
	"context"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/apiserver/storage"
)

// Resource is one line of a group's table: all that the installer, the generic
// store, discovery and kubectl's columns need to know of a resource.
type Resource struct {
	Name       string                  // plural, lower case: "pods"
	Singular   string                  // "pod"
	Kind       schema.GroupVersionKind // as served: {"", "v1", "Pod"}
	ShortNames []string
	Categories []string
	// ClusterScoped resources have no namespace.
	ClusterScoped bool

	New     func() runtime.Object
	NewList func() runtime.Object

	// Default fills what the client left out; nil when the kind has no defaults. It runs on each
	// object that a client sent and on each that is read back from etcd.
	Default func(obj runtime.Object)
	// View makes this line a second version of a resource that is stored by another line (events.k8s.io/v1
	// of core/v1 events): strategies, hooks and fields are then that line's, and only names, New, NewList,
	// Default and Table are this one's.
	View *View
	// Answer makes a resource that is never stored: a POST is answered by it and no other verb is
	// served (SubjectAccessReview, TokenReview). namespace is "" where the kind has none.
	Answer func(ctx context.Context, namespace string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error)
	// Strategy says what create and update may change; nil means Plain (metadata rules only).
	Strategy Strategy
	// StatusStrategy gives the resource a /status subresource when set.
	StatusStrategy Strategy
	// Resets are the fields ("metadata.labels") that a write puts back, by subresource, where "" is the resource itself: nobody can
	// own them there. Status of a resource with /status, and spec at /status, need not be named.
	Resets map[string][]string
	// Fields are the selectable fields beside metadata.name and metadata.namespace; nil: none.
	Fields func(obj runtime.Object) fields.Set
	// Selects turns a label of a field selector, as this version of the kind spells it, into the field that is looked at, or
	// refuses it; nil: the labels are the names in Fields.
	Selects func(label string) (field string, err error)
	// Table makes kubectl's columns; nil gives Name and Created At.
	Table *Table
	// Subresources by name, beside status: "binding", "scale", "log", …
	Subresources map[string]Subresource
	// StorageRoot is the etcd prefix below /registry, "" = Name for the core group, upstream's
	// layout for others ("services/specs", "deployments", "minions" …).
	StorageRoot string
	// TTL of an object in seconds (events); nil: for ever.
	TTL func(obj runtime.Object) int64
	// OrphanByDefault: a deletion without a propagation policy leaves dependents (Jobs, ReplicationControllers).
	OrphanByDefault bool
	// OrphanWarning is said to who deletes without a propagation policy; "": nothing is.
	OrphanWarning string
	// NoDependents: nothing has an owner of this kind, and the garbage collector's finalizers are never set (events).
	NoDependents bool
	// Graceful: a deletion at once, too, shows the object marked for it (pods).
	Graceful bool
	// Without are those of the eight verbs that this resource does not serve (namespaces: deletecollection).
	Without []string
	// Computed makes the store of a resource that is not kept in etcd (componentstatuses); nil: etcd.
	Computed func() storage.Interface
	// ReturnDeletedObject: a deletion answers with the object rather than with a Status (pods, services …).
	ReturnDeletedObject bool
	// Index names a field of Fields ("spec.nodeName") by which lists and watches are indexed; "": none.
	Index string
	// Hooks are for resources which hold something outside their object (ClusterIPs, node ports).
	Hooks Hooks
	// Background runs beside the requests, from the end of the server's start to its stop (repair of what Hooks hold); nil: nothing does.
	Background func(ctx context.Context)
}

// View is one more served version of a stored resource.
type View struct {
	Of       schema.GroupResource
	ToServed func(stored runtime.Object) runtime.Object
	ToStored func(served runtime.Object) runtime.Object
}

// Strategy is what a resource decides for itself in a write. Embed Plain and
// override what differs. Admission and metadata rules (name, generateName, uid,
// creationTimestamp, managedFields, generation of deletion) are the store's.
type Strategy interface {
	// PrepareForCreate clears what a client may not set (status) and sets generation.
	PrepareForCreate(ctx context.Context, obj runtime.Object)
	Validate(ctx context.Context, obj runtime.Object) field.ErrorList
	WarningsOnCreate(ctx context.Context, obj runtime.Object) []string
	// PrepareForUpdate keeps what this endpoint may not change (spec on /status, status on the
	// main one) and bumps generation.
	PrepareForUpdate(ctx context.Context, obj, old runtime.Object)
	ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList
	WarningsOnUpdate(ctx context.Context, obj, old runtime.Object) []string
	// AllowCreateOnUpdate: a PUT to a name that does not exist creates it.
	AllowCreateOnUpdate() bool
	// AllowUnconditionalUpdate: a PUT without a resourceVersion is accepted.
	AllowUnconditionalUpdate() bool
	// CheckGracefulDelete returns the grace period in seconds with which obj is to be deleted
	// (0 = at once). options is never nil.
	CheckGracefulDelete(ctx context.Context, obj runtime.Object, options *metav1.DeleteOptions) int64
	// ValidateName checks metadata.name (apimachinery's validation functions).
	ValidateName(name string, prefix bool) []string
	// MetaRules are what Validate and ValidateUpdate ask of metadata, asked for them by the store.
	MetaRules(ctx context.Context) MetaRules
}

// Subresource is one path below an object. Set the functions of the verbs it serves.
type Subresource struct {
	Kind schema.GroupVersionKind // of its body: autoscaling/v1 Scale, v1 Binding, …
	New  func() runtime.Object
	// Accepts is a former version of its body, of the same fields, that is still taken (policy/v1beta1 Eviction).
	Accepts schema.GroupVersion
	// Get reads it (scale).
	Get func(ctx context.Context, namespace, name string) (runtime.Object, error)
	// Table are the columns of what Get and Update return; nil: name and age.
	Table *Table
	// Create answers a POST (binding, eviction, token).
	Create func(ctx context.Context, namespace, name string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error)
	// Update answers PUT and PATCH: change must be applied to the present state (scale).
	Update func(ctx context.Context, namespace, name string, change func(current runtime.Object) (runtime.Object, error), opts *metav1.UpdateOptions) (runtime.Object, error)
	// Apply is Update for server-side apply: what change gets and returns carries the managed fields of this shape, which
	// Fields keeps. nil: apply is a merge.
	Apply  func(ctx context.Context, namespace, name string, change func(current runtime.Object) (runtime.Object, error), opts *metav1.UpdateOptions) (runtime.Object, error)
	Fields func() (*managedfields.FieldManager, error)
	// View is the same object written under other rules (status, finalize, approval, ephemeralcontainers, resize).
	View Strategy
	// Without are verbs of View that are not served (namespaces/finalize: get, patch).
	Without []string
	// Connect takes over the connection (exec, attach, portforward, log, proxy). path is what follows the
	// subresource in the URL. The context is r's.
	Connect func(namespace, name, path string, w http.ResponseWriter, r *http.Request) error
	// ConnectMethods are the HTTP methods Connect serves; nil: GET and POST.
	ConnectMethods []string
	// ConnectOptions makes the object the query is decoded into for admission and for /openapi
	// (v1.PodExecOptions …); nil: none. Connect reads the query itself, or ConnectOptionsFrom(r.Context()).
	ConnectOptions func() runtime.Object
	// ConnectSubpath also routes what follows the subresource (proxy/{path}).
	ConnectSubpath bool
}

// Table makes kubectl's columns of a resource.
type Table struct {
	Columns []metav1.TableColumnDefinition
	// Cells returns one cell a column.
	Cells func(obj runtime.Object) []any
}

// Hooks run inside a write, before and after it reached etcd.
type Hooks struct {
	// BeginCreate and BeginUpdate may allocate; finish(true) is called after success, finish(false) to release.
	BeginCreate func(ctx context.Context, obj runtime.Object, dryRun bool) (finish func(ok bool), err error)
	BeginUpdate func(ctx context.Context, obj, old runtime.Object, dryRun bool) (finish func(ok bool), err error)
	// CheckDelete refuses to delete the object of that name when it is asked for alone (PriorityClasses of the system).
	CheckDelete func(name string) error
	// AfterDelete releases what the object held.
	AfterDelete func(obj runtime.Object)
	// MarkDeleted changes an object that is being marked for deletion but stays for now (a Namespace's phase).
	MarkDeleted func(obj runtime.Object)
	// Held says that obj must stay although metadata.finalizers is empty (a Namespace's spec.finalizers).
	Held func(obj runtime.Object) bool
}
