package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
)

// The columns of both kinds of bindings; they differ in what is said of them. Roles have the plain ones.
var (
	roleBindingTable        = bindingTable("roleBinding", roleRefText)
	clusterRoleBindingTable = bindingTable("clusterRoleBinding", clusterRoleRefText)
)

// These are v1beta1's descriptions, which upstream still prints.
const (
	roleRefText        = "roleRef can reference a Role in the current namespace or a ClusterRole in the global namespace." + unresolvable
	clusterRoleRefText = "roleRef can only reference a ClusterRole in the global namespace." + unresolvable
	unresolvable       = " If the RoleRef cannot be resolved, the Authorizer must return an error."
)

func bindingTable(kind, role string) *registry.Table {
	return &registry.Table{
		Columns: []metav1.TableColumnDefinition{
			column.Name(),
			column.Text("Role", role),
			column.Age(),
			column.Wide(column.Text("Users", "Users in the "+kind)),
			column.Wide(column.Text("Groups", "Groups in the "+kind)),
			column.Wide(column.Text("ServiceAccounts", "ServiceAccounts in the "+kind)),
		},
		Cells: func(obj runtime.Object) []any {
			switch b := obj.(type) {
			case *rbacv1.RoleBinding:
				return bindingCells(b.ObjectMeta, b.RoleRef, b.Subjects)
			case *rbacv1.ClusterRoleBinding:
				return bindingCells(b.ObjectMeta, b.RoleRef, b.Subjects)
			}
			return nil
		},
	}
}

func bindingCells(meta metav1.ObjectMeta, ref rbacv1.RoleRef, subjects []rbacv1.Subject) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{
		meta.Name, ref.Kind + "/" + ref.Name, column.Since(meta.CreationTimestamp),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", "),
	}
}
