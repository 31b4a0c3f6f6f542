package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/klog/v2"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/scheduler/framework"
)

func makePod(name string, priority int32) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name)},
		Spec:       v1.PodSpec{Priority: &priority},
	}
}

// newQueue has two plugins that can reject: "Node" wants additions of nodes, and
// "Gate" keeps pods with scheduling gates out.
func newQueue(t *testing.T) (*PriorityQueue, *clocktesting.FakeClock) {
	clk := clocktesting.NewFakeClock(time.Now())
	return NewPriorityQueue(klog.Background(), Options{
		Less: func(a, b *framework.QueuedPodInfo) bool {
			return *a.Pod.Spec.Priority > *b.Pod.Spec.Priority ||
				*a.Pod.Spec.Priority == *b.Pod.Spec.Priority && a.Timestamp.Before(b.Timestamp)
		},
		PreEnqueue: func(_ context.Context, pod *v1.Pod) *framework.Status {
			if len(pod.Spec.SchedulingGates) > 0 {
				return framework.NewStatus(framework.UnschedulableAndUnresolvable).WithPlugin("Gate")
			}
			return nil
		},
		Hints: func(*v1.Pod) map[string][]framework.ClusterEventWithHint { return hints },
		Clock: clk,
	}), clk
}

// hints: plugin Node waits for a useful node, plugin Gate for the pod's gates.
var hints = map[string][]framework.ClusterEventWithHint{
	"Node": {{Event: framework.ClusterEvent{Resource: framework.Node, ActionType: framework.Add}, QueueingHintFn: func(_ klog.Logger, _ *v1.Pod, _, obj any) (framework.QueueingHint, error) {
		switch obj.(*v1.Node).Name {
		case "useful":
			return framework.Queue, nil
		case "broken":
			return framework.QueueSkip, fmt.Errorf("hint failed")
		}
		return framework.QueueSkip, nil
	}}},
	"Gate": {{Event: framework.ClusterEvent{Resource: framework.TargetPod, ActionType: framework.UpdatePodSchedulingGatesEliminated}}},
}

// pop takes a pod that must be there.
func pop(t *testing.T, q *PriorityQueue) *framework.QueuedPodInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p := q.Pop(ctx)
	if p == nil {
		t.Fatal("the queue is empty")
	}
	return p
}

// reject gives a popped pod back, refused by plugins (none: an error).
func reject(t *testing.T, q *PriorityQueue, p *framework.QueuedPodInfo, plugins ...string) {
	t.Helper()
	if len(plugins) > 0 {
		p.UnschedulablePlugins = sets.New(plugins...)
	}
	if err := q.AddUnschedulableIfNotPresent(p); err != nil {
		t.Fatal(err)
	}
	q.Done(p.Pod.UID)
}

func nodeAdded(q *PriorityQueue, name string) {
	q.MoveAllToActiveOrBackoffQueue(framework.EventNodeAdd, nil, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil)
}

