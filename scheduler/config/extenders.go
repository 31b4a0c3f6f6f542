package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"

	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
)

// fitPlugin is the plugin that must not count what an extender does.
const fitPlugin = "NodeResourcesFit"

// readExtenders checks the extenders and makes them. What they manage and the scheduler shall ignore goes into the
// args of NodeResourcesFit, in each profile.
func (f *File) readExtenders() error {
	binders, seen := 0, sets.New[string]()
	var ignored []string
	for i, c := range f.KubeSchedulerConfiguration.Extenders {
		if c.PrioritizeVerb != "" && c.Weight <= 0 {
			return fmt.Errorf("extenders[%d].weight: Invalid value: %d: must have a positive weight applied to it", i, c.Weight)
		}
		if c.BindVerb != "" {
			binders++
		}
		for j, resource := range c.ManagedResources {
			path := fmt.Sprintf("extenders[%d].managedResources[%d].name: Invalid value: %q", i, j, resource.Name)
			if why := validation.IsQualifiedName(resource.Name); len(why) > 0 || !strings.Contains(resource.Name, "/") {
				return fmt.Errorf("%s: %s", path, strings.Join(append(why, "must be an extended resource name"), "; "))
			}
			if seen.Has(resource.Name) {
				return fmt.Errorf("%s: duplicate extender managed resource name", path)
			}
			seen.Insert(resource.Name)
			if resource.IgnoredByScheduler {
				ignored = append(ignored, resource.Name)
			}
		}
		e, err := extender.New(c)
		if err != nil {
			return fmt.Errorf("extenders[%d]: %w", i, err)
		}
		f.Extenders = append(f.Extenders, e)
	}
	if binders > 1 {
		return fmt.Errorf("extenders: Invalid value: \"found %d extenders implementing bind\": only one extender can implement bind", binders)
	}
	return f.ignore(ignored)
}

// ignore adds resources to what NodeResourcesFit does not count.
func (f *File) ignore(resources []string) error {
	for i := range f.Profiles {
		if len(resources) == 0 {
			return nil
		}
		raw := f.Profiles[i].Args[fitPlugin]
		args := map[string]any{}
		if len(raw) > 0 {
			if err := json.Unmarshal(raw, &args); err != nil {
				return fmt.Errorf("profiles[%d]: the args of %s: %w", i, fitPlugin, err)
			}
		}
		before, _ := args["ignoredResources"].([]any)
		all := slices.Clone(before)
		for _, name := range resources {
			all = append(all, name)
		}
		args["ignoredResources"] = all
		merged, err := json.Marshal(args)
		if err != nil {
			return err
		}
		f.Profiles[i].Args[fitPlugin] = framework.Args(merged)
	}
	return nil
}
