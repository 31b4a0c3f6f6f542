package registry

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/request"
)

// Env is what resources may ask of the apiserver they are part of. A group's
// Resources function gets it before any store exists: keep the pointer and ask
// it inside the functions of the resource, when a request is there.
type Env struct {
	// ServiceCIDR is the range of ClusterIPs; its first address is the kubernetes Service's.
	ServiceCIDR netip.Prefix
	// SecondaryServiceCIDR is the range of the other family, of a cluster with two; invalid: there is none.
	SecondaryServiceCIDR netip.Prefix
	// NodePortRange is the range of NodePorts; ReservedNodePorts in it are never given out.
	NodePortRange     utilnet.PortRange
	ReservedNodePorts []int
	// ClusterDNSAddress is kept for the cluster's DNS Service: never given out unasked. May be invalid.
	ClusterDNSAddress netip.Addr
	Clock             clock.WithTicker
	// NameSuffix is what stands behind a generateName; nil: five characters at random. Tests let names meet.
	NameSuffix func() string

	// ServiceAccountKeyFile is the private key that signs and verifies tokens of ServiceAccountIssuer.
	ServiceAccountKeyFile string
	ServiceAccountIssuer  string
	// The apiserver's client certificate towards kubelets, and the CA of their serving certificates.
	KubeletClientCertFile string
	KubeletClientKeyFile  string
	KubeletCAFile         string

	// Set before the first request; never nil then.
	Authenticator request.Authenticator
	Authorizer    request.Authorizer
	Admission     request.Admission

	// TypeConverter knows the fields of every kind (made of the OpenAPI definitions); nil: managed fields are not kept.
	TypeConverter managedfields.TypeConverter

	stores map[schema.GroupResource]*Store
}

// Store returns the store of a resource, nil when it is not served. Call it
// in a request, not while the tables are being made.
func (e *Env) Store(gr schema.GroupResource) *Store { return e.stores[gr] }

// ResourceOf is the resource that serves a kind. As Store, it is for requests.
func (e *Env) ResourceOf(kind schema.GroupVersionKind) (name string, served bool) {
	for _, s := range e.stores {
		if s.Kind == kind || slices.ContainsFunc(s.views, func(view *Resource) bool { return view.Kind == kind }) {
			return s.Name, true
		}
	}
	return "", false
}

// Lister reads a resource from the watch cache. What it returns is shared: never change it.
type Lister struct {
	env *Env
	gr  schema.GroupResource
}

// Lister may be called while the tables are being made; it finds its store when it is used.
func (e *Env) Lister(gr schema.GroupResource) Lister { return Lister{e, gr} }

// Get returns the cached object, or a NotFound error. namespace is "" for cluster-scoped resources.
func (l Lister) Get(ctx context.Context, namespace, name string) (runtime.Object, error) {
	store := l.env.Store(l.gr)
	if store == nil {
		return nil, errors.NewNotFound(l.gr, name)
	}
	return store.GetCached(ctx, namespace, name)
}

// List returns the cached objects in namespace ("" = all) that selector (nil = every) matches.
func (l Lister) List(ctx context.Context, namespace string, selector labels.Selector) ([]runtime.Object, error) {
	store := l.env.Store(l.gr)
	if store == nil {
		return nil, nil
	}
	return store.ListCached(ctx, namespace, selector)
}

type connectOptionsKey struct{}

// WithConnectOptions returns a context bearing the decoded options of a CONNECT.
func WithConnectOptions(ctx context.Context, options runtime.Object) context.Context {
	return context.WithValue(ctx, connectOptionsKey{}, options)
}

// ConnectOptionsFrom returns the decoded options of a CONNECT (Subresource.ConnectOptions), or nil.
func ConnectOptionsFrom(ctx context.Context) runtime.Object {
	options, _ := ctx.Value(connectOptionsKey{}).(runtime.Object)
	return options
}

func (e *Env) now() time.Time {
	if e.Clock == nil {
		return time.Now()
	}
	return e.Clock.Now()
}

func (e *Env) nameSuffix() string {
	if e.NameSuffix == nil {
		return rand.String(suffixLength)
	}
	return e.NameSuffix()
}