func want(t *testing.T, q *PriorityQueue, want Counts) {
	t.Helper()
	if got := q.Counts(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHigherPriorityThenOlderComesFirst(t *testing.T) {
	q, clk := newQueue(t)
	for _, p := range []*v1.Pod{makePod("low", 1), makePod("high", 9), makePod("low2", 1)} {
		q.Add(p)
		clk.Step(time.Second)
	}
	for _, name := range []string{"high", "low", "low2"} {
		if got := pop(t, q).Pod.Name; got != name {
			t.Errorf("got %s, want %s", got, name)
		}
	}
}

func TestOnlyUsefulEventsWakeAPod(t *testing.T) {
	for name, test := range map[string]struct {
		node string
		want Counts
	}{
		"useful":            {"useful", Counts{Backoff: 1}},
		"useless":           {"useless", Counts{Unschedulable: 1}},
		"a hint that fails": {"broken", Counts{Backoff: 1}},
	} {
		q, _ := newQueue(t)
		q.Add(makePod("p", 0))
		reject(t, q, pop(t, q), "Node")
		want(t, q, Counts{Unschedulable: 1})
		nodeAdded(q, test.node)
		if got := q.Counts(); got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

// The lost wakeup of doc.go: the event comes between snapshot and refusal.
func TestEventDuringAnAttemptIsNotLost(t *testing.T) {
	q, _ := newQueue(t)
	q.Add(makePod("p", 0))
	p := pop(t, q)
	nodeAdded(q, "useful")
	reject(t, q, p, "Node")
	want(t, q, Counts{Backoff: 1})
}

// An event from before the pod was popped has been seen by its attempt.
func TestEventBeforeAnAttemptIsNotCounted(t *testing.T) {
	q, clk := newQueue(t)
	q.Add(makePod("other", 9))
	q.Add(makePod("p", 0))
	other := pop(t, q)
	nodeAdded(q, "useful")
	clk.Step(time.Second)
	reject(t, q, pop(t, q), "Node")
	want(t, q, Counts{Unschedulable: 1, InFlight: 1})
	q.Done(other.Pod.UID)
	if q.inFlight.list.Len() != 0 {
		t.Errorf("%d events are kept for nobody", q.inFlight.list.Len())
	}
}

func TestBackoffDoublesUpToTenSeconds(t *testing.T) {
	q, _ := newQueue(t)
	for count, seconds := range []int{0, 1, 2, 4, 8, 10, 10} {
		got := q.calculateBackoffDuration(&framework.QueuedPodInfo{UnschedulableCount: count})
		if got != time.Duration(seconds)*time.Second {
			t.Errorf("after %d refusals: %v, want %d s", count, got, seconds)
		}
	}
	if got := q.calculateBackoffDuration(&framework.QueuedPodInfo{UnschedulableCount: 5, ConsecutiveErrorsCount: 1}); got != time.Second {
		t.Errorf("errors have their own count: got %v", got)
	}
}

// A pod that failed by an error is not taken early: the apiserver may be overloaded.
func TestErrorWaitsForItsBackoff(t *testing.T) {
	q, clk := newQueue(t)
	q.Add(makePod("p", 0))
	reject(t, q, pop(t, q))
	want(t, q, Counts{Backoff: 1})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if q.Pop(cancelled) != nil {
		t.Error("Pop did not return nil for a context that is done")
	}
	q.popFromBackoffQ()
	want(t, q, Counts{Backoff: 1})
	clk.Step(time.Second)
	q.flushBackoffQCompleted()
	want(t, q, Counts{Active: 1})
}

func TestIdleSchedulerTakesFromBackoff(t *testing.T) {
	q, _ := newQueue(t)
	q.Add(makePod("p", 0))
	reject(t, q, pop(t, q), "Node")
	nodeAdded(q, "useful")
	want(t, q, Counts{Backoff: 1})
	if got := pop(t, q); got.Attempts != 2 {
		t.Errorf("attempt %d", got.Attempts)
	}
}

func TestPodWaitsFiveMinutesAtMost(t *testing.T) {
	q, clk := newQueue(t)
	q.Add(makePod("p", 0))
	gated := makePod("gated", 0)
	gated.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g"}}
	q.Add(gated)
	reject(t, q, pop(t, q), "Node")
	clk.Step(5 * time.Minute)
	q.flushUnschedulablePodsLeftover()
	want(t, q, Counts{Unschedulable: 1, Gated: 1})
	clk.Step(time.Second)
	q.flushUnschedulablePodsLeftover()
	want(t, q, Counts{Active: 1, Gated: 1})
}

func TestGateOpensByThePodsOwnUpdate(t *testing.T) {
	q, _ := newQueue(t)
	gated := makePod("p", 0)
	gated.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g"}}
	q.Add(gated)
	nodeAdded(q, "useful")
	want(t, q, Counts{Gated: 1})
	q.Update(gated, makePod("p", 0))
	want(t, q, Counts{Active: 1})
}

func TestPendingPluginsEventSkipsBackoff(t *testing.T) {
	q, _ := newQueue(t)
	q.Add(makePod("p", 0))
	p := pop(t, q)
	p.PendingPlugins = sets.New("Node")
	reject(t, q, p)
	nodeAdded(q, "useful")
	want(t, q, Counts{Active: 1})
}

func TestDeletedPodIsGoneFromEverywhere(t *testing.T) {
	q, _ := newQueue(t)
	for _, name := range []string{"active", "refused"} {
		q.Add(makePod(name, 0))
	}
	first := pop(t, q)
	reject(t, q, first, "Node")
	q.Delete(makePod("active", 0))
	q.Delete(makePod("refused", 0))
	want(t, q, Counts{})
}

func TestUpdateDuringAnAttemptIsNotLost(t *testing.T) {
	q, _ := newQueue(t)
	old := makePod("p", 0)
	old.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "g"}}
	q.Add(makePod("p", 0))
	p := pop(t, q)
	q.Update(old, makePod("p", 0))
	want(t, q, Counts{InFlight: 1})
	reject(t, q, p, "Gate")
	want(t, q, Counts{Backoff: 1})
}
