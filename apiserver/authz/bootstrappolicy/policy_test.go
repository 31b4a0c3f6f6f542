package bootstrappolicy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/request"
)

// DESIGN.md, Contracts: RBAC is on, with upstream's roles. Every role grants exactly what a v1.37 cluster's does, every
// binding binds the same; only what is named hyperkube: is more.
func TestEqualInEffectToUpstream(t *testing.T) {
	data, err := os.ReadFile("testdata/upstream-v1.37.txt")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]string{}
	for _, line := range describe(Default()) {
		kind, rest, _ := strings.Cut(line, " ")
		name, what, _ := strings.Cut(rest, " ")
		if !strings.Contains(name, "/hyperkube:") {
			ours[kind+" "+name] = what
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		kind, rest, _ := strings.Cut(line, " ")
		name, want, _ := strings.Cut(rest, " ")
		if got := ours[kind+" "+name]; got != want {
			t.Errorf("%s %s: %q, upstream has %q", kind, name, got, want)
		}
		delete(ours, kind+" "+name)
	}
	for left := range ours {
		t.Errorf("%s is not upstream's", left)
	}
}

// upstreams are the rules without what view, edit and admin have of ours: to read the record.
func upstreams(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	return slices.DeleteFunc(slices.Clone(rules), func(r rbacv1.PolicyRule) bool {
		return len(r.NonResourceURLs) > 0 && strings.HasPrefix(r.NonResourceURLs[0], "/debug/flow/")
	})
}

// describe makes the lines of testdata.
func describe(p *Policy) []string {
	var lines []string
	for _, r := range p.ClusterRoles {
		aggregate := ""
		if r.AggregationRule != nil {
			aggregate = pairs(r.AggregationRule.ClusterRoleSelectors[0].MatchLabels)
		}
		lines = append(lines, fmt.Sprintf("clusterrole /%s %s labels:%s aggregate:%s", r.Name, digest(grants(upstreams(r.Rules))), pairs(r.Labels), aggregate))
	}
	for _, r := range p.Roles {
		lines = append(lines, fmt.Sprintf("role %s/%s %s labels:%s aggregate:", r.Namespace, r.Name, digest(grants(r.Rules)), pairs(r.Labels)))
	}
	for _, b := range p.ClusterRoleBindings {
		lines = append(lines, fmt.Sprintf("clusterrolebinding /%s %s %s/%s", b.Name, digest(subjects(b.Subjects)), b.RoleRef.Kind, b.RoleRef.Name))
	}
	for _, b := range p.RoleBindings {
		lines = append(lines, fmt.Sprintf("rolebinding %s/%s %s %s/%s", b.Namespace, b.Name, digest(subjects(b.Subjects)), b.RoleRef.Kind, b.RoleRef.Name))
	}
	return lines
}

func grants(rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, verb := range r.Verbs {
			for _, path := range r.NonResourceURLs {
				all = append(all, fmt.Sprintf("%s path %s", verb, path))
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, name := range names {
						all = append(all, fmt.Sprintf("%s %s/%s %s", verb, group, resource, name))
					}
				}
			}
		}
	}
	return all
}

func subjects(list []rbacv1.Subject) []string {
	var all []string
	for _, s := range list {
		all = append(all, strings.Join([]string{s.Kind, s.APIGroup, s.Namespace, s.Name}, "/"))
	}
	return all
}

func digest(list []string) string {
	slices.Sort(list)
	list = slices.Compact(list)
	sum := sha256.Sum256([]byte(strings.Join(list, "\n")))
	return fmt.Sprintf("%d %s", len(list), hex.EncodeToString(sum[:])[:16])
}

