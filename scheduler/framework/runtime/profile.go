package runtime

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// Profile is a scheduler name with its selection of the plugins. The zero value is
// every plugin of the table, at each point where it has the method.
type Profile struct {
	// SchedulerName is the spec.schedulerName of its pods.
	SchedulerName string
	// Plugins changes the selection.
	Plugins configv1.Plugins
	// Args are the settings of plugins, by name.
	Args map[string]framework.Args
	// PercentageOfNodesToScore as in the scheduler's Config; nil: as there.
	PercentageOfNodesToScore *int32
}

// choice is a plugin at an extension point.
type choice struct {
	name   string
	weight int64 // 0: the profile does not name it; as in the table
	// explicit says that the profile names it at this very point: it must have the method.
	explicit bool
}

// multiPoint are the plugins that take part wherever they can: the table's, less the
// disabled ones, then those that the profile adds. One that is in both gets the profile's weight.
func (p *Profile) multiPoint(table []Registration) []choice {
	var choices []choice
	set := p.Plugins.MultiPoint
	for _, reg := range table {
		added := slices.ContainsFunc(set.Enabled, func(e configv1.Plugin) bool { return e.Name == reg.Name })
		if !reg.Optional && !added && !disables(set, reg.Name) {
			choices = append(choices, choice{name: reg.Name})
		}
	}
	for _, e := range set.Enabled {
		c := choice{name: e.Name, weight: weightOf(e)}
		at := slices.IndexFunc(table, func(r Registration) bool { return r.Name == e.Name })
		if at >= 0 && !table[at].Optional && !disables(set, e.Name) {
			choices = insertInOrder(choices, c, table)
			continue
		}
		choices = append(choices, c)
	}
	return choices
}

// insertInOrder keeps a plugin of the table in its place though the profile names it.
func insertInOrder(choices []choice, c choice, table []Registration) []choice {
	place := func(name string) int {
		return slices.IndexFunc(table, func(r Registration) bool { return r.Name == name })
	}
	at := slices.IndexFunc(choices, func(other choice) bool { return place(other.name) > place(c.name) })
	if at < 0 {
		at = len(choices)
	}
	return slices.Insert(choices, at, c)
}

// uses says whether a plugin takes part anywhere.
func (p *Profile) uses(everywhere []choice, name string) bool {
	if slices.ContainsFunc(everywhere, func(c choice) bool { return c.name == name }) {
		return true
	}
	for _, set := range PointsOf(&p.Plugins) {
		if slices.ContainsFunc(set.Enabled, func(e configv1.Plugin) bool { return e.Name == name }) {
			return true
		}
	}
	return false
}

// at are the plugins of one extension point, in calling order: first those that the
// profile names there though they take part anyway, so that their order can be chosen;
// then those that take part anyway; then those that only the profile adds.
func (p *Profile) at(everywhere []choice, set configv1.PluginSet) []choice {
	var first, last []choice
	for _, e := range set.Enabled {
		c := choice{name: e.Name, weight: weightOf(e), explicit: true}
		if slices.ContainsFunc(everywhere, func(other choice) bool { return other.name == e.Name }) {
			first = append(first, c)
		} else {
			last = append(last, c)
		}
	}
	middle := slices.DeleteFunc(slices.Clone(everywhere), func(c choice) bool {
		return disables(set, c.name) || slices.ContainsFunc(first, func(f choice) bool { return f.name == c.name })
	})
	return slices.Concat(first, middle, last)
}

func disables(set configv1.PluginSet, name string) bool {
	return slices.ContainsFunc(set.Disabled, func(d configv1.Plugin) bool { return d.Name == name || d.Name == "*" })
}

// weightOf is the weight of a plugin that the profile names. Without one it is 1, not the table's: to name TaintToleration at score
// to have it first makes it weigh 1 instead of 3, as in kube-scheduler.
func weightOf(p configv1.Plugin) int64 {
	if p.Weight == nil || *p.Weight == 0 {
		return 1
	}
	return int64(*p.Weight)
}

// validate refuses names that are in no table. Args for a plugin that does not exist are no error, as in kube-scheduler:
// a file may be written for a scheduler with more plugins; unknownArgs names them.
func (p *Profile) validate(table []Registration) error {
	points := PointsOf(&p.Plugins)
	for _, point := range slices.Sorted(maps.Keys(points)) {
		seen := map[string]bool{}
		for _, e := range points[point].Enabled {
			if !slices.ContainsFunc(table, func(r Registration) bool { return r.Name == e.Name }) {
				return fmt.Errorf("%s %q does not exist", pluginType(point), e.Name)
			}
			if seen[e.Name] {
				return fmt.Errorf("plugin %q already registered as %q", e.Name, pluginType(point))
			}
			seen[e.Name] = true
		}
	}
	return nil
}

// unknownArgs are the plugins that have args and are in no table.
func (p *Profile) unknownArgs(table []Registration) []string {
	names := slices.Sorted(maps.Keys(p.Args))
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(table, func(r Registration) bool { return r.Name == name })
	})
}

// pluginType is the name of the interface of an extension point: FilterPlugin for filter.
func pluginType(point string) string {
	if point == "multiPoint" {
		return "Plugin"
	}
	return strings.ToUpper(point[:1]) + point[1:] + "Plugin"
}

// PointsOf are the plugin sets of a profile, by the name of the extension point in the file.
func PointsOf(p *configv1.Plugins) map[string]configv1.PluginSet {
	return map[string]configv1.PluginSet{
		"multiPoint": p.MultiPoint, "preEnqueue": p.PreEnqueue, "queueSort": p.QueueSort, "preFilter": p.PreFilter, "filter": p.Filter,
		"postFilter": p.PostFilter, "preScore": p.PreScore, "score": p.Score, "reserve": p.Reserve, "permit": p.Permit,
		"preBind": p.PreBind, "bind": p.Bind, "postBind": p.PostBind,
	}
}
