// Package authorization is the rooms of the questions about rights: may this user (I, anyone in my
// namespace) do that, and what may I do at all (kubectl auth can-i, --list). They are answered, never
// stored.
//
// In Kubernetes: pkg/registry/authorization and pkg/apis/authorization/validation.
package authorization

import (
	"cmp"
	"context"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// ruleLister is what env.Authorizer can do besides; package authz's does.
type ruleLister interface {
	RulesFor(user *request.User, namespace string) authorizationv1.SubjectRulesReviewStatus
}

// Resources is the group's table.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{
		resource("subjectaccessreviews", "SubjectAccessReview", func() runtime.Object { return &authorizationv1.SubjectAccessReview{} },
			func(ctx context.Context, _ string, obj runtime.Object) (runtime.Object, error) {
				return reviewAccess(ctx, env, obj.(*authorizationv1.SubjectAccessReview))
			}),
		resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", func() runtime.Object { return &authorizationv1.SelfSubjectAccessReview{} },
			func(ctx context.Context, _ string, obj runtime.Object) (runtime.Object, error) {
				return reviewOwnAccess(ctx, env, obj.(*authorizationv1.SelfSubjectAccessReview))
			}),
		resource("localsubjectaccessreviews", "LocalSubjectAccessReview", func() runtime.Object { return &authorizationv1.LocalSubjectAccessReview{} },
			func(ctx context.Context, namespace string, obj runtime.Object) (runtime.Object, error) {
				return reviewLocalAccess(ctx, env, namespace, obj.(*authorizationv1.LocalSubjectAccessReview))
			}),
		resource("selfsubjectrulesreviews", "SelfSubjectRulesReview", func() runtime.Object { return &authorizationv1.SelfSubjectRulesReview{} },
			func(ctx context.Context, _ string, obj runtime.Object) (runtime.Object, error) {
				return reviewOwnRules(ctx, env, obj.(*authorizationv1.SelfSubjectRulesReview))
			}),
	}
}

func resource(name, kind string, make func() runtime.Object, answer func(ctx context.Context, namespace string, obj runtime.Object) (runtime.Object, error)) registry.Resource {
	return registry.Resource{
		Name: name, Singular: name[:len(name)-1], Kind: authorizationv1.SchemeGroupVersion.WithKind(kind),
		ClusterScoped: kind != "LocalSubjectAccessReview", New: make,
		Answer: func(ctx context.Context, namespace string, obj runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
			return answer(ctx, namespace, obj)
		},
	}
}

func reviewAccess(ctx context.Context, env *registry.Env, review *authorizationv1.SubjectAccessReview) (runtime.Object, error) {
	errs := append(oneOfTwo(review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes), validateSubject(&review.Spec)...)
	if err := invalid(withMetadata(errs, review.ObjectMeta, "must be empty")); err != nil {
		return nil, err
	}
	review.Status = decide(ctx, env, userOf(&review.Spec), review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	return review, nil
}

func reviewOwnAccess(ctx context.Context, env *registry.Env, review *authorizationv1.SelfSubjectAccessReview) (runtime.Object, error) {
	user := request.UserFrom(ctx)
	if user == nil {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	errs := append(oneOfTwo(review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes), validateAttributes(review.Spec.ResourceAttributes)...)
	if err := invalid(withMetadata(errs, review.ObjectMeta, "must be empty")); err != nil {
		return nil, err
	}
	review.Status = decide(ctx, env, user, review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	return review, nil
}

func reviewLocalAccess(ctx context.Context, env *registry.Env, namespace string, review *authorizationv1.LocalSubjectAccessReview) (runtime.Object, error) {
	bare := review.ObjectMeta
	bare.Namespace = ""
	errs := append(oneOfTwo(review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes), validateSubject(&review.Spec)...)
	if len(withMetadata(nil, bare, "")) > 0 {
		errs = append(errs, field.Invalid(field.NewPath("metadata"), review.ObjectMeta, "must be empty except for namespace"))
	}
	if r := review.Spec.ResourceAttributes; r != nil && r.Namespace != namespace {
		errs = append(errs, field.Invalid(field.NewPath("spec", "resourceAttributes", "namespace"), r.Namespace, "must match metadata.namespace"))
	}
	if review.Spec.NonResourceAttributes != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec", "nonResourceAttributes"), rule.Untagged(review.Spec.NonResourceAttributes), "disallowed on this kind of request"))
	}
	if err := invalid(errs); err != nil {
		return nil, err
	}
	review.Status = decide(ctx, env, userOf(&review.Spec), review.Spec.ResourceAttributes, nil)
	return review, nil
}

func reviewOwnRules(ctx context.Context, env *registry.Env, review *authorizationv1.SelfSubjectRulesReview) (runtime.Object, error) {
	user := request.UserFrom(ctx)
	if user == nil {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	if review.Spec.Namespace == "" {
		return nil, apierrors.NewBadRequest("no namespace on request")
	}
	// The answer does not repeat the question.
	answer := &authorizationv1.SelfSubjectRulesReview{}
	if rules, ok := env.Authorizer.(ruleLister); ok {
		answer.Status = rules.RulesFor(user, review.Spec.Namespace)
	}
	return answer, nil
}

func userOf(spec *authorizationv1.SubjectAccessReviewSpec) *request.User {
	u := &request.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}
	for key, values := range spec.Extra {
		if u.Extra == nil {
			u.Extra = map[string][]string{}
		}
		u.Extra[key] = values
	}
	return u
}

// decide asks the authorizer exactly what a request would have asked.
func decide(ctx context.Context, env *registry.Env, user *request.User, r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := request.Attributes{User: user}
	var problems []string
	if r != nil {
		a.ResourceRequest = true
		a.Verb, a.Namespace, a.Name = r.Verb, r.Namespace, r.Name
		a.APIGroup, a.APIVersion, a.Resource, a.Subresource = r.Group, cmp.Or(r.Version, "*"), r.Resource, r.Subresource
		a.FieldSelector, a.LabelSelector, problems = selectors(r)
	}
	if n != nil {
		a.Verb, a.Path = n.Verb, n.Path
	}
	decision, reason, err := env.Authorizer.Authorize(ctx, a)
	status := authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == request.Allow, Denied: decision == request.Deny, Reason: reason,
	}
	if err != nil {
		problems = append([]string{err.Error()}, problems...)
	}
	status.EvaluationError = strings.Join(problems, "; ")
	return status
}

// withMetadata: a review is not kept, so nothing of its metadata means anything.
func withMetadata(errs field.ErrorList, m metav1.ObjectMeta, message string) field.ErrorList {
	shown := m
	m.ManagedFields = nil
	if equality.Semantic.DeepEqual(metav1.ObjectMeta{}, m) {
		return errs
	}
	return append(errs, field.Invalid(field.NewPath("metadata"), shown, message))
}

// invalid names no kind, as upstream's answer does.
func invalid(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind("").GroupKind(), "", errs)
}