func pairs(m map[string]string) string {
	var all []string
	for k, v := range m {
		if k != "kubernetes.io/bootstrapping" {
			all = append(all, k+"="+v)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// What components of ours do under one user each, in place of upstream's service accounts.
func TestComponentsMayDoTheirWork(t *testing.T) {
	may := func(user, verb, group, resource, namespace, name string) bool {
		resource, sub, _ := strings.Cut(resource, "/")
		a := request.Attributes{
			User: &request.User{Name: user, Groups: []string{request.AllAuthenticated}}, ResourceRequest: true,
			Verb: verb, APIGroup: group, Resource: resource, Subresource: sub, Namespace: namespace, Name: name,
		}
		for _, b := range Default().ClusterRoleBindings {
			if slices.ContainsFunc(b.Subjects, func(s rbacv1.Subject) bool { return s.Kind == rbacv1.UserKind && s.Name == user }) && rbac.RulesAllow(a, rulesOf(b.RoleRef.Name, "")...) {
				return true
			}
		}
		for _, b := range Default().RoleBindings {
			if b.Namespace == namespace && slices.ContainsFunc(b.Subjects, func(s rbacv1.Subject) bool { return s.Name == user }) && rbac.RulesAllow(a, rulesOf(b.RoleRef.Name, namespace)...) {
				return true
			}
		}
		return false
	}
	const manager, dns, proxy, scheduler = "system:kube-controller-manager", "system:kube-dns", "system:kube-proxy", "system:kube-scheduler"
	for _, test := range []struct {
		user, verb, group, resource, namespace, name string
		want                                         bool
	}{
		{manager, "update", "apps", "deployments/status", "x", "web", true},
		{manager, "create", "", "pods", "x", "", true},
		{manager, "delete", "", "pods", "x", "p", true},
		{manager, "update", "", "namespaces/finalize", "", "x", true},
		{manager, "deletecollection", "example.com", "things", "x", "", true},
		{manager, "patch", "example.com", "things", "x", "t", true},
		{manager, "create", "", "serviceaccounts", "x", "", true},
		{manager, "create", "", "configmaps", "x", "kube-root-ca.crt", true},
		{manager, "create", "discovery.k8s.io", "endpointslices", "x", "", true},
		{manager, "update", "", "nodes", "", "n", true},
		{manager, "patch", "", "nodes/status", "", "n", true},
		{manager, "update", "coordination.k8s.io", "leases", "kube-system", "kube-controller-manager", true},
		{manager, "create", "coordination.k8s.io", "leases", "kube-system", "", true},
		{manager, "create", "", "events", "x", "", true},
		{manager, "create", "", "pods/exec", "x", "p", false},
		// It approves and signs for the signers that upstream's certificate controller does, and for no other.
		{manager, "approve", "certificates.k8s.io", "signers", "", "kubernetes.io/kube-apiserver-client-kubelet", true},
		{manager, "approve", "certificates.k8s.io", "signers", "", "kubernetes.io/kube-apiserver-client", false},
		{manager, "approve", "certificates.k8s.io", "signers", "", "kubernetes.io/*", false},
		{manager, "approve", "certificates.k8s.io", "signers", "", "example.com/s", false},
		{manager, "sign", "certificates.k8s.io", "signers", "", "kubernetes.io/kube-apiserver-client", true},
		{manager, "sign", "certificates.k8s.io", "signers", "", "example.com/s", false},
		{scheduler, "create", "", "pods/binding", "x", "p", true},
		{scheduler, "patch", "", "pods/status", "x", "p", true},
		{scheduler, "create", "events.k8s.io", "events", "x", "", true},
		{scheduler, "delete", "", "nodes", "", "n", false},
		{proxy, "watch", "discovery.k8s.io", "endpointslices", "", "", true},
		{proxy, "list", "", "services", "", "", true},
		{proxy, "list", "", "secrets", "x", "", false},
		{dns, "watch", "", "services", "", "", true},
		{dns, "list", "discovery.k8s.io", "endpointslices", "", "", true},
		{dns, "create", "", "services", "kube-system", "", true},
		{dns, "update", "", "services", "kube-system", "kube-dns", true},
		{dns, "update", "", "services", "kube-system", "other", false},
		{dns, "create", "", "services", "default", "", false},
		{dns, "update", "discovery.k8s.io", "endpointslices", "kube-system", "kube-dns", true},
		{dns, "create", "", "events", "default", "", true},
	} {
		if got := may(test.user, test.verb, test.group, test.resource, test.namespace, test.name); got != test.want {
			t.Errorf("%s may %s %s/%s %q in %q: %v, want %v", test.user, test.verb, test.group, test.resource, test.name, test.namespace, got, test.want)
		}
	}
}

func rulesOf(name, namespace string) []rbacv1.PolicyRule {
	for _, r := range Default().ClusterRoles {
		if namespace == "" && r.Name == name {
			return r.Rules
		}
	}
	for _, r := range Default().Roles {
		if namespace == r.Namespace && r.Name == name {
			return r.Rules
		}
	}
	return nil
}

// A start over an existing store: additions of the administrator stay, losses are made good, opt-outs count.
func TestReconcile(t *testing.T) {
	rule := func(resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}
	}
	wanted := &rbacv1.ClusterRole{ObjectMeta: meta("", "x"), Rules: []rbacv1.PolicyRule{rule("pods"), rule("nodes")}}

	same := wanted.DeepCopy()
	same.Rules = []rbacv1.PolicyRule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"nodes", "pods"}}}
	if action := reconcileClusterRole(same, wanted); action != keep {
		t.Errorf("a role that grants as much is written again: %v %v", action, same.Rules)
	}

	less := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{"mine": "1"}}, Rules: []rbacv1.PolicyRule{rule("pods"), rule("secrets")}}
	if action := reconcileClusterRole(less, wanted); action != update {
		t.Errorf("a role that lacks a rule: %v", action)
	}
	if len(rbac.Missing(less.Rules, wanted.Rules)) > 0 || len(less.Rules) != 3 || less.Labels["mine"] != "1" || less.Annotations[rbacv1.AutoUpdateAnnotationKey] != "true" {
		t.Errorf("reconciled to %+v", less)
	}

	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: meta("", "x"), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "x"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "a"}}}
	other := binding.DeepCopy()
	other.RoleRef.Name = "y"
	if action := reconcileClusterRoleBinding(other, binding); action != recreate {
		t.Errorf("another roleRef, which can't be changed: %v", action)
	}
	fewer := binding.DeepCopy()
	fewer.Subjects = []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "b"}}
	if action := reconcileClusterRoleBinding(fewer, binding); action != update || len(fewer.Subjects) != 2 {
		t.Errorf("a lost subject: %v %v", action, fewer.Subjects)
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{"role without-namespace", "clusterrole x\n get pods", "clusterrole x\n bind to robot:r2"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
