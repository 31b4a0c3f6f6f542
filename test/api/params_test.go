package api_test

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

// allow gives a user a cluster role of these rules, and waits until it counts.
func allow(t *testing.T, cluster *integration.Cluster, user, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	rbac, meta := cluster.Client.RbacV1(), metav1.ObjectMeta{Name: name}
	if _, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}}
	if _, err := rbac.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func validatingPolicy(name string, kind *admissionregistrationv1.ParamKind) *admissionregistrationv1.ValidatingAdmissionPolicy {
	return &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
		ParamKind:   kind,
		Validations: []admissionregistrationv1.Validation{{Expression: "true"}},
		MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{"CREATE"}, Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}}},
	}}
}

func validatingBinding(policy string, ref *admissionregistrationv1.ParamRef) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	if ref != nil {
		ref.ParameterNotFoundAction = ptr.To(admissionregistrationv1.DenyAction)
	}
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: policy}, Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: policy, ParamRef: ref, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}}}
}

// KEP-3488: who writes a policy or a binding may read the parameters that it brings in.
func TestParamsOfPoliciesAreReadable(t *testing.T) {
	cluster := integration.Start(t)
	ctx := t.Context()
	allow(t, cluster, "jane", "policies", rbacv1.PolicyRule{APIGroups: []string{admissionregistrationv1.GroupName}, Verbs: []string{"*"},
		Resources: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"}})
	jane := kubernetes.NewForConfigOrDie(cluster.ConfigAs("jane")).AdmissionregistrationV1()
	policies, bindings := jane.ValidatingAdmissionPolicies(), jane.ValidatingAdmissionPolicyBindings()
	configMaps := &admissionregistrationv1.ParamKind{APIVersion: "v1", Kind: "ConfigMap"}
	refused := func(what string, err error, want string) { t.Helper(); refusedWith(t, what, err, want) }

	if _, err := policies.Create(ctx, validatingPolicy("none", nil), metav1.CreateOptions{}); err != nil {
		t.Errorf("a policy without parameters: %v", err)
	}
	_, err := policies.Create(ctx, validatingPolicy("p", configMaps), metav1.CreateOptions{})
	refused("a policy", err, `spec.paramKind: Forbidden: user &{jane  [system:authenticated] map[]} must have "get" permission on all objects of the referenced paramKind (kind=ConfigMap, apiVersion=v1)`)
	if _, err := cluster.Client.AdmissionregistrationV1().ValidatingAdmissionPolicies().Create(ctx, validatingPolicy("p", configMaps), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := bindings.Create(ctx, validatingBinding("b", nil), metav1.CreateOptions{}); err != nil {
		t.Errorf("a binding without parameters: %v", err)
	}
	named := &admissionregistrationv1.ParamRef{Name: "c", Namespace: "default"}
	_, err = bindings.Create(ctx, validatingBinding("p", named), metav1.CreateOptions{})
	refused("a binding to one", err, `spec.paramRef: Forbidden: user &{jane  [system:authenticated] map[]} does not have "get" permission on the object referenced by paramRef`)
	_, err = bindings.Create(ctx, validatingBinding("p", &admissionregistrationv1.ParamRef{Selector: &metav1.LabelSelector{}}), metav1.CreateOptions{})
	refused("a binding to some", err, `does not have "list" permission on the object referenced by paramRef`)
	_, err = bindings.Create(ctx, validatingBinding("lost", named), metav1.CreateOptions{})
	refused("a binding to no policy", err, `unable to get policy lost to determine minimum required permissions and user &{jane  [system:authenticated] map[]} does not have "get" permission for all groups, versions and resources`)

	allow(t, cluster, "jane", "readers", rbacv1.PolicyRule{APIGroups: []string{""}, Verbs: []string{"get"}, Resources: []string{"configmaps"}})
	eventually(t, "a binding of who may read", func() error {
		_, err := bindings.Create(ctx, validatingBinding("p", named), metav1.CreateOptions{})
		return err
	})
	if _, err := policies.Create(ctx, validatingPolicy("q", configMaps), metav1.CreateOptions{}); err != nil {
		t.Errorf("a policy of who may read: %v", err)
	}
	// Of a kind that nobody serves, the right to all is needed: it may be served one day.
	_, err = policies.Create(ctx, validatingPolicy("r", &admissionregistrationv1.ParamKind{APIVersion: "example.com/v1", Kind: "Thing"}), metav1.CreateOptions{})
	refused("a policy of an unknown kind", err, "(kind=Thing, apiVersion=example.com/v1)")

	_, err = policies.Create(ctx, validatingPolicy("a.static.k8s.io", nil), metav1.CreateOptions{})
	refused("a name of files", err, `metadata.name: Invalid value: "a.static.k8s.io": names ending with ".static.k8s.io" are reserved for static manifest-based configurations and cannot be managed via the API`)
}
