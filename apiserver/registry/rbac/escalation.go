package rbac

import (
	"context"
	"errors"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/request"
)

// escalation refuses writes by which a user would grant more than they hold.
type escalation struct {
	env      *registry.Env
	resolver *rbac.RuleResolver
}

// hooks runs check on each write that changes what is granted; old is nil in a create.
func (e *escalation) hooks(check func(ctx context.Context, user *request.User, obj, old runtime.Object) error) registry.Hooks {
	run := func(ctx context.Context, obj, old runtime.Object) error {
		user := request.UserFrom(ctx)
		if user == nil {
			return apierrors.NewInternalError(errors.New("a write of roles without a user"))
		}
		if user.InGroup(request.SystemPrivileged) {
			return nil
		}
		return check(ctx, user, obj, old)
	}
	return registry.Hooks{
		BeginCreate: func(ctx context.Context, obj runtime.Object, _ bool) (func(bool), error) {
			return nil, run(ctx, obj, nil)
		},
		BeginUpdate: func(ctx context.Context, obj, old runtime.Object, _ bool) (func(bool), error) {
			return nil, run(ctx, obj, old)
		},
	}
}

func (e *escalation) checkRole(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	role := obj.(*rbacv1.Role)
	if before, ok := old.(*rbacv1.Role); ok && apiequality.Semantic.DeepEqual(before.Rules, role.Rules) {
		return nil
	}
	return e.checkRules(ctx, subject{user, "roles", role.Namespace, role.Name}, role.Rules)
}

// everything is what an aggregation rule may gather.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (e *escalation) checkClusterRole(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	role := obj.(*rbacv1.ClusterRole)
	before, _ := old.(*rbacv1.ClusterRole)
	if before != nil && apiequality.Semantic.DeepEqual(before.Rules, role.Rules) && apiequality.Semantic.DeepEqual(before.AggregationRule, role.AggregationRule) {
		return nil
	}
	s := subject{user, "clusterroles", "", role.Name}
	if e.may(ctx, s, "escalate") {
		return nil
	}
	aggregates := role.AggregationRule != nil && (before == nil || !apiequality.Semantic.DeepEqual(before.AggregationRule, role.AggregationRule))
	if aggregates {
		if err := e.resolver.ConfirmNoEscalation(user, "", everything); err != nil {
			return s.forbidden(fmt.Errorf("must have cluster-admin privileges to use an aggregationRule: %w", err))
		}
	}
	if err := e.resolver.ConfirmNoEscalation(user, "", role.Rules); err != nil {
		return s.forbidden(err)
	}
	return nil
}

func (e *escalation) checkRoleBinding(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	b := obj.(*rbacv1.RoleBinding)
	if before, ok := old.(*rbacv1.RoleBinding); ok && before.RoleRef == b.RoleRef && apiequality.Semantic.DeepEqual(before.Subjects, b.Subjects) {
		return nil
	}
	return e.checkBinding(ctx, subject{user, "rolebindings", b.Namespace, b.Name}, b.RoleRef)
}

func (e *escalation) checkClusterRoleBinding(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	b := obj.(*rbacv1.ClusterRoleBinding)
	if before, ok := old.(*rbacv1.ClusterRoleBinding); ok && before.RoleRef == b.RoleRef && apiequality.Semantic.DeepEqual(before.Subjects, b.Subjects) {
		return nil
	}
	return e.checkBinding(ctx, subject{user, "clusterrolebindings", "", b.Name}, b.RoleRef)
}

func (e *escalation) checkBinding(ctx context.Context, s subject, ref rbacv1.RoleRef) error {
	role := subject{user: s.user, resource: "clusterroles", namespace: s.namespace, name: ref.Name}
	if ref.Kind == "Role" {
		role.resource = "roles"
	}
	if e.may(ctx, role, "bind") {
		return nil
	}
	rules, err := e.resolver.RulesOf(ref, s.namespace)
	if err != nil {
		return err
	}
	if err := e.resolver.ConfirmNoEscalation(s.user, s.namespace, rules); err != nil {
		return s.forbidden(err)
	}
	return nil
}

func (e *escalation) checkRules(ctx context.Context, s subject, rules []rbacv1.PolicyRule) error {
	if e.may(ctx, s, "escalate") {
		return nil
	}
	if err := e.resolver.ConfirmNoEscalation(s.user, s.namespace, rules); err != nil {
		return s.forbidden(err)
	}
	return nil
}

// subject is who does something to which role or binding.
type subject struct {
	user                      *request.User
	resource, namespace, name string
}

func (s subject) forbidden(err error) error {
	return apierrors.NewForbidden(schema.GroupResource{Group: rbacv1.GroupName, Resource: s.resource}, s.name, err)
}

// may asks for one of RBAC's own verbs, "escalate" and "bind".
func (e *escalation) may(ctx context.Context, s subject, verb string) bool {
	decision, _, _ := e.env.Authorizer.Authorize(ctx, request.Attributes{
		User: s.user, Verb: verb, APIGroup: rbacv1.GroupName, APIVersion: "v1",
		Resource: s.resource, Namespace: s.namespace, Name: s.name, ResourceRequest: true,
	})
	return decision == request.Allow
}
