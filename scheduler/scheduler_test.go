package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/component"
)

// patience bounds a wait for something that must come; only failures take so long.
const patience = time.Minute

// cluster is a fake apiserver that binds, with a running scheduler on it.
type cluster struct {
	t      *testing.T
	client *fake.Clientset
	sched  *Scheduler
	clock  *clocktesting.FakeClock
	health *component.Health
	// bound receives "pod -> node", events "reason: note", patches pod status patches.
	bound, events, patches chan string
	// refuseBinding, when not empty, makes that many bindings fail.
	refuseBinding chan error
	stop          func()
}

func newCluster(t *testing.T, configure func(*Config), objects ...runtime.Object) *cluster {
	t.Helper()
	c := &cluster{
		t: t, client: fake.NewClientset(objects...), clock: clocktesting.NewFakeClock(time.Now()), health: &component.Health{},
		bound: make(chan string, 1000), events: make(chan string, 1000), patches: make(chan string, 1000), refuseBinding: make(chan error, 10),
	}
	c.client.PrependReactor("create", "pods", c.bind)
	c.client.PrependReactor("create", "events", func(action clienttesting.Action) (bool, runtime.Object, error) {
		switch e := action.(clienttesting.CreateAction).GetObject().(type) {
		case *eventsv1.Event:
			c.events <- e.Reason + ": " + e.Note
		case *v1.Event: // of the Lease: the elector knows the old kind only
			c.events <- e.InvolvedObject.Kind + " " + e.Reason + ": " + e.Message
		}
		return false, nil, nil
	})
	c.client.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		c.patches <- string(action.(clienttesting.PatchAction).GetPatch())
		return false, nil, nil
	})
	cfg := Config{Client: c.client, Clock: c.clock, Metrics: prometheus.NewRegistry(), Health: c.health}
	if configure != nil {
		configure(&cfg)
	}
	sched, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.sched = sched
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sched.Run(ctx) }()
	c.stop = func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
			done <- nil
		case <-time.After(patience):
			t.Fatal("Run does not return")
		}
	}
	t.Cleanup(func() { c.stop() })
	return c
}

// bind does what the apiserver does with a Binding.
func (c *cluster) bind(action clienttesting.Action) (bool, runtime.Object, error) {
	if action.GetSubresource() != "binding" {
		return false, nil, nil
	}
	select {
	case err := <-c.refuseBinding:
		return true, nil, err
	default:
	}
	binding := action.(clienttesting.CreateAction).GetObject().(*v1.Binding)
	obj, err := c.client.Tracker().Get(v1.SchemeGroupVersion.WithResource("pods"), binding.Namespace, binding.Name)
	if err != nil {
		return true, nil, err
	}
	pod := obj.(*v1.Pod).DeepCopy()
	pod.Spec.NodeName = binding.Target.Name
	if err := c.client.Tracker().Update(v1.SchemeGroupVersion.WithResource("pods"), pod, pod.Namespace); err != nil {
		return true, nil, err
	}
	c.bound <- pod.Name + " -> " + binding.Target.Name
	return true, binding, nil
}

func (c *cluster) next(ch chan string) string {
	c.t.Helper()
	select {
	case s := <-ch:
		return s
	case <-time.After(patience):
		c.t.Fatal("nothing came")
		return ""
	}
}

func (c *cluster) create(pods ...*v1.Pod) {
	c.t.Helper()
	for _, pod := range pods {
		if _, err := c.client.CoreV1().Pods(pod.Namespace).Create(c.t.Context(), pod, metav1.CreateOptions{}); err != nil {
			c.t.Fatal(err)
		}
	}
}

func makeNode(name, cpu string) *v1.Node {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1.NodeStatus{Allocatable: v1.ResourceList{
		v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse("1Gi"), v1.ResourcePods: resource.MustParse("110")}}}
}

func makePod(name, cpu string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name), Generation: 1},
		Spec: v1.PodSpec{SchedulerName: DefaultSchedulerName, Containers: []v1.Container{{Name: "c", Image: "web", Resources: v1.ResourceRequirements{
			Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}}}},
	}
}

// S0-04: the scheduler writes a Binding, and an event; nothing else.
func TestPodIsBoundToTheEmptierNode(t *testing.T) {
	c := newCluster(t, nil, makeNode("small", "1"), makeNode("large", "4"))
	c.create(makePod("web", "500m"))
	if got := c.next(c.bound); got != "web -> large" {
		t.Errorf("bound %s", got)
	}
	if got := c.next(c.events); got != "Scheduled: Successfully assigned default/web to large" {
		t.Errorf("event %q", got)
	}
	c.stop()
	for _, action := range c.client.Actions() {
		if verb := action.GetVerb(); verb == "update" || verb == "patch" {
			t.Errorf("the scheduler wrote %s %s", verb, action.GetResource().Resource)
		}
	}
}

