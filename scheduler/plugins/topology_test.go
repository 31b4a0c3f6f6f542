package plugins

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"hyperkube/client/informers"
	"hyperkube/scheduler/framework"
	fwruntime "hyperkube/scheduler/framework/runtime"
)

const zone = v1.LabelTopologyZone

func labelled(key, value string) podOption {
	return func(p *v1.Pod) {
		if p.Labels == nil {
			p.Labels = map[string]string{}
		}
		p.Labels[key] = value
	}
}

func inNamespace(name string) podOption { return func(p *v1.Pod) { p.Namespace = name } }

func selectorOf(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func affinityOf(p *v1.Pod) *v1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &v1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity = &v1.PodAffinity{}, &v1.PodAntiAffinity{}
	}
	return p.Spec.Affinity
}

// near and apart are required terms on app=VALUE by zone.
func near(value string, change ...func(*v1.PodAffinityTerm)) podOption {
	return func(p *v1.Pod) {
		required := &affinityOf(p).PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		*required = append(*required, term(value, change...))
	}
}

func apart(value string, change ...func(*v1.PodAffinityTerm)) podOption {
	return func(p *v1.Pod) {
		required := &affinityOf(p).PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		*required = append(*required, term(value, change...))
	}
}

func ratherNear(weight int32, value string) podOption {
	return func(p *v1.Pod) {
		preferred := &affinityOf(p).PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		*preferred = append(*preferred, v1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: term(value)})
	}
}

func ratherApart(weight int32, value string) podOption {
	return func(p *v1.Pod) {
		preferred := &affinityOf(p).PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		*preferred = append(*preferred, v1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: term(value)})
	}
}

func term(value string, change ...func(*v1.PodAffinityTerm)) v1.PodAffinityTerm {
	t := v1.PodAffinityTerm{LabelSelector: selectorOf("app", value), TopologyKey: zone}
	for _, c := range change {
		c(&t)
	}
	return t
}

func amongTeams(t *v1.PodAffinityTerm) { t.NamespaceSelector = selectorOf("team", "a") }

