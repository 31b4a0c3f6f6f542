package podgc

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/reconcile"
)

// Which pods go, and which stay.
func TestGC(t *testing.T) {
	start := time.Unix(100000, 0)
	pod := func(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, CreationTimestamp: metav1.NewTime(start)}, Spec: corev1.PodSpec{NodeName: node}}
		for _, c := range change {
			c(p)
		}
		return p
	}
	going := func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start}; p.Finalizers = []string{"x"} }
	ended := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	older := func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(start.Add(-time.Hour)) }
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	clock := clocktesting.NewFakeClock(start)
	c := New(client, factory, reconcile.Options{Clock: clock})
	c.terminatedPodThreshold = 1
	for _, p := range []*corev1.Pod{
		pod("running", "here"), pod("pending", ""), pod("going", "here", going),
		pod("never-had-a-node", "", going), pod("node-gone", "gone"), pod("out-of-service", "broken", going),
		pod("ended-old", "here", ended, older), pod("ended-new", "here", ended), pod("node-unseen", "unseen"),
	} {
		_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(p)
		_ = client.Tracker().Add(p)
	}
	here := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "here"}}
	broken := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}}}
	for _, n := range []*corev1.Node{here, broken} {
		_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(n)
	}
	// The API knows a node that the cache has not seen yet.
	_ = client.Tracker().Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "unseen"}})

	turn := func() string {
		t.Helper()
		client.ClearActions()
		result, err := c.gc(t.Context(), wholeCluster)
		if err != nil || result.After != gcCheckPeriod {
			t.Fatalf("result %+v, error %v", result, err)
		}
		var deleted []string
		for _, action := range client.Actions() {
			if d, ok := action.(core.DeleteActionImpl); ok {
				if *d.DeleteOptions.GracePeriodSeconds != 0 {
					t.Errorf("%s was asked to go, not removed", d.Name)
				}
				deleted = append(deleted, d.Name)
			}
		}
		slices.Sort(deleted)
		return fmt.Sprint(deleted)
	}
	if got := turn(); got != "[ended-old never-had-a-node out-of-service]" {
		t.Errorf("at first: %s", got)
	}
	clock.Step(quarantineTime)
	if got := turn(); got != "[ended-old never-had-a-node node-gone out-of-service]" {
		t.Errorf("after the quarantine: %s", got)
	}
}
