package admissionregistration

import (
	"context"
	"errors"
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
	"hyperkube/apiserver/request"
)

// paramStrategy asks, of an object without faults, whether its writer may read the parameters that it brings into admission.
// Otherwise the messages of a policy would tell its writer what RBAC keeps from them.
type paramStrategy[T runtime.Object] struct {
	typed.Strategy[T]
	// authorize says why not; old is nil of a create.
	authorize func(ctx context.Context, obj, old T) error
	path      *field.Path
}

func (s paramStrategy[T]) Validate(ctx context.Context, obj runtime.Object) field.ErrorList {
	var none T
	return s.readable(ctx, s.Strategy.Validate(ctx, obj), obj.(T), none)
}

func (s paramStrategy[T]) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	return s.readable(ctx, s.Strategy.ValidateUpdate(ctx, obj, old), obj.(T), old.(T))
}

func (s paramStrategy[T]) readable(ctx context.Context, errs field.ErrorList, obj, old T) field.ErrorList {
	if len(errs) > 0 {
		return errs
	}
	if err := s.authorize(ctx, obj, old); err != nil {
		return field.ErrorList{field.Forbidden(s.path, err.Error())}
	}
	return nil
}

// params asks who may read parameters.
type params struct{ env *registry.Env }

// authorizeKind: a policy may be given any object of its kind by its bindings, so its writer must be able to get them all.
func (p params) authorizeKind(ctx context.Context, kind, old *admissionregistrationv1.ParamKind) error {
	if kind == nil || old != nil && *old == *kind || request.UserFrom(ctx).InGroup(request.SystemPrivileged) {
		return nil
	}
	asked := request.Attributes{Verb: "get", Namespace: "*", Name: "*", APIGroup: "*", APIVersion: "*", Resource: "*"}
	_ = p.narrow(&asked, kind) // What is not known needs the right to all.
	allowed, err := p.may(ctx, asked)
	if err != nil || allowed {
		return err
	}
	return fmt.Errorf(`user %v must have "get" permission on all objects of the referenced paramKind (kind=%s, apiVersion=%s)`, named(ctx), kind.Kind, kind.APIVersion)
}

// binding is what the bindings of both sorts of policies have in common.
type binding struct {
	policy string
	ref    *admissionregistrationv1.ParamRef
	// kind finds the ParamKind of the policy.
	kind func(ctx context.Context, policy string) (*admissionregistrationv1.ParamKind, error)
}

// authorizeRef asks at every write: upstream would let what was there before pass, but compares pointers, which never are the same.
func (p params) authorizeRef(ctx context.Context, b binding) error {
	if b.ref == nil || request.UserFrom(ctx).InGroup(request.SystemPrivileged) {
		return nil
	}
	asked := request.Attributes{Verb: "get", Namespace: b.ref.Namespace, Name: b.ref.Name, APIGroup: "*", APIVersion: "*", Resource: "*"}
	if b.ref.Name == "" {
		asked.Verb = "list"
	}
	kind, unknown := b.kind(ctx, b.policy)
	var unresolved error
	if unknown == nil && kind != nil {
		unresolved = p.narrow(&asked, kind)
	}
	allowed, err := p.may(ctx, asked)
	switch {
	case err != nil:
		return fmt.Errorf("failed to authorize request: %w", err)
	case allowed:
		return nil
	case unknown != nil:
		return fmt.Errorf(`unable to get policy %s to determine minimum required permissions and user %v does not have "%v" permission for all groups, versions and resources`, b.policy, named(ctx), asked.Verb)
	case errors.Is(unresolved, errUnserved):
		return fmt.Errorf(`unable to resolve paramKind %v to determine minimum required permissions and user %v does not have "%v" permission for all groups, versions and resources`, kind, named(ctx), asked.Verb)
	case unresolved != nil:
		return fmt.Errorf(`unable to parse paramKind %v to determine minimum required permissions and user %v does not have "%v" permission for all groups, versions and resources`, kind, named(ctx), asked.Verb)
	}
	return fmt.Errorf(`user %v does not have "%v" permission on the object referenced by paramRef`, named(ctx), asked.Verb)
}

var errUnserved = errors.New("no such kind is served")

// narrow asks for no more than the kind's resource, where that is known.
func (p params) narrow(asked *request.Attributes, kind *admissionregistrationv1.ParamKind) error {
	version, err := schema.ParseGroupVersion(kind.APIVersion)
	if err != nil {
		return err
	}
	asked.APIGroup, asked.APIVersion = version.Group, version.Version
	resource, served := p.env.ResourceOf(version.WithKind(kind.Kind))
	if !served {
		return errUnserved
	}
	asked.Resource = resource
	return nil
}

func (p params) may(ctx context.Context, asked request.Attributes) (bool, error) {
	if asked.User = request.UserFrom(ctx); asked.User == nil {
		return false, errors.New("cannot identify user to authorize read access")
	}
	asked.ResourceRequest = true
	decision, _, err := p.env.Authorizer.Authorize(ctx, asked)
	return decision == request.Allow, err
}

// named is the writer as upstream prints them.
func named(ctx context.Context) string {
	u := request.UserFrom(ctx)
	return fmt.Sprintf("&{%s %s %v %v}", u.Name, u.UID, u.Groups, u.Extra)
}

// reserved refuses the names of what is configured by files, which the API may not take.
func reserved(name string) field.ErrorList {
	const suffix = ".static.k8s.io"
	if !strings.HasSuffix(name, suffix) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), name,
		fmt.Sprintf("names ending with %q are reserved for static manifest-based configurations and cannot be managed via the API", suffix))}
}