func spreads(maxSkew int32, key string, action v1.UnsatisfiableConstraintAction, change ...func(*v1.TopologySpreadConstraint)) podOption {
	return func(p *v1.Pod) {
		c := v1.TopologySpreadConstraint{MaxSkew: maxSkew, TopologyKey: key, WhenUnsatisfiable: action, LabelSelector: selectorOf("app", "web")}
		for _, f := range change {
			f(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func minDomains(n int32) func(*v1.TopologySpreadConstraint) {
	return func(c *v1.TopologySpreadConstraint) { c.MinDomains = &n }
}

func honorTaints(c *v1.TopologySpreadConstraint) {
	honor := v1.NodeInclusionPolicyHonor
	c.NodeTaintsPolicy = &honor
}

func going(p *v1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now }

// pluginWith makes a plugin whose informers know these objects.
func pluginWith(t *testing.T, name string, snapshot framework.SharedLister, objects ...runtime.Object) framework.Plugin {
	t.Helper()
	return pluginWithArgs(t, name, "", snapshot, objects...)
}

func pluginWithArgs(t *testing.T, name, args string, snapshot framework.SharedLister, objects ...runtime.Object) framework.Plugin {
	t.Helper()
	factory := informers.NewSharedInformerFactory(fake.NewClientset(objects...), 0)
	handle := &fwruntime.Framework{Options: fwruntime.Options{Snapshot: snapshot, Informers: factory}}
	for _, reg := range NewInTreeRegistry() {
		if reg.Name != name {
			continue
		}
		p, err := reg.New(t.Context(), handle, framework.Args(args))
		if err != nil {
			t.Fatal(err)
		}
		factory.Start(t.Context().Done())
		factory.WaitForCacheSync(t.Context().Done())
		return p
	}
	t.Fatalf("no plugin %q in the table", name)
	return nil
}

// Nodes: a1 and a2 in zone a, b1 in zone b, n without a zone.
func fourNodes() []*v1.Node {
	return []*v1.Node{
		makeNode("a1", label(zone, "a"), label(v1.LabelHostname, "a1")), makeNode("a2", label(zone, "a"), label(v1.LabelHostname, "a2")),
		makeNode("b1", label(zone, "b"), label(v1.LabelHostname, "b1")), makeNode("n", label(v1.LabelHostname, "n")),
	}
}

func fits(t *testing.T, plugin framework.Plugin, pod *v1.Pod, nodes framework.SharedLister) (passed []string, reasons map[string]string) {
	t.Helper()
	state, info := framework.NewCycleState(), framework.NewPodInfo(pod)
	_, status := plugin.(framework.PreFilterPlugin).PreFilter(t.Context(), state, info, nodes.List())
	if !status.IsSuccess() && !status.IsSkip() {
		t.Fatal(status.Message())
	}
	reasons = map[string]string{}
	for _, node := range nodes.List() {
		name := node.Node().Name
		if status.IsSkip() {
			passed = append(passed, name)
			continue
		}
		if s := plugin.(framework.FilterPlugin).Filter(t.Context(), state, info, node); s.IsSuccess() {
			passed = append(passed, name)
		} else {
			reasons[name] = s.Message()
		}
	}
	slices.Sort(passed)
	return passed, reasons
}

func TestTopologyFilters(t *testing.T) {
	teamA := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-a", Labels: map[string]string{"team": "a"}}}
	web := func(name, node string, options ...podOption) *v1.Pod {
		return makePod(name, append([]podOption{labelled("app", "web"), onNode(node)}, options...)...)
	}
	all := []string{"a1", "a2", "b1", "n"}
	const spreadReason = "node(s) didn't match pod topology spread constraints"
	for name, test := range map[string]struct {
		plugin  string
		pod     *v1.Pod
		running []*v1.Pod
		want    []string
		reason  string // of some node that does not fit
	}{
		"no terms":                     {"InterPodAffinity", makePod("p"), []*v1.Pod{web("w", "a1")}, all, ""},
		"near":                         {"InterPodAffinity", makePod("p", near("web")), []*v1.Pod{web("w", "a1")}, []string{"a1", "a2"}, "node(s) didn't match pod affinity rules"},
		"near nobody":                  {"InterPodAffinity", makePod("p", near("web")), nil, nil, "node(s) didn't match pod affinity rules"},
		"the first of its kind":        {"InterPodAffinity", makePod("p", near("web"), labelled("app", "web")), nil, []string{"a1", "a2", "b1"}, ""},
		"near, in another namespace":   {"InterPodAffinity", makePod("p", near("web")), []*v1.Pod{web("w", "a1", inNamespace("x"))}, nil, ""},
		"near, in selected namespaces": {"InterPodAffinity", makePod("p", near("web", amongTeams)), []*v1.Pod{web("w", "b1", inNamespace("team-a"))}, []string{"b1"}, ""},
		"both terms, one pod each":     {"InterPodAffinity", makePod("p", near("web"), near("db")), []*v1.Pod{web("w", "a1"), makePod("d", labelled("app", "db"), onNode("a2"))}, nil, ""},
		"apart":                        {"InterPodAffinity", makePod("p", apart("web")), []*v1.Pod{web("w", "a1")}, []string{"b1", "n"}, "node(s) didn't match pod anti-affinity rules"},
		"others keep away":             {"InterPodAffinity", makePod("p", labelled("app", "web")), []*v1.Pod{makePod("q", apart("web"), onNode("a2"))}, []string{"b1", "n"}, "node(s) didn't satisfy existing pods anti-affinity rules"},
		"others keep a team away":      {"InterPodAffinity", makePod("p", labelled("app", "web"), inNamespace("team-a")), []*v1.Pod{makePod("q", apart("web", amongTeams), onNode("a2"))}, []string{"b1", "n"}, ""},

		"no constraints":        {"PodTopologySpread", makePod("p"), nil, all, ""},
		"even":                  {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule)), []*v1.Pod{web("w", "a1"), web("x", "b1")}, []string{"a1", "a2", "b1"}, spreadReason + " (missing required label)"},
		"uneven":                {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule)), []*v1.Pod{web("w", "a1")}, []string{"b1"}, spreadReason},
		"uneven, skew two":      {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(2, zone, v1.DoNotSchedule)), []*v1.Pod{web("w", "a1")}, []string{"a1", "a2", "b1"}, ""},
		"does not count itself": {"PodTopologySpread", makePod("p", spreads(1, zone, v1.DoNotSchedule)), []*v1.Pod{web("w", "a1")}, []string{"a1", "a2", "b1"}, ""},
		"those who go":          {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule)), []*v1.Pod{web("w", "a1", going)}, []string{"a1", "a2", "b1"}, ""},
		"too few domains":       {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule, minDomains(3))), []*v1.Pod{web("w", "a1"), web("x", "b1")}, nil, spreadReason},
		"two constraints": {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule), spreads(1, v1.LabelHostname, v1.DoNotSchedule)),
			[]*v1.Pod{web("w", "a1"), web("x", "b1")}, []string{"a2"}, ""},
		"what the pod cannot reach does not count": {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule), selects(zone, "a")), []*v1.Pod{web("w", "a1")}, []string{"a1", "a2", "b1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := snapshotOf(fourNodes(), test.running...)
			got, reasons := fits(t, pluginWith(t, test.plugin, snapshot, teamA), test.pod, snapshot)
			if !slices.Equal(got, test.want) {
				t.Errorf("fits on %v, want %v; refused: %v", got, test.want, reasons)
			}
			seen := test.reason == ""
			for _, reason := range reasons {
				seen = seen || reason == test.reason
			}
			if !seen {
				t.Errorf("no node says %q: %v", test.reason, reasons)
			}
		})
	}
}

