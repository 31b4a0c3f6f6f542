package daemonset

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var now = time.Unix(100000, 0)

func newDaemonSet(change func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	labels := map[string]string{"app": "agent"}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "agent", UID: "ds", Generation: 1},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(1)), MaxSurge: ptr.To(intstr.FromInt32(0))}},
		},
	}
	if change != nil {
		change(ds)
	}
	return ds
}

func surge(ds *appsv1.DaemonSet) {
	ds.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(1))}
}

// One turn with the nodes n1 and n2. Pods are words: node, then "-" not ready, "x" being
// deleted, "!" failed, "?" not scheduled; a leading "old:" is of the revision before.
func TestSyncDaemonSet(t *testing.T) {
	taint := func(effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: effect}} }
	}
	for _, test := range []struct {
		name                 string
		change               func(*appsv1.DaemonSet)
		n2                   func(*corev1.Node)
		pods, writes, status string // desired current misscheduled available updated
	}{
		{name: "one on each node", writes: "create n1, create n2", status: "2 0 0 0 0"},
		{name: "only the missing", pods: "n1", writes: "create n2", status: "2 1 0 1 1"},
		{name: "node selector", change: func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"name": "n1"} }, writes: "create n1", status: "1 0 0 0 0"},
		{name: "a node that does not fit any more loses its own", change: func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.NodeSelector = map[string]string{"name": "n1"} },
			pods: "n1 n2", writes: "delete n2", status: "1 1 1 1 1"},
		{name: "NoSchedule: none comes", n2: taint(corev1.TaintEffectNoSchedule), pods: "n1", status: "1 1 0 1 1"},
		{name: "NoSchedule: one stays", n2: taint(corev1.TaintEffectNoSchedule), pods: "n1 n2", status: "1 1 1 1 1"},
		{name: "NoExecute: it goes", n2: taint(corev1.TaintEffectNoExecute), pods: "n1 n2", writes: "delete n2", status: "1 1 1 1 1"},
		{name: "a cordoned node gets one", n2: func(n *corev1.Node) {
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
		},
			pods: "n1", writes: "create n2", status: "2 1 0 1 1"},
		{name: "a second pod goes", pods: "n1 n2 n2", writes: "delete n2", status: "2 2 0 2 2"},
		{name: "a failed one is deleted", pods: "n1 n2!", writes: "delete n2", status: "2 2 0 1 2"},
		{name: "one that is going is waited for", pods: "n1 n2x", status: "2 2 0 2 2"},
		{name: "one for a node that is gone", pods: "n1 n2 n3?", writes: "delete n3", status: "2 2 0 2 2"},
		{name: "rollout: one at a time", pods: "old:n1 old:n2", writes: "delete old:n1", status: "2 2 0 2 0"},
		{name: "rollout waits", pods: "n1- old:n2", status: "2 2 0 1 1"},
		{name: "rollout: what is broken goes first", pods: "old:n1 old:n2-", writes: "delete old:n2", status: "2 2 0 1 0"},
		{name: "rollout on delete", change: func(ds *appsv1.DaemonSet) { ds.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }, pods: "old:n1 old:n2", status: "2 2 0 2 0"},
		{name: "surge: the new one comes first", change: surge, pods: "old:n1 old:n2", writes: "create n1", status: "2 2 0 2 0"},
		{name: "surge waits", change: surge, pods: "old:n1 n1- old:n2", status: "2 2 0 2 1"},
		{name: "surge: an old one that does not serve goes at once", change: surge, pods: "old:n1- n1- old:n2", writes: "delete old:n1", status: "2 2 0 1 1"},
		{name: "surge: the next does not wait for the end of the last", change: surge, pods: "n1 n2x", writes: "create n2", status: "2 2 0 2 2"},
		{name: "surge: then the old one goes", change: surge, pods: "old:n1 n1 n2", writes: "delete old:n1", status: "2 2 0 2 2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ds := newDaemonSet(test.change)
			dsc, client, factory := newFixture(t, ds)
			for _, name := range []string{"n1", "n2"} {
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}
				if name == "n2" && test.n2 != nil {
					test.n2(node)
				}
				_ = factory.Core().V1().Nodes().Informer().GetIndexer().Add(node)
			}
			collisions := int32(0)
			current, err := dsc.history.UpdateRevision(t.Context(), dsc.ownerOf(ds), nil, &collisions)
			if err != nil {
				t.Fatal(err)
			}
			_ = factory.Apps().V1().ControllerRevisions().Informer().GetIndexer().Add(current)
			for i, word := range strings.Fields(test.pods) {
				p := podOf(ds, word, i, current.Labels[appsv1.ControllerRevisionHashLabelKey])
				_ = client.Tracker().Add(p)
				_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(p)
			}
			client.ClearActions()
			if _, err := dsc.syncDaemonSet(t.Context(), "ns/agent"); err != nil {
				t.Fatal(err)
			}
			if got := writesOf(client); got != test.writes {
				t.Errorf("writes %q, want %q", got, test.writes)
			}
			updated, err := client.AppsV1().DaemonSets("ns").Get(t.Context(), "agent", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s := updated.Status
			if got := fmt.Sprint(s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberMisscheduled, s.NumberAvailable, s.UpdatedNumberScheduled); got != test.status {
				t.Errorf("status %s, want %s", got, test.status)
			}
		})
	}
}

