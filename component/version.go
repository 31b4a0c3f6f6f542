package component

import (
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/version"
)

// Version says which Kubernetes this behaves like: that of the k8s.io/api module the binary was built with.
func Version() version.Info {
	gitVersion := "v1.37.2"
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "k8s.io/api" {
				gitVersion = "v1" + strings.TrimPrefix(module.Version, "v0")
			}
		}
	}
	minor := strings.Split(gitVersion, ".")[1]
	return version.Info{
		Major: "1", Minor: minor, EmulationMajor: "1", EmulationMinor: minor, MinCompatibilityMajor: "1", MinCompatibilityMinor: previous(minor),
		GitVersion: gitVersion + "+hyperkube", GitTreeState: "clean",
		GoVersion: runtime.Version(), Compiler: runtime.Compiler, Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// previous is the minor version before another: the oldest that this one can be followed by without surprise.
func previous(minor string) string {
	n, err := strconv.Atoi(minor)
	if err != nil {
		return ""
	}
	return strconv.Itoa(n - 1)
}

// buildInfo shows the version as a metric, which is always 1: which build a figure is of can be asked where the figure is.
func buildInfo() prometheus.Collector {
	v := Version()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kubernetes_build_info", Help: "Which build this is.",
		ConstLabels: prometheus.Labels{
			"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit, "git_tree_state": v.GitTreeState,
			"build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform,
		},
	})
	gauge.Set(1)
	return gauge
}
