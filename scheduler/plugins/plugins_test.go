package plugins

import (
	"context"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/cache"
	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// The tables below build a pod and a node from small changes, ask one plugin of the
// real table, and compare its answer.

type podOption func(*v1.Pod)
type nodeOption func(*v1.Node)

func makePod(name string, options ...podOption) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}, Spec: v1.PodSpec{Containers: []v1.Container{{Image: "web"}}}}
	for _, o := range options {
		o(p)
	}
	return p
}

func makeNode(name string, options ...nodeOption) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	n.Status.Allocatable = list("cpu", "1", "memory", "1000Mi", "pods", "10")
	for _, o := range options {
		o(n)
	}
	return n
}

func list(pairs ...string) v1.ResourceList {
	l := v1.ResourceList{}
	for i := 0; i < len(pairs); i += 2 {
		l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
	}
	return l
}

func requests(pairs ...string) podOption {
	return func(p *v1.Pod) { p.Spec.Containers[0].Resources.Requests = list(pairs...) }
}

func tolerates(key string, effect v1.TaintEffect) podOption {
	return func(p *v1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, v1.Toleration{Key: key, Operator: v1.TolerationOpExists, Effect: effect})
	}
}

func selects(key, value string) podOption {
	return func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func requiresNodes(terms ...[]string) podOption {
	return func(p *v1.Pod) {
		selector := &v1.NodeSelector{}
		for _, names := range terms {
			selector.NodeSelectorTerms = append(selector.NodeSelectorTerms, v1.NodeSelectorTerm{MatchFields: []v1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: v1.NodeSelectorOpIn, Values: names}}})
		}
		p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: selector}}
	}
}

func prefers(weight int32, key, value string) podOption {
	return func(p *v1.Pod) {
		p.Spec.Affinity = &v1.Affinity{NodeAffinity: &v1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []v1.PreferredSchedulingTerm{{
			Weight: weight, Preference: v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{
				{Key: key, Operator: v1.NodeSelectorOpIn, Values: []string{value}}}}}}}}
	}
}

func hostPort(port int32) podOption {
	return func(p *v1.Pod) { p.Spec.Containers[0].Ports = []v1.ContainerPort{{HostPort: port}} }
}

func onNode(name string) podOption { return func(p *v1.Pod) { p.Spec.NodeName = name } }

func taint(key string, effect v1.TaintEffect) nodeOption {
	return func(n *v1.Node) { n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: key, Effect: effect}) }
}

func label(key, value string) nodeOption { return func(n *v1.Node) { n.Labels[key] = value } }

func cordoned(n *v1.Node) { n.Spec.Unschedulable = true }

func allocatable(pairs ...string) nodeOption {
	return func(n *v1.Node) { n.Status.Allocatable = list(pairs...) }
}

func image(name string, mebibytes int64) nodeOption {
	return func(n *v1.Node) {
		n.Status.Images = append(n.Status.Images, v1.ContainerImage{Names: []string{name}, SizeBytes: mebibytes << 20})
	}
}

