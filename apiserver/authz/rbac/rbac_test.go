package rbac

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func words(s string) []string { return strings.Fields(s) }

// rule reads "verbs | groups | resources | names"; "core" is the empty group.
func rule(s string) rbacv1.PolicyRule {
	parts := strings.Split(s, "|")
	r := rbacv1.PolicyRule{Verbs: words(parts[0]), APIGroups: words(parts[1]), Resources: words(parts[2])}
	for i, g := range r.APIGroups {
		if g == "core" {
			r.APIGroups[i] = ""
		}
	}
	if len(parts) > 3 {
		r.ResourceNames = words(parts[3])
	}
	return r
}

func TestRuleAllows(t *testing.T) {
	resource := func(verb, group, resource, name string) request.Attributes {
		resource, sub, _ := strings.Cut(resource, "/")
		return request.Attributes{ResourceRequest: true, Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, Name: name}
	}
	path := func(verb, path string) request.Attributes { return request.Attributes{Verb: verb, Path: path} }
	urls := func(verb string, urls ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, NonResourceURLs: urls}
	}
	for _, test := range []struct {
		rule rbacv1.PolicyRule
		a    request.Attributes
		want bool
	}{
		{rule("get|core|pods"), resource("get", "", "pods", "x"), true},
		{rule("get|core|pods"), resource("list", "", "pods", ""), false},
		{rule("get|core|pods"), resource("get", "apps", "pods", ""), false},
		{rule("*|*|*"), resource("delete", "apps", "deployments/scale", "x"), true},
		{rule("get|core|pods"), resource("get", "", "pods/log", "x"), false},
		{rule("get|core|pods/log"), resource("get", "", "pods/log", "x"), true},
		{rule("get|core|pods/log"), resource("get", "", "pods", "x"), false},
		{rule("update|apps|*/scale"), resource("update", "apps", "deployments/scale", "x"), true},
		{rule("update|apps|*/scale"), resource("update", "apps", "deployments", "x"), false},
		{rule("update|apps|*/scale"), resource("update", "apps", "deployments/status", "x"), false},
		{rule("get|core|pods/*"), resource("get", "", "pods/log", "x"), false},
		{rule("get|core|secrets|a b"), resource("get", "", "secrets", "b"), true},
		{rule("get|core|secrets|a b"), resource("get", "", "secrets", "c"), false},
		{rule("create|core|secrets|a"), resource("create", "", "secrets", ""), false},
		{rule("list|core|secrets|a"), resource("list", "", "secrets", "a"), true},
		{urls("get", "/healthz"), path("get", "/healthz"), true},
		{urls("get", "/healthz"), path("get", "/healthz/etcd"), false},
		{urls("get", "/healthz/*"), path("get", "/healthz/etcd"), true},
		{urls("get", "/api*"), path("get", "/apis/apps"), true},
		{urls("*", "*"), path("post", "/anything"), true},
		{urls("get", "/healthz"), path("post", "/healthz"), false},
		{urls("*", "*"), resource("get", "", "pods", "x"), false},
		{rule("*|*|*"), path("get", "/metrics"), false},
	} {
		if got := RuleAllows(test.a, &test.rule); got != test.want {
			t.Errorf("%+v for %+v: %v", test.rule, test.a, got)
		}
	}
}

func subject(kind, namespace, name string) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: kind, Namespace: namespace, Name: name}}
}

func clusterBinding(name, role string, s []rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: s, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role}}
}

func binding(namespace, name, kind, role string, s []rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Subjects: s, RoleRef: rbacv1.RoleRef{Kind: kind, Name: role}}
}

func newAuthorizer() *Authorizer {
	clusterRole := func(name string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	}
	gr := func(s string) schema.GroupResource { return schema.GroupResource{Group: rbacv1.GroupName, Resource: s} }
	return New(Listers{
		ClusterRoles: lister.Slice(gr("clusterroles"), clusterRole("reader", rule("get list|core|pods")), clusterRole("nodes", rule("get|core|nodes"))),
		Roles: lister.Slice(gr("roles"), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "dev", Name: "writer"},
			Rules: []rbacv1.PolicyRule{rule("create|core|pods")}}),
		ClusterRoleBindings: lister.Slice(gr("clusterrolebindings"),
			clusterBinding("a", "nodes", subject("Group", "", "ops")),
			clusterBinding("b", "reader", subject("ServiceAccount", "ci", "runner")),
			clusterBinding("c", "missing", subject("User", "", "lost")),
		),
		RoleBindings: lister.Slice(gr("rolebindings"),
			binding("dev", "a", "ClusterRole", "reader", subject("User", "", "jane")),
			binding("dev", "b", "Role", "writer", subject("User", "", "jane")),
			binding("dev", "c", "Role", "writer", subject("ServiceAccount", "", "own")),
		),
	})
}

