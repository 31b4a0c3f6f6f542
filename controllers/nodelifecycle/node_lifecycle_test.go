package nodelifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/reconcile"
)

var start = time.Unix(100000, 0)

type fixture struct {
	*Controller
	client  *fake.Clientset
	factory informers.SharedInformerFactory
	clock   *clocktesting.FakeClock
}

func newFixture(t *testing.T, nodes ...*corev1.Node) *fixture {
	t.Helper()
	f := &fixture{client: fake.NewClientset(), clock: clocktesting.NewFakeClock(start)}
	f.factory = informers.NewSharedInformerFactory(f.client, 0)
	var err error
	if f.Controller, err = New(f.client, f.factory, record.NewFakeRecorder(100), Config{}, reconcile.Options{Clock: f.clock}); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if _, err := f.client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "a"},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
	if _, err := f.client.CoreV1().Pods("ns").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return f
}

func newNode(name string, ready corev1.ConditionStatus) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(start)}}
	if ready != "" {
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: metav1.NewTime(start)}}
	}
	return node
}

// renew is what a kubelet does every ten seconds. Its clock is wrong, and that must
// not matter.
func (f *fixture) renew(node string) {
	wrong := metav1.NewMicroTime(f.clock.Now().Add(-48 * time.Hour))
	_ = f.factory.Coordination().V1().Leases().Informer().GetIndexer().Add(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: node},
		Spec:       coordinationv1.LeaseSpec{RenewTime: &wrong},
	})
}

