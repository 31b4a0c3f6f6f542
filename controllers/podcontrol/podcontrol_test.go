package podcontrol

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
)

// Steps double while nothing fails, and a failure ends them: quota that forbids
// 500 pods is asked once, not 500 times.
func TestSlowStartBatch(t *testing.T) {
	for _, test := range []struct {
		name                     string
		count, failFrom          int
		wantCalls, wantSuccesses int
	}{
		{"none", 0, 100, 0, 0},
		{"all succeed", 10, 100, 10, 10},
		{"the first fails", 10, 1, 1, 0},
		{"one of the third step fails", 10, 5, 7, 4},
	} {
		var calls atomic.Int32
		got, err := SlowStartBatch(test.count, 1, func() error {
			if calls.Add(1) >= int32(test.failFrom) {
				return errors.New("refused")
			}
			return nil
		})
		if int(calls.Load()) != test.wantCalls || got != test.wantSuccesses || (err != nil) != (test.wantSuccesses < test.count) {
			t.Errorf("%s: %d calls, %d successes, error %v; want %d calls, %d successes", test.name, calls.Load(), got, err, test.wantCalls, test.wantSuccesses)
		}
	}
}

func TestExpectations(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(1000, 0))
	e := NewExpectations(clock)
	check := func(when string, want bool) {
		t.Helper()
		if got := e.SatisfiedExpectations("k"); got != want {
			t.Errorf("%s: satisfied %v, want %v", when, got, want)
		}
	}
	check("at first", true)
	e.ExpectCreations("k", 2)
	check("two to come", false)
	e.CreationObserved("k")
	check("one to come", false)
	e.CreationsSkipped("k", 1)
	check("the other was not made", true)
	e.CreationObserved("k") // a stranger, adopted
	check("more than expected", true)

	e.ExpectDeletions("k", []string{"ns/a/1"})
	e.DeletionObserved("k", "ns/a/2")
	check("a successor of the same name went", false)
	e.DeletionObserved("k", "ns/a/1")
	e.DeletionObserved("k", "ns/a/1") // marked first, then gone
	check("it went", true)

	e.ExpectCreations("k", 1)
	clock.Step(expectationsTimeout + time.Second)
	check("an event that never came", true)
	e.DeleteExpectations("k")
	check("forgotten", true)
}

// Which pod is deleted first, one rule after the other.
func TestSortActivePodsWithRanks(t *testing.T) {
	now := time.Unix(100000, 0)
	base := func(name string) RankedPod {
		return RankedPod{Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
			Spec:       corev1.PodSpec{NodeName: "n"},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Hour))}}},
		}}
	}
	for _, test := range []struct {
		name  string
		first func(*RankedPod)
	}{
		{"unassigned", func(p *RankedPod) { p.Spec.NodeName = "" }},
		{"pending", func(p *RankedPod) { p.Status.Phase = corev1.PodPending }},
		{"not ready", func(p *RankedPod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }},
		{"cheaper", func(p *RankedPod) { p.Annotations = map[string]string{corev1.PodDeletionCost: "-5"} }},
		{"crowded", func(p *RankedPod) { p.Rank = 3 }},
		{"ready since shortly", func(p *RankedPod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Minute)) }},
		{"restarted more", func(p *RankedPod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 2}} }},
		{"younger", func(p *RankedPod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Minute)) }},
	} {
		first, second := base("z-"+test.name), base("a")
		test.first(&first)
		pods := []RankedPod{second, first}
		SortActivePodsWithRanks(pods, now)
		if pods[0].Name != first.Name {
			t.Errorf("%s: %s is deleted first", test.name, pods[0].Name)
		}
	}
}

// Adoption and release, by owner, selector and deletion.
func TestClaimObjects(t *testing.T) {
	yes := true
	pod := func(uid types.UID, app string, owner types.UID) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: uid, Labels: map[string]string{"app": app}}}
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{UID: owner, Controller: &yes}}
		}
		return p
	}
	deleted := metav1.Now()
	going := pod("1", "web", "")
	going.DeletionTimestamp = &deleted
	for _, test := range []struct {
		name       string
		pod        *corev1.Pod
		ownerGoing bool
		adoptErr   error
		wantMine   bool
		wantPatch  string
		wantErr    bool
	}{
		{name: "owned and selected is kept", pod: pod("1", "web", "me"), wantMine: true},
		{name: "owned, no longer selected is released", pod: pod("1", "db", "me"),
			wantPatch: `{"metadata":{"ownerReferences":[{"$patch":"delete","uid":"me"}],"uid":"1"}}`},
		{name: "owned by a going owner is left to the collector", pod: pod("1", "db", "me"), ownerGoing: true},
		{name: "another's is ignored", pod: pod("1", "web", "other")},
		{name: "an orphan that is selected is adopted", pod: pod("1", "web", ""), wantMine: true,
			wantPatch: `{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":"me","controller":true,"blockOwnerDeletion":true}],"uid":"1"}}`},
		{name: "an orphan that is not selected is ignored", pod: pod("1", "db", "")},
		{name: "a going orphan is ignored", pod: going},
		{name: "a going owner adopts nothing", pod: pod("1", "web", ""), ownerGoing: true},
		{name: "an owner that was replaced adopts nothing", pod: pod("1", "web", ""), adoptErr: errors.New("gone"), wantErr: true},
	} {
		owner := &metav1.ObjectMeta{Namespace: "ns", Name: "rs", UID: "me"}
		if test.ownerGoing {
			owner.DeletionTimestamp = &deleted
		}
		patch := ""
		manager := ControllerRefManager[*corev1.Pod]{
			Controller: owner, Selector: labels.SelectorFromSet(labels.Set{"app": "web"}),
			CanAdopt: func(context.Context) error { return test.adoptErr },
			Patch:    func(_ context.Context, _ *corev1.Pod, p []byte) error { patch = string(p); return nil },
		}
		manager.Kind.Group, manager.Kind.Version, manager.Kind.Kind = "apps", "v1", "ReplicaSet"
		claimed, err := manager.ClaimObjects(t.Context(), []*corev1.Pod{test.pod})
		if (len(claimed) == 1) != test.wantMine || patch != test.wantPatch || (err != nil) != test.wantErr {
			t.Errorf("%s: mine %v, patch %s, error %v", test.name, len(claimed) == 1, patch, err)
		}
	}
}

func TestNextAvailability(t *testing.T) {
	now := time.Unix(1000, 0)
	ready := func(ago time.Duration) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}}}}
	}
	pods := []*corev1.Pod{ready(time.Hour), ready(4 * time.Second), ready(7 * time.Second), {}}
	if got := NextAvailability(pods, 10, now); got != 3*time.Second {
		t.Errorf("next in %v, want 3s", got)
	}
	if got := fmt.Sprint(NextAvailability(pods, 0, now), NextAvailability(nil, 10, now)); got != "0s 0s" {
		t.Errorf("nothing to wait for, got %s", got)
	}
}