func TestAuthorize(t *testing.T) {
	z := newAuthorizer()
	for _, test := range []struct {
		user, groups              string
		verb, resource, namespace string
		want                      request.Decision
		reason                    string
	}{
		{"jane", "", "list", "pods", "dev", request.Allow, `RBAC: allowed by RoleBinding "a/dev" of ClusterRole "reader" to User "jane": get,list pods`},
		{"jane", "", "create", "pods", "dev", request.Allow, `RBAC: allowed by RoleBinding "b/dev" of Role "writer" to User "jane": create pods`},
		{"jane", "", "list", "pods", "prod", request.NoOpinion, ""},
		{"jane", "", "list", "pods", "", request.NoOpinion, ""}, // a binding in a namespace is no right to all
		{"bob", "ops", "get", "nodes", "", request.Allow, `RBAC: allowed by ClusterRoleBinding "a" of ClusterRole "nodes" to Group "ops": get nodes`},
		{"bob", "", "get", "nodes", "", request.NoOpinion, ""},
		{"system:serviceaccount:ci:runner", "", "get", "pods", "prod", request.Allow, `RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "reader" to ServiceAccount "runner/ci": get,list pods`},
		{"system:serviceaccount:dev:own", "", "create", "pods", "dev", request.Allow, `RBAC: allowed by RoleBinding "c/dev" of Role "writer" to ServiceAccount "own/dev": create pods`},
		{"system:serviceaccount:prod:own", "", "create", "pods", "dev", request.NoOpinion, ""},
		{"lost", "", "get", "pods", "dev", request.NoOpinion, `RBAC: clusterroles.rbac.authorization.k8s.io "missing" not found`},
	} {
		a := request.Attributes{User: &request.User{Name: test.user, Groups: words(test.groups)}, ResourceRequest: true, Verb: test.verb, Resource: test.resource, Namespace: test.namespace}
		decision, reason, err := z.Authorize(t.Context(), a)
		if decision != test.want || reason != test.reason || err != nil {
			t.Errorf("%s %s %s in %q: %v %q %v", test.user, test.verb, test.resource, test.namespace, decision, reason, err)
		}
	}
}

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		owned, wanted string
		want          string
	}{
		{"*|*|*", "get|apps|deployments/scale|x", ""},
		{"get list|core|pods secrets", "get|core|pods", ""},
		{"get|core|pods", "get list|core|pods", `{APIGroups:[""], Resources:["pods"], Verbs:["list"]}`},
		{"get|core|pods", "get|core|pods nodes", `{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}`},
		{"get|core|pods", "get|core|*", `{APIGroups:[""], Resources:["*"], Verbs:["get"]}`},
		{"get|core|pods", "*|core|pods", `{APIGroups:[""], Resources:["pods"], Verbs:["*"]}`},
		{"get|core|secrets|a", "get|core|secrets|a b", `{APIGroups:[""], Resources:["secrets"], ResourceNames:["b"], Verbs:["get"]}`},
		{"get|core|secrets|a", "get|core|secrets", `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`},
		{"update|apps|*/scale", "update|apps|deployments/scale", ""},
		{"update|apps|deployments/scale", "update|apps|*/scale", `{APIGroups:["apps"], Resources:["*/scale"], Verbs:["update"]}`},
		{"get|core|pods", "create delete|core|pods", `{APIGroups:[""], Resources:["pods"], Verbs:["create" "delete"]}`},
	} {
		got := strings.Join(describe(Missing([]rbacv1.PolicyRule{rule(test.owned)}, []rbacv1.PolicyRule{rule(test.wanted)})), "\n")
		if got != test.want {
			t.Errorf("%s of %s: %s, want %s", test.wanted, test.owned, got, test.want)
		}
	}
	paths := func(p string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{p}}}
	}
	if len(Missing(paths("/api/*"), paths("/api/v1"))) > 0 || len(Missing(paths("/api/v1"), paths("/api/*"))) == 0 {
		t.Error("paths")
	}
}

func TestConfirmNoEscalation(t *testing.T) {
	z := newAuthorizer()
	jane := &request.User{Name: "jane", Groups: []string{"system:authenticated"}}
	if err := z.Resolver.ConfirmNoEscalation(jane, "dev", []rbacv1.PolicyRule{rule("get create|core|pods")}); err != nil {
		t.Error(err)
	}
	err := z.Resolver.ConfirmNoEscalation(jane, "prod", []rbacv1.PolicyRule{rule("get|core|pods")})
	want := "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A request is told why it is allowed without a new text: there are as many as ways to be allowed.
func TestReasonsAreMadeOnce(t *testing.T) {
	z := newAuthorizer()
	a := request.Attributes{User: &request.User{Name: "jane"}, ResourceRequest: true, Verb: "list", Resource: "pods", Namespace: "dev"}
	var g grant
	if err := z.Resolver.visitRulesFor(a.User, "dev", func(found grant) bool { g = found; return false }); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { z.reasons.of(g) }); n > 0 {
		t.Errorf("%.0f allocations for a reason that is known", n)
	}
	for range 3 * maxReasons {
		g.subject = &rbacv1.Subject{Kind: "User", Name: "jane"} // as after a change of the binding
		z.reasons.of(g)
	}
	if n := len(z.reasons.texts); n > maxReasons {
		t.Errorf("%d reasons are remembered, want %d at most", n, maxReasons)
	}
}
