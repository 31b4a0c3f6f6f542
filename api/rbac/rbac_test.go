package rbac

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func check(t *testing.T, name string, errs field.ErrorList, want string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	if strings.Join(got, "; ") != want {
		t.Errorf("%s: %s\nwant %s", name, strings.Join(got, "; "), want)
	}
}

func TestValidateRole(t *testing.T) {
	for name, test := range map[string]struct {
		rule                rbacv1.PolicyRule
		namespaced, cluster string
	}{
		"good":     {rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}, "", ""},
		"no verbs": {rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}}, "rules[0].verbs: Required value", "rules[0].verbs: Required value"},
		"no group": {rbacv1.PolicyRule{Verbs: []string{"get"}, Resources: []string{"pods"}}, "rules[0].apiGroups: Required value: resource rules must supply at least one api group", "rules[0].apiGroups: Required value: resource rules must supply at least one api group"},
		"path":     {rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/x"}}, `rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`, ""},
	} {
		check(t, name, ValidateRole(&rbacv1.Role{Rules: []rbacv1.PolicyRule{test.rule}}), test.namespaced)
		check(t, name+" in the cluster", ValidateClusterRole(&rbacv1.ClusterRole{Rules: []rbacv1.PolicyRule{test.rule}}), test.cluster)
	}
	check(t, "aggregation of nothing", ValidateClusterRole(&rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{}}),
		"aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil")
	check(t, "aggregation by a word that is none", ValidateClusterRole(&rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{
		ClusterRoleSelectors: []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "a"}}}}}}),
		`aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: "a": not a valid selector operator; `+
			"aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.")
	check(t, "aggregation", ValidateClusterRole(&rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}}}), "")
}

func TestValidateBinding(t *testing.T) {
	ref := func(kind, name string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
	}
	for name, test := range map[string]struct {
		ref                 rbacv1.RoleRef
		subject             rbacv1.Subject
		namespaced, cluster string
	}{
		"role": {ref("Role", "x"), rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "a"}, "", `roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`},
		"account without namespace": {ref("ClusterRole", "system:node"), rbacv1.Subject{Kind: "ServiceAccount", Name: "a"}, "",
			"subjects[0].namespace: Required value"},
		"account of a group": {ref("ClusterRole", "x"), rbacv1.Subject{Kind: "ServiceAccount", APIGroup: "y", Namespace: "n", Name: "a"},
			`subjects[0].apiGroup: Unsupported value: "y": supported values: ""`, `subjects[0].apiGroup: Unsupported value: "y": supported values: ""`},
		"robot": {ref("ClusterRole", "x"), rbacv1.Subject{Kind: "Robot", Name: "a"},
			`subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`, `subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`},
		"no role": {ref("ClusterRole", ""), rbacv1.Subject{Kind: "User", APIGroup: rbacv1.GroupName, Name: "a"}, "roleRef.name: Required value", "roleRef.name: Required value"},
	} {
		check(t, name, ValidateRoleBinding(&rbacv1.RoleBinding{RoleRef: test.ref, Subjects: []rbacv1.Subject{test.subject}}, nil), test.namespaced)
		check(t, name+" in the cluster", ValidateClusterRoleBinding(&rbacv1.ClusterRoleBinding{RoleRef: test.ref, Subjects: []rbacv1.Subject{test.subject}}, nil), test.cluster)
	}
	role := func(name string) *rbacv1.RoleBinding { return &rbacv1.RoleBinding{RoleRef: ref("Role", name)} }
	check(t, "another role", ValidateRoleBinding(role("a"), role("b")),
		`roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"a"}: field is immutable`)
	check(t, "no role any more", ValidateRoleBinding(role(""), role("b")),
		`roleRef.name: Required value; roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":""}: field is immutable`)
	check(t, "the same", ValidateRoleBinding(role("a"), role("a")), "")
}

func TestDefaults(t *testing.T) {
	ref := rbacv1.RoleRef{Kind: "Role", Name: "x"}
	subjects := []rbacv1.Subject{{Kind: "User"}, {Kind: "Group"}, {Kind: "ServiceAccount"}}
	SetDefaultsBinding(&ref, subjects)
	if ref.APIGroup != rbacv1.GroupName || subjects[0].APIGroup != rbacv1.GroupName || subjects[1].APIGroup != rbacv1.GroupName || subjects[2].APIGroup != "" {
		t.Errorf("%+v %+v", ref, subjects)
	}
}