// newPlugin makes one plugin of the table, over a snapshot of these nodes.
func newPlugin(t *testing.T, name string, snapshot framework.SharedLister) framework.Plugin {
	t.Helper()
	handle := &runtime.Framework{Options: runtime.Options{Snapshot: snapshot}}
	for _, reg := range NewInTreeRegistry() {
		if reg.Name == name {
			p, err := reg.New(t.Context(), handle, nil)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	t.Fatalf("no plugin %q in the table", name)
	return nil
}

// snapshotOf puts nodes and the pods on them through the real cache.
func snapshotOf(nodes []*v1.Node, pods ...*v1.Pod) *cache.Snapshot {
	c, s := cache.New(), cache.NewSnapshot()
	for range 2 { // image counts are right on the second report
		for _, n := range nodes {
			c.AddNode(n)
		}
	}
	for _, p := range pods {
		_ = c.AddPod(klog.Background(), p)
	}
	c.UpdateSnapshot(s)
	return s
}

func TestFilters(t *testing.T) {
	for name, test := range map[string]struct {
		plugin  string
		pod     *v1.Pod
		node    *v1.Node
		running []*v1.Pod
		code    framework.Code
		reasons []string
	}{
		"named node":                 {"NodeName", makePod("p", onNode("n")), makeNode("n"), nil, framework.Success, nil},
		"another node named":         {"NodeName", makePod("p", onNode("x")), makeNode("n"), nil, framework.UnschedulableAndUnresolvable, []string{"node(s) didn't match the requested node name"}},
		"cordoned":                   {"NodeUnschedulable", makePod("p"), makeNode("n", cordoned), nil, framework.UnschedulableAndUnresolvable, []string{"node(s) were unschedulable"}},
		"cordoned, but tolerated":    {"NodeUnschedulable", makePod("p", tolerates(v1.TaintNodeUnschedulable, v1.TaintEffectNoSchedule)), makeNode("n", cordoned), nil, framework.Success, nil},
		"tainted":                    {"TaintToleration", makePod("p"), makeNode("n", taint("gpu", v1.TaintEffectNoSchedule)), nil, framework.UnschedulableAndUnresolvable, []string{"node(s) had untolerated taint(s)"}},
		"tainted NoExecute":          {"TaintToleration", makePod("p"), makeNode("n", taint("gpu", v1.TaintEffectNoExecute)), nil, framework.UnschedulableAndUnresolvable, []string{"node(s) had untolerated taint(s)"}},
		"taint tolerated":            {"TaintToleration", makePod("p", tolerates("gpu", "")), makeNode("n", taint("gpu", v1.TaintEffectNoSchedule)), nil, framework.Success, nil},
		"a preference only":          {"TaintToleration", makePod("p"), makeNode("n", taint("gpu", v1.TaintEffectPreferNoSchedule)), nil, framework.Success, nil},
		"selector matches":           {"NodeAffinity", makePod("p", selects("disk", "ssd")), makeNode("n", label("disk", "ssd")), nil, framework.Success, nil},
		"selector does not match":    {"NodeAffinity", makePod("p", selects("disk", "ssd")), makeNode("n"), nil, framework.UnschedulableAndUnresolvable, []string{"node(s) didn't match Pod's node affinity/selector"}},
		"affinity to another node":   {"NodeAffinity", makePod("p", requiresNodes([]string{"x"})), makeNode("n"), nil, framework.UnschedulableAndUnresolvable, []string{"node(s) didn't match Pod's node affinity/selector"}},
		"port free":                  {"NodePorts", makePod("p", hostPort(80)), makeNode("n"), []*v1.Pod{makePod("q", hostPort(81), onNode("n"))}, framework.Success, nil},
		"port taken":                 {"NodePorts", makePod("p", hostPort(80)), makeNode("n"), []*v1.Pod{makePod("q", hostPort(80), onNode("n"))}, framework.Unschedulable, []string{"node(s) didn't have free ports for the requested pod ports"}},
		"fits exactly":               {"NodeResourcesFit", makePod("p", requests("cpu", "600m")), makeNode("n"), []*v1.Pod{makePod("q", requests("cpu", "400m"), onNode("n"))}, framework.Success, nil},
		"cpu short":                  {"NodeResourcesFit", makePod("p", requests("cpu", "601m")), makeNode("n"), []*v1.Pod{makePod("q", requests("cpu", "400m"), onNode("n"))}, framework.Unschedulable, []string{"Insufficient cpu"}},
		"never fits":                 {"NodeResourcesFit", makePod("p", requests("cpu", "2", "memory", "2Gi")), makeNode("n"), nil, framework.UnschedulableAndUnresolvable, []string{"Insufficient cpu", "Insufficient memory"}},
		"unknown resource":           {"NodeResourcesFit", makePod("p", requests("example.com/gpu", "1")), makeNode("n"), nil, framework.UnschedulableAndUnresolvable, []string{"Insufficient example.com/gpu"}},
		"no place":                   {"NodeResourcesFit", makePod("p"), makeNode("n", allocatable("pods", "1")), []*v1.Pod{makePod("q", onNode("n"))}, framework.Unschedulable, []string{"Too many pods"}},
		"no requests on a full node": {"NodeResourcesFit", makePod("p"), makeNode("n"), []*v1.Pod{makePod("q", requests("cpu", "1"), onNode("n"))}, framework.Success, nil},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := snapshotOf([]*v1.Node{test.node}, test.running...)
			plugin := newPlugin(t, test.plugin, snapshot)
			state, info := framework.NewCycleState(), framework.NewPodInfo(test.pod)
			if pre, ok := plugin.(framework.PreFilterPlugin); ok {
				if _, s := pre.PreFilter(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
					t.Fatalf("PreFilter: %v", s.Message())
				}
			}
			got := plugin.(framework.FilterPlugin).Filter(t.Context(), state, info, snapshot.List()[0])
			if got.Code() != test.code || !slices.Equal(got.Reasons(), test.reasons) {
				t.Errorf("got %v %q, want %v %q", got.Code(), got.Reasons(), test.code, test.reasons)
			}
		})
	}
}