// turn runs one sync with caches as the API has it, and tells the node's state:
// its Ready status, its taints, and whether its pod is ready.
func (f *fixture) turn(t *testing.T, name string) string {
	t.Helper()
	nodes, err := f.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes.Items {
		_ = f.factory.Core().V1().Nodes().Informer().GetIndexer().Add(&nodes.Items[i])
	}
	pod, err := f.client.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = f.factory.Core().V1().Pods().Informer().GetIndexer().Add(pod)
	if _, err := f.syncNode(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	node, err := f.client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod, _ = f.client.CoreV1().Pods("ns").Get(t.Context(), "p", metav1.GetOptions{})
	return fmt.Sprintf("%s %s pod=%s", nodeReady(node), taints(node), pod.Status.Conditions[0].Status)
}

func taints(node *corev1.Node) string {
	var all []string
	for _, taint := range node.Spec.Taints {
		all = append(all, strings.TrimPrefix(taint.Key, "node.kubernetes.io/")+":"+string(taint.Effect))
	}
	return fmt.Sprint(all)
}

// wait lets time pass, with a turn every monitor period.
func (f *fixture) wait(t *testing.T, d time.Duration) string {
	t.Helper()
	state := ""
	for range d / f.config.NodeMonitorPeriod {
		f.clock.Step(f.config.NodeMonitorPeriod)
		state = f.turn(t, "a")
	}
	return state
}

// A kubelet that stops: after the grace period its node is Unknown and tainted and
// its pods are not ready; when it is back, the taints go (S0-06).
func TestSilentNode(t *testing.T) {
	f := newFixture(t, newNode("a", corev1.ConditionTrue))
	f.renew("a")
	f.turn(t, "a")
	for range 6 {
		f.renew("a")
		if got := f.wait(t, 10*time.Second); got != "True [] pod=True" {
			t.Fatalf("while leases are renewed: %s", got)
		}
	}
	// The last renewal was seen five seconds after it was made.
	if got := f.wait(t, 40*time.Second); got != "True [] pod=True" {
		t.Fatalf("within the grace period: %s", got)
	}
	if got := f.wait(t, 15*time.Second); got != "Unknown [unreachable:NoSchedule unreachable:NoExecute] pod=False" {
		t.Fatalf("after the grace period: %s", got)
	}
	back := newNode("a", corev1.ConditionTrue)
	node, _ := f.client.CoreV1().Nodes().Get(t.Context(), "a", metav1.GetOptions{})
	node.Status = back.Status
	node.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(f.clock.Now())
	if _, err := f.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.renew("a")
	if got := f.turn(t, "a"); got != "True [] pod=False" {
		t.Fatalf("back again: %s; want no taints (the pod's state is the kubelet's to tell)", got)
	}
}

// Ten minutes in which we ourselves did not run are no silence of the node (R74).
func TestOwnSleepIsForgiven(t *testing.T) {
	f := newFixture(t, newNode("a", corev1.ConditionTrue))
	f.renew("a")
	f.turn(t, "a")
	f.clock.Step(10 * time.Minute)
	if got := f.turn(t, "a"); got != "True [] pod=True" {
		t.Fatalf("after a sleep of ours: %s", got)
	}
	if got := f.wait(t, 60*time.Second); !strings.HasPrefix(got, "Unknown") {
		t.Fatalf("a node that stays silent afterwards: %s", got)
	}
}

// A node that never reports is told from one that stopped.
func TestNeverReported(t *testing.T) {
	f := newFixture(t, newNode("a", ""))
	f.turn(t, "a")
	f.wait(t, 65*time.Second)
	node, _ := f.client.CoreV1().Nodes().Get(t.Context(), "a", metav1.GetOptions{})
	if c := getNodeCondition(node, corev1.NodeReady); c == nil || c.Reason != "NodeStatusNeverUpdated" {
		t.Errorf("condition %v", c)
	}
}

// Where no node of several is ready, nobody is evicted.
func TestAllNodesDown(t *testing.T) {
	f := newFixture(t, newNode("a", corev1.ConditionUnknown), newNode("b", corev1.ConditionUnknown))
	if got := f.turn(t, "a"); !strings.Contains(got, "[unreachable:NoSchedule]") {
		t.Errorf("%s, want no NoExecute taint", got)
	}
}

// Taints follow conditions; those of others stay; those that stay keep their time.
func TestDesiredTaints(t *testing.T) {
	then, now := metav1.NewTime(start), metav1.NewTime(start.Add(time.Hour))
	foreign := corev1.Taint{Key: "example.com/gpu", Effect: corev1.TaintEffectNoSchedule}
	for _, test := range []struct {
		name    string
		change  func(*corev1.Node)
		evict   bool
		want    string
		changed bool
	}{
		{"ready", func(n *corev1.Node) {}, true, "[]", false},
		{"not ready", ready(corev1.ConditionFalse), true, "[not-ready:NoSchedule not-ready:NoExecute]", true},
		{"not ready, without eviction", ready(corev1.ConditionFalse), false, "[not-ready:NoSchedule]", true},
		{"cordoned", func(n *corev1.Node) { n.Spec.Unschedulable = true }, true, "[unschedulable:NoSchedule]", true},
		{"under pressure", func(n *corev1.Node) {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue})
		}, true, "[disk-pressure:NoSchedule]", true},
		{"ready again, beside another's", func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{foreign, {Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute}}
		}, true, "[example.com/gpu:NoSchedule]", true},
		{"has not reported yet", func(n *corev1.Node) {
			n.Status.Conditions = nil
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}}
		}, true, "[not-ready:NoSchedule]", false},
	} {
		node := newNode("a", corev1.ConditionTrue)
		test.change(node)
		got, changed := desiredTaints(node, test.evict, now)
		node.Spec.Taints = got
		if text := taints(node); text != test.want || changed != test.changed {
			t.Errorf("%s: %s, changed %v; want %s, %v", test.name, text, changed, test.want, test.changed)
		}
	}
	node := newNode("a", corev1.ConditionUnknown)
	node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &then}}
	got, _ := desiredTaints(node, true, now)
	if !got[0].TimeAdded.Equal(&then) {
		t.Errorf("a taint that stays got the time %v", got[0].TimeAdded)
	}
}

func ready(status corev1.ConditionStatus) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Status.Conditions[0].Status = status }
}
