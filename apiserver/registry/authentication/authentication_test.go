package authentication

import (
	"context"
	"errors"
	"net/http"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// tokens knows the token "good" of jane, for the audience "api" or the asked one.
type tokens struct{}

func (tokens) AuthenticateRequest(*http.Request) (*request.User, bool, error) { return nil, false, nil }

func (tokens) AuthenticateToken(_ context.Context, token string, audiences []string) (*request.User, []string, error) {
	if token != "good" {
		return nil, nil, errors.New("invalid bearer token")
	}
	if len(audiences) == 0 {
		audiences = []string{"api"}
	}
	return &request.User{Name: "jane", UID: "1", Groups: []string{"devs"}, Extra: map[string][]string{"k": {"v"}}}, audiences, nil
}

func answer(ctx context.Context, resource string, obj runtime.Object) (runtime.Object, error) {
	for _, r := range Resources(&registry.Env{Authenticator: tokens{}}) {
		if r.Name == resource {
			return r.Answer(ctx, "", obj, &metav1.CreateOptions{})
		}
	}
	return nil, errors.New("no resource " + resource)
}

func TestTokenReview(t *testing.T) {
	review := func(token string, audiences ...string) (authenticationv1.TokenReviewStatus, error) {
		obj, err := answer(t.Context(), "tokenreviews", &authenticationv1.TokenReview{
			Spec:   authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
			Status: authenticationv1.TokenReviewStatus{Authenticated: true}, // what a client claims is worth nothing
		})
		if err != nil {
			return authenticationv1.TokenReviewStatus{}, err
		}
		return obj.(*authenticationv1.TokenReview).Status, nil
	}
	good, err := review("good", "vault")
	if err != nil || !good.Authenticated || good.User.Username != "jane" || good.User.Extra["k"][0] != "v" || good.Audiences[0] != "vault" {
		t.Errorf("%v %+v", err, good)
	}
	bad, err := review("bad")
	if err != nil || bad.Authenticated || bad.Error != "invalid bearer token" {
		t.Errorf("%v %+v", err, bad)
	}
	if _, err := review(""); err == nil {
		t.Error("no token")
	}
}

// kubectl auth whoami
func TestSelfSubjectReview(t *testing.T) {
	ctx := request.WithUser(t.Context(), &request.User{Name: "jane", Groups: []string{"devs"}})
	obj, err := answer(ctx, "selfsubjectreviews", &authenticationv1.SelfSubjectReview{})
	if err != nil || obj.(*authenticationv1.SelfSubjectReview).Status.UserInfo.Username != "jane" {
		t.Errorf("%v %+v", err, obj)
	}
	if _, err := answer(t.Context(), "selfsubjectreviews", &authenticationv1.SelfSubjectReview{}); err == nil {
		t.Error("nobody is somebody")
	}
}
