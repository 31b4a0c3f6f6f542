package scheduler

import (
	"context"
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"

	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/plugins"
	"hyperkube/scheduler/plugins/defaultbinder"
)

// noBinder binds at once, without an apiserver.
type noBinder struct{}

func (noBinder) Name() string { return defaultbinder.Name }
func (noBinder) Bind(context.Context, *framework.CycleState, *v1.Pod, string) *framework.Status {
	return nil
}

// newDetached makes a scheduler over n nodes that talks to nobody.
func newDetached(t testing.TB, n int) *Scheduler {
	t.Helper()
	table := plugins.NewInTreeRegistry()
	for i := range table {
		if table[i].Name == defaultbinder.Name {
			table[i].New = func(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) { return noBinder{}, nil }
		}
	}
	sched, err := New(Config{Client: fake.NewClientset(), Plugins: table})
	if err != nil {
		t.Fatal(err)
	}
	if err := sched.buildFrameworks(t.Context(), func(string) events.EventRecorder { return &events.FakeRecorder{} }); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		sched.Cache.AddNode(makeNode(fmt.Sprint("node-", i), "64"))
	}
	return sched
}

// BenchmarkScheduleOne is the scheduler alone: 1,000 nodes, of which it looks at 420.
func BenchmarkScheduleOne(b *testing.B) {
	sched := newDetached(b, 1000)
	pod := makePod("web", "10m")
	i := 0
	for b.Loop() {
		clone := *pod
		clone.Name = fmt.Sprint("web-", i)
		clone.UID = types.UID(clone.Name)
		sched.SchedulingQueue.Add(&clone)
		sched.ScheduleOne(b.Context())
		i++
	}
	sched.bindings.Wait()
}

// The loop must not become slower unnoticed: CI counts, it does not time.
func TestScheduleOneAllocatesLittle(t *testing.T) {
	sched := newDetached(t, 1000)
	i := 0
	allocations := testing.AllocsPerRun(50, func() {
		pod := makePod(fmt.Sprint("web-", i), "10m")
		i++
		sched.SchedulingQueue.Add(pod)
		sched.ScheduleOne(t.Context())
		sched.bindings.Wait()
	})
	if allocations > 200 {
		t.Errorf("%.0f allocations a pod on 1,000 nodes", allocations)
	}
	t.Logf("%.0f allocations a pod", allocations)
}
