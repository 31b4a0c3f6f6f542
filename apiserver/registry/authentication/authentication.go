// Package authentication is the rooms of the questions about identity: TokenReview (whose token is
// this?) and SelfSubjectReview (who am I?, kubectl auth whoami). They are answered, never stored.
//
// In Kubernetes: pkg/registry/authentication.
package authentication

import (
	"context"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// tokenAuthenticator is what env.Authenticator can do besides; package authn's does.
type tokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string, audiences []string) (*request.User, []string, error)
}

// Resources is the group's table.
func Resources(env *registry.Env) []registry.Resource {
	return []registry.Resource{
		{
			Name: "tokenreviews", Singular: "tokenreview", Kind: authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), ClusterScoped: true,
			New: func() runtime.Object { return &authenticationv1.TokenReview{} },
			Answer: func(ctx context.Context, _ string, obj runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
				return reviewToken(ctx, env, obj.(*authenticationv1.TokenReview))
			},
		},
		{
			Name: "selfsubjectreviews", Singular: "selfsubjectreview", Kind: authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), ClusterScoped: true,
			New: func() runtime.Object { return &authenticationv1.SelfSubjectReview{} },
			Answer: func(ctx context.Context, _ string, obj runtime.Object, _ *metav1.CreateOptions) (runtime.Object, error) {
				return reviewSelf(ctx, obj.(*authenticationv1.SelfSubjectReview))
			},
		},
	}
}

func reviewToken(ctx context.Context, env *registry.Env, review *authenticationv1.TokenReview) (runtime.Object, error) {
	if review.Spec.Token == "" {
		return nil, apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	review.Status = authenticationv1.TokenReviewStatus{}
	tokens, ok := env.Authenticator.(tokenAuthenticator)
	if !ok {
		return review, nil
	}
	user, audiences, err := tokens.AuthenticateToken(ctx, review.Spec.Token, review.Spec.Audiences)
	if err != nil {
		// A bad token is the answer, not a failure of the question.
		review.Status.Error = err.Error()
		return review, nil
	}
	review.Status.Authenticated = true
	review.Status.Audiences = audiences
	review.Status.User = userInfo(user)
	return review, nil
}

func reviewSelf(ctx context.Context, review *authenticationv1.SelfSubjectReview) (runtime.Object, error) {
	user := request.UserFrom(ctx)
	if user == nil {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	review.Status = authenticationv1.SelfSubjectReviewStatus{UserInfo: userInfo(user)}
	review.CreationTimestamp = metav1.Now()
	return review, nil
}

func userInfo(u *request.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}
