package scheduler

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"

	"hyperkube/scheduler/config"
	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
	"hyperkube/scheduler/plugins"
)

// The samples have the shapes that kube-scheduler's documents and tests show: each must load unchanged, and mean the same.

// quiet takes part wherever a plugin of the documents does that is nobody's in particular.
type quiet struct{ name string }

func (p quiet) Name() string { return p.name }
func (p quiet) PreFilter(context.Context, *framework.CycleState, *framework.PodInfo, []*framework.NodeInfo) (*framework.PreFilterResult, *framework.Status) {
	return nil, nil
}
func (p quiet) Filter(context.Context, *framework.CycleState, *framework.PodInfo, *framework.NodeInfo) *framework.Status {
	return nil
}
func (p quiet) PreScore(context.Context, *framework.CycleState, *framework.PodInfo, []*framework.NodeInfo) *framework.Status {
	return nil
}
func (p quiet) Score(context.Context, *framework.CycleState, *framework.PodInfo, *framework.NodeInfo) (int64, *framework.Status) {
	return 0, nil
}
func (p quiet) Reserve(context.Context, *framework.CycleState, *v1.Pod, string) *framework.Status {
	return nil
}
func (p quiet) Unreserve(context.Context, *framework.CycleState, *v1.Pod, string) {}

// oldest is another order of the queue.
type oldest struct{}

func (oldest) Name() string                            { return "OldestFirst" }
func (oldest) Less(a, b *framework.QueuedPodInfo) bool { return a.Timestamp.Before(b.Timestamp) }

// withSamplePlugins is the table with the plugins that the samples name besides.
func withSamplePlugins() []runtime.Registration {
	table := plugins.NewInTreeRegistry()
	for _, p := range []framework.Plugin{quiet{"LikesQuietNodes"}, quiet{"LikesNewNodes"}, oldest{}} {
		table = append(table, runtime.Registration{Name: p.Name(), Optional: true, New: func(context.Context, framework.Handle, framework.Args) (framework.Plugin, error) {
			return p, nil
		}})
	}
	return table
}