// A tainted zone that the pod may not enter would for ever be the emptiest one.
func TestSpreadHonorsTaints(t *testing.T) {
	nodes := fourNodes()
	taint("gpu", v1.TaintEffectNoSchedule)(nodes[2])
	running := makePod("w", labelled("app", "web"), onNode("a1"))
	snapshot := snapshotOf(nodes, running)
	plugin := pluginWith(t, "PodTopologySpread", snapshot)
	if got, _ := fits(t, plugin, makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule)), snapshot); !slices.Equal(got, []string{"b1"}) {
		t.Errorf("ignoring taints: fits on %v, want b1", got)
	}
	if got, _ := fits(t, plugin, makePod("p", labelled("app", "web"), spreads(1, zone, v1.DoNotSchedule, honorTaints)), snapshot); !slices.Equal(got, []string{"a1", "a2", "b1"}) {
		t.Errorf("honouring taints: fits on %v, want all with a zone", got)
	}
}

// What preemption changes on a copy of the state must be what PreFilter would have counted.
func TestTopologyStatesFollowPreemption(t *testing.T) {
	w, x := makePod("w", labelled("app", "web"), onNode("a1")), makePod("x", labelled("app", "web"), onNode("b1"))
	for name, pod := range map[string]*v1.Pod{
		"InterPodAffinity":  makePod("p", apart("web")),
		"PodTopologySpread": makePod("p", labelled("app", "web"), spreads(1, v1.LabelHostname, v1.DoNotSchedule)),
	} {
		snapshot := snapshotOf(fourNodes(), w, x)
		plugin := pluginWith(t, name, snapshot)
		state, info := framework.NewCycleState(), framework.NewPodInfo(pod)
		if _, s := plugin.(framework.PreFilterPlugin).PreFilter(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
			t.Fatal(s.Message())
		}
		a1, err := snapshot.Get("a1")
		if err != nil {
			t.Fatal(err)
		}
		filter := func(state *framework.CycleState) bool {
			return plugin.(framework.FilterPlugin).Filter(t.Context(), state, info, a1).IsSuccess()
		}
		extensions := plugin.(framework.PreFilterExtensions)
		trial := state.Clone()
		if filter(trial) {
			t.Errorf("%s: fits beside w", name)
		}
		extensions.RemovePod(t.Context(), trial, info, framework.NewPodInfo(w), a1)
		if !filter(trial) {
			t.Errorf("%s: does not fit without w", name)
		}
		extensions.AddPod(t.Context(), trial, info, framework.NewPodInfo(w), a1)
		if filter(trial) {
			t.Errorf("%s: fits beside w, put back", name)
		}
		if filter(state) {
			t.Errorf("%s: the trial has changed the state itself", name)
		}
	}
}

