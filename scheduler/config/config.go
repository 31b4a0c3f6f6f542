// Package config reads the scheduler's configuration file: KubeSchedulerConfiguration
// kubescheduler.config.k8s.io/v1, as kube-scheduler takes it.
//
//	apiVersion: kubescheduler.config.k8s.io/v1
//	kind: KubeSchedulerConfiguration
//	profiles:
//	- schedulerName: default-scheduler
//	- schedulerName: packing                  # pods choose it by spec.schedulerName
//	  pluginConfig:
//	  - name: NodeResourcesFit
//	    args: {scoringStrategy: {type: MostAllocated}}
//
// What is unknown is an error with its path; what is known and does not act here (File.Ignored) is
// logged at the start; nothing is left out in silence. Plugins read their
// own args (framework.Args), so that a plugin of one's own can have some.
//
// Read first: `scheduler/config/config.go:Read`.
//
// In Kubernetes: pkg/scheduler/apis/config (loading, defaults, validation; there with an
// internal version and conversions). Left out:
// what File.Ignored names.
package config

import (
	"fmt"
	"os"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	configv1 "k8s.io/kube-scheduler/config/v1"
	kubejson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"hyperkube/scheduler/extender"
	"hyperkube/scheduler/framework"
	"hyperkube/scheduler/framework/runtime"
)

// File is what a configuration file says.
type File struct {
	configv1.KubeSchedulerConfiguration
	Profiles  []runtime.Profile
	Extenders []*extender.Extender
}

// Load reads the file at path.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the scheduler's configuration: %w", err)
	}
	file, err := Read(data)
	if err != nil {
		return nil, fmt.Errorf("the scheduler's configuration %s: %w", path, err)
	}
	return file, nil
}

// Read takes a configuration as YAML or JSON, checks it, and sets its defaults.
func Read(data []byte) (*File, error) {
	file := &File{}
	if err := decode(data, &file.KubeSchedulerConfiguration); err != nil {
		return nil, err
	}
	if err := file.validate(); err != nil {
		return nil, err
	}
	if err := file.readProfiles(); err != nil {
		return nil, err
	}
	return file, file.readExtenders()
}

// decode reads the configuration, with kube-scheduler's words for what it cannot read. The kind is looked at
// first: that a file is of an older version helps more than the names of fields that v1 has not.
func decode(data []byte, into *configv1.KubeSchedulerConfiguration) error {
	loose, err := yaml.YAMLToJSON(data)
	if err != nil {
		return err
	}
	var meta metav1.TypeMeta
	if err := kubejson.UnmarshalCaseSensitivePreserveInts(loose, &meta); err != nil {
		return err
	}
	switch {
	case meta.Kind == "":
		return kruntime.NewMissingKindErr(string(loose))
	case meta.APIVersion == "":
		return kruntime.NewMissingVersionErr(string(loose))
	case meta.Kind != "KubeSchedulerConfiguration" || meta.APIVersion != configv1.SchemeGroupVersion.String():
		return fmt.Errorf("no kind %q is registered for version %q: it must be a KubeSchedulerConfiguration of %s", meta.Kind, meta.APIVersion, configv1.SchemeGroupVersion)
	}
	var faults []error
	if _, err := yaml.YAMLToJSONStrict(data); err != nil {
		faults = append(faults, err) // a key that is there twice
	}
	strict, err := kubejson.UnmarshalStrict(loose, into)
	if err != nil {
		return err
	}
	if faults = append(faults, strict...); len(faults) > 0 {
		return kruntime.NewStrictDecodingError(faults)
	}
	return nil
}

