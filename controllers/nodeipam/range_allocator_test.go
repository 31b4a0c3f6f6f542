package nodeipam

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"hyperkube/reconcile"
)

func TestCIDRSet(t *testing.T) {
	s := newCIDRSet(netip.MustParsePrefix("10.244.0.0/22"), 24)
	next := func() string {
		cidr, err := s.allocateNext()
		if err != nil {
			return "none"
		}
		return cidr.String()
	}
	if got := next(); got != "10.244.0.0/24" {
		t.Errorf("first %s", got)
	}
	s.occupy(netip.MustParsePrefix("10.244.1.0/24"))
	if got := next(); got != "10.244.2.0/24" {
		t.Errorf("after an occupied one %s", got)
	}
	s.release(netip.MustParsePrefix("10.244.0.0/24"))
	if got := next(); got != "10.244.3.0/24" {
		t.Errorf("a share just released is used last, got %s", got)
	}
	if got := next() + " " + next(); got != "10.244.0.0/24 none" {
		t.Errorf("at the end %s", got)
	}
	if s.occupy(netip.MustParsePrefix("10.245.0.0/24")) || s.occupy(netip.MustParsePrefix("10.244.0.0/25")) {
		t.Error("a range that is not one of the shares is ours")
	}
	six := newCIDRSet(netip.MustParsePrefix("fd00:10:244::/56"), 64)
	_, _ = six.allocateNext()
	if cidr, err := six.allocateNext(); err != nil || cidr.String() != "fd00:10:244:1::/64" {
		t.Errorf("second of IPv6 %v, error %v", cidr, err)
	}
}

// Nodes that have a share keep it, also across a restart; others get a free one.
func TestSyncNode(t *testing.T) {
	has := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "has"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/24", PodCIDRs: []string{"10.244.0.0/24"}}}
	client := fake.NewClientset(has, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}})
	factory := informers.NewSharedInformerFactory(client, 0)
	r, err := New(client, factory, record.NewFakeRecorder(10), Config{ClusterCIDR: "10.244.0.0/16"}, reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "new"}}
	for _, node := range []*corev1.Node{has, fresh} {
		_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(node)
	}
	if keys := fmt.Sprint(r.nodeKeys(reconcile.Event{New: has}), r.nodeKeys(reconcile.Event{New: fresh})); keys != "[] [new]" {
		t.Errorf("keys %s", keys)
	}
	for range 2 { // the second run is before the cache has the first one's write
		if _, err := r.syncNode(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
	}
	node, err := client.CoreV1().Nodes().Get(t.Context(), "new", metav1.GetOptions{})
	if err != nil || node.Spec.PodCIDR != "10.244.1.0/24" || fmt.Sprint(node.Spec.PodCIDRs) != "[10.244.1.0/24]" {
		t.Errorf("pod CIDR %q %v, error %v", node.Spec.PodCIDR, node.Spec.PodCIDRs, err)
	}
}

// In a cluster of two families a node gets a share of each, in their order, or none; both are free again when it goes.
func TestTwoFamilies(t *testing.T) {
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes := factory.Core().V1().Nodes().Informer().GetIndexer()
	r, err := New(client, factory, record.NewFakeRecorder(10), Config{ClusterCIDR: "10.244.0.0/16,fd00:10:244::/63"}, reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	has := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "has"}, Spec: corev1.NodeSpec{PodCIDR: "10.244.0.0/24", PodCIDRs: []string{"10.244.0.0/24", "fd00:10:244::/64"}}}
	r.nodeKeys(reconcile.Event{New: has})
	sync := func(name string) (string, error) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := client.Tracker().Add(node); err != nil {
			t.Fatal(err)
		}
		_ = nodes.Add(node)
		_, err := r.syncNode(t.Context(), name)
		written, getErr := client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if getErr != nil {
			t.Fatal(getErr)
		}
		return fmt.Sprint(written.Spec.PodCIDR, " ", written.Spec.PodCIDRs), err
	}
	if got, err := sync("a"); err != nil || got != "10.244.1.0/24 [10.244.1.0/24 fd00:10:244:1::/64]" {
		t.Errorf("%s %v", got, err)
	}
	if got, err := sync("b"); err == nil || got != " []" {
		t.Errorf("without a share of IPv6: %s %v", got, err)
	}
	r.nodeKeys(reconcile.Event{Old: has})
	if got, err := sync("c"); err != nil || got != "10.244.3.0/24 [10.244.3.0/24 fd00:10:244::/64]" {
		t.Errorf("after a node has gone, and with the share of b free: %s %v", got, err)
	}
}

// What cannot be given is told on the node: no share is left, or the write fails. A share
// whose write failed stays the node's.
func TestNodeIsToldOfFailure(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	client := fake.NewClientset(node)
	refused := true
	client.PrependReactor("patch", "nodes", func(core.Action) (bool, runtime.Object, error) {
		if refused {
			return true, nil, errors.New("the apiserver is not there")
		}
		return false, nil, nil
	})
	factory, recorder := informers.NewSharedInformerFactory(client, 0), record.NewFakeRecorder(10)
	r, err := New(client, factory, recorder, Config{ClusterCIDR: "10.244.0.0/24"}, reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(node)
	_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
	if _, err := r.syncNode(t.Context(), "a"); err == nil {
		t.Error("the failed write is no error")
	}
	if got := <-recorder.Events; got != "Normal CIDRAssignmentFailed Node a status is now: CIDRAssignmentFailed" {
		t.Errorf("event %q", got)
	}
	if _, err := r.syncNode(t.Context(), "b"); err == nil {
		t.Error("b gets the share of a")
	}
	if got := <-recorder.Events; got != "Normal CIDRNotAvailable Node b status is now: CIDRNotAvailable" {
		t.Errorf("event %q", got)
	}
	refused = false
	if _, err := r.syncNode(t.Context(), "a"); err != nil || len(recorder.Events) > 0 {
		t.Errorf("error %v, %d events", err, len(recorder.Events))
	}
}

func TestConfig(t *testing.T) {
	for cidr, ok := range map[string]bool{"10.244.0.0/16": true, "10.244.0.0/25": false, "10.0.0.0/4": false, "nonsense": false, "fd00::/56": true,
		"10.244.0.0/16,fd00::/56": true, "10.244.0.0/16,10.245.0.0/16": false, "10.244.0.0/16,": false} {
		if _, err := (Config{ClusterCIDR: cidr}).sets(); (err == nil) != ok {
			t.Errorf("%s: %v", cidr, err)
		}
	}
}