// R23: an unschedulable pod, then fixed: both attempts are explained.
func TestUnschedulablePodIsExplainedAndRetried(t *testing.T) {
	tainted := makeNode("tainted", "4")
	tainted.Spec.Taints = []v1.Taint{{Key: "gpu", Value: "yes", Effect: v1.TaintEffectNoSchedule}}
	c := newCluster(t, nil, tainted, makeNode("small", "100m"), makeNode("small2", "100m"))
	c.create(makePod("web", "500m"))
	const text = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. " +
		"preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
	if got := c.next(c.events); got != "FailedScheduling: "+text {
		t.Errorf("event %q", got)
	}
	var patch struct{ Status v1.PodStatus }
	if err := json.Unmarshal([]byte(c.next(c.patches)), &patch); err != nil {
		t.Fatal(err)
	}
	condition := patch.Status.Conditions[0]
	if condition.Type != v1.PodScheduled || condition.Status != v1.ConditionFalse || condition.Reason != v1.PodReasonUnschedulable ||
		condition.Message != text || condition.ObservedGeneration != 1 {
		t.Errorf("condition %+v", condition)
	}

	untainted := tainted.DeepCopy()
	untainted.Spec.Taints = nil
	if _, err := c.client.CoreV1().Nodes().Update(t.Context(), untainted, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.next(c.bound); got != "web -> tainted" {
		t.Errorf("bound %s", got)
	}
	c.stop()

	response := httptest.NewRecorder()
	c.sched.ExplainHandler().ServeHTTP(response, httptest.NewRequest("GET", "/?namespace=default&name=web", nil))
	var attempts []Attempt
	if err := json.Unmarshal(response.Body.Bytes(), &attempts); err != nil {
		t.Fatal(err)
	}
	if len(attempts) != 2 {
		t.Fatalf("%d attempts: %+v", len(attempts), attempts)
	}
	first, second := attempts[0], attempts[1]
	if first.Result != "Unschedulable" || first.Message != text || len(first.Filtered) != 3 ||
		first.Filtered[2].Node != "tainted" || first.Filtered[2].Plugin != "TaintToleration" || !first.Filtered[2].Unresolvable {
		t.Errorf("first attempt %+v", first)
	}
	if second.Result != "Scheduled" || second.Node != "tainted" || second.BoundAt == nil || second.Number != 2 || second.FeasibleNodes != 1 {
		t.Errorf("second attempt %+v", second)
	}
}

func TestScoresAreExplained(t *testing.T) {
	var nodes []runtime.Object
	for i := range 20 {
		nodes = append(nodes, makeNode(fmt.Sprint("n", i), fmt.Sprint(i+1)))
	}
	c := newCluster(t, nil, nodes...)
	c.create(makePod("web", "500m"))
	c.next(c.bound)
	c.stop()
	a := c.sched.Explain("default", "web")[0]
	// Equal scores share the first place; the chosen node is shown first among them.
	if len(a.Scores) != keepScored || a.Scores[0].Name != a.Node || a.FeasibleNodes != 20 {
		t.Fatalf("attempt %+v", a)
	}
	for i := 1; i < len(a.Scores); i++ {
		if a.Scores[i].TotalScore > a.Scores[i-1].TotalScore {
			t.Errorf("scores are not sorted: %+v", a.Scores)
		}
	}
}

func TestNoNodes(t *testing.T) {
	c := newCluster(t, nil)
	c.create(makePod("web", "1"))
	if got := c.next(c.events); got != "FailedScheduling: no nodes available to schedule pods" {
		t.Errorf("event %q", got)
	}
	if _, err := c.client.CoreV1().Nodes().Create(t.Context(), makeNode("n", "4"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.next(c.bound); got != "web -> n" {
		t.Errorf("bound %s", got)
	}
}

// Two pods want the same gap: the second must see the first, bound or not.
func TestAssumedPodTakesItsPlace(t *testing.T) {
	c := newCluster(t, nil, makeNode("n", "1"))
	c.create(makePod("a", "600m"), makePod("b", "600m"))
	if got := c.next(c.bound); got != "a -> n" {
		t.Errorf("bound %s", got)
	}
	for {
		got := c.next(c.events)
		if strings.HasPrefix(got, "FailedScheduling") {
			if got != "FailedScheduling: 0/1 nodes are available: 1 Insufficient cpu. "+
				"preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod." {
				t.Errorf("event %q", got)
			}
			break
		}
	}
	// The first goes: its place is the second's.
	if err := c.client.CoreV1().Pods("default").Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.next(c.bound); got != "b -> n" {
		t.Errorf("bound %s", got)
	}
}

// A binding that fails frees the place, and is tried again after the backoff.
func TestFailedBindingIsRetried(t *testing.T) {
	c := newCluster(t, nil, makeNode("n", "1"))
	c.refuseBinding <- errors.New("the apiserver is busy")
	c.create(makePod("web", "1"))
	if got := c.next(c.events); !strings.Contains(got, "the apiserver is busy") {
		t.Errorf("event %q", got)
	}
	var patch struct{ Status v1.PodStatus }
	if err := json.Unmarshal([]byte(c.next(c.patches)), &patch); err != nil {
		t.Fatal(err)
	}
	if patch.Status.Conditions[0].Reason != v1.PodReasonSchedulerError {
		t.Errorf("condition %+v", patch.Status.Conditions[0])
	}
	c.clock.Step(2 * time.Second)
	if got := c.next(c.bound); got != "web -> n" {
		t.Errorf("bound %s", got)
	}
}

func TestOthersPodsAreLeftAlone(t *testing.T) {
	c := newCluster(t, nil, makeNode("n", "4"))
	other, gated := makePod("other", "1"), makePod("gated", "1")
	other.Spec.SchedulerName = "another"
	gated.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "wait"}}
	c.create(other, gated, makePod("mine", "1"))
	if got := c.next(c.bound); got != "mine -> n" {
		t.Errorf("bound %s", got)
	}
	open := gated.DeepCopy()
	open.ResourceVersion = "2"
	open.Spec.SchedulingGates = nil
	if _, err := c.client.CoreV1().Pods("default").Update(t.Context(), open, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.next(c.bound); got != "gated -> n" {
		t.Errorf("bound %s", got)
	}
}

func TestSampleOfLargeClusters(t *testing.T) {
	for _, test := range []struct{ nodes, percentage, want int32 }{
		{10, 0, 10}, {99, 5, 99}, {100, 0, 100}, {1000, 0, 420}, {5000, 0, 500}, {6000, 0, 300}, {1000, 70, 700}, {1000, 5, 100}, {6000, 100, 6000},
	} {
		sched := &Scheduler{cfg: Config{PercentageOfNodesToScore: test.percentage}}
		if got := sched.numFeasibleNodesToFind(nil, test.nodes); got != test.want {
			t.Errorf("%d nodes, %d %%: got %d, want %d", test.nodes, test.percentage, got, test.want)
		}
	}
}

// R74: a Lease that cannot be renewed stops the loop, not the process; when it can be
// again, the loop goes on.
func TestLostLeaseIsCompetedForAgain(t *testing.T) {
	var unreachable atomic.Bool
	c := newCluster(t, func(cfg *Config) {
		cfg.LeaderElect, cfg.Identity = true, "me"
		cfg.LeaseDuration, cfg.RenewDeadline, cfg.RetryPeriod = 400*time.Millisecond, 300*time.Millisecond, 20*time.Millisecond
		cfg.Client.(*fake.Clientset).PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return unreachable.Load(), nil, errors.New("the apiserver is not there")
		})
	}, makeNode("n", "4"))
	c.create(makePod("first", "1"))
	if got := c.next(c.bound); got != "first -> n" {
		t.Fatalf("bound %s", got)
	}
	lease, err := c.client.CoordinationV1().Leases("kube-system").Get(t.Context(), "kube-scheduler", metav1.GetOptions{})
	if err != nil || *lease.Spec.HolderIdentity != "me" {
		t.Fatalf("lease %+v, %v", lease, err)
	}

	unreachable.Store(true)
	err = wait.PollUntilContextTimeout(t.Context(), time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return !c.sched.leading.isLeading(), nil
	})
	if err != nil {
		t.Fatal("the loop goes on without the lease")
	}
	c.create(makePod("second", "1"))
	if len(c.bound) != 0 {
		t.Errorf("bound %s without the lease", <-c.bound)
	}
	unreachable.Store(false)
	if got := c.next(c.bound); got != "second -> n" {
		t.Errorf("bound %s", got)
	}
}

