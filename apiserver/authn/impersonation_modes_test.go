package authn

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"hyperkube/apiserver/authz"
	"hyperkube/apiserver/request"
)

// grants are what may be done, "verb resource[/subresource].group name".
type grants []string

func (g grants) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	if slices.Contains(g, strings.TrimSpace(fmt.Sprintf("%s %s.%s %s", a.Verb, resource, a.APIGroup, a.Name))) {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "", nil
}

// KEP-5284: the constrained modes, which ask what may be done as such a user, and who may be such a user.
func TestConstrainedImpersonation(t *testing.T) {
	const (
		onUser = "impersonate-on:user-info:list pods."
		onNode = "impersonate-on:arbitrary-node:list pods."
		onSA   = "impersonate-on:serviceaccount:list pods."
		onOwn  = "impersonate-on:associated-node:list pods."
		group  = "authentication.k8s.io"
	)
	agent := map[string][]string{"authentication.kubernetes.io/node-name": {"n1"}}
	for name, test := range map[string]struct {
		headers []string // key=value
		extra   map[string][]string
		may     grants
		want    string // the user, its groups and the constraint, or the refusal
	}{
		"a user":                  {headers: []string{"User=jane"}, may: grants{onUser, "impersonate:user-info users." + group + " jane"}, want: "jane [system:authenticated] impersonate:user-info"},
		"a user for nothing":      {headers: []string{"User=jane"}, may: grants{"impersonate:user-info users." + group + " jane"}, want: `pods is forbidden: User "a" cannot impersonate-on:user-info:list resource "pods" in API group "" in the namespace "ns"`},
		"another user":            {headers: []string{"User=joe"}, may: grants{onUser, "impersonate:user-info users." + group + " jane"}, want: `users.authentication.k8s.io "joe" is forbidden: User "a" cannot impersonate:user-info resource "users" in API group "authentication.k8s.io" at the cluster scope`},
		"a uid":                   {headers: []string{"User=jane", "Uid=1"}, may: grants{onUser, "impersonate:user-info users." + group + " jane"}, want: `uids.authentication.k8s.io "1" is forbidden`},
		"a group":                 {headers: []string{"User=jane", "Group=devs"}, may: grants{onUser, "impersonate:user-info users." + group + " jane", "impersonate:user-info groups." + group + " devs"}, want: "jane [devs system:authenticated] impersonate:user-info"},
		"many groups":             {headers: []string{"User=jane", "Group=1", "Group=2", "Group=3", "Group=4"}, may: grants{onUser, "impersonate:user-info users." + group + " jane", "impersonate:user-info groups." + group + " *"}, want: "jane [1 2 3 4 system:authenticated] impersonate:user-info"},
		"all power":               {headers: []string{"User=jane", "Group=system:masters"}, may: grants{onUser, "impersonate:user-info users." + group + " jane", "impersonate:user-info groups." + group + " system:masters"}, want: `groups.authentication.k8s.io "system:masters" is forbidden: User "a" cannot impersonate:user-info resource "groups" in API group "authentication.k8s.io" at the cluster scope: impersonating the system:masters group is not allowed`},
		"all power, as of old":    {headers: []string{"User=jane", "Group=system:masters"}, may: grants{"impersonate users. jane", "impersonate groups. system:masters"}, want: "jane [system:masters system:authenticated]"},
		"a value":                 {headers: []string{"User=jane", "Extra-Scope=x"}, may: grants{onUser, "impersonate:user-info users." + group + " jane", "impersonate:user-info userextras/scope." + group + " x"}, want: `impersonating an invalid key in extra is not allowed`},
		"a value of a domain":     {headers: []string{"User=jane", "Extra-Acme.com%2fscope=x"}, may: grants{onUser, "impersonate:user-info users." + group + " jane", "impersonate:user-info userextras/acme.com/scope." + group + " x"}, want: "jane [system:authenticated] impersonate:user-info"},
		"a node":                  {headers: []string{"User=system:node:n2"}, may: grants{onNode, "impersonate:arbitrary-node nodes." + group + " n2"}, want: "system:node:n2 [system:nodes system:authenticated] impersonate:arbitrary-node"},
		"a node, as of old":       {headers: []string{"User=system:node:n2"}, may: grants{"impersonate users. system:node:n2"}, want: "system:node:n2 [system:authenticated]"},
		"a node as a user":        {headers: []string{"User=system:node:n2"}, may: grants{onUser, "impersonate:user-info users." + group + " system:node:n2"}, want: "cannot impersonate-on:arbitrary-node:list"},
		"a service account":       {headers: []string{"User=system:serviceaccount:ns:sa"}, may: grants{onSA, "impersonate:serviceaccount serviceaccounts." + group + " sa"}, want: "system:serviceaccount:ns:sa [system:serviceaccounts system:serviceaccounts:ns system:authenticated] impersonate:serviceaccount"},
		"its own node":            {headers: []string{"User=system:node:n1"}, extra: agent, may: grants{onOwn, "impersonate:associated-node nodes." + group + " *"}, want: "system:node:n1 [system:nodes system:authenticated] impersonate:associated-node"},
		"another node, as if own": {headers: []string{"User=system:node:n2"}, extra: agent, may: grants{onOwn, "impersonate:associated-node nodes." + group + " *"}, want: "cannot impersonate-on:arbitrary-node:list"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/namespaces/ns/pods", nil)
		for _, header := range test.headers {
			key, value, _ := strings.Cut(header, "=")
			r.Header["Impersonate-"+key] = append(r.Header["Impersonate-"+key], value)
		}
		asking := &request.User{Name: "a", Extra: test.extra}
		if test.extra != nil {
			asking.Name = "system:serviceaccount:ns:agent"
		}
		user, constraint, err := NewImpersonator(func() request.Authorizer { return test.may }, authz.Forbidden).Impersonate(r, request.Attributes{User: asking, Verb: "list", Resource: "pods", Namespace: "ns", ResourceRequest: true})
		got := fmt.Sprint(err)
		right := strings.Contains(got, test.want)
		if err == nil {
			got = strings.TrimSpace(fmt.Sprint(user.Name, " ", user.Groups, " ", constraint))
			right = got == test.want
		}
		if !right {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
