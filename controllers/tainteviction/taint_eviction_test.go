package tainteviction

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/reconcile"
)

var now = time.Unix(100000, 0)

func noExecuteTaint(key string, ago time.Duration) corev1.Taint {
	added := metav1.NewTime(now.Add(-ago))
	return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &added}
}

func tolerate(key string, seconds *int64) corev1.Toleration {
	return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}
}

// When a pod must go: counted from when the taint was added.
func TestEvictionTime(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	for _, test := range []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		want        string
	}{
		{"no taint", nil, nil, "never"},
		{"not tolerated", []corev1.Taint{noExecuteTaint("a", time.Minute)}, nil, "0s"},
		{"tolerated for ever", []corev1.Taint{noExecuteTaint("a", time.Minute)}, []corev1.Toleration{tolerate("a", nil)}, "never"},
		{"tolerated for five minutes", []corev1.Taint{noExecuteTaint("a", time.Minute)}, []corev1.Toleration{tolerate("a", seconds(300))}, "4m0s"},
		{"time is over", []corev1.Taint{noExecuteTaint("a", time.Hour)}, []corev1.Toleration{tolerate("a", seconds(300))}, "-55m0s"},
		{"the shortest toleration counts", []corev1.Taint{noExecuteTaint("a", 0)}, []corev1.Toleration{tolerate("a", seconds(300)), tolerate("a", seconds(60)), tolerate("a", nil)}, "1m0s"},
		{"the first of two taints counts", []corev1.Taint{noExecuteTaint("a", 0), noExecuteTaint("b", 0)},
			[]corev1.Toleration{tolerate("a", seconds(300)), tolerate("b", seconds(30))}, "30s"},
		{"one of two is not tolerated", []corev1.Taint{noExecuteTaint("a", 0), noExecuteTaint("b", 0)}, []corev1.Toleration{tolerate("a", nil)}, "0s"},
	} {
		got := "never"
		if due, evict := evictionTime(test.taints, test.tolerations, now); evict {
			got = due.Sub(now).String()
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// The pod waits, and then is marked and deleted (KEP-3329).
func TestSyncPod(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"},
		Spec: corev1.PodSpec{NodeName: "n", Tolerations: []corev1.Toleration{tolerate("a", ptr.To[int64](300))}}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{noExecuteTaint("a", 0)}}}
	client := fake.NewClientset(pod, node)
	factory := informers.NewSharedInformerFactory(client, 0)
	clock := clocktesting.NewFakeClock(now)
	events := record.NewFakeRecorder(10)
	c, err := New(client, factory, events, reconcile.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(pod)
	_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(node)
	if keys := c.nodeKeys(reconcile.Event{New: node}); fmt.Sprint(keys) != "[ns/p]" {
		t.Errorf("a tainted node concerns %v", keys)
	}
	result, err := c.syncPod(t.Context(), "ns/p")
	if err != nil || result.After != 300*time.Second || len(client.Actions()) != 0 {
		t.Fatalf("result %+v, error %v, %d calls; want it to wait 300s", result, err, len(client.Actions()))
	}
	clock.Step(result.After)
	if _, err := c.syncPod(t.Context(), "ns/p"); err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, action := range client.Actions() {
		did = append(did, action.GetVerb()+"/"+action.GetSubresource())
	}
	if fmt.Sprint(did) != "[patch/status delete/]" {
		t.Errorf("calls %v", did)
	}
	if got := <-events.Events; got != "Normal TaintManagerEviction Marking for deletion Pod ns/p" {
		t.Errorf("event %q", got)
	}
}

// A taint that goes in time takes the eviction back, and says so; what is to come is told (S0-06).
func TestEvictionIsCancelled(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"},
		Spec: corev1.PodSpec{NodeName: "n", Tolerations: []corev1.Toleration{tolerate("a", ptr.To[int64](300))}}}
	tainted := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{noExecuteTaint("a", 0)}}}
	client := fake.NewClientset(pod)
	factory := informers.NewSharedInformerFactory(client, 0)
	events := record.NewFakeRecorder(10)
	c, err := New(client, factory, events, reconcile.Options{Clock: clocktesting.NewFakeClock(now.Add(time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	pods, nodes := factory.Core().V1().Pods().Informer().GetIndexer(), factory.Core().V1().Nodes().Informer().GetIndexer()
	_, _ = pods.Add(pod), nodes.Add(tainted)
	if result, err := c.syncPod(t.Context(), "ns/p"); err != nil || result.After != 4*time.Minute {
		t.Fatalf("%v, %v; want it to wait four minutes", result, err)
	}
	if got := fmt.Sprint(c.Timers()); got != "[pod ns/p: deleted in 4m0s, for a of node n]" {
		t.Errorf("timers %s", got)
	}
	clean := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	_ = nodes.Update(clean)
	if keys := c.nodeKeys(reconcile.Event{Old: tainted, New: clean}); fmt.Sprint(keys) != "[ns/p]" {
		t.Errorf("a node that is no longer tainted concerns %v", keys)
	}
	for range 2 {
		if result, err := c.syncPod(t.Context(), "ns/p"); err != nil || result.After != 0 {
			t.Errorf("%v, %v; want nothing to wait for", result, err)
		}
	}
	if got := <-events.Events; got != "Normal TaintManagerEviction Cancelling deletion of Pod ns/p" || len(events.Events) != 0 || len(client.Actions()) != 0 {
		t.Errorf("event %q and %d more, %d requests", got, len(events.Events), len(client.Actions()))
	}
}
