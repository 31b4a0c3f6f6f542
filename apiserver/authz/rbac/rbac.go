// Package rbac decides by roles: a user may do what some rule of some role that is
// bound to them, to one of their groups, or to their service account, allows.
//
//	ClusterRoleBindings ─► subjects match? ─► ClusterRole ─► rules, everywhere
//	RoleBindings of the namespace ─► match? ─► Role or ClusterRole ─► rules, in the namespace
//
// In Kubernetes: plugin/pkg/auth/authorizer/rbac, pkg/registry/rbac/validation (rule.go,
// policy_compact.go) and k8s.io/component-helpers/auth/rbac/validation (Covers).
package rbac

import (
	"context"
	"errors"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// Listers are what RBAC reads.
type Listers struct {
	Roles               lister.Lister[*rbacv1.Role]
	RoleBindings        lister.Lister[*rbacv1.RoleBinding]
	ClusterRoles        lister.Lister[*rbacv1.ClusterRole]
	ClusterRoleBindings lister.Lister[*rbacv1.ClusterRoleBinding]
}

// Authorizer allows what the roles allow; it never denies.
type Authorizer struct {
	Resolver *RuleResolver
	reasons  reasons
}

// New makes an Authorizer.
func New(l Listers) *Authorizer { return &Authorizer{Resolver: &RuleResolver{l}} }

// Authorize implements request.Authorizer. It stops at the first rule that allows, and
// names it. A binding to a role that is missing grants nothing; it is told as the reason
// if nothing else allows.
func (z *Authorizer) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	var by grant
	err := z.Resolver.visitRulesFor(a.User, a.Namespace, func(g grant) bool {
		if RuleAllows(a, g.rule) {
			by = g
		}
		return by.rule == nil
	})
	if by.rule != nil {
		return request.Allow, z.reasons.of(by), nil
	}
	if err != nil {
		return request.NoOpinion, fmt.Sprintf("RBAC: %v", err), nil
	}
	return request.NoOpinion, "", nil
}

// RuleResolver finds the rules that are bound to a user.
type RuleResolver struct {
	listers Listers
}

// RulesFor returns all rules of user in namespace ("" = those that hold everywhere). The error tells
// of roles that could not be read; the rules are good nevertheless.
func (r *RuleResolver) RulesFor(user *request.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	err := r.visitRulesFor(user, namespace, func(g grant) bool {
		rules = append(rules, *g.rule)
		return true
	})
	return rules, err
}

// EffectiveRulesFor is RulesFor without what a RoleBinding cannot give: paths that are no
// resources lie in no namespace, though the role it names may list some.
func (r *RuleResolver) EffectiveRulesFor(user *request.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	err := r.visitRulesFor(user, namespace, func(g grant) bool {
		if g.binding.Namespace == "" || len(g.rule.NonResourceURLs) == 0 {
			rules = append(rules, *g.rule)
		}
		return true
	})
	return rules, err
}

// visitRulesFor hands each rule of user to visit until that returns false.
func (r *RuleResolver) visitRulesFor(user *request.User, namespace string, visit func(grant) bool) error {
	var failures []error
	bindings, err := r.listers.ClusterRoleBindings.List("")
	failures = append(failures, err)
	for _, b := range bindings {
		subject := subjectOf(user, b.Subjects, "")
		if subject == nil {
			continue
		}
		more, err := r.visitRole(grant{binding: &b.ObjectMeta, role: &b.RoleRef, subject: subject}, visit)
		if !more {
			return nil
		}
		failures = append(failures, err)
	}
	if namespace == "" {
		return errors.Join(failures...)
	}
	roleBindings, err := r.listers.RoleBindings.List(namespace)
	failures = append(failures, err)
	for _, b := range roleBindings {
		subject := subjectOf(user, b.Subjects, namespace)
		if subject == nil {
			continue
		}
		more, err := r.visitRole(grant{binding: &b.ObjectMeta, role: &b.RoleRef, subject: subject}, visit)
		if !more {
			return nil
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// visitRole hands on each rule of g's role.
func (r *RuleResolver) visitRole(g grant, visit func(grant) bool) (more bool, err error) {
	rules, err := r.RulesOf(*g.role, g.binding.Namespace)
	for i := range rules {
		g.rule = &rules[i]
		if !visit(g) {
			return false, nil
		}
	}
	return true, err
}

// RulesOf returns the rules of the role that a binding in namespace refers to.
func (r *RuleResolver) RulesOf(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		role, err := r.listers.Roles.Get(namespace, ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	case "ClusterRole":
		role, err := r.listers.ClusterRoles.Get("", ref.Name)
		if err != nil {
			return nil, err
		}
		return role.Rules, nil
	}
	return nil, apierrors.NewBadRequest(fmt.Sprintf("unsupported role reference kind: %q", ref.Kind))
}

// subjectOf is the subject that user is, or nil. A service account without a namespace is one of the
// binding's.
func subjectOf(user *request.User, subjects []rbacv1.Subject, bindingNamespace string) *rbacv1.Subject {
	if user == nil {
		return nil
	}
	i := slices.IndexFunc(subjects, func(s rbacv1.Subject) bool {
		switch s.Kind {
		case rbacv1.UserKind:
			return user.Name == s.Name
		case rbacv1.GroupKind:
			return user.InGroup(s.Name)
		case rbacv1.ServiceAccountKind:
			namespace := s.Namespace
			if namespace == "" {
				namespace = bindingNamespace
			}
			return namespace != "" && user.Name == serviceaccount.Username(namespace, s.Name)
		}
		return false
	})
	if i < 0 {
		return nil
	}
	return &subjects[i]
}
