package cm

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/manager"
)

// kernelTree is cgroup v1 or v2, whichever the host has.
type kernelTree struct {
	// levels are the directories of the groups whose children were asked for; where hierarchies are mounted does not change.
	levels *sync.Map
}

func openTree() (tree, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("not root")
	}
	if cgroups.IsCgroup2UnifiedMode() {
		return kernelTree{&sync.Map{}}, nil
	}
	if _, err := cgroups.GetAllSubsystems(); err != nil {
		return nil, err
	}
	return kernelTree{&sync.Map{}}, nil
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
	if cgroups.IsCgroup2UnifiedMode() {
		if err := checkMemory(m.Path(""), limits.Memory); err != nil {
			return err
		}
	}
	return m.Set(resources)
}

// checkMemory refuses to lower a memory limit below what is used. v1's kernel does so itself; v2's would take it, and kill. A
// limit that stays or grows is none of it: with cached files a group is often at its limit.
func checkMemory(dir string, limit int64) error {
	number := func(name string) int64 {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return math.MaxInt64 // "max"
		}
		return n
	}
	used := number("memory.current")
	if limit <= 0 || used == math.MaxInt64 || used < limit || limit >= number("memory.max") {
		return nil
	}
	return fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", limit, used)
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

// dirs are a group's directories, one a hierarchy.
func (t kernelTree) dirs(path string) []string {
	if known, ok := t.levels.Load(path); ok {
		return known.([]string)
	}
	m, _, err := open(path, Limits{})
	if err != nil {
		return nil
	}
	dirs := slices.Collect(maps.Values(m.GetPaths()))
	if len(dirs) > 0 {
		t.levels.Store(path, dirs)
	}
	return dirs
}

func (t kernelTree) children(path string) []string {
	seen := map[string]bool{}
	for _, dir := range t.dirs(path) {
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
