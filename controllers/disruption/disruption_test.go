package disruption

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var now = time.Unix(100000, 0)

// One turn: budget and pods in, status out. The pods belong to a StatefulSet of five.
func TestSync(t *testing.T) {
	labels := map[string]string{"app": "db"}
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", UID: "set"}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](5)}}
	for _, test := range []struct {
		name                         string
		minAvailable, maxUnavailable string
		ready, unready               int
		disrupted                    map[string]time.Duration // pods by how long ago they were evicted
		status                       string                   // allowed healthy desired expected notes
		after                        time.Duration
	}{
		{name: "maxUnavailable is of the scale", maxUnavailable: "1", ready: 5, status: "1 5 4 5 0"},
		{name: "a pod that is missing is unavailable", maxUnavailable: "1", ready: 4, status: "0 4 4 5 0"},
		{name: "maxUnavailable in percent is rounded up", maxUnavailable: "30%", ready: 5, status: "2 5 3 5 0"},
		{name: "minAvailable as a number is of the pods", minAvailable: "2", ready: 3, unready: 1, status: "1 3 2 4 0"},
		{name: "minAvailable in percent is of the scale", minAvailable: "50%", ready: 5, status: "2 5 3 5 0"},
		{name: "an evicted one does not count", minAvailable: "2", ready: 4, disrupted: map[string]time.Duration{"db-0": time.Minute}, status: "1 3 2 4 1", after: time.Minute},
		{name: "an eviction that nothing followed is forgotten", minAvailable: "2", ready: 4, disrupted: map[string]time.Duration{"db-0": 3 * time.Minute}, status: "2 4 2 4 0"},
		{name: "no pods: nothing to allow", minAvailable: "0", status: "0 0 0 0 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db", Generation: 1},
				Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}}}
			if test.minAvailable != "" {
				pdb.Spec.MinAvailable = ptr.To(intstr.Parse(test.minAvailable))
			} else {
				pdb.Spec.MaxUnavailable = ptr.To(intstr.Parse(test.maxUnavailable))
			}
			for name, ago := range test.disrupted {
				pdb.Status.DisruptedPods = map[string]metav1.Time{name: metav1.NewTime(now.Add(-ago))}
			}
			client := fake.NewClientset(pdb)
			factory := informers.NewSharedInformerFactory(client, 0)
			dc := New(client, factory, record.NewFakeRecorder(100), reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			_ = factory.Policy().V1().PodDisruptionBudgets().Informer().GetIndexer().Add(pdb)
			_ = factory.Apps().V1().StatefulSets().Informer().GetIndexer().Add(set)
			for i := range test.ready + test.unready {
				name := fmt.Sprint("db-", i)
				status := corev1.ConditionTrue
				if i >= test.ready {
					status = corev1.ConditionFalse
				}
				_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(&corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name), Labels: labels,
						OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}},
					Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}}})
			}
			result, err := dc.sync(t.Context(), "ns/db")
			if err != nil {
				t.Fatal(err)
			}
			updated, err := client.PolicyV1().PodDisruptionBudgets("ns").Get(t.Context(), "db", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			s := updated.Status
			if got := fmt.Sprint(s.DisruptionsAllowed, s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods, len(s.DisruptedPods)); got != test.status {
				t.Errorf("status %s, want %s", got, test.status)
			}
			if len(s.Conditions) != 1 || (s.Conditions[0].Status == metav1.ConditionTrue) != (s.DisruptionsAllowed > 0) {
				t.Errorf("conditions %v", s.Conditions)
			}
			if result.After != test.after {
				t.Errorf("comes back after %v, want %v", result.After, test.after)
			}
		})
	}
}

// What a budget cannot do right it tells: pods that nobody manages have no scale to take a
// share of, and a pod of two budgets can never be evicted.
func TestEvents(t *testing.T) {
	labels := map[string]string{"app": "db"}
	budget := func(name, minAvailable string) *policyv1.PodDisruptionBudget {
		return &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
			Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.Parse(minAvailable)), Selector: &metav1.LabelSelector{MatchLabels: labels}}}
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "alone", UID: "alone", Labels: labels}}
	for _, test := range []struct {
		budgets                []*policyv1.PodDisruptionBudget
		keys, onPod, onBudgets string
	}{
		{[]*policyv1.PodDisruptionBudget{budget("a", "1")}, "[ns/a]", "[]", "[]"},
		{[]*policyv1.PodDisruptionBudget{budget("a", "50%")}, "[ns/a]", "[]", "[Warning UnmanagedPods]"},
		{[]*policyv1.PodDisruptionBudget{budget("b", "1"), budget("a", "1")}, "[ns/a ns/b]", "[Warning MultiplePodDisruptionBudgets]", "[]"},
	} {
		client, recorder := fake.NewClientset(), record.NewFakeRecorder(100)
		factory := informers.NewSharedInformerFactory(client, 0)
		dc := New(client, factory, recorder, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
		_ = factory.Core().V1().Pods().Informer().GetIndexer().Add(pod)
		for _, pdb := range test.budgets {
			_ = client.Tracker().Add(pdb)
			_ = factory.Policy().V1().PodDisruptionBudgets().Informer().GetIndexer().Add(pdb)
		}
		said := func() string {
			reasons := []string{}
			for len(recorder.Events) > 0 {
				words := strings.Fields(<-recorder.Events)
				reasons = append(reasons, words[0]+" "+words[1])
			}
			return fmt.Sprint(reasons)
		}
		keys := dc.podKeys(reconcile.Event{New: pod})
		if got := said(); fmt.Sprint(keys) != test.keys || got != test.onPod {
			t.Errorf("keys %v, events %s; want %s, %s", keys, got, test.keys, test.onPod)
		}
		for _, key := range keys {
			if _, err := dc.sync(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		if got := said(); got != test.onBudgets {
			t.Errorf("%v: events %s, want %s", keys, got, test.onBudgets)
		}
	}
}