func TestConfigIsValidated(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a Config without a client is accepted")
	}
	if _, err := New(Config{Client: fake.NewClientset(), PercentageOfNodesToScore: 101}); err == nil {
		t.Error("101 % is accepted")
	}
}

// The contract of components: 20 lives in one process leave no goroutine behind.
func TestRunLeavesNothingBehind(t *testing.T) {
	registry, client := prometheus.NewRegistry(), fake.NewClientset(makeNode("n", "4"), makePod("web", "1"))
	live := func() {
		sched, err := New(Config{Client: client, LeaderElect: true, Metrics: registry})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sched.Run(ctx) }()
		err = wait.PollUntilContextTimeout(ctx, time.Millisecond, patience, true, func(context.Context) (bool, error) {
			return sched.leading.isLeading(), nil
		})
		cancel()
		if err := errors.Join(err, <-done); err != nil {
			t.Fatal(err)
		}
	}
	live() // what the process keeps once and for all, such as the client's
	before := goruntime.NumGoroutine()
	for range 19 {
		live()
	}
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		return goruntime.NumGoroutine() <= before, nil
	})
	if err != nil {
		buffer := make([]byte, 1<<20)
		t.Errorf("%d goroutines, before %d:\n%s", goruntime.NumGoroutine(), before, buffer[:goruntime.Stack(buffer, true)])
	}
}