// Pods carry the generation of their template, as long as the apiserver keeps it in the
// annotation; nonsense there is no label.
func TestTemplateGenerationLabel(t *testing.T) {
	for annotation, want := range map[string]string{"": "", "7": "7", "x": ""} {
		ds := newDaemonSet(func(ds *appsv1.DaemonSet) {
			ds.Annotations = map[string]string{appsv1.DeprecatedTemplateGeneration: annotation}
		})
		if got := newPod(ds, "n1", "hash").Labels["pod-template-generation"]; got != want {
			t.Errorf("annotation %q: label %q", annotation, got)
		}
	}
}

func newFixture(t *testing.T, ds *appsv1.DaemonSet) (*DaemonSetsController, *fake.Clientset, informers.SharedInformerFactory) {
	t.Helper()
	client := fake.NewClientset(ds)
	var created atomic.Int32
	client.PrependReactor("create", "pods", func(action core.Action) (bool, runtime.Object, error) {
		p := action.(core.CreateAction).GetObject().(*corev1.Pod)
		p.Name = fmt.Sprint(p.GenerateName, created.Add(1))
		return false, nil, nil
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	dsc, err := New(client, factory, record.NewFakeRecorder(100), reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
	if err != nil {
		t.Fatal(err)
	}
	_ = factory.Apps().V1().DaemonSets().Informer().GetIndexer().Add(ds)
	return dsc, client, factory
}

func podOf(ds *appsv1.DaemonSet, word string, i int, hash string) *corev1.Pod {
	full := word
	if rest, old := strings.CutPrefix(word, "old:"); old {
		word, hash = rest, "old"
	}
	node, how := word[:2], word[2:]
	p := newPod(ds, node, hash)
	p.Name, p.UID = fmt.Sprintf("%s.%d", full, i), types.UID(fmt.Sprint(full, i))
	p.CreationTimestamp = metav1.NewTime(now.Add(time.Duration(i) * time.Second))
	p.Spec.NodeName = node
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	switch how {
	case "-":
		p.Status.Conditions[0].Status = corev1.ConditionFalse
	case "x":
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: now}, []string{"x"}
	case "!":
		p.Status.Phase, p.Status.Conditions = corev1.PodFailed, nil
	case "?":
		p.Spec.NodeName = ""
	}
	return p
}

// writesOf names pods by their node, and deleted ones of an old revision by that, too.
func writesOf(client *fake.Clientset) string {
	var words []string
	for _, action := range client.Actions() {
		switch a := action.(type) {
		case core.DeleteAction:
			name, _, _ := strings.Cut(a.GetName(), ".")
			words = append(words, "delete "+strings.TrimRight(name, "-!?x"))
		case core.CreateAction:
			if p, ok := a.GetObject().(*corev1.Pod); ok && a.GetVerb() == "create" {
				words = append(words, "create "+getTargetNodeName(p))
			}
		}
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// A daemon's tolerations do not pile up, and a toleration of everything stays.
func TestTolerations(t *testing.T) {
	spec := &corev1.PodSpec{HostNetwork: true, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}}
	addOrUpdateDaemonPodTolerations(spec)
	addOrUpdateDaemonPodTolerations(spec)
	if len(spec.Tolerations) != 8 {
		t.Errorf("%d tolerations, want 8: %v", len(spec.Tolerations), spec.Tolerations)
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "any", Effect: corev1.TaintEffectNoExecute}}}}
	ds := newDaemonSet(func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec = *spec })
	if run, stay := nodeShouldRunDaemonPod(klog.Background(), node, ds); !run || !stay {
		t.Errorf("run %v, stay %v; want both", run, stay)
	}
}
