package authorization

import (
	"context"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// recorder allows verb "get", and keeps what it was asked.
type recorder struct{ asked request.Attributes }

func (r *recorder) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	r.asked = a
	if a.Verb == "get" {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "no rule", nil
}

func (r *recorder) RulesFor(user *request.User, namespace string) authorizationv1.SubjectRulesReviewStatus {
	return authorizationv1.SubjectRulesReviewStatus{EvaluationError: user.Name + " in " + namespace}
}

func answer(t *testing.T, z *recorder, resource, namespace string, obj runtime.Object) (runtime.Object, error) {
	ctx := request.WithUser(t.Context(), &request.User{Name: "jane", Groups: []string{"devs"}})
	for _, r := range Resources(&registry.Env{Authorizer: z}) {
		if r.Name == resource {
			return r.Answer(ctx, namespace, obj, &metav1.CreateOptions{})
		}
	}
	t.Fatalf("no resource %s", resource)
	return nil, nil
}

var pods = &authorizationv1.ResourceAttributes{Verb: "get", Namespace: "ns", Resource: "pods", Subresource: "log", Name: "web"}

func TestSubjectAccessReview(t *testing.T) {
	path := &authorizationv1.NonResourceAttributes{Verb: "post", Path: "/x"}
	for name, test := range map[string]struct {
		spec   authorizationv1.SubjectAccessReviewSpec
		want   authorizationv1.SubjectAccessReviewStatus
		err    string
		called func(a request.Attributes) bool
	}{
		"resource": {
			spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", Groups: []string{"ops"}, ResourceAttributes: pods},
			want: authorizationv1.SubjectAccessReviewStatus{Allowed: true},
			called: func(a request.Attributes) bool {
				return a.User.Name == "bob" && a.User.InGroup("ops") && a.ResourceRequest && a.Resource == "pods" && a.Subresource == "log" && a.Name == "web" && a.Namespace == "ns"
			},
		},
		"path": {
			spec:   authorizationv1.SubjectAccessReviewSpec{Groups: []string{"ops"}, NonResourceAttributes: path},
			want:   authorizationv1.SubjectAccessReviewStatus{Reason: "no rule"},
			called: func(a request.Attributes) bool { return !a.ResourceRequest && a.Path == "/x" && a.Verb == "post" },
		},
		"selector": {
			spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: "get", Resource: "pods", FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: "spec.nodeName=n1"},
			}},
			want: authorizationv1.SubjectAccessReviewStatus{Allowed: true},
			called: func(a request.Attributes) bool {
				value, ok := a.FieldSelector.RequiresExactMatch("spec.nodeName")
				return ok && value == "n1"
			},
		},
		"nothing": {spec: authorizationv1.SubjectAccessReviewSpec{User: "bob"}, err: "exactly one of nonResourceAttributes or resourceAttributes must be specified"},
		"both":    {spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", ResourceAttributes: pods, NonResourceAttributes: path}, err: `spec: Invalid value: {"Path":"/x","Verb":"post"}: exactly one of nonResourceAttributes or resourceAttributes must be specified`},
		"no selector": {spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", ResourceAttributes: &authorizationv1.ResourceAttributes{FieldSelector: &authorizationv1.FieldSelectorAttributes{}}},
			err: "spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required"},
		"half a selector": {
			spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "pods",
				FieldSelector: &authorizationv1.FieldSelectorAttributes{RawSelector: "a"},
				LabelSelector: &authorizationv1.LabelSelectorAttributes{Requirements: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Exists"}, {Key: "b", Operator: "Near"}}}}},
			want: authorizationv1.SubjectAccessReviewStatus{Allowed: true, EvaluationError: "spec.resourceAttributes.fieldSelector ignored due to parse error; " +
				"spec.resourceAttributes.labelSelector partially ignored due to parse error"},
			called: func(a request.Attributes) bool {
				return a.FieldSelector == nil && a.LabelSelector.String() == "a" && a.APIVersion == "*"
			},
		},
		"nobody": {spec: authorizationv1.SubjectAccessReviewSpec{ResourceAttributes: pods}, err: "at least one of user or group must be specified"},
	} {
		z := &recorder{}
		obj, err := answer(t, z, "subjectaccessreviews", "", &authorizationv1.SubjectAccessReview{Spec: test.spec})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || obj.(*authorizationv1.SubjectAccessReview).Status != test.want || !test.called(z.asked) {
			t.Errorf("%s: %v %+v, asked %+v", name, err, obj, z.asked)
		}
	}
}

func TestOtherReviews(t *testing.T) {
	z := &recorder{}
	obj, err := answer(t, z, "selfsubjectaccessreviews", "", &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: pods}})
	if err != nil || !obj.(*authorizationv1.SelfSubjectAccessReview).Status.Allowed || z.asked.User.Name != "jane" {
		t.Errorf("%v %+v", err, obj)
	}
	local := &authorizationv1.LocalSubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", ResourceAttributes: pods}}
	if _, err := answer(t, z, "localsubjectaccessreviews", "ns", local); err != nil || !local.Status.Allowed {
		t.Errorf("%v %+v", err, local.Status)
	}
	if _, err := answer(t, z, "localsubjectaccessreviews", "other", local); err == nil || !strings.Contains(err.Error(), "must match metadata.namespace") {
		t.Error(err)
	}
	rules := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "ns"}}
	obj, err = answer(t, z, "selfsubjectrulesreviews", "", rules)
	if err != nil || obj.(*authorizationv1.SelfSubjectRulesReview).Status.EvaluationError != "jane in ns" || obj.(*authorizationv1.SelfSubjectRulesReview).Spec.Namespace != "" {
		t.Errorf("%v %+v", err, obj)
	}
	if _, err := answer(t, z, "selfsubjectrulesreviews", "", &authorizationv1.SelfSubjectRulesReview{}); err == nil {
		t.Error("rules of no namespace")
	}
}
