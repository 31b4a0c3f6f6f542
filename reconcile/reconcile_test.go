package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clocktesting "k8s.io/utils/clock/testing"
)

// start runs the loop until the test ends and checks that Run returns.
func start(t *testing.T, l *Loop) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return ctx
}

func configMap(name, version string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version}}
}

// A key that failed runs again by itself, for the same causes, and the status
// tells of the failure (S0-05).
func TestFailureIsRetriedWithItsCauses(t *testing.T) {
	runs := make(chan Causes)
	failures := 2
	l := New("test", func(ctx context.Context, key string) (Result, error) {
		runs <- CausesFrom(ctx)
		if failures--; failures >= 0 {
			return Done, errors.New("not yet")
		}
		return Done, nil
	}, Options{MinBackoff: time.Millisecond})
	start(t, l)
	l.Notify(Event{New: configMap("a", "7")}, "ns/a")
	for i := range 3 {
		causes := <-runs
		if got, want := causes.String(), "ADDED ConfigMap ns/a@7"; got != want {
			t.Errorf("run %d: causes %q, want %q", i, got, want)
		}
	}
	l.Enqueue("other")
	<-runs // the run of "ns/a" has ended by now: there is one worker
	s := l.Status()
	if s.Errors != 2 || s.LastError != "not yet" || s.LastErrorKey != "ns/a" {
		t.Errorf("status %+v, want 2 errors, the last of ns/a", s)
	}
}

// At most eight causes travel; the rest is counted; of one object only the newest
// version does (DESIGN.md section 5).
func TestCausesAreBounded(t *testing.T) {
	var c causes
	for i := range 12 {
		c.add("k", Event{New: configMap(fmt.Sprint("cm", i), "1")})
	}
	c.add("k", Event{Old: configMap("cm0", "1"), New: configMap("cm0", "2")})
	got := c.take("k")
	if len(got.List) != maxCauses || got.More != 4 {
		t.Fatalf("%d causes and %d more, want %d and 4", len(got.List), got.More, maxCauses)
	}
	if got.List[0].String() != "MODIFIED ConfigMap ns/cm0@2" {
		t.Errorf("first cause %v, want the newest version of cm0", got.List[0])
	}
	if again := c.take("k"); len(again.List) != 0 {
		t.Errorf("causes are taken once, got %v", again)
	}
	if len(c.waiting) != 0 {
		t.Errorf("%d entries stay after take", len(c.waiting))
	}
}

// A run that failed gives its causes back in front of those that came since.
func TestPutBackKeepsOrder(t *testing.T) {
	var c causes
	c.add("k", Event{New: configMap("a", "1")})
	old := c.take("k")
	c.add("k", Event{Old: configMap("b", "2")})
	c.putBack("k", old)
	if got, want := c.take("k").String(), "ADDED ConfigMap ns/a@1, DELETED ConfigMap ns/b@2"; got != want {
		t.Errorf("causes %q, want %q", got, want)
	}
}

// A panic is that key's error; the other keys go on.
func TestPanicIsAnError(t *testing.T) {
	ran := make(chan string, 2)
	l := New("test", func(_ context.Context, key string) (Result, error) {
		if key == "bad" {
			panic("boom")
		}
		ran <- key
		return Done, nil
	}, Options{MinBackoff: time.Hour})
	start(t, l)
	l.Enqueue("bad")
	l.Enqueue("good")
	<-ran
	if s := l.Status(); !strings.HasPrefix(s.LastError, "panic: boom") {
		t.Errorf("last error %q, want the panic", s.LastError)
	}
}

// Result.After runs the key again when the clock says so, not before.
func TestAfter(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	runs := make(chan time.Time, 100)
	l := New("test", func(context.Context, string) (Result, error) {
		runs <- clock.Now()
		return Result{After: 5 * time.Second}, nil
	}, Options{Clock: clock})
	start(t, l)
	l.Enqueue("k")
	first := <-runs
	for {
		select {
		case second := <-runs:
			if second.Sub(first) < 5*time.Second {
				t.Fatalf("ran again after %v, want at least 5s", second.Sub(first))
			}
			return
		case <-time.After(time.Millisecond): // the queue's goroutine gets its turn
			clock.Step(time.Second)
		}
	}
}

type testGate struct{ held, open chan string }

func (testGate) Runs(string) func() { return func() {} }

