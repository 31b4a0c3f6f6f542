package authz

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/authz/bootstrappolicy"
	"hyperkube/apiserver/authz/node"
	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func newAuthorizer(t *testing.T) *Authorizer {
	p := bootstrappolicy.Default()
	none := schema.GroupResource{Resource: "x"}
	z, err := New(Config{
		RBAC: rbac.Listers{
			Roles: lister.Slice(none, p.Roles...), RoleBindings: lister.Slice(none, append([]*rbacv1.RoleBinding{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "joe"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "joe"}}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"},
			}}, p.RoleBindings...)...),
			ClusterRoles: lister.Slice(none, p.ClusterRoles...), ClusterRoleBindings: lister.Slice(none, append([]*rbacv1.ClusterRoleBinding{{
				ObjectMeta: metav1.ObjectMeta{Name: "jane"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"},
			}}, p.ClusterRoleBindings...)...),
		},
		Node: node.Listers{Pods: lister.Slice[*corev1.Pod](none)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// The texts of refusals are what users read and search for: upstream's.
func TestForbidden(t *testing.T) {
	jane := &request.User{Name: "jane"}
	for _, test := range []struct {
		a      request.Attributes
		reason string
		want   string
	}{
		{request.Attributes{User: jane, Verb: "list", Resource: "pods", Namespace: "default", ResourceRequest: true}, "",
			`pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"`},
		{request.Attributes{User: jane, Verb: "get", APIGroup: "apps", Resource: "deployments", Subresource: "scale", Name: "web", Namespace: "x", ResourceRequest: true}, "because",
			`deployments.apps "web" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" in the namespace "x": because`},
		{request.Attributes{User: jane, Verb: "list", Resource: "nodes", ResourceRequest: true}, "",
			`nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope`},
		{request.Attributes{User: jane, Verb: "get", Path: "/metrics"}, "", `forbidden: User "jane" cannot get path "/metrics"`},
	} {
		if got := Forbidden(test.a, test.reason).Error(); got != test.want {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
}

func TestAuthorize(t *testing.T) {
	z := newAuthorizer(t)
	for name, test := range map[string]struct {
		user           *request.User
		verb, resource string
		path           string
		want           request.Decision
	}{
		"masters do anything":               {&request.User{Name: "x", Groups: []string{"system:masters"}}, "delete", "nodes", "", request.Allow},
		"the apiserver itself":              {request.APIServer(), "delete", "nodes", "", request.Allow},
		"a kubelet by its node":             {&request.User{Name: "system:node:n", Groups: []string{"system:nodes"}}, "create", "nodes", "", request.Allow},
		"a kubelet without its group":       {&request.User{Name: "system:node:n"}, "create", "nodes", "", request.NoOpinion},
		"view, aggregated":                  {&request.User{Name: "jane"}, "list", "pods", "", request.Allow},
		"view has no secrets":               {&request.User{Name: "jane"}, "list", "secrets", "", request.NoOpinion},
		"anonymous may see the health":      {&request.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, "get", "", "/healthz", request.Allow},
		"anonymous may not discover":        {&request.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, "get", "", "/api", request.NoOpinion},
		"everybody known may discover":      {&request.User{Name: "jane", Groups: []string{"system:authenticated"}}, "get", "", "/apis/apps/v1", request.Allow},
		"a controller may delete pods":      {&request.User{Name: "system:kube-controller-manager"}, "delete", "pods", "", request.Allow},
		"nobody in particular may not read": {&request.User{Name: "bob", Groups: []string{"system:authenticated"}}, "get", "pods", "", request.NoOpinion},
	} {
		a := request.Attributes{User: test.user, Verb: test.verb, Resource: test.resource, ResourceRequest: test.path == "", Path: test.path}
		if decision, reason, err := z.Authorize(t.Context(), a); decision != test.want || err != nil {
			t.Errorf("%s: %v %q %v", name, decision, reason, err)
		}
	}
}

// kubectl auth can-i --list
func TestRulesFor(t *testing.T) {
	z := newAuthorizer(t)
	if s := z.RulesFor(&request.User{Name: "root", Groups: []string{"system:masters"}}, "default"); len(s.ResourceRules) == 0 || s.ResourceRules[0].Resources[0] != "*" || s.NonResourceRules[0].NonResourceURLs[0] != "*" {
		t.Errorf("%+v", s)
	}
	if s := z.RulesFor(&request.User{Name: "system:node:n", Groups: []string{"system:nodes"}}, "default"); !s.Incomplete || s.EvaluationError == "" {
		t.Errorf("a node's rules are said to be complete: %+v", s)
	}
	// Jane has view everywhere, and with it the record; Joe in one namespace, in which no path lies.
	if s := z.RulesFor(&request.User{Name: "jane"}, "default"); s.Incomplete || len(s.ResourceRules) < 10 || len(s.NonResourceRules) != 1 || s.NonResourceRules[0].NonResourceURLs[0] != "/debug/flow/status" {
		t.Errorf("jane: %+v", s)
	}
	if s := z.RulesFor(&request.User{Name: "joe"}, "default"); s.Incomplete || len(s.ResourceRules) < 10 || len(s.NonResourceRules) != 0 {
		t.Errorf("joe: %+v", s)
	}
}

func TestConfigIsValidated(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an authorizer that can read nothing was made")
	}
}
