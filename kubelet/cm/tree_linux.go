package cm

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
)

// kernelTree is cgroup v1 or v2, whichever the host has.
type kernelTree struct{}

func openTree() (tree, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("not root")
	}
	if cgroups.IsCgroup2UnifiedMode() {
		return kernelTree{}, nil
	}
	if _, err := cgroups.GetAllSubsystems(); err != nil {
		return nil, err
	}
	return kernelTree{}, nil
}

func open(path string, limits Limits) (cgroups.Manager, *cgroups.Resources, error) {
	resources := &cgroups.Resources{CpuShares: limits.CPUShares, CpuQuota: limits.CPUQuota, Memory: limits.Memory, SkipDevices: true}
	if limits.CPUQuota > 0 {
		resources.CpuPeriod = 100000
	}
	if cgroups.IsCgroup2UnifiedMode() {
		resources.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(limits.CPUShares)
	}
	m, err := manager.New(&cgroups.Cgroup{Path: path, Resources: resources})
	return m, resources, err
}

func (kernelTree) exists(path string) bool {
	m, _, err := open(path, Limits{})
	return err == nil && m.Exists()
}

func (kernelTree) ensure(path string, limits Limits) error {
	m, resources, err := open(path, limits)
	if err != nil {
		return err
	}
	if limits.Pids != 0 {
		resources.PidsLimit = &limits.Pids
	}
	if !m.Exists() {
		if err := m.Apply(-1); err != nil {
			return err
		}
	}
	return m.Set(resources)
}

func (kernelTree) remove(path string) error {
	m, _, err := open(path, Limits{})
	if err != nil {
		return err
	}
	return m.Destroy()
}

func (kernelTree) removeEmpty(path string) {
	m, _, err := open(path, Limits{})
	if err != nil {
		return
	}
	for _, dir := range m.GetPaths() {
		_ = os.Remove(dir) // rmdir refuses what is in use, which is what is wanted
	}
}

func (kernelTree) children(path string) []string {
	m, _, err := open(path, Limits{})
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	for _, dir := range m.GetPaths() {
		entries, err := os.ReadDir(filepath.Clean(dir))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if entry.IsDir() {
				seen[entry.Name()] = true
			}
		}
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	return names
}