func TestTopologyScores(t *testing.T) {
	web := func(name, node string, options ...podOption) *v1.Pod {
		return makePod(name, append([]podOption{labelled("app", "web"), onNode(node)}, options...)...)
	}
	isController := true
	owned := func(p *v1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ReplicationController", Name: "rc", Controller: &isController}}
	}
	rc := &v1.ReplicationController{ObjectMeta: metav1.ObjectMeta{Name: "rc"}, Spec: v1.ReplicationControllerSpec{Selector: map[string]string{"app": "web"}}}
	for name, test := range map[string]struct {
		plugin  string
		pod     *v1.Pod
		running []*v1.Pod
		want    map[string]int64
	}{
		"rather near":  {"InterPodAffinity", makePod("p", ratherNear(10, "web")), []*v1.Pod{web("w", "a1")}, map[string]int64{"a1": 100, "a2": 100, "b1": 0, "n": 0}},
		"rather apart": {"InterPodAffinity", makePod("p", ratherApart(10, "web")), []*v1.Pod{web("w", "a1")}, map[string]int64{"a1": 0, "a2": 0, "b1": 100, "n": 100}},
		// Two in zone b against one in a: 20, 10 and 0.
		"the more the better": {"InterPodAffinity", makePod("p", ratherNear(10, "web")), []*v1.Pod{web("w", "a1"), web("x", "b1"), web("y", "b1")}, map[string]int64{"a1": 50, "a2": 50, "b1": 100, "n": 0}},
		"wanted by others":    {"InterPodAffinity", makePod("p", labelled("app", "db")), []*v1.Pod{web("w", "b1", near("db"))}, map[string]int64{"a1": 0, "a2": 0, "b1": 100, "n": 0}},

		// Zones a: 1, b: 0 pods; weight ln 4 of two zones: round(1.386) = 1 against 0.
		"spread over zones": {"PodTopologySpread", makePod("p", labelled("app", "web"), spreads(1, zone, v1.ScheduleAnyway)), []*v1.Pod{web("w", "a1")}, map[string]int64{"a1": 0, "a2": 0, "b1": 100, "n": 0}},
		// The built-in constraints: a1 has the pod, a2 its zone, b1 and n nothing; n is in no zone, and not ignored.
		// Hosts weigh ln 6 = 1.79 (+2), zones ln 4 = 1.39 (+4): a1 9, a2 7, b1 6, n 2 → 100*(9+2-s)/9.
		"by default, with its controller's pods": {"PodTopologySpread", makePod("p", labelled("app", "web"), owned), []*v1.Pod{web("w", "a1")}, map[string]int64{"a1": 22, "a2": 44, "b1": 55, "n": 100}},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := snapshotOf(fourNodes(), test.running...)
			plugin := pluginWith(t, test.plugin, snapshot, rc)
			state, info := framework.NewCycleState(), framework.NewPodInfo(test.pod)
			if s := plugin.(framework.PreScorePlugin).PreScore(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
				t.Fatalf("PreScore: %v %s", s.Code(), s.Message())
			}
			var scores []framework.NodeScore
			for _, n := range snapshot.List() {
				s, status := plugin.(framework.ScorePlugin).Score(t.Context(), state, info, n)
				if !status.IsSuccess() {
					t.Fatal(status.Message())
				}
				scores = append(scores, framework.NodeScore{Name: n.Node().Name, Score: s})
			}
			plugin.(framework.ScoreExtensions).NormalizeScore(t.Context(), state, info, scores)
			for _, s := range scores {
				if s.Score != test.want[s.Name] {
					t.Errorf("%s has %d, want %d", s.Name, s.Score, test.want[s.Name])
				}
			}
		})
	}
}

