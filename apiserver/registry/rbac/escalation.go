package rbac

import (
	"context"
	"errors"

	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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
	s := subject{user, "roles", role.Namespace, role.Name}
	if onlyForCollection(obj, old) || e.may(ctx, s.named(ctx), "escalate") {
		return nil
	}
	if err := e.resolver.ConfirmNoEscalation(s.user, s.namespace, role.Rules); err != nil {
		return s.forbidden(err)
	}
	return nil
}

// onlyForCollection: whoever changes no more than finalizers and owners, as the garbage collector does, grants nothing. All else
// needs what the role grants, a label too: by its labels a role is gathered into others.
func onlyForCollection(obj, old runtime.Object) bool {
	if old == nil {
		return false
	}
	copied := obj.DeepCopyObject()
	after, err := meta.Accessor(copied)
	before, wrong := meta.Accessor(old)
	if err != nil || wrong != nil {
		return false
	}
	after.SetOwnerReferences(before.GetOwnerReferences())
	after.SetFinalizers(before.GetFinalizers())
	after.SetManagedFields(before.GetManagedFields())
	after.SetResourceVersion(before.GetResourceVersion())
	copied.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
	return apiequality.Semantic.DeepEqual(copied, old)
}

// everything is what an aggregation rule may gather.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (e *escalation) checkClusterRole(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	role := obj.(*rbacv1.ClusterRole)
	s := subject{user, "clusterroles", "", role.Name}
	if onlyForCollection(obj, old) || e.may(ctx, s.named(ctx), "escalate") {
		return nil
	}
	if err := e.resolver.ConfirmNoEscalation(user, "", role.Rules); err != nil {
		return s.forbidden(err)
	}
	before, _ := old.(*rbacv1.ClusterRole)
	if (aggregates(role) || before != nil && aggregates(before)) && e.resolver.ConfirmNoEscalation(user, "", everything) != nil {
		return s.forbidden(errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

func aggregates(r *rbacv1.ClusterRole) bool {
	return r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
}

func (e *escalation) checkRoleBinding(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	if onlyForCollection(obj, old) {
		return nil
	}
	b := obj.(*rbacv1.RoleBinding)
	return e.checkBinding(ctx, subject{user, "rolebindings", b.Namespace, b.Name}, b.RoleRef)
}

func (e *escalation) checkClusterRoleBinding(ctx context.Context, user *request.User, obj, old runtime.Object) error {
	if onlyForCollection(obj, old) {
		return nil
	}
	b := obj.(*rbacv1.ClusterRoleBinding)
	return e.checkBinding(ctx, subject{user, "clusterrolebindings", "", b.Name}, b.RoleRef)
}

func (e *escalation) checkBinding(ctx context.Context, s subject, ref rbacv1.RoleRef) error {
	role := subject{user: s.user, resource: "clusterroles", namespace: s.namespace, name: ref.Name}
	if ref.Kind == "Role" {
		role.resource = "roles"
		if s.namespace == "" {
			return apierrors.NewBadRequest("Namespace parameter required.")
		}
	}
	if e.may(ctx, role, "bind") {
		return nil
	}
	rules, err := e.resolver.RulesOf(ref, s.namespace)
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: s.resource}, ref.Name)
	}
	if err != nil {
		return err
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

// named is s under the name that stands in the request's path: in a create there is none, so that a right to escalate one role
// does not let it be made.
func (s subject) named(ctx context.Context) subject {
	if info := request.InfoFrom(ctx); info != nil {
		s.name = info.Name
	}
	return s
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
