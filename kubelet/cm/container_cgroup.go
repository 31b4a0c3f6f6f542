package cm

import (
	"os"
	"path/filepath"
)

// SysCgroup is where the single tree of cgroup v2 is mounted.
const SysCgroup = "/sys/fs/cgroup"

// ContainerCgroup are the files of cgroup v2 that each container has written, whatever its pod says; none on v1, whose tree has
// no such files:
//
//	memory.swap.max   0: the scheduler counts memory alone, and a container over its limit is to be killed, not to swap (KEP-2400, NoSwap)
//	memory.oom.group  1: the kernel ends all of a container that is out of memory, unless it is told to end a single process
func ContainerCgroup(root string, singleProcessOOMKill bool) map[string]string {
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		return nil
	}
	files := map[string]string{}
	// The machine's own root has no limits: whether the kernel accounts swap shows in a group below.
	for _, pattern := range []string{"memory.swap.max", "*/memory.swap.max"} {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) > 0 {
			files["memory.swap.max"] = "0"
		}
	}
	if !singleProcessOOMKill {
		files["memory.oom.group"] = "1"
	}
	return files
}
