package scheduler

import (
	"context"
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
			table[i].New = func(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) {
				return noBinder{}, nil
			}
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
		node := makeNode(fmt.Sprint("node-", i), "64")
		node.Labels = map[string]string{v1.LabelHostname: node.Name, v1.LabelTopologyZone: fmt.Sprint("zone-", i%3)}
		sched.Cache.AddNode(node)
	}
	return sched
}

// BenchmarkScheduleOne is the scheduler alone, on nodes in three zones. Of 1,000 nodes it
// looks at 420, of 5,000 at 500: the cost of a pod must grow slower than the cluster.
func BenchmarkScheduleOne(b *testing.B) {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	for _, variant := range []struct {
		name  string
		nodes int
		spec  func(*v1.PodSpec)
	}{
		{"plain", 100, func(*v1.PodSpec) {}},
		{"plain", 1000, func(*v1.PodSpec) {}},
		{"plain", 5000, func(*v1.PodSpec) {}},
		{"anti-affinity", 1000, func(s *v1.PodSpec) {
			s.Affinity = &v1.Affinity{PodAntiAffinity: &v1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []v1.PodAffinityTerm{
				{LabelSelector: selector, TopologyKey: v1.LabelHostname}}}}
		}},
		{"spread", 1000, func(s *v1.PodSpec) {
			s.TopologySpreadConstraints = []v1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: v1.LabelTopologyZone, WhenUnsatisfiable: v1.DoNotSchedule, LabelSelector: selector}}
		}},
	} {
		b.Run(fmt.Sprintf("%s/%d", variant.name, variant.nodes), func(b *testing.B) {
			sched := newDetached(b, variant.nodes)
			pod := makePod("web", "10m")
			pod.Labels = map[string]string{"app": "web"}
			variant.spec(&pod.Spec)
			for i := 0; b.Loop(); i++ {
				clone := *pod
				clone.Name = fmt.Sprint("web-", i)
				clone.UID = types.UID(clone.Name)
				sched.SchedulingQueue.Add(&clone)
				sched.ScheduleOne(b.Context())
			}
			sched.bindings.Wait()
		})
	}
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