func TestTopologySkips(t *testing.T) {
	snapshot := snapshotOf(fourNodes(), makePod("w", onNode("a1")))
	for _, name := range []string{"InterPodAffinity", "PodTopologySpread"} {
		plugin := pluginWith(t, name, snapshot)
		info := framework.NewPodInfo(makePod("p"))
		if _, s := plugin.(framework.PreFilterPlugin).PreFilter(t.Context(), framework.NewCycleState(), info, snapshot.List()); !s.IsSkip() {
			t.Errorf("%s does not skip Filter for a plain pod", name)
		}
		if s := plugin.(framework.PreScorePlugin).PreScore(t.Context(), framework.NewCycleState(), info, snapshot.List()); !s.IsSkip() {
			t.Errorf("%s does not skip Score for a plain pod", name)
		}
	}
}

func TestTopologyHints(t *testing.T) {
	labelsChange := framework.ClusterEvent{Resource: framework.AssignedPod, ActionType: framework.UpdatePodLabel}
	nodeLabels := framework.ClusterEvent{Resource: framework.Node, ActionType: framework.UpdateNodeLabel}
	web, other := makePod("w", labelled("app", "web"), onNode("a1")), makePod("w", onNode("a1"))
	spread := makePod("p", spreads(1, zone, v1.DoNotSchedule))
	for name, test := range map[string]struct {
		plugin   string
		event    framework.ClusterEvent
		pod      *v1.Pod
		old, new any
		want     framework.QueueingHint
	}{
		"company comes":             {"InterPodAffinity", framework.EventAssignedPodAdd, makePod("p", near("web")), nil, web, framework.Queue},
		"a stranger comes":          {"InterPodAffinity", framework.EventAssignedPodAdd, makePod("p", near("web")), nil, other, framework.QueueSkip},
		"becomes company":           {"InterPodAffinity", labelsChange, makePod("p", near("web")), other, web, framework.Queue},
		"who was in the way goes":   {"InterPodAffinity", framework.EventAssignedPodDelete, makePod("p", apart("web")), web, nil, framework.Queue},
		"a stranger goes":           {"InterPodAffinity", framework.EventAssignedPodDelete, makePod("p", apart("web")), other, nil, framework.QueueSkip},
		"who kept it away goes":     {"InterPodAffinity", framework.EventAssignedPodDelete, web, makePod("q", apart("web")), nil, framework.Queue},
		"node moves":                {"InterPodAffinity", nodeLabels, makePod("p", near("web")), makeNode("n"), makeNode("n", label(zone, "a")), framework.Queue},
		"node changes colour":       {"InterPodAffinity", nodeLabels, makePod("p", near("web")), makeNode("n"), makeNode("n", label("colour", "red")), framework.QueueSkip},
		"spread: one that counts":   {"PodTopologySpread", framework.EventAssignedPodDelete, spread, web, nil, framework.Queue},
		"spread: one that does not": {"PodTopologySpread", framework.EventAssignedPodDelete, spread, other, nil, framework.QueueSkip},
		"spread: a zone comes":      {"PodTopologySpread", framework.EventNodeAdd, spread, nil, makeNode("n", label(zone, "c")), framework.Queue},
		"spread: no zone":           {"PodTopologySpread", framework.EventNodeAdd, spread, nil, makeNode("n"), framework.QueueSkip},
	} {
		if got := hint(t, pluginWith(t, test.plugin, nil), test.event, test.pod, test.old, test.new); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
