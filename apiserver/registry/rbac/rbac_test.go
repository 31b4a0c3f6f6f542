package rbac

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

var pods = []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
var nodes = []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"nodes"}}}

// authorizer allows the questions it lists: "escalate roles/x", "bind clusterroles/y".
type authorizer map[string]bool

func (z authorizer) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	if a.APIGroup == rbacv1.GroupName && z[a.Verb+" "+a.Resource+"/"+a.Name] {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "", nil
}

// newEscalation: jane holds "get pods" in ns; the cluster roles "pods" and "nodes" exist.
func newEscalation(z authorizer) *escalation {
	gr := func(s string) schema.GroupResource { return schema.GroupResource{Group: rbacv1.GroupName, Resource: s} }
	clusterRole := func(name string, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	}
	return &escalation{
		env: &registry.Env{Authorizer: z},
		resolver: rbac.New(rbac.Listers{
			Roles:               lister.Slice[*rbacv1.Role](gr("roles")),
			ClusterRoles:        lister.Slice(gr("clusterroles"), clusterRole("pods", pods), clusterRole("nodes", nodes)),
			ClusterRoleBindings: lister.Slice[*rbacv1.ClusterRoleBinding](gr("clusterrolebindings")),
			RoleBindings: lister.Slice(gr("rolebindings"), &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "jane"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "pods"},
				Subjects: []rbacv1.Subject{{Kind: "User", Name: "jane"}},
			}),
		}).Resolver,
	}
}

func role(rules []rbacv1.PolicyRule) *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "r"}, Rules: rules}
}

func clusterRole(rules []rbacv1.PolicyRule, aggregate string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: rules}
	if aggregate != "" {
		r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{aggregate: "true"}}}}
	}
	return r
}

func roleBinding(name, user string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "b"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: "User", Name: user}},
	}
}

func TestEscalation(t *testing.T) {
	masters := &request.User{Name: "root", Groups: []string{"system:masters"}}
	jane := &request.User{Name: "jane"}
	everywhere := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "pods"}}
	for name, test := range map[string]struct {
		user     *request.User
		may      authorizer
		obj, old runtime.Object
		err      string
	}{
		"what one holds":                {user: jane, obj: role(pods)},
		"what one does not":             {user: jane, obj: role(nodes), err: `roles.rbac.authorization.k8s.io "r" is forbidden: user "jane" (groups=[]) is attempting to grant RBAC permissions not currently held`},
		"with escalate":                 {user: jane, may: authorizer{"escalate roles/r": true}, obj: role(nodes)},
		"as master":                     {user: masters, obj: role(nodes)},
		"rules that stay":               {user: jane, obj: role(nodes), old: role(nodes)},
		"rules that change":             {user: jane, obj: role(nodes), old: role(pods), err: "not currently held"},
		"held in a namespace only":      {user: jane, obj: clusterRole(pods, ""), err: "not currently held"},
		"an aggregation":                {user: jane, obj: clusterRole(nil, "x"), err: "must have cluster-admin privileges to use the aggregationRule"},
		"an aggregation that stays":     {user: jane, obj: clusterRole(nil, "x"), old: clusterRole(nil, "x")},
		"escalate a cluster role":       {user: jane, may: authorizer{"escalate clusterroles/r": true}, obj: clusterRole(nodes, "x")},
		"bind what one holds":           {user: jane, obj: roleBinding("pods", "bob")},
		"bind what one does not":        {user: jane, obj: roleBinding("nodes", "jane"), err: `rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "jane"`},
		"with bind":                     {user: jane, may: authorizer{"bind clusterroles/nodes": true}, obj: roleBinding("nodes", "jane")},
		"a binding that stays":          {user: jane, obj: roleBinding("nodes", "bob"), old: roleBinding("nodes", "bob")},
		"one more subject":              {user: jane, obj: roleBinding("nodes", "jane"), old: roleBinding("nodes", "bob"), err: "not currently held"},
		"bind what does not exist":      {user: jane, obj: roleBinding("none", "jane"), err: `rolebindings.rbac.authorization.k8s.io "none" not found`},
		"held in a namespace, bind all": {user: jane, obj: everywhere, err: `clusterrolebindings.rbac.authorization.k8s.io "b" is forbidden`},
		"nobody":                        {obj: role(pods), err: "without a user"},
	} {
		e := newEscalation(test.may)
		check := map[string]func(context.Context, *request.User, runtime.Object, runtime.Object) error{
			"*v1.Role": e.checkRole, "*v1.ClusterRole": e.checkClusterRole, "*v1.RoleBinding": e.checkRoleBinding, "*v1.ClusterRoleBinding": e.checkClusterRoleBinding,
		}
		hooks := e.hooks(check[kindOf(test.obj)])
		ctx := t.Context()
		if test.user != nil {
			ctx = request.WithUser(ctx, test.user)
		}
		var err error
		if test.old == nil {
			_, err = hooks.BeginCreate(ctx, test.obj, false)
		} else {
			_, err = hooks.BeginUpdate(ctx, test.obj, test.old, false)
		}
		if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: %v, want %q", name, err, test.err)
		}
	}
}

func kindOf(obj runtime.Object) string {
	switch obj.(type) {
	case *rbacv1.Role:
		return "*v1.Role"
	case *rbacv1.ClusterRole:
		return "*v1.ClusterRole"
	case *rbacv1.RoleBinding:
		return "*v1.RoleBinding"
	}
	return "*v1.ClusterRoleBinding"
}

// kubectl get rolebindings -o wide
func TestBindingCells(t *testing.T) {
	b := roleBinding("view", "jane")
	b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: "Group", Name: "devs"}, rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "runner"}, rbacv1.Subject{Kind: "User", Name: "bob"})
	cells := roleBindingTable.Cells(b)
	if cells[0] != "b" || cells[1] != "ClusterRole/view" || cells[3] != "jane, bob" || cells[4] != "devs" || cells[5] != "ci/runner" || len(cells) != len(roleBindingTable.Columns) {
		t.Errorf("%v", cells)
	}
}
