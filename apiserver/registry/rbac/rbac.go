// Package rbac is the rooms of roles, rolebindings, clusterroles and clusterrolebindings.
//
// A write passes one check that no other kind has: nobody may grant what they do not hold, unless
// they may "escalate" the role or "bind" it (escalation.go). Otherwise whoever may write roles
// would be cluster-admin.
//
// In Kubernetes: pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding} with their
// policybased storages.
package rbac

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	apirbac "hyperkube/api/rbac"
	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
)

// Resources is the group's table.
func Resources(env *registry.Env) []registry.Resource {
	e := &escalation{env: env, resolver: rbac.New(ListersOf(env)).Resolver}
	return []registry.Resource{
		{
			Name: "roles", Singular: "role", Kind: kind("Role"), StorageRoot: "roles",
			New: func() runtime.Object { return &rbacv1.Role{} }, NewList: func() runtime.Object { return &rbacv1.RoleList{} },
			Strategy: strategy{validate: func(obj runtime.Object) field.ErrorList { return apirbac.ValidateRole(obj.(*rbacv1.Role)) }},
			Hooks:    e.hooks(e.checkRole),
		},
		{
			Name: "rolebindings", Singular: "rolebinding", Kind: kind("RoleBinding"), StorageRoot: "rolebindings",
			New: func() runtime.Object { return &rbacv1.RoleBinding{} }, NewList: func() runtime.Object { return &rbacv1.RoleBindingList{} },
			Default: func(obj runtime.Object) {
				b := obj.(*rbacv1.RoleBinding)
				apirbac.SetDefaultsBinding(&b.RoleRef, b.Subjects)
			},
			Strategy: strategy{
				validate: func(obj runtime.Object) field.ErrorList {
					return apirbac.ValidateRoleBinding(obj.(*rbacv1.RoleBinding))
				},
				roleRef: func(obj runtime.Object) rbacv1.RoleRef { return obj.(*rbacv1.RoleBinding).RoleRef },
			},
			Table: bindingTable, Hooks: e.hooks(e.checkRoleBinding),
		},
		{
			Name: "clusterroles", Singular: "clusterrole", Kind: kind("ClusterRole"), ClusterScoped: true, StorageRoot: "clusterroles",
			New: func() runtime.Object { return &rbacv1.ClusterRole{} }, NewList: func() runtime.Object { return &rbacv1.ClusterRoleList{} },
			Strategy: strategy{validate: func(obj runtime.Object) field.ErrorList {
				return apirbac.ValidateClusterRole(obj.(*rbacv1.ClusterRole))
			}},
			Hooks: e.hooks(e.checkClusterRole),
		},
		{
			Name: "clusterrolebindings", Singular: "clusterrolebinding", Kind: kind("ClusterRoleBinding"), ClusterScoped: true, StorageRoot: "clusterrolebindings",
			New: func() runtime.Object { return &rbacv1.ClusterRoleBinding{} }, NewList: func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
			Default: func(obj runtime.Object) {
				b := obj.(*rbacv1.ClusterRoleBinding)
				apirbac.SetDefaultsBinding(&b.RoleRef, b.Subjects)
			},
			Strategy: strategy{
				validate: func(obj runtime.Object) field.ErrorList {
					return apirbac.ValidateClusterRoleBinding(obj.(*rbacv1.ClusterRoleBinding))
				},
				roleRef: func(obj runtime.Object) rbacv1.RoleRef { return obj.(*rbacv1.ClusterRoleBinding).RoleRef },
			},
			Table: bindingTable, Hooks: e.hooks(e.checkClusterRoleBinding),
		},
	}
}

// ListersOf reads roles and bindings from the apiserver's own caches. Roles are not confirmed with etcd: a
// binding to a role that is missing would cost a round trip on each request.
func ListersOf(env *registry.Env) rbac.Listers {
	gr := func(resource string) schema.GroupResource {
		return schema.GroupResource{Group: rbacv1.GroupName, Resource: resource}
	}
	return rbac.Listers{
		Roles:               lister.Cached[*rbacv1.Role](env, gr("roles")),
		RoleBindings:        lister.Cached[*rbacv1.RoleBinding](env, gr("rolebindings")),
		ClusterRoles:        lister.Cached[*rbacv1.ClusterRole](env, gr("clusterroles")),
		ClusterRoleBindings: lister.Cached[*rbacv1.ClusterRoleBinding](env, gr("clusterrolebindings")),
	}
}

func kind(name string) schema.GroupVersionKind { return rbacv1.SchemeGroupVersion.WithKind(name) }

// strategy is the same for the four kinds: roleRef is nil for roles.
type strategy struct {
	registry.Plain
	validate func(obj runtime.Object) field.ErrorList
	roleRef  func(obj runtime.Object) rbacv1.RoleRef
}

func (s strategy) Validate(_ context.Context, obj runtime.Object) field.ErrorList {
	return s.validate(obj)
}

func (s strategy) ValidateUpdate(_ context.Context, obj, old runtime.Object) field.ErrorList {
	errs := s.validate(obj)
	if s.roleRef != nil {
		errs = append(errs, apirbac.ValidateRoleRefUpdate(s.roleRef(obj), s.roleRef(old))...)
	}
	return errs
}

func (strategy) AllowCreateOnUpdate() bool { return true }

func (strategy) ValidateName(name string, prefix bool) []string {
	return apirbac.ValidateName(name, prefix)
}