// Ignored are the fields that are set and mean nothing here, each with the reason. Files written for
// kube-scheduler load all the same.
func (f *File) Ignored() []string {
	var ignored []string
	say := func(set bool, field, why string) {
		if set {
			ignored = append(ignored, field+": "+why)
		}
	}
	c := f.ClientConnection
	say(c.Kubeconfig != "", "clientConnection.kubeconfig", "the flag --kubeconfig says it")
	say(c.QPS != 0 || c.Burst != 0, "clientConnection.qps and burst", "the client has no limit; the apiserver's priority and fairness does the limiting")
	say(c.ContentType != "" || c.AcceptContentTypes != "", "clientConnection's content types", "the flag --kube-api-content-type says it")
	say(f.Parallelism != nil, "parallelism", "it is the number of processors")
	say(f.EnableProfiling != nil || f.EnableContentionProfiling != nil, "enableProfiling and enableContentionProfiling", "/debug/pprof is always there, for its owner")
	say(f.DelayCacheUntilActive, "delayCacheUntilActive", "the cache is filled from the start, so that a takeover is quick")
	for i, p := range f.KubeSchedulerConfiguration.Profiles {
		if p.Plugins == nil {
			continue
		}
		groups := slices.Concat(p.Plugins.PlacementGenerate.Enabled, p.Plugins.PlacementScore.Enabled, p.Plugins.PodGroupPostFilter.Enabled)
		say(len(groups) > 0, fmt.Sprintf("profiles[%d].plugins: placementGenerate, placementScore and podGroupPostFilter", i), "pods are placed one by one, not as groups")
	}
	return ignored
}

// PodInitialBackoff is the wait after a pod's first refusal; 0: as the scheduler likes.
func (f *File) PodInitialBackoff() time.Duration { return seconds(f.PodInitialBackoffSeconds) }

// PodMaxBackoff is the longest wait; 0: as the scheduler likes.
func (f *File) PodMaxBackoff() time.Duration { return seconds(f.PodMaxBackoffSeconds) }

func seconds(n *int64) time.Duration {
	if n == nil {
		return 0
	}
	return time.Duration(*n) * time.Second
}

// readProfiles turns the profiles into the framework's. Without one there is the default.
func (f *File) readProfiles() error {
	profiles := f.KubeSchedulerConfiguration.Profiles
	if len(profiles) == 0 {
		profiles = []configv1.KubeSchedulerProfile{{}}
	}
	names := map[string]int{}
	for i, p := range profiles {
		profile := runtime.Profile{SchedulerName: "default-scheduler", PercentageOfNodesToScore: p.PercentageOfNodesToScore, Args: map[string]framework.Args{}}
		if p.SchedulerName != nil {
			profile.SchedulerName = *p.SchedulerName
		} else if len(profiles) > 1 {
			return fmt.Errorf("profiles[%d].schedulerName: Required value", i)
		}
		if first, twice := names[profile.SchedulerName]; twice {
			return fmt.Errorf("profiles[%d].schedulerName: Duplicate value: \"profiles[%d].schedulerName\"", i, first)
		}
		names[profile.SchedulerName] = i
		if n := p.PercentageOfNodesToScore; n != nil && (*n < 0 || *n > 100) {
			return fmt.Errorf("profiles[%d].percentageOfNodesToScore: Invalid value: %d: not in valid range [0-100]", i, *n)
		}
		if p.Plugins != nil {
			profile.Plugins = *p.Plugins
		}
		if err := checkRemoved(p); err != nil {
			return fmt.Errorf("profiles[%d].%w", i, err)
		}
		for j, c := range p.PluginConfig {
			if _, twice := profile.Args[c.Name]; twice {
				return fmt.Errorf("profiles[%d].pluginConfig[%d]: Duplicate value: %q", i, j, c.Name)
			}
			if err := checkArgsKind(c); err != nil {
				return fmt.Errorf("profiles[%d].pluginConfig[%d].args: %w", i, j, err)
			}
			profile.Args[c.Name] = framework.Args(c.Args.Raw)
		}
		f.Profiles = append(f.Profiles, profile)
	}
	return nil
}

// checkArgsKind refuses the args of another plugin. They need not say of which they are.
func checkArgsKind(c configv1.PluginConfig) error {
	var typed struct {
		Kind string `json:"kind"`
	}
	if len(c.Args.Raw) == 0 {
		return nil
	}
	if err := kubejson.UnmarshalCaseSensitivePreserveInts(c.Args.Raw, &typed); err != nil {
		return err
	}
	if typed.Kind != "" && typed.Kind != c.Name+"Args" {
		return fmt.Errorf("args for plugin %s were not of type %sArgs, got %s", c.Name, c.Name, typed.Kind)
	}
	return nil
}
