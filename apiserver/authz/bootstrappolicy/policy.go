// Package bootstrappolicy is the roles and bindings that a cluster starts with:
// policy.txt, read once, and Ensure, which brings the store up to it at every start.
//
// In Kubernetes: plugin/pkg/auth/authorizer/rbac/bootstrappolicy (policy.go,
// controller_policy.go) and pkg/registry/rbac/rest/storage_rbac.go. There the policy is Go code
// under feature gates; here it is data, and equal in effect to that of a v1.37 cluster.
package bootstrappolicy

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed policy.txt
var text string

// Policy is what Ensure puts into the store.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// Default is the policy of policy.txt. It is shared: copy before changing.
var Default = sync.OnceValue(func() *Policy {
	p, err := parse(text)
	if err != nil {
		panic(fmt.Sprintf("policy.txt, which is part of the program: %v", err))
	}
	return p
})

// NodeRules are what every kubelet may do beyond what the node authorizer ties to its node.
func NodeRules() []rbacv1.PolicyRule {
	for _, r := range Default().ClusterRoles {
		if r.Name == "system:node" {
			return r.Rules
		}
	}
	panic("policy.txt has no system:node")
}

func parse(text string) (*Policy, error) {
	p := &parser{policy: &Policy{}}
	for n, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := p.line(words); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	p.finish()
	return p.policy, nil
}

// parser holds the role that the present line belongs to. Roles are built as ClusterRoles, which
// have all that a Role has.
type parser struct {
	policy   *Policy
	role     *rbacv1.ClusterRole
	all      []*rbacv1.ClusterRole
	includes map[*rbacv1.ClusterRole][]string
}

func (p *parser) line(words []string) error {
	switch words[0] {
	case "clusterrole":
		p.begin("", words[1])
	case "role":
		namespace, name, ok := strings.Cut(words[1], "/")
		if !ok {
			return fmt.Errorf("want role NAMESPACE/NAME")
		}
		p.begin(namespace, name)
	case "label":
		key, value, _ := strings.Cut(words[1], "=")
		p.role.Labels[key] = value
	case "aggregate":
		key, value, _ := strings.Cut(words[1], "=")
		p.role.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{key: value}}}}
	case "include":
		p.includes[p.role] = append(p.includes[p.role], words[1])
	case "bind":
		return p.bind(words[1:])
	default:
		return p.rule(words)
	}
	return nil
}

func (p *parser) begin(namespace, name string) {
	if p.includes == nil {
		p.includes = map[*rbacv1.ClusterRole][]string{}
	}
	p.role = &rbacv1.ClusterRole{ObjectMeta: meta(namespace, name), Rules: []rbacv1.PolicyRule{}}
	p.all = append(p.all, p.role)
}

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace:   namespace,
		Name:        name,
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"},
	}
}

func (p *parser) rule(words []string) error {
	if len(words) < 3 {
		return fmt.Errorf("want VERBS GROUPS RESOURCES, have %q", words)
	}
	rule := rbacv1.PolicyRule{Verbs: strings.Split(words[0], ",")}
	if words[1] == "path" {
		rule.NonResourceURLs = words[2:]
		p.role.Rules = append(p.role.Rules, rule)
		return nil
	}
	for _, g := range strings.Split(words[1], ",") {
		if g == "core" {
			g = ""
		}
		rule.APIGroups = append(rule.APIGroups, g)
	}
	rule.Resources = words[2:]
	if i := slices.IndexFunc(rule.Resources, func(w string) bool { return strings.HasPrefix(w, "[") }); i >= 0 {
		names := strings.Join(rule.Resources[i:], " ")
		rule.Resources = rule.Resources[:i:i]
		rule.ResourceNames = strings.Fields(strings.Trim(names, "[]"))
	}
	p.role.Rules = append(p.role.Rules, rule)
	return nil
}

// bind reads "[BINDING] to SUBJECT...".
func (p *parser) bind(words []string) error {
	name := p.role.Name
	if words[0] != "to" {
		name, words = words[0], words[1:]
	}
	var subjects []rbacv1.Subject
	for _, w := range words[1:] {
		kind, who, _ := strings.Cut(w, ":")
		switch kind {
		case "user":
			subjects = append(subjects, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: who})
		case "group":
			subjects = append(subjects, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: who})
		case "serviceaccount":
			namespace, account, _ := strings.Cut(who, "/")
			subjects = append(subjects, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account})
		default:
			return fmt.Errorf("unknown subject %q", w)
		}
	}
	ref := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: p.role.Name}
	if namespace := p.role.Namespace; namespace != "" {
		ref.Kind = "Role"
		p.policy.RoleBindings = append(p.policy.RoleBindings, &rbacv1.RoleBinding{ObjectMeta: meta(namespace, name), RoleRef: ref, Subjects: subjects})
		return nil
	}
	p.policy.ClusterRoleBindings = append(p.policy.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: meta("", name), RoleRef: ref, Subjects: subjects})
	return nil
}

// finish fills the roles made of others and sorts roles by kind. Aggregates are filled here
// too, so that view, edit and admin hold from the first request on; the aggregation
// controller keeps them so.
func (p *parser) finish() {
	for role, prefixes := range p.includes {
		for _, other := range p.all {
			if other.Namespace == "" && slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(other.Name, prefix) }) {
				role.Rules = appendMissing(role.Rules, other.Rules)
			}
		}
	}
	for _, role := range p.all {
		if role.AggregationRule != nil {
			role.Rules = p.aggregated(role)
		}
		if role.Namespace == "" {
			p.policy.ClusterRoles = append(p.policy.ClusterRoles, role)
			continue
		}
		p.policy.Roles = append(p.policy.Roles, &rbacv1.Role{ObjectMeta: role.ObjectMeta, Rules: role.Rules})
	}
}

// aggregated collects the rules of all that role selects, aggregates among them included (admin has
// edit's, which has view's).
func (p *parser) aggregated(role *rbacv1.ClusterRole) []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{}
	for key, value := range role.AggregationRule.ClusterRoleSelectors[0].MatchLabels {
		for _, other := range p.all {
			if other == role || other.Labels[key] != value {
				continue
			}
			if other.AggregationRule != nil {
				rules = appendMissing(rules, p.aggregated(other))
				continue
			}
			rules = appendMissing(rules, other.Rules)
		}
	}
	return rules
}

func appendMissing(rules, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for _, m := range more {
		if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equalRules(r, m) }) {
			rules = append(rules, m)
		}
	}
	return rules
}

func equalRules(a, b rbacv1.PolicyRule) bool {
	return slices.Equal(a.Verbs, b.Verbs) && slices.Equal(a.APIGroups, b.APIGroups) && slices.Equal(a.Resources, b.Resources) &&
		slices.Equal(a.ResourceNames, b.ResourceNames) && slices.Equal(a.NonResourceURLs, b.NonResourceURLs)
}
