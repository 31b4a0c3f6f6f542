package runtime

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/scheduler/framework"
)

// fakePlugin takes part everywhere a test of this file needs.
type fakePlugin struct {
	name    string
	score   map[string]int64
	permit  *framework.Status
	timeout time.Duration
}

func (p *fakePlugin) Name() string                            { return p.name }
func (p *fakePlugin) Less(a, b *framework.QueuedPodInfo) bool { return false }
func (p *fakePlugin) Bind(context.Context, *framework.CycleState, *v1.Pod, string) *framework.Status {
	return nil
}
func (p *fakePlugin) Score(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, n *framework.NodeInfo) (int64, *framework.Status) {
	return p.score[n.Node().Name], nil
}
func (p *fakePlugin) Permit(context.Context, *framework.CycleState, *v1.Pod, string) (*framework.Status, time.Duration) {
	return p.permit, p.timeout
}

// scoreOnly has no other extension point than Score.
type scoreOnly struct {
	name  string
	score map[string]int64
}

func (p scoreOnly) Name() string { return p.name }
func (p scoreOnly) Score(_ context.Context, _ *framework.CycleState, _ *framework.PodInfo, n *framework.NodeInfo) (int64, *framework.Status) {
	return p.score[n.Node().Name], nil
}

func line(p framework.Plugin, weight int64) Registration {
	return Registration{Name: p.Name(), Weight: weight, New: func(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) { return p, nil }}
}

func node(name string) *framework.NodeInfo {
	n := framework.NewNodeInfo()
	n.SetNode(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	return n
}

func TestScoresAreWeightedAndSummed(t *testing.T) {
	f, err := NewFramework(t.Context(), []Registration{
		line(&fakePlugin{name: "A", score: map[string]int64{"x": 10, "y": 20}}, 3),
		line(scoreOnly{"B", map[string]int64{"x": 100, "y": 0}}, 0),
	}, Profile{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	scores, status := f.RunScorePlugins(t.Context(), framework.NewCycleState(), nil, []*framework.NodeInfo{node("x"), node("y")})
	if !status.IsSuccess() || scores[0].TotalScore != 130 || scores[1].TotalScore != 60 || scores[0].Scores[0] != (PluginScore{"A", 30}) {
		t.Errorf("scores %+v, status %v", scores, status)
	}
}

func TestScoreOutOfRangeIsAnError(t *testing.T) {
	f, err := NewFramework(t.Context(), []Registration{line(&fakePlugin{name: "A", score: map[string]int64{"x": 101}}, 1)}, Profile{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, status := f.RunScorePlugins(t.Context(), framework.NewCycleState(), nil, []*framework.NodeInfo{node("x")})
	if status.Code() != framework.Error || !strings.Contains(status.Message(), "invalid score 101") {
		t.Errorf("got %v", status)
	}
}

func TestTableIsChecked(t *testing.T) {
	sorter := &fakePlugin{name: "A"}
	for name, table := range map[string][]Registration{
		"two queue sorts": {line(sorter, 1), line(&fakePlugin{name: "B"}, 1)},
		"no queue sort":   {line(scoreOnly{name: "B"}, 1)},
		"a name twice":    {line(sorter, 1), line(scoreOnly{name: "A"}, 1)},
	} {
		if _, err := NewFramework(t.Context(), table, Profile{}, Options{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A waiting pod goes when it is allowed, rejected, or when the plugin's time is over.
func TestPermitWaits(t *testing.T) {
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", UID: "1"}}
	for name, test := range map[string]struct {
		end  func(*Framework, *clocktesting.FakeClock)
		want framework.Code
	}{
		"allowed":  {func(f *Framework, _ *clocktesting.FakeClock) { f.GetWaitingPod("1").Allow("A") }, framework.Success},
		"rejected": {func(f *Framework, _ *clocktesting.FakeClock) { f.RejectWaitingPod("1") }, framework.Unschedulable},
		"too late": {func(_ *Framework, c *clocktesting.FakeClock) { c.Step(time.Minute) }, framework.Unschedulable},
	} {
		clk := clocktesting.NewFakeClock(time.Now())
		plugin := &fakePlugin{name: "A", permit: framework.NewStatus(framework.Wait), timeout: time.Minute}
		f, err := NewFramework(t.Context(), []Registration{line(plugin, 1)}, Profile{}, Options{Clock: clk})
		if err != nil {
			t.Fatal(err)
		}
		if s := f.RunPermitPlugins(t.Context(), framework.NewCycleState(), pod, "n"); !s.IsWait() {
			t.Fatalf("%s: Permit answered %v", name, s.Code())
		}
		test.end(f, clk)
		if got := f.WaitOnPermit(t.Context(), pod).Code(); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
		if f.GetWaitingPod("1") != nil {
			t.Errorf("%s: the pod is still waiting", name)
		}
	}
}

func TestUntilDoesEachPieceOnce(t *testing.T) {
	for _, pieces := range []int{0, 1, serialBelow, 1000} {
		counts := make([]atomic.Int32, pieces)
		Until(t.Context(), pieces, func(i int) { counts[i].Add(1) })
		for i := range counts {
			if counts[i].Load() != 1 {
				t.Fatalf("%d pieces: piece %d was done %d times", pieces, i, counts[i].Load())
			}
		}
	}
}
