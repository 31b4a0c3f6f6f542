package rbac

import (
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
)

// bindingTable is the columns of both kinds of bindings. Roles have the plain ones.
var bindingTable = &registry.Table{
	Columns: []metav1.TableColumnDefinition{
		column.Name(),
		column.Text("Role", rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"]),
		column.Age(),
		column.Wide(column.Text("Users", "Users in the roleBinding")),
		column.Wide(column.Text("Groups", "Groups in the roleBinding")),
		column.Wide(column.Text("ServiceAccounts", "ServiceAccounts in the roleBinding")),
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
