package replicaset

import (
	"errors"
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
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	core "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

var now = time.Unix(100000, 0)

func newReplicaSet(replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rs", UID: "rs-uid", Generation: 1},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	}
}

func podOf(rs *appsv1.ReplicaSet, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}},
		Spec:   corev1.PodSpec{NodeName: "n"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(pod)
	}
	return pod
}

func ready(since time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-since))}}
	}
}

func phase(p corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = p }
}

func going(pod *corev1.Pod) { pod.DeletionTimestamp = &metav1.Time{Time: now} }

type fixture struct {
	*ReplicaSetController
	client *fake.Clientset
	events *record.FakeRecorder
}

// newFixture is a controller whose caches hold the objects, and whose API answers
// with them.
func newFixture(t *testing.T, rs *appsv1.ReplicaSet, pods ...*corev1.Pod) *fixture {
	t.Helper()
	objects := []runtime.Object{rs}
	for _, pod := range pods {
		objects = append(objects, pod)
	}
	client := fake.NewClientset(objects...)
	// The fake does not generate names.
	var created atomic.Int32
	client.PrependReactor("create", "pods", func(action core.Action) (bool, runtime.Object, error) {
		pod := action.(core.CreateAction).GetObject().(*corev1.Pod)
		pod.Name = fmt.Sprint(pod.GenerateName, created.Add(1))
		return false, nil, nil
	})
	factory := informers.NewSharedInformerFactory(client, 0)
	events := record.NewFakeRecorder(100)
	rsc, err := New(client, factory, events, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
	if err != nil {
		t.Fatal(err)
	}
	_ = factory.Apps().V1().ReplicaSets().Informer().GetIndexer().Add(rs)
	for _, pod := range pods {
		_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(pod)
	}
	return &fixture{rsc, client, events}
}

// writes are the API calls, in words: "create pods", "delete pods x".
func (f *fixture) writes() string {
	var words []string
	for _, action := range f.client.Actions() {
		word := action.GetVerb() + " " + action.GetResource().Resource
		if action.GetSubresource() != "" {
			word += "/" + action.GetSubresource()
		}
		switch a := action.(type) {
		case core.DeleteAction:
			word += " " + a.GetName()
		case core.PatchAction:
			word += " " + a.GetName()
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// One turn: what is in the caches, what is written, what the status says.
func TestSyncReplicaSet(t *testing.T) {
	rs := newReplicaSet(2)
	for _, test := range []struct {
		name   string
		change func(*appsv1.ReplicaSet)
		pods   []*corev1.Pod
		writes string
		status string // replicas ready available terminating
		after  time.Duration
	}{
		{name: "too few: creates", writes: "create pods, create pods, update replicasets/status", status: "0 0 0 0"},
		{name: "right: only reports", pods: []*corev1.Pod{podOf(rs, "a", ready(0)), podOf(rs, "b")},
			writes: "update replicasets/status", status: "2 1 1 0"},
		{name: "too many: deletes the one that is not ready", pods: []*corev1.Pod{podOf(rs, "a", ready(0)), podOf(rs, "b"), podOf(rs, "c", ready(0))},
			writes: "delete pods b, update replicasets/status", status: "3 2 2 0"},
		{name: "ended pods do not count", pods: []*corev1.Pod{podOf(rs, "a", phase(corev1.PodFailed)), podOf(rs, "b", ready(0)), podOf(rs, "c", phase(corev1.PodSucceeded))},
			writes: "create pods, update replicasets/status", status: "1 1 1 0"},
		{name: "pods that are going do not count", pods: []*corev1.Pod{podOf(rs, "a", going), podOf(rs, "b"), podOf(rs, "c")},
			writes: "update replicasets/status", status: "2 0 0 1"},
		{name: "an orphan is adopted", pods: []*corev1.Pod{podOf(rs, "a"), podOf(rs, "b", func(p *corev1.Pod) { p.OwnerReferences = nil })},
			writes: "get replicasets, patch pods b, update replicasets/status", status: "2 0 0 0"},
		{name: "a pod that lost its label is released and replaced", pods: []*corev1.Pod{podOf(rs, "a"), podOf(rs, "b", func(p *corev1.Pod) { p.Labels = nil })},
			writes: "create pods, patch pods b, update replicasets/status", status: "1 0 0 0"},
		{name: "another's pod is left alone", pods: []*corev1.Pod{podOf(rs, "a"), podOf(rs, "b"), podOf(rs, "c", func(p *corev1.Pod) { p.OwnerReferences[0].UID = "other" })},
			writes: "update replicasets/status", status: "2 0 0 0"},
		{name: "a ReplicaSet that is going creates nothing", change: func(rs *appsv1.ReplicaSet) { rs.DeletionTimestamp = &metav1.Time{Time: now} },
			writes: "update replicasets/status", status: "0 0 0 0"},
		{name: "availability comes with time alone", change: func(rs *appsv1.ReplicaSet) { rs.Spec.MinReadySeconds = 10 },
			pods:   []*corev1.Pod{podOf(rs, "a", ready(time.Minute)), podOf(rs, "b", ready(4*time.Second))},
			writes: "update replicasets/status", status: "2 2 1 0", after: 6 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			rs := newReplicaSet(2)
			if test.change != nil {
				test.change(rs)
			}
			f := newFixture(t, rs, test.pods...)
			result, err := f.syncReplicaSet(t.Context(), "ns/rs")
			if err != nil {
				t.Fatal(err)
			}
			if got := f.writes(); got != test.writes {
				t.Errorf("writes %q, want %q", got, test.writes)
			}
			if result.After != test.after {
				t.Errorf("comes back after %v, want %v", result.After, test.after)
			}
			updated, err := f.client.AppsV1().ReplicaSets("ns").Get(t.Context(), "rs", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s := updated.Status
			if got := fmt.Sprint(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, ptr.Deref(s.TerminatingReplicas, -1)); got != test.status {
				t.Errorf("status %s, want %s", got, test.status)
			}
			if s.ObservedGeneration != 1 {
				t.Errorf("observed generation %d, want 1", s.ObservedGeneration)
			}
		})
	}
}

// What was asked for and is not in the cache yet is not asked for again.
func TestExpectationsHoldBack(t *testing.T) {
	rs := newReplicaSet(2)
	f := newFixture(t, rs)
	for range 2 {
		if _, err := f.syncReplicaSet(t.Context(), "ns/rs"); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(f.writes(), "create pods"); got != 2 {
		t.Fatalf("%d pods created in two turns, want 2", got)
	}
	// The informer shows them: the next turn may count again.
	f.podKeys(reconcile.Event{New: podOf(rs, "a")})
	f.podKeys(reconcile.Event{New: podOf(rs, "b")})
	if !f.expectations.SatisfiedExpectations("ns/rs") {
		t.Error("expectations are not satisfied after both pods were seen")
	}
}

// A refused creation is reported in an event and in the condition, and leaves no
// expectation behind that would hold up the retry.
func TestFailedCreate(t *testing.T) {
	f := newFixture(t, newReplicaSet(4))
	f.client.PrependReactor("create", "pods", func(core.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("exceeded quota")
	})
	if _, err := f.syncReplicaSet(t.Context(), "ns/rs"); err == nil {
		t.Fatal("no error")
	}
	if got := strings.Count(f.writes(), "create pods"); got != 1 {
		t.Errorf("%d attempts, want 1", got)
	}
	if got := <-f.events.Events; got != "Warning FailedCreate Error creating: exceeded quota" {
		t.Errorf("event %q", got)
	}
	rs, _ := f.client.AppsV1().ReplicaSets("ns").Get(t.Context(), "rs", metav1.GetOptions{})
	if c := GetCondition(rs.Status, appsv1.ReplicaSetReplicaFailure); c == nil || c.Reason != "FailedCreate" {
		t.Errorf("condition %v, want FailedCreate", c)
	}
	if !f.expectations.SatisfiedExpectations("ns/rs") {
		t.Error("an expectation remains for a pod that was never made")
	}
}

// Whom a pod's event concerns.
func TestPodKeys(t *testing.T) {
	rs := newReplicaSet(1)
	relabelled := podOf(rs, "a", func(p *corev1.Pod) { p.Labels, p.ResourceVersion = nil, "2" })
	orphan := podOf(rs, "a", func(p *corev1.Pod) { p.OwnerReferences, p.ResourceVersion = nil, "2" })
	foreign := podOf(rs, "a", func(p *corev1.Pod) { p.OwnerReferences[0].UID = "former" })
	for _, test := range []struct {
		name  string
		event reconcile.Event
		want  string
	}{
		{"added", reconcile.Event{New: podOf(rs, "a")}, "[ns/rs]"},
		{"deleted", reconcile.Event{Old: podOf(rs, "a")}, "[ns/rs]"},
		{"changed", reconcile.Event{Old: podOf(rs, "a"), New: relabelled}, "[ns/rs]"},
		{"became an orphan", reconcile.Event{Old: podOf(rs, "a"), New: orphan}, "[ns/rs ns/rs]"},
		{"an orphan appeared", reconcile.Event{New: orphan}, "[ns/rs]"},
		{"of a former ReplicaSet of the name", reconcile.Event{New: foreign}, "[]"},
		{"unchanged", reconcile.Event{Old: podOf(rs, "a"), New: podOf(rs, "a")}, "[]"},
	} {
		f := newFixture(t, rs)
		if got := fmt.Sprint(f.podKeys(test.event)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// A ReplicationController is kept like a ReplicaSet; its pods and events are its own (S0-07).
func TestReplicationController(t *testing.T) {
	rc := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "rc", UID: "rc-uid"},
		Spec: corev1.ReplicationControllerSpec{Replicas: ptr.To[int32](1), Selector: map[string]string{"app": "web"},
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}}}},
	}
	client := fake.NewClientset(rc)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := NewReplicationManager(client, factory, record.NewFakeRecorder(10), reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_ = factory.Core().V1().ReplicationControllers().Informer().GetIndexer().Add(rc)
	if _, err := c.syncReplicaSet(t.Context(), "ns/rc"); err != nil {
		t.Fatal(err)
	}
	pods, _ := client.CoreV1().Pods("ns").List(t.Context(), metav1.ListOptions{})
	if len(pods.Items) != 1 {
		t.Fatalf("%d pods, want 1", len(pods.Items))
	}
	ref := metav1.GetControllerOf(&pods.Items[0])
	if ref == nil || ref.APIVersion != "v1" || ref.Kind != "ReplicationController" || ref.UID != "rc-uid" {
		t.Errorf("owner %v, want the ReplicationController", ref)
	}
	var _ podcontrol.Owner = rc
}
