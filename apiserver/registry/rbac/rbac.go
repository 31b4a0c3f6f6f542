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
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	apirbac "hyperkube/api/rbac"
	"hyperkube/apiserver/authz/rbac"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/typed"
)

// Resources is the group's table.
func Resources(env *registry.Env) []registry.Resource {
	e := &escalation{env: env, resolver: rbac.New(ListersOf(env)).Resolver}
	return []registry.Resource{
		{
			Name: "roles", Singular: "role", Kind: kind("Role"), StorageRoot: "roles",
			New: func() runtime.Object { return &rbacv1.Role{} }, NewList: func() runtime.Object { return &rbacv1.RoleList{} },
			Strategy: typed.Strategy[*rbacv1.Role]{
				OnCreate: func(r *rbacv1.Role) { r.Rules = orNone(r.Rules) },
				OnUpdate: func(r, _ *rbacv1.Role) { r.Rules = orNone(r.Rules) },
				Check:    apirbac.ValidateRole, Name: apirbac.ValidateName, CreateOnUpdate: true,
			},
			Hooks: e.hooks(e.checkRole),
		},
		{
			Name: "rolebindings", Singular: "rolebinding", Kind: kind("RoleBinding"), StorageRoot: "rolebindings",
			New: func() runtime.Object { return &rbacv1.RoleBinding{} }, NewList: func() runtime.Object { return &rbacv1.RoleBindingList{} },
			Default: func(obj runtime.Object) {
				b := obj.(*rbacv1.RoleBinding)
				apirbac.SetDefaultsBinding(&b.RoleRef, b.Subjects)
			},
			Strategy: typed.Strategy[*rbacv1.RoleBinding]{
				Check:       func(b *rbacv1.RoleBinding) field.ErrorList { return apirbac.ValidateRoleBinding(b, nil) },
				CheckUpdate: apirbac.ValidateRoleBinding, Name: apirbac.ValidateName, CreateOnUpdate: true,
			},
			Table: roleBindingTable, Hooks: e.hooks(e.checkRoleBinding),
		},
		{
			Name: "clusterroles", Singular: "clusterrole", Kind: kind("ClusterRole"), ClusterScoped: true, StorageRoot: "clusterroles",
			New: func() runtime.Object { return &rbacv1.ClusterRole{} }, NewList: func() runtime.Object { return &rbacv1.ClusterRoleList{} },
			Strategy: typed.Strategy[*rbacv1.ClusterRole]{
				OnCreate: func(r *rbacv1.ClusterRole) { r.Rules = orNone(r.Rules) },
				OnUpdate: func(r, _ *rbacv1.ClusterRole) { r.Rules = orNone(r.Rules) },
				Check:    apirbac.ValidateClusterRole, Name: apirbac.ValidateName, CreateOnUpdate: true,
			},
			Hooks: e.hooks(e.checkClusterRole),
		},
		{
			Name: "clusterrolebindings", Singular: "clusterrolebinding", Kind: kind("ClusterRoleBinding"), ClusterScoped: true, StorageRoot: "clusterrolebindings",
			New: func() runtime.Object { return &rbacv1.ClusterRoleBinding{} }, NewList: func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
			Default: func(obj runtime.Object) {
				b := obj.(*rbacv1.ClusterRoleBinding)
				apirbac.SetDefaultsBinding(&b.RoleRef, b.Subjects)
			},
			Strategy: typed.Strategy[*rbacv1.ClusterRoleBinding]{
				Check:       func(b *rbacv1.ClusterRoleBinding) field.ErrorList { return apirbac.ValidateClusterRoleBinding(b, nil) },
				CheckUpdate: apirbac.ValidateClusterRoleBinding, Name: apirbac.ValidateName, CreateOnUpdate: true,
			},
			Table: clusterRoleBindingTable, Hooks: e.hooks(e.checkClusterRoleBinding),
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

// orNone: an answer shows rules that are none as null, however they were written.
func orNone(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	if len(rules) == 0 {
		return nil
	}
	return rules
}
