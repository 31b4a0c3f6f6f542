package clusterroleaggregation

import (
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"

	"hyperkube/reconcile"
)

func role(name string, labels map[string]string, resources ...string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	for _, resource := range resources {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, Resources: []string{resource}})
	}
	return r
}

// The union of the parts, each rule once, in a fixed order; what was written by
// hand goes; what is right is not written again.
func TestSyncClusterRole(t *testing.T) {
	part := map[string]string{"to-view": "true"}
	view := role("view", part, "by-hand")
	view.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: part}}}
	client := fake.NewClientset(view)
	factory := informers.NewSharedInformerFactory(client, 0)
	c := New(client, factory, reconcile.Options{})
	indexer := factory.Rbac().V1().ClusterRoles().Informer().GetIndexer()
	for _, r := range []*rbacv1.ClusterRole{view, role("b", part, "pods", "nodes"), role("a", part, "pods"), role("other", nil, "secrets")} {
		_ = indexer.Add(r)
	}
	if keys := fmt.Sprint(c.aggregates(reconcile.Event{})); keys != "[view]" {
		t.Errorf("any event concerns %s", keys)
	}
	if _, err := c.syncClusterRole(t.Context(), "view"); err != nil {
		t.Fatal(err)
	}
	updated, err := client.RbacV1().ClusterRoles().Get(t.Context(), "view", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, rule := range updated.Rules {
		got += rule.Resources[0] + " "
	}
	if got != "pods nodes " {
		t.Errorf("rules for %s, want pods nodes", got)
	}
	_ = indexer.Update(updated)
	client.ClearActions()
	if _, err := c.syncClusterRole(t.Context(), "view"); err != nil || len(client.Actions()) != 0 {
		t.Errorf("a second turn: %d calls, error %v", len(client.Actions()), err)
	}
}
