package servicecidrs

import (
	"errors"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"

	"hyperkube/reconcile"
)

func cidr(name, prefix string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{prefix}}}
}

// A range is ready once it is held; one that goes waits for its addresses, then for the apiservers, then it is let go.
func TestSyncServiceCIDR(t *testing.T) {
	start := time.Unix(1000, 0)
	clock := testingclock.NewFakePassiveClock(start)
	client := fake.NewClientset(cidr("extra", "10.97.0.0/24"))
	factory := informers.NewSharedInformerFactory(client, 0)
	c := New(client, factory, record.NewFakeRecorder(10), reconcile.Options{Clock: testingclock.NewFakeClock(start)})
	c.clock = clock
	ranges, addresses := factory.Networking().V1().ServiceCIDRs().Informer().GetIndexer(), factory.Networking().V1().IPAddresses().Informer().GetIndexer()
	turn := func() (*networkingv1.ServiceCIDR, reconcile.Result) {
		t.Helper()
		if present, err := client.NetworkingV1().ServiceCIDRs().Get(t.Context(), "extra", metav1.GetOptions{}); err == nil {
			_ = ranges.Update(present)
		}
		result, err := c.syncServiceCIDR(t.Context(), "extra")
		if err != nil {
			t.Fatal(err)
		}
		present, err := client.NetworkingV1().ServiceCIDRs().Get(t.Context(), "extra", metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		return present, result
	}
	got, _ := turn()
	if !slices.Equal(got.Finalizers, []string{Finalizer}) || !meta.IsStatusConditionTrue(got.Status.Conditions, "Ready") {
		t.Fatalf("a new range: %v, %+v", got.Finalizers, got.Status.Conditions)
	}
	client.ClearActions()
	if turn(); len(client.Actions()) != 2 { // the two reads of turn itself
		t.Errorf("a second turn wrote: %v", client.Actions())
	}

	got.DeletionTimestamp = &metav1.Time{Time: start}
	if _, err := client.NetworkingV1().ServiceCIDRs().Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	held := &networkingv1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.97.0.5"}}
	_ = addresses.Add(held)
	got, _ = turn()
	if len(got.Finalizers) != 1 || !meta.IsStatusConditionFalse(got.Status.Conditions, "Ready") || got.Status.Conditions[0].Reason != "Terminating" {
		t.Errorf("a range in use: %v, %+v", got.Finalizers, got.Status.Conditions)
	}
	if keys := c.deleting(); !slices.Equal(keys, []string{"extra"}) {
		t.Errorf("waiting for addresses: %v", keys)
	}

	_ = ranges.Add(cidr("wider", "10.97.0.0/16"))
	if _, result := turn(); result.After != deletionGracePeriod {
		t.Errorf("another range has its addresses, and it waits %v", result.After)
	}
	clock.SetTime(start.Add(deletionGracePeriod))
	if got, _ = turn(); len(got.Finalizers) != 0 {
		t.Errorf("it is held by %v", got.Finalizers)
	}
}

// That a range cannot be made ready is told on it.
func TestFailureIsTold(t *testing.T) {
	extra := cidr("extra", "10.97.0.0/24")
	client := fake.NewClientset(extra)
	client.PrependReactor("update", "servicecidrs", func(action core.Action) (bool, runtime.Object, error) {
		return action.GetSubresource() == "status", nil, errors.New("no")
	})
	factory, recorder := informers.NewSharedInformerFactory(client, 0), record.NewFakeRecorder(10)
	c := New(client, factory, recorder, reconcile.Options{})
	_ = factory.Networking().V1().ServiceCIDRs().Informer().GetIndexer().Add(extra)
	if _, err := c.syncServiceCIDR(t.Context(), "extra"); err == nil {
		t.Error("the failure is no error")
	}
	if got := <-recorder.Events; got != "Warning KubernetesServiceCIDRError The ServiceCIDR Status can not be set to Ready=True" {
		t.Errorf("event %q", got)
	}
}