// loadSample reads a file and makes the plugins of its profiles.
func loadSample(t *testing.T, name string) (*config.File, *Scheduler) {
	t.Helper()
	file, err := config.Load(filepath.Join("testdata", "config", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Profiles: file.Profiles, Extenders: file.Extenders, Plugins: withSamplePlugins()}
	if err := CheckProfiles(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cfg.Client = fake.NewClientset()
	sched, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := sched.buildFrameworks(t.Context(), func(string) events.EventRecorder { return nil }); err != nil {
		t.Fatal(err)
	}
	return file, sched
}

// The plugins of the default profile, where a sample changes them.
var (
	defaultFilters   = []string{"NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit", "VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone", "PodTopologySpread", "InterPodAffinity"}
	defaultPreScores = []string{"TaintToleration", "NodeAffinity", "VolumeBinding", "PodTopologySpread", "InterPodAffinity", "NodeResourcesBalancedAllocation", "ImageLocality"}
	defaultScores    = []string{"TaintToleration", "NodeAffinity", "NodeResourcesFit", "VolumeBinding", "PodTopologySpread", "InterPodAffinity", "NodeResourcesBalancedAllocation", "ImageLocality"}
	defaultWeights   = map[string]int64{"TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "VolumeBinding": 1, "PodTopologySpread": 2, "InterPodAffinity": 2, "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1}
)

func but(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

func first(name string, list []string) []string { return append([]string{name}, but(list, name)...) }

func weighing(changes map[string]int64) map[string]int64 {
	weights := maps.Clone(defaultWeights)
	maps.Copy(weights, changes)
	maps.DeleteFunc(weights, func(_ string, w int64) bool { return w == 0 })
	return weights
}

func TestSamplesChoosePlugins(t *testing.T) {
	quietAdded := weighing(map[string]int64{"LikesQuietNodes": 1})
	for _, test := range []struct {
		file, profile string
		plugins       map[string][]string // by extension point
		weights       map[string]int64
	}{
		{"minimal", "default-scheduler", map[string][]string{"Filter": defaultFilters, "PreScore": defaultPreScores, "Score": defaultScores, "QueueSort": {"PrioritySort"}, "Bind": {"DefaultBinder"}, "PostFilter": {"DefaultPreemption"}, "PreEnqueue": {"SchedulingGates"}}, defaultWeights},
		{"custom-scores", "default-scheduler", map[string][]string{"Score": append(but(defaultScores, "PodTopologySpread"), "LikesQuietNodes", "LikesNewNodes"), "PreScore": defaultPreScores},
			weighing(map[string]int64{"PodTopologySpread": 0, "LikesQuietNodes": 2, "LikesNewNodes": 1})},
		{"two-profiles", "default-scheduler", map[string][]string{"Score": defaultScores}, defaultWeights},
		{"two-profiles", "first-fit-scheduler", map[string][]string{"Score": nil, "PreScore": nil, "Filter": defaultFilters}, map[string]int64{}},
		{"multipoint", "quiet-scheduler", map[string][]string{"Filter": append(slices.Clone(defaultFilters), "LikesQuietNodes"), "Reserve": {"VolumeBinding", "LikesQuietNodes"}}, quietAdded},
		{"multipoint-as-single-points", "quiet-scheduler", map[string][]string{"Filter": append(slices.Clone(defaultFilters), "LikesQuietNodes"), "Reserve": {"VolumeBinding"}}, quietAdded},
		{"multipoint-without-scores", "quiet-scheduler", map[string][]string{"Filter": append(slices.Clone(defaultFilters), "LikesQuietNodes"), "Score": nil, "PreScore": nil}, map[string]int64{}},
		{"multipoint-reordered", "image-scheduler", map[string][]string{"Score": append([]string{"ImageLocality", "TaintToleration"}, but(but(defaultScores, "ImageLocality"), "TaintToleration")...)}, weighing(map[string]int64{"ImageLocality": 5, "TaintToleration": 1})},
		{"multipoint-precedence", "mixed-scheduler", map[string][]string{"QueueSort": {"OldestFirst"}, "Filter": append(but(defaultFilters, "NodePorts"), "LikesQuietNodes", "LikesNewNodes"),
			"Score": append(first("ImageLocality", defaultScores), "LikesQuietNodes", "LikesNewNodes")}, weighing(map[string]int64{"LikesQuietNodes": 3, "LikesNewNodes": 1})},
		{"reserve-and-prebind", "without-volumes", map[string][]string{"Reserve": {"LikesQuietNodes"}, "PreBind": nil, "Filter": defaultFilters}, defaultWeights},
		{"reserve-and-prebind", "volumes-reserved-first", map[string][]string{"Reserve": {"VolumeBinding"}, "PreBind": {"VolumeBinding"}}, defaultWeights},
		{"every-field", "default-scheduler", map[string][]string{"Filter": first("NodeName", defaultFilters), "Score": first("NodeAffinity", but(defaultScores, "ImageLocality"))}, weighing(map[string]int64{"NodeAffinity": 4, "ImageLocality": 0})},
	} {
		t.Run(test.file+" "+test.profile, func(t *testing.T) {
			_, sched := loadSample(t, test.file)
			fw := sched.frameworks[test.profile]
			if fw == nil {
				t.Fatalf("no profile %s among %v", test.profile, slices.Sorted(maps.Keys(sched.frameworks)))
			}
			for point, want := range test.plugins {
				if got := fw.ListPlugins()[point]; !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", point, got, want)
				}
			}
			if got := fw.ScoreWeights(); !maps.Equal(got, test.weights) {
				t.Errorf("weights %v, want %v", got, test.weights)
			}
		})
	}
}

func TestSamplesGiveArgs(t *testing.T) {
	for file, want := range map[string]struct{ profile, plugin, args string }{
		"added-affinity": {"night-scheduler", "NodeAffinity", `{"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "shift", "operator": "In", "values": ["night"]}]}]},
			"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 10, "preference": {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["node-1"]}]}}]}}`},
		"most-allocated":              {"default-scheduler", "NodeResourcesFit", `{"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}, {"name": "example.com/fpga", "weight": 3}]}}`},
		"requested-to-capacity-ratio": {"default-scheduler", "NodeResourcesFit", `{"scoringStrategy": {"type": "RequestedToCapacityRatio", "resources": [{"name": "example.com/fpga", "weight": 5}, {"name": "example.com/gpu"}], "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 60, "score": 10}, {"utilization": 100, "score": 2}]}}}`},
		"extended-resource-scores":    {"default-scheduler", "NodeResourcesFit", `{"ignoredResources": ["example.com/license"], "ignoredResourceGroups": ["licenses.example.com"], "scoringStrategy": {"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 1}, {"name": "example.com/gpu", "weight": 1}]}}`},
		"spread-list":                 {"default-scheduler", "PodTopologySpread", `{"defaultingType": "List", "defaultConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}, {"maxSkew": 3, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}]}`},
		"spread-system":               {"default-scheduler", "PodTopologySpread", `{"defaultingType": "System"}`},
		"spread-nothing":              {"default-scheduler", "PodTopologySpread", `{"defaultingType": "List", "defaultConstraints": []}`},
		"reserve-and-prebind":         {"without-volumes", "InterPodAffinity", `{"hardPodAffinityWeight": 2, "ignorePreferredTermsOfExistingPods": true}`},
		"extenders":                   {"default-scheduler", "NodeResourcesFit", `{"ignoredResources": ["example.com/fpga"]}`},
	} {
		loaded, _ := loadSample(t, file)
		at := slices.IndexFunc(loaded.Profiles, func(p runtime.Profile) bool { return p.SchedulerName == want.profile })
		if at < 0 {
			t.Errorf("%s: no profile %s", file, want.profile)
			continue
		}
		var got, wanted any
		if err := json.Unmarshal(loaded.Profiles[at].Args[want.plugin], &got); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := json.Unmarshal([]byte(want.args), &wanted); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, wanted) {
			t.Errorf("%s: the args of %s are %v, want %v", file, want.plugin, got, wanted)
		}
	}
}

func TestSamplesOfTheWholeScheduler(t *testing.T) {
	election, _ := loadSample(t, "leader-election")
	if l := election.LeaderElection; l.ResourceNamespace != "batch" || l.ResourceName != "batch-scheduler" || l.LeaseDuration.Duration != 30*time.Second || !*l.LeaderElect {
		t.Errorf("leader election %+v", l)
	}
	share, sched := loadSample(t, "percentage")
	if *share.PercentageOfNodesToScore != 50 || *sched.frameworks["default-scheduler"].PercentageOfNodesToScore() != 20 {
		t.Errorf("percentage %d", *share.PercentageOfNodesToScore)
	}
	every, _ := loadSample(t, "every-field")
	if every.PodInitialBackoff() != 2*time.Second || every.PodMaxBackoff() != 20*time.Second || *every.LeaderElection.LeaderElect {
		t.Errorf("backoff %v to %v", every.PodInitialBackoff(), every.PodMaxBackoff())
	}
	asked, _ := loadSample(t, "extenders")
	if len(asked.Extenders) != 2 || !asked.Extenders[0].IsBinder() || !asked.Extenders[0].IsIgnorable() || asked.Extenders[1].IsBinder() || !asked.Extenders[1].IsFilter() {
		t.Errorf("extenders %+v", asked.Extenders)
	}
}

// Every sample is used above, by its name.
func TestEverySampleLoads(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("testdata", "config"))
	if err != nil || len(entries) == 0 {
		t.Fatal(len(entries), err)
	}
	for _, e := range entries {
		loadSample(t, strings.TrimSuffix(e.Name(), ".yaml"))
	}
}

