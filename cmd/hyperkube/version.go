package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// kubernetesMinor is the minor release whose behaviour we follow.
const kubernetesMinor = "v1.37"

// versionString is v1.37.x+hyperkube, x being that of the k8s.io modules this
// binary is built with.
func versionString() string {
	patch := "0"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "k8s.io/api" {
				patch = dep.Version[strings.LastIndex(dep.Version, ".")+1:]
			}
		}
	}
	return fmt.Sprintf("%s.%s+hyperkube", kubernetesMinor, patch)
}

func runVersion(context.Context, []string) error {
	commit := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				commit = setting.Value
			}
		}
	}
	fmt.Printf("hyperkube %s\ncommit %s\n%s %s/%s\n", versionString(), commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