// Scores are compared after normalizing, on the nodes a and b.
func TestScores(t *testing.T) {
	for name, test := range map[string]struct {
		plugin  string
		pod     *v1.Pod
		a, b    *v1.Node
		running []*v1.Pod
		want    []int64
	}{
		// a: 500m of 1 CPU and 500Mi of 1000Mi used with the pod; b: 250 of each.
		"least allocated": {"NodeResourcesFit", makePod("p", requests("cpu", "250m", "memory", "250Mi")), makeNode("a"), makeNode("b"),
			[]*v1.Pod{makePod("q", requests("cpu", "250m", "memory", "250Mi"), onNode("a"))}, []int64{50, 75}},
		// Without requests a pod counts as 100m and 200Mi.
		"without requests": {"NodeResourcesFit", makePod("p"), makeNode("a"), makeNode("b", allocatable("cpu", "2", "memory", "2000Mi")), nil, []int64{85, 92}},
		"balanced": {"NodeResourcesBalancedAllocation", makePod("p", requests("cpu", "500m", "memory", "500Mi")), makeNode("a"),
			makeNode("b", allocatable("cpu", "1", "memory", "5000Mi")), nil, []int64{100, 80}},
		"fewer bad taints": {"TaintToleration", makePod("p"), makeNode("a", taint("x", v1.TaintEffectPreferNoSchedule)), makeNode("b"), nil, []int64{0, 100}},
		"preferred label":  {"NodeAffinity", makePod("p", prefers(7, "disk", "ssd")), makeNode("a", label("disk", "ssd")), makeNode("b"), nil, []int64{100, 0}},
		// 1023 MiB on one of two nodes count half: (511.5-23)/(1000-23).
		"image present": {"ImageLocality", makePod("p"), makeNode("a", image("web:latest", 1023)), makeNode("b"), nil, []int64{50, 0}},
		"small image":   {"ImageLocality", makePod("p"), makeNode("a", image("web:latest", 20)), makeNode("b"), nil, []int64{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := snapshotOf([]*v1.Node{test.a, test.b}, test.running...)
			plugin := newPlugin(t, test.plugin, snapshot)
			state, info := framework.NewCycleState(), framework.NewPodInfo(test.pod)
			if pre, ok := plugin.(framework.PreScorePlugin); ok {
				if s := pre.PreScore(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
					t.Fatalf("PreScore: %v %v", s.Code(), s.Message())
				}
			}
			var scores []framework.NodeScore
			for _, n := range snapshot.List() {
				s, status := plugin.(framework.ScorePlugin).Score(t.Context(), state, info, n)
				if !status.IsSuccess() {
					t.Fatal(status.Message())
				}
				scores = append(scores, framework.NodeScore{Name: n.Node().Name, Score: s})
			}
			if ext, ok := plugin.(framework.ScoreExtensions); ok {
				ext.NormalizeScore(t.Context(), state, info, scores)
			}
			if got := []int64{scores[0].Score, scores[1].Score}; !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// Pods that a plugin has nothing to say about are skipped, which is most of the
// scheduler's speed.
func TestSkips(t *testing.T) {
	snapshot := snapshotOf([]*v1.Node{makeNode("a")})
	info := framework.NewPodInfo(makePod("p"))
	for _, name := range []string{"NodeAffinity", "NodePorts"} {
		if _, s := newPlugin(t, name, snapshot).(framework.PreFilterPlugin).PreFilter(t.Context(), framework.NewCycleState(), info, nil); !s.IsSkip() {
			t.Errorf("%s does not skip Filter for a plain pod", name)
		}
	}
	for _, name := range []string{"NodeAffinity", "TaintToleration", "NodeResourcesBalancedAllocation"} {
		if s := newPlugin(t, name, snapshot).(framework.PreScorePlugin).PreScore(t.Context(), framework.NewCycleState(), info, snapshot.List()); !s.IsSkip() {
			t.Errorf("%s does not skip Score for a plain pod", name)
		}
	}
}

func TestNodeAffinityNarrowsToNamedNodes(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *v1.Pod
		want []string
		code framework.Code
	}{
		"one term":        {makePod("p", requiresNodes([]string{"a"})), []string{"a"}, framework.Success},
		"terms are ORed":  {makePod("p", requiresNodes([]string{"a"}, []string{"b"})), []string{"a", "b"}, framework.Success},
		"no node is left": {makePod("p", requiresNodes([]string{})), nil, framework.UnschedulableAndUnresolvable},
	} {
		result, status := newPlugin(t, "NodeAffinity", nil).(framework.PreFilterPlugin).PreFilter(t.Context(), framework.NewCycleState(), framework.NewPodInfo(test.pod), nil)
		if status.Code() != test.code || !status.IsSuccess() {
			if status.Code() != test.code {
				t.Errorf("%s: got %v", name, status.Code())
			}
			continue
		}
		if len(result.NodeNames) != len(test.want) || !result.NodeNames.HasAll(test.want...) {
			t.Errorf("%s: got %v", name, result.NodeNames)
		}
	}
}

func TestSchedulingGates(t *testing.T) {
	gated := makePod("p", func(p *v1.Pod) { p.Spec.SchedulingGates = []v1.PodSchedulingGate{{Name: "a"}, {Name: "b"}} })
	plugin := newPlugin(t, "SchedulingGates", nil).(framework.PreEnqueuePlugin)
	if s := plugin.PreEnqueue(t.Context(), gated); s.Message() != "waiting for scheduling gates: [a b]" || !s.IsRejected() {
		t.Errorf("gated: %v %q", s.Code(), s.Message())
	}
	if s := plugin.PreEnqueue(t.Context(), makePod("p")); !s.IsSuccess() {
		t.Errorf("without gates: %v", s.Code())
	}
}

// hint puts an event to the hints that a plugin registered for it, as the queue does.
func hint(t *testing.T, plugin framework.Plugin, event framework.ClusterEvent, pod *v1.Pod, oldObj, newObj any) framework.QueueingHint {
	t.Helper()
	registered, err := plugin.(framework.EnqueueExtensions).EventsToRegister(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range registered {
		if !r.Event.Match(event) {
			continue
		}
		if r.QueueingHintFn == nil {
			return framework.Queue
		}
		h, err := r.QueueingHintFn(klog.Background(), pod, oldObj, newObj)
		if err != nil {
			t.Fatal(err)
		}
		if h == framework.Queue {
			return framework.Queue
		}
	}
	return framework.QueueSkip
}

func TestQueueingHints(t *testing.T) {
	taintGone := framework.ClusterEvent{Resource: framework.Node, ActionType: framework.UpdateNodeTaint}
	labelled := framework.ClusterEvent{Resource: framework.Node, ActionType: framework.UpdateNodeLabel}
	resized := framework.ClusterEvent{Resource: framework.Node, ActionType: framework.UpdateNodeAllocatable}
	opened := framework.ClusterEvent{Resource: framework.TargetPod, ActionType: framework.UpdatePodSchedulingGatesEliminated}
	big := makePod("p", requests("cpu", "2"))
	for name, test := range map[string]struct {
		plugin   string
		event    framework.ClusterEvent
		pod      *v1.Pod
		old, new any
		want     framework.QueueingHint
	}{
		"taint removed":             {"TaintToleration", taintGone, makePod("p"), makeNode("n", taint("x", v1.TaintEffectNoSchedule)), makeNode("n"), framework.Queue},
		"was tolerable before":      {"TaintToleration", taintGone, makePod("p"), makeNode("n", taint("x", v1.TaintEffectPreferNoSchedule)), makeNode("n"), framework.QueueSkip},
		"new node with a taint":     {"TaintToleration", framework.EventNodeAdd, makePod("p"), nil, makeNode("n", taint("x", v1.TaintEffectNoSchedule)), framework.QueueSkip},
		"uncordoned":                {"NodeUnschedulable", taintGone, makePod("p"), makeNode("n", cordoned), makeNode("n"), framework.Queue},
		"label comes":               {"NodeAffinity", labelled, makePod("p", selects("disk", "ssd")), makeNode("n"), makeNode("n", label("disk", "ssd")), framework.Queue},
		"another label comes":       {"NodeAffinity", labelled, makePod("p", selects("disk", "ssd")), makeNode("n"), makeNode("n", label("disk", "hdd")), framework.QueueSkip},
		"port freed":                {"NodePorts", framework.EventAssignedPodDelete, makePod("p", hostPort(80)), makePod("q", hostPort(80)), nil, framework.Queue},
		"other port freed":          {"NodePorts", framework.EventAssignedPodDelete, makePod("p", hostPort(80)), makePod("q", hostPort(81)), nil, framework.QueueSkip},
		"node grows enough":         {"NodeResourcesFit", resized, big, makeNode("n"), makeNode("n", allocatable("cpu", "2", "pods", "1")), framework.Queue},
		"node grows too little":     {"NodeResourcesFit", resized, big, makeNode("n"), makeNode("n", allocatable("cpu", "1500m", "pods", "1")), framework.QueueSkip},
		"node shrinks":              {"NodeResourcesFit", resized, makePod("p", requests("cpu", "1m")), makeNode("n"), makeNode("n", allocatable("cpu", "500m", "pods", "1")), framework.QueueSkip},
		"small node comes":          {"NodeResourcesFit", framework.EventNodeAdd, big, nil, makeNode("n"), framework.QueueSkip},
		"pod goes":                  {"NodeResourcesFit", framework.EventAssignedPodDelete, big, makePod("q"), nil, framework.Queue},
		"pod comes":                 {"NodeResourcesFit", framework.EventAssignedPodAdd, big, nil, makePod("q"), framework.QueueSkip},
		"gates of this pod removed": {"SchedulingGates", opened, makePod("p"), makePod("p"), makePod("p"), framework.Queue},
		"gates of another removed":  {"SchedulingGates", opened, makePod("p"), makePod("q"), makePod("q"), framework.QueueSkip},
		"named node comes":          {"NodeName", framework.EventNodeAdd, makePod("p", onNode("n")), nil, makeNode("n"), framework.Queue},
	} {
		if got := hint(t, newPlugin(t, test.plugin, nil), test.event, test.pod, test.old, test.new); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