func (g testGate) Hold(ctx context.Context, controller, key string, _ func() Glance) error {
	g.held <- controller + " " + key
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// The gate holds a key before its sync, the status names it, and what happens
// meanwhile is among the causes of the run that follows.
func TestGateHolds(t *testing.T) {
	gate := testGate{make(chan string), make(chan string)}
	runs := make(chan Causes, 1)
	l := New("test", func(ctx context.Context, key string) (Result, error) {
		runs <- CausesFrom(ctx)
		return Done, nil
	}, Options{Gate: gate})
	start(t, l)
	l.Notify(Event{New: configMap("a", "1")}, "k")
	if got := <-gate.held; got != "test k" {
		t.Fatalf("gate holds %q", got)
	}
	if s := l.Status(); len(s.Held) != 1 || s.Held[0] != "k" || len(runs) != 0 {
		t.Fatalf("held %v with %d runs, want k held and no run", s.Held, len(runs))
	}
	l.causes.add("k", Event{New: configMap("b", "1")})
	gate.open <- ""
	if got := <-runs; len(got.List) != 2 {
		t.Errorf("causes %v, want both", got)
	}
}

// No sync before the informers have listed: it would take what it has not heard of
// for absent.
func TestNoSyncBeforeFirstList(t *testing.T) {
	factory := informers.NewSharedInformerFactory(fake.NewClientset(configMap("a", "1")), 0)
	runs := make(chan string, 1)
	l := New("test", func(_ context.Context, key string) (Result, error) { runs <- key; return Done, nil }, Options{})
	l.Watch(factory.Core().V1().ConfigMaps().Informer(), Self)
	l.Enqueue("ns/early")
	ctx := start(t, l)
	if l.Status().Synced {
		t.Error("synced before the informer was started")
	}
	if len(runs) != 0 {
		t.Error("ran before the informer was started")
	}
	factory.Start(ctx.Done())
	seen := map[string]bool{<-runs: true, <-runs: true}
	if !seen["ns/a"] || !seen["ns/early"] {
		t.Errorf("ran %v", seen)
	}
}

// A stop during a sync waits for it, and its error is not reported as one.
func TestStopWaitsForSync(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered, leave := make(chan struct{}), make(chan struct{})
	l := New("test", func(ctx context.Context, _ string) (Result, error) {
		close(entered)
		<-leave
		return Done, ctx.Err()
	}, Options{})
	done := make(chan struct{})
	go func() { _ = l.Run(ctx); close(done) }()
	l.Enqueue("k")
	<-entered
	cancel()
	select {
	case <-done:
		t.Fatal("Run returned while a sync was running")
	default:
	}
	close(leave)
	<-done
	if n := l.queue.NumRequeues("k"); n != 0 {
		t.Errorf("%d retries of a run that was stopped", n)
	}
}

// Two lives in one process share a registry: no panic, one set of metrics (R12).
func TestMetricsOfTwoLoops(t *testing.T) {
	registry := prometheus.NewRegistry()
	for range 2 {
		newMetrics(registry).reconciled("test", "done", time.Millisecond)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "reconcile_total" {
			if got := family.GetMetric()[0].GetCounter().GetValue(); got != 2 {
				t.Errorf("reconcile_total is %v, want 2", got)
			}
			return
		}
	}
	t.Error("no reconcile_total")
}

func TestOwnerKeys(t *testing.T) {
	kind := schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}
	owned := func(apiVersion, kind, name string) *corev1.Pod {
		yes := true
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(name), Controller: &yes}}}}
	}
	for name, test := range map[string]struct {
		event Event
		want  string
	}{
		"an added one names its owner":       {Event{New: owned("apps/v1", "ReplicaSet", "a")}, "[ns/a]"},
		"a change of hands names both":       {Event{Old: owned("apps/v1", "ReplicaSet", "a"), New: owned("apps/v1", "ReplicaSet", "b")}, "[ns/a ns/b]"},
		"an unchanged owner is named once":   {Event{Old: owned("apps/v1", "ReplicaSet", "a"), New: owned("apps/v1", "ReplicaSet", "a")}, "[ns/a]"},
		"another version is the same kind":   {Event{New: owned("apps/v1beta2", "ReplicaSet", "a")}, "[ns/a]"},
		"another group is not":               {Event{New: owned("example.com/v1", "ReplicaSet", "a")}, "[]"},
		"another kind is not":                {Event{New: owned("apps/v1", "DaemonSet", "a")}, "[]"},
		"one without owner names none":       {Event{New: &corev1.Pod{}}, "[]"},
		"a deleted one names its last owner": {Event{Old: owned("apps/v1", "ReplicaSet", "a")}, "[ns/a]"},
	} {
		if got := fmt.Sprint(Owner(kind)(test.event)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// A run whose cause was taken by the run before it is still because of it; one that a clock asks for is not.
func TestRunInheritsCauses(t *testing.T) {
	c := causes{}
	c.add("a", Event{New: configMap("a", "1")})
	first := c.takeForRun("a")
	if again := c.takeForRun("a"); len(first.List) != 1 || len(again.List) != 1 || again.List[0] != first.List[0] {
		t.Errorf("the first run's causes %v, the next one's %v, want the same", first, again)
	}
	c.forget("a")
	if later := c.takeForRun("a"); len(later.List) != 0 {
		t.Errorf("after the clock: %v, want none", later)
	}
	for i := range 3 * maxRecent {
		key := fmt.Sprint(i)
		c.add(key, Event{New: configMap(key, "1")})
		c.takeForRun(key)
	}
	if len(c.recent) != maxRecent || len(c.order) != maxRecent {
		t.Errorf("%d kept, %d in order, want %d", len(c.recent), len(c.order), maxRecent)
	}
}
