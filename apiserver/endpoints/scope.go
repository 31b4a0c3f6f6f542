package endpoints

import (
	"context"
	"net/http"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// Scope is all that a verb must know of where it works: one resource as it is
// served, its store, and the subresource if there is one.
type Scope struct {
	// Resource is the served line; Store.Resource is the stored one, and differs for a View.
	Resource *registry.Resource
	Store    *registry.Store // nil for a resource that only answers
	// Subresource is "" on the main endpoint; Sub and View belong to it.
	Subresource string
	Sub         *registry.Subresource
	View        registry.Strategy
	// Admission is asked about connections; writes ask it in the store.
	Admission func() request.Admission
	// MinWatchTimeout is the least time a watch without timeoutSeconds lasts; each lasts up to twice as long, so that
	// clients do not come back all at once.
	MinWatchTimeout time.Duration
	// Gates hold the watch events of those who are stepped through; nil: there are none.
	Gates *flow.Gates
}

// verb is one request done: it writes its answer, or returns the error to be answered.
type verb func(s *Scope, w http.ResponseWriter, r *http.Request) error

// Handle makes an HTTP handler of a verb.
func (s *Scope) Handle(do verb) http.HandlerFunc {
	deprecated := deprecation(s.Resource.New(), s.Resource.Kind)
	return func(w http.ResponseWriter, r *http.Request) {
		request.AddWarning(r.Context(), deprecated)
		if err := do(s, w, r); err != nil {
			WriteError(w, r, err)
		}
	}
}

// kind is that of the bodies this endpoint reads and writes.
func (s *Scope) kind() schema.GroupVersionKind {
	if s.Sub != nil && !s.Sub.Kind.Empty() {
		return s.Sub.Kind
	}
	return s.Resource.Kind
}

// newObject makes an empty body of this endpoint.
func (s *Scope) newObject() runtime.Object {
	if s.Sub != nil && s.Sub.New != nil {
		return s.Sub.New()
	}
	return s.Resource.New()
}

// toServed shows a stored object in the version of this endpoint; the result may be the stored one itself.
func (s *Scope) toServed(stored runtime.Object) runtime.Object {
	if s.Resource.View == nil {
		return stored
	}
	return s.Resource.View.ToServed(stored)
}

// toStored turns a body of this endpoint, with its defaults, into what the store keeps.
func (s *Scope) toStored(served runtime.Object) runtime.Object {
	if s.Resource.Default != nil {
		s.Resource.Default(served)
	}
	if s.Resource.View == nil {
		return served
	}
	return s.Resource.View.ToStored(served)
}

// Reread implements flow.Reader: the body of a create or an update as it was before admission.
func (s *Scope) Reread(media string, body []byte) (runtime.Object, error) {
	serializer, ok := serializerFor(media)
	if !ok || s.Subresource != "" {
		return nil, unsupportedMedia(acceptedMedia)
	}
	kind := s.kind()
	obj, _, err := serializer.Serializer.Decode(body, &kind, s.newObject())
	if err != nil {
		return nil, err
	}
	return s.toStored(obj), nil
}

// target says which object, or which collection, a request is about.
func target(r *http.Request) (namespace, name string) {
	info := request.InfoFrom(r.Context())
	return info.Namespace, info.Name
}

// namespaceOf is the namespace of a request; the resource "namespaces" has itself none.
func (s *Scope) target(r *http.Request) (namespace, name string) {
	namespace, name = target(r)
	if s.Resource.ClusterScoped {
		namespace = ""
	}
	return namespace, name
}

// manager is who owns the fields of a write: the field manager, or the client's name.
func manager(fieldManager string, r *http.Request) string {
	if fieldManager != "" {
		return fieldManager
	}
	name, _, _ := strings.Cut(r.UserAgent(), "/")
	name = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, name)
	if len(name) > maxManagerLength {
		name = name[:maxManagerLength]
	}
	if name == "" {
		return "unknown"
	}
	return name
}

const maxManagerLength = 128

// admitConnect asks admission about taking over a connection.
func (s *Scope) admitConnect(ctx context.Context, namespace, name string, options runtime.Object) error {
	return s.admit(ctx, &request.AdmissionAttributes{
		Operation: request.Connect, Kind: s.Resource.Kind, Namespace: namespace, Name: name, Object: options,
	})
}

// admitSubresource asks admission about a POST to a subresource (binding, eviction, token): its body is not
// stored by the generic store, which would ask otherwise.
func (s *Scope) admitSubresource(ctx context.Context, namespace, name string, obj runtime.Object, options *metav1.CreateOptions) error {
	return s.admit(ctx, &request.AdmissionAttributes{
		Operation: request.Create, Kind: s.kind(), Namespace: namespace, Name: name,
		Object: obj, Options: options, DryRun: len(options.DryRun) > 0,
	})
}

func (s *Scope) admit(ctx context.Context, a *request.AdmissionAttributes) error {
	admission := s.Admission()
	if admission == nil {
		return nil
	}
	a.User, a.Resource, a.Subresource = request.UserFrom(ctx), s.Resource.GroupVersionResource(), s.Subresource
	if err := admission.Admit(ctx, a); err != nil {
		return forbidden(a, err)
	}
	return forbidden(a, admission.Validate(ctx, a))
}

func forbidden(a *request.AdmissionAttributes, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(errors.APIStatus); ok {
		return err
	}
	return errors.NewForbidden(a.Resource.GroupResource(), a.Name, err)
}

// success answers a write that leaves no object to show.
func success(details *metav1.StatusDetails) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusSuccess, Details: details}
}
