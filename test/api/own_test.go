package api_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

// What the apiserver writes on its own account is owned as what others write: server-side apply can tell a conflict with it.
func TestOwnObjectsAreOwned(t *testing.T) {
	client := integration.Start(t).Client
	ctx, get := t.Context(), metav1.GetOptions{}
	const (
		config = "api-priority-and-fairness-config-producer-v1 Update "
		found  = "api-priority-and-fairness-config-consumer-v1 Apply status"
		own    = "kube-apiserver Update "
	)
	for what, test := range map[string]struct {
		get  func() (runtime.Object, error)
		want []string
	}{
		"namespace": {func() (runtime.Object, error) { return client.CoreV1().Namespaces().Get(ctx, "default", get) }, []string{own}},
		"service":   {func() (runtime.Object, error) { return client.CoreV1().Services("default").Get(ctx, "kubernetes", get) }, []string{own}},
		"role":      {func() (runtime.Object, error) { return client.RbacV1().ClusterRoles().Get(ctx, "system:node", get) }, []string{own}},
		"priority class": {func() (runtime.Object, error) {
			return client.SchedulingV1().PriorityClasses().Get(ctx, "system-node-critical", get)
		}, []string{own}},
		"priority level": {func() (runtime.Object, error) {
			return client.FlowcontrolV1().PriorityLevelConfigurations().Get(ctx, "workload-low", get)
		}, []string{config}},
		"flow schema": {func() (runtime.Object, error) { return client.FlowcontrolV1().FlowSchemas().Get(ctx, "probes", get) }, []string{found, config}},
		"service range": {func() (runtime.Object, error) {
			return client.NetworkingV1().ServiceCIDRs().Get(ctx, "kubernetes", get)
		}, []string{"kubernetes-service-cidr-controller Apply status", own}},
		"address": {func() (runtime.Object, error) { return client.NetworkingV1().IPAddresses().Get(ctx, "10.96.0.1", get) }, []string{own}},
	} {
		obj, err := test.get()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		accessor, _ := meta.Accessor(obj)
		var owners []string
		for _, entry := range accessor.GetManagedFields() {
			owners = append(owners, fmt.Sprint(entry.Manager, " ", entry.Operation, " ", entry.Subresource))
		}
		if fmt.Sprintf("%q", owners) != fmt.Sprintf("%q", test.want) {
			t.Errorf("%s is owned by %q, want %q", what, owners, test.want)
		}
	}
}

// A schema of a level that is not there says so as soon as it is made, and that it is there as soon as it is.
func TestFlowSchemaIsToldOfItsLevel(t *testing.T) {
	client := integration.Start(t).Client.FlowcontrolV1()
	made := &flowcontrolv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: flowcontrolv1.FlowSchemaSpec{
		MatchingPrecedence: 100, PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "later"},
	}}
	if _, err := client.FlowSchemas().Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	dangling := func(want flowcontrolv1.ConditionStatus) func() error {
		return func() error {
			schema, err := client.FlowSchemas().Get(t.Context(), "mine", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range schema.Status.Conditions {
				if c.Type == flowcontrolv1.FlowSchemaConditionDangling && c.Status == want {
					return nil
				}
			}
			return fmt.Errorf("its conditions are %v", schema.Status.Conditions)
		}
	}
	began := time.Now()
	eventually(t, "the schema has no level", dangling(flowcontrolv1.ConditionTrue))
	level := &flowcontrolv1.PriorityLevelConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "later"}, Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
		Type: flowcontrolv1.PriorityLevelEnablementLimited, Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
			NominalConcurrencyShares: ptr.To(int32(1)), LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
		},
	}}
	if _, err := client.PriorityLevelConfigurations().Create(t.Context(), level, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the schema has its level", dangling(flowcontrolv1.ConditionFalse))
	t.Logf("told of both in %v", time.Since(began))
}

// The apiserver tells that it runs by a lease, and takes it away when it stops; and since when the use of tokens is noted.
func TestIdentity(t *testing.T) {
	cluster := integration.Start(t)
	leases := cluster.Client.CoordinationV1().Leases(metav1.NamespaceSystem)
	ours := metav1.ListOptions{LabelSelector: "apiserver.kubernetes.io/identity=kube-apiserver"}
	list, err := leases.List(t.Context(), ours)
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("want one lease: %v, %v", list, err)
	}
	lease := list.Items[0]
	if lease.Spec.HolderIdentity == nil || *lease.Spec.LeaseDurationSeconds != 3600 || lease.Labels["kubernetes.io/hostname"] == "" {
		t.Errorf("the lease is %+v", lease)
	}
	tracking, err := cluster.Client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(t.Context(), "kube-apiserver-legacy-service-account-token-tracking", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.DateOnly, tracking.Data["since"]); err != nil {
		t.Errorf("the use of tokens is noted since %q: %v", tracking.Data["since"], err)
	}

	// A new life has a new holder.
	cluster.Stop()
	cluster.Run("127.0.0.1:0")
	eventually(t, "another life's lease is there", func() error {
		again, err := cluster.Client.CoordinationV1().Leases(metav1.NamespaceSystem).Get(t.Context(), lease.Name, metav1.GetOptions{})
		if err == nil && *again.Spec.HolderIdentity == *lease.Spec.HolderIdentity {
			err = errors.New("it is still that of the former life")
		}
		return err
	})
}
