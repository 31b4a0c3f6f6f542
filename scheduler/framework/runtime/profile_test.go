package runtime

import (
	"context"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// filterOnly takes part in Filter alone.
type filterOnly struct{ name string }

func (p filterOnly) Name() string { return p.name }
func (p filterOnly) Filter(context.Context, *framework.CycleState, *framework.PodInfo, *framework.NodeInfo) *framework.Status {
	return nil
}

// needed has what every profile needs, and scores.
type needed struct{ name string }

func (p needed) Name() string                            { return p.name }
func (p needed) Less(a, b *framework.QueuedPodInfo) bool { return false }
func (p needed) Bind(context.Context, *framework.CycleState, *v1.Pod, string) *framework.Status {
	return nil
}
func (p needed) Score(context.Context, *framework.CycleState, *framework.PodInfo, *framework.NodeInfo) (int64, *framework.Status) {
	return 0, nil
}

func set(enabled string, disabled ...string) configv1.PluginSet {
	var s configv1.PluginSet
	for _, name := range strings.Fields(enabled) {
		s.Enabled = append(s.Enabled, configv1.Plugin{Name: name})
	}
	for _, name := range disabled {
		s.Disabled = append(s.Disabled, configv1.Plugin{Name: name})
	}
	return s
}

func TestProfilesSelectPlugins(t *testing.T) {
	optional := line(filterOnly{"O"}, 1)
	optional.Optional = true
	table := []Registration{line(needed{"N"}, 2), line(filterOnly{"A"}, 1), line(filterOnly{"B"}, 1), line(filterOnly{"C"}, 1), optional}
	heavy := int32(7)
	for name, test := range map[string]struct {
		plugins configv1.Plugins
		filter  []string
		weight  int64 // of N
	}{
		"all":                            {configv1.Plugins{}, []string{"A", "B", "C"}, 2},
		"one disabled":                   {configv1.Plugins{Filter: set("", "B")}, []string{"A", "C"}, 2},
		"one disabled everywhere":        {configv1.Plugins{MultiPoint: set("", "B")}, []string{"A", "C"}, 2},
		"all disabled, some enabled":     {configv1.Plugins{Filter: set("C A", "*")}, []string{"C", "A"}, 2},
		"order chosen":                   {configv1.Plugins{Filter: set("C")}, []string{"C", "A", "B"}, 2},
		"an optional one at a point":     {configv1.Plugins{Filter: set("O")}, []string{"A", "B", "C", "O"}, 2},
		"an optional one everywhere":     {configv1.Plugins{MultiPoint: set("O")}, []string{"A", "B", "C", "O"}, 2},
		"weight everywhere":              {configv1.Plugins{MultiPoint: configv1.PluginSet{Enabled: []configv1.Plugin{{Name: "N", Weight: &heavy}}}}, []string{"A", "B", "C"}, 7},
		"weight at the point":            {configv1.Plugins{Score: configv1.PluginSet{Enabled: []configv1.Plugin{{Name: "N", Weight: &heavy}}}}, []string{"A", "B", "C"}, 7},
		"disabled, and back at a point":  {configv1.Plugins{MultiPoint: set("", "A"), Filter: set("A")}, []string{"B", "C", "A"}, 2},
		"disabled by name, then by star": {configv1.Plugins{Filter: set("", "A", "*")}, nil, 2},
	} {
		f, err := NewFramework(t.Context(), table, Profile{Plugins: test.plugins}, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := f.ListPlugins()["Filter"]; !slices.Equal(got, test.filter) {
			t.Errorf("%s: filters are %v, want %v", name, got, test.filter)
		}
		if f.weights["N"] != test.weight {
			t.Errorf("%s: N weighs %d, want %d", name, f.weights["N"], test.weight)
		}
	}
}

func TestBadProfiles(t *testing.T) {
	table := []Registration{line(needed{"N"}, 2), line(filterOnly{"A"}, 1)}
	for name, test := range map[string]struct {
		profile Profile
		want    string
	}{
		"unknown plugin": {Profile{Plugins: configv1.Plugins{Filter: set("X")}}, `FilterPlugin "X" does not exist`},
		"wrong point":    {Profile{Plugins: configv1.Plugins{Score: set("A")}}, `plugin "A" does not extend ScorePlugin plugin`},
		"enabled twice":  {Profile{Plugins: configv1.Plugins{Filter: set("A A")}}, `plugin "A" already registered as "FilterPlugin"`},
		"no bind":        {Profile{Plugins: configv1.Plugins{Bind: set("", "*")}}, `at least one bind plugin is needed for profile with scheduler name ""`},
		"no order":       {Profile{Plugins: configv1.Plugins{QueueSort: set("", "*")}}, `only one queue sort plugin required for profile with scheduler name "", but got 0`},
	} {
		if _, err := NewFramework(t.Context(), table, test.profile, Options{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