// What the file format allows and the plugins do not: known before anything runs, in kube-scheduler's words.
func TestProfilesThatCannotRun(t *testing.T) {
	const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n"
	for text, want := range map[string]string{
		"- plugins: {score: {enabled: [{name: MyPlugin}]}}":                                                                                                          `initializing profiles: creating profile for scheduler name default-scheduler: ScorePlugin "MyPlugin" does not exist`,
		"- plugins: {multiPoint: {enabled: [{name: MyPlugin}]}}":                                                                                                     `Plugin "MyPlugin" does not exist`,
		"- plugins: {score: {enabled: [{name: NodeName}]}}":                                                                                                          `plugin "NodeName" does not extend ScorePlugin plugin`,
		"- plugins: {filter: {enabled: [{name: NodeName}, {name: NodeName}]}}":                                                                                       `plugin "NodeName" already registered as "FilterPlugin"`,
		"- plugins: {bind: {disabled: [{name: DefaultBinder}]}}":                                                                                                     `at least one bind plugin is needed for profile with scheduler name "default-scheduler"`,
		"- plugins: {queueSort: {disabled: [{name: '*'}]}}":                                                                                                          `only one queue sort plugin required for profile with scheduler name "default-scheduler", but got 0`,
		"- plugins: {score: {enabled: [{name: ImageLocality, weight: 2147483647}]}}\n  schedulerName: a":                                                             "",
		"- pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]":                                                                             `initializing plugin "InterPodAffinity": hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]`,
		"- pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: null}}]":                                                                            "",
		"- pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]":                                                                          `scoringStrategy.type: Unsupported value: "Best"`,
		"- pluginConfig: [{name: NodeResourcesFit, args: {ignoredResourceGroups: [example.com/a]}}]":                                                                 `ignoredResourceGroups[0]: Invalid value: "example.com/a": resource group name can't contain '/'`,
		"- pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {requestedToCapacityRatio: {}}}}]":                                                        `scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio`,
		"- pluginConfig: [{name: NodeResourcesBalancedAllocation, args: {resources: [{name: cpu, weight: 2}]}}]":                                                     `resources[0].weight: Invalid value: 2: must be 1`,
		"- pluginConfig: [{name: PodTopologySpread, args: {defaultingType: List, defaultConstraints: [{maxSkew: 0, topologyKey: zone, whenUnsatisfiable: Maybe}]}}]": `[defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf), defaultConstraints[0].whenUnsatisfiable: Unsupported value: "Maybe"`,
		"- pluginConfig: [{name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}}]":                                          `cannot be zero at the same time as minCandidateNodesAbsolute`,
		"- pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: -1}}]":                                                                                    `bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value`,
		"- {schedulerName: a}\n- {schedulerName: b, plugins: {queueSort: {disabled: [{name: '*'}], enabled: [{name: OldestFirst}]}}}":                                "they must be the same",
	} {
		file, err := config.Read([]byte(head + text))
		if err != nil {
			t.Errorf("%s: refused before its plugins were looked at: %v", text, err)
			continue
		}
		err = CheckProfiles(t.Context(), Config{Profiles: file.Profiles, Plugins: withSamplePlugins()})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
}
