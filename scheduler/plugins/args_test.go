package plugins

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"hyperkube/client/informers"
	"hyperkube/scheduler/framework"
	fwruntime "hyperkube/scheduler/framework/runtime"
)

// withArgs makes a plugin with settings as the configuration file has them.
func withArgs(t *testing.T, name, args string, snapshot framework.SharedLister) (framework.Plugin, error) {
	t.Helper()
	factory := informers.NewSharedInformerFactory(fake.NewClientset(), 0)
	handle := &fwruntime.Framework{Options: fwruntime.Options{Snapshot: snapshot, Informers: factory}}
	for _, reg := range NewInTreeRegistry() {
		if reg.Name == name {
			return reg.New(t.Context(), handle, framework.Args(args))
		}
	}
	t.Fatalf("no plugin %q in the table", name)
	return nil, nil
}

func TestArgsChangeScores(t *testing.T) {
	// a: 500m of 1 CPU and 250Mi of 1000Mi used with the pod; b: 250m and 250Mi.
	pod := makePod("p", requests("cpu", "250m", "memory", "250Mi"))
	running := makePod("q", requests("cpu", "250m", "memory", "1"), onNode("a"))
	gpu := makePod("p", requests("example.com/gpu", "1"))
	for name, test := range map[string]struct {
		plugin, args string
		pod          *v1.Pod
		a, b         *v1.Node
		want         []int64
	}{
		"most allocated":     {"NodeResourcesFit", `{"scoringStrategy": {"type": "MostAllocated"}}`, pod, makeNode("a"), makeNode("b"), []int64{37, 25}},
		"CPU counts thrice":  {"NodeResourcesFit", `{"scoringStrategy": {"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 3}, {"name": "memory"}]}}`, pod, makeNode("a"), makeNode("b"), []int64{56, 75}},
		"a line of three":    {"NodeResourcesFit", `{"scoringStrategy": {"type": "RequestedToCapacityRatio", "resources": [{"name": "cpu"}], "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 50, "score": 10}, {"utilization": 100, "score": 0}]}}}`, pod, makeNode("a"), makeNode("b"), []int64{100, 50}},
		"an extended one":    {"NodeResourcesFit", `{"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "example.com/gpu"}]}}`, gpu, makeNode("a", allocatable("example.com/gpu", "4")), makeNode("b", allocatable("example.com/gpu", "2")), []int64{25, 50}},
		"not asked for":      {"NodeResourcesFit", `{"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "example.com/gpu"}]}}`, pod, makeNode("a", allocatable("example.com/gpu", "4")), makeNode("b", allocatable("example.com/gpu", "2")), []int64{0, 0}},
		"balance of CPU":     {"NodeResourcesBalancedAllocation", `{"resources": [{"name": "cpu"}]}`, pod, makeNode("a"), makeNode("b"), []int64{100, 100}},
		"added affinity":     {"NodeAffinity", `{"addedAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}`, pod, makeNode("a", label("disk", "ssd")), makeNode("b"), []int64{100, 0}},
		"spread of the list": {"PodTopologySpread", `{"defaultingType": "List", "defaultConstraints": []}`, pod, makeNode("a"), makeNode("b"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			snapshot := snapshotOf([]*v1.Node{test.a, test.b}, running)
			plugin, err := withArgs(t, test.plugin, test.args, snapshot)
			if err != nil {
				t.Fatal(err)
			}
			state, info := framework.NewCycleState(), framework.NewPodInfo(test.pod)
			if pre, ok := plugin.(framework.PreScorePlugin); ok {
				if s := pre.PreScore(t.Context(), state, info, snapshot.List()); !s.IsSuccess() {
					if s.IsSkip() != (test.want == nil) {
						t.Fatalf("PreScore: %v %v", s.Code(), s.Message())
					}
					return
				}
			}
			var scores []framework.NodeScore
			for _, n := range snapshot.List() {
				s, _ := plugin.(framework.ScorePlugin).Score(t.Context(), state, info, n)
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

func TestArgsChangeFilters(t *testing.T) {
	node := makeNode("n", label("disk", "hdd"))
	for name, test := range map[string]struct {
		plugin, args string
		pod          *v1.Pod
		reason       string
	}{
		"a resource of somebody else's": {"NodeResourcesFit", `{"ignoredResources": ["example.com/gpu"]}`, makePod("p", requests("example.com/gpu", "1")), ""},
		"a group of them":               {"NodeResourcesFit", `{"ignoredResourceGroups": ["example.com"]}`, makePod("p", requests("example.com/gpu", "1")), ""},
		"not that one":                  {"NodeResourcesFit", `{"ignoredResources": ["example.com/tpu"]}`, makePod("p", requests("example.com/gpu", "1")), "Insufficient example.com/gpu"},
		"the profile's own affinity": {"NodeAffinity", `{"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]}}}`,
			makePod("p"), "node(s) didn't match scheduler-enforced node affinity"},
	} {
		plugin, err := withArgs(t, test.plugin, test.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := plugin.(framework.FilterPlugin).Filter(t.Context(), framework.NewCycleState(), framework.NewPodInfo(test.pod), snapshotOf([]*v1.Node{node}).List()[0])
		if got.Message() != test.reason {
			t.Errorf("%s: %q, want %q", name, got.Message(), test.reason)
		}
	}
}

func TestBadArgs(t *testing.T) {
	for args, test := range map[string]struct{ plugin, want string }{
		`{"scoringStrategy": {"type": "Best"}}`:                                {"NodeResourcesFit", `scoringStrategy.type: Unsupported value: "Best"`},
		`{"scoringStrategy": {"type": "RequestedToCapacityRatio"}}`:            {"NodeResourcesFit", "requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"},
		`{"scoringStrategy": {"resources": [{"name": "cpu", "weight": 101}]}}`: {"NodeResourcesFit", "resources[0].weight: Invalid value: 101"},
		`{"ignored": []}`:                {"NodeResourcesFit", `unknown field "ignored"`},
		`{"hardPodAffinityWeight": 101}`: {"InterPodAffinity", "hardPodAffinityWeight: Invalid value: 101"},
		`{"defaultConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}`: {"PodTopologySpread", `defaultingType: Invalid value: "System"`},
		`{"minCandidateNodesPercentage": -1}`: {"DefaultPreemption", "minCandidateNodesPercentage: Invalid value: -1"},
		`{"anything": 1}`:                     {"NodeName", `unknown field "anything"`},
	} {
		if _, err := withArgs(t, test.plugin, args, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", args, err, test.want)
		}
	}
}
