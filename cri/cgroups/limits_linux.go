package cgroups

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits are what a group's processes may take. Zero leaves a limit as it is;
// -1 takes it away.
type Limits struct {
	CPUShares  int64 // relative weight, 2 to 262144, in cgroup v1's terms; 1024 is one CPU
	CPUQuota   int64 // µs of CPU time in each CPUPeriod
	CPUPeriod  int64 // µs
	Memory     int64 // bytes
	MemorySwap int64 // bytes of memory and swap together
	Pids       int64
	CPUs, Mems string            // lists, such as "0-2,7"
	HugePages  map[string]uint64 // bytes, by page size as in "2MB"; of those reserved too, so that mmap fails and not the first use
	Unified    map[string]string // cgroup v2 files, written as they are
}

// setting is one value for one file.
type setting struct{ controller, file, value string }

// Apply sets a group's limits. A controller that the host lacks is passed over.
func (h *Host) Apply(group string, l Limits) error {
	settings := l.v1()
	if h.V2() {
		settings = l.v2()
	}
	for _, s := range settings {
		dir := filepath.Join(h.Unified, group)
		if !h.V2() {
			if h.Trees[s.controller] == "" {
				continue
			}
			dir = filepath.Join(h.Trees[s.controller], group)
		}
		err := write(dir, s.file, s.value)
		if errors.Is(err, unix.EINVAL) && s.controller == "memory" && !h.V2() {
			// v1 wants memory <= memory and swap at every moment: the other one goes first then.
			err = h.applyMemoryInReverse(dir, settings)
		}
		if errors.Is(err, fs.ErrNotExist) && h.Exists(group) {
			continue // no such controller, or no swap accounting, in this kernel
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) applyMemoryInReverse(dir string, settings []setting) error {
	for i := len(settings) - 1; i >= 0; i-- {
		if settings[i].controller != "memory" {
			continue
		}
		if err := write(dir, settings[i].file, settings[i].value); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (l Limits) v1() (s []setting) {
	number := func(controller, file string, n int64) {
		if n != 0 {
			s = append(s, setting{controller, file, strconv.FormatInt(n, 10)})
		}
	}
	number("cpu", "cpu.shares", l.CPUShares)
	number("cpu", "cpu.cfs_period_us", l.CPUPeriod)
	number("cpu", "cpu.cfs_quota_us", l.CPUQuota)
	number("memory", "memory.limit_in_bytes", l.Memory)
	number("memory", "memory.memsw.limit_in_bytes", l.MemorySwap)
	if l.Pids != 0 {
		s = append(s, setting{"pids", "pids.max", orMax(l.Pids)})
	}
	for _, list := range [][2]string{{"cpuset.cpus", l.CPUs}, {"cpuset.mems", l.Mems}} {
		if list[1] != "" {
			s = append(s, setting{"cpuset", list[0], list[1]})
		}
	}
	for _, size := range sortedKeys(l.HugePages) {
		s = append(s, setting{"hugetlb", "hugetlb." + size + ".limit_in_bytes", strconv.FormatUint(l.HugePages[size], 10)},
			setting{"hugetlb", "hugetlb." + size + ".rsvd.limit_in_bytes", strconv.FormatUint(l.HugePages[size], 10)})
	}
	return s
}

func (l Limits) v2() (s []setting) {
	add := func(controller, file, value string) { s = append(s, setting{controller, file, value}) }
	if l.CPUShares != 0 {
		add("cpu", "cpu.weight", strconv.FormatInt(weight(l.CPUShares), 10))
	}
	if l.CPUQuota != 0 || l.CPUPeriod != 0 {
		period := l.CPUPeriod
		if period == 0 {
			period = 100000
		}
		quota := "max"
		if l.CPUQuota > 0 {
			quota = strconv.FormatInt(l.CPUQuota, 10)
		}
		add("cpu", "cpu.max", quota+" "+strconv.FormatInt(period, 10))
	}
	if l.Memory != 0 {
		add("memory", "memory.max", orMax(l.Memory))
	}
	if l.MemorySwap != 0 {
		swap := l.MemorySwap
		if swap > 0 && l.Memory > 0 { // v2 counts swap alone
			swap -= l.Memory
		}
		value := orMax(swap)
		if swap == 0 {
			value = "0"
		}
		add("memory", "memory.swap.max", value)
	}
	if l.Pids != 0 {
		add("pids", "pids.max", orMax(l.Pids))
	}
	if l.CPUs != "" {
		add("cpuset", "cpuset.cpus", l.CPUs)
	}
	if l.Mems != "" {
		add("cpuset", "cpuset.mems", l.Mems)
	}
	for _, size := range sortedKeys(l.HugePages) {
		add("hugetlb", "hugetlb."+size+".max", strconv.FormatUint(l.HugePages[size], 10))
		add("hugetlb", "hugetlb."+size+".rsvd.max", strconv.FormatUint(l.HugePages[size], 10))
	}
	for _, file := range sortedKeys(l.Unified) {
		controller, _, _ := strings.Cut(file, ".")
		add(controller, file, l.Unified[file])
	}
	return s
}

// weight converts shares (2..262144) to cgroup v2's weight (1..10000), by the
// curve on which both defaults meet: 1024 shares are a weight of 100
// (github.com/opencontainers/cgroups, KEP-2254's formula having made them 39).
func weight(shares int64) int64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262144 {
		return 10000
	}
	l := math.Log2(float64(shares))
	return int64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func orMax(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Figures is what a group's processes have taken and take now.
type Figures struct {
	CPUNanoseconds                  uint64 // since the group was made
	MemoryUsage, WorkingSet, RSS    uint64 // bytes; the working set is what cannot be reclaimed easily
	PageFaults, MajorPageFaults     uint64
	MemoryLimit                     uint64 // bytes; 0 without a limit
	SwapUsage, SwapLimit, Processes uint64
}

// Measure reads a group's figures, those of the groups below included.
func (h *Host) Measure(group string) (Figures, error) {
	if h.V2() {
		return measureV2(filepath.Join(h.Unified, group))
	}
	return h.measureV1(group)
}

// noLimit is where v1's default limits begin: they are "the largest page count".
const noLimit = 1 << 60

func (h *Host) measureV1(group string) (Figures, error) {
	var f Figures
	cpu := filepath.Join(h.Trees["cpuacct"], group)
	if h.Trees["cpuacct"] != "" {
		if _, err := os.Stat(cpu); err != nil {
			return f, err
		}
		f.CPUNanoseconds = readNumber(cpu, "cpuacct.usage")
	}
	if h.Trees["memory"] != "" {
		memory := filepath.Join(h.Trees["memory"], group)
		stat := readTable(memory, "memory.stat")
		f.MemoryUsage = readNumber(memory, "memory.usage_in_bytes")
		f.WorkingSet = minus(f.MemoryUsage, stat["total_inactive_file"])
		f.RSS, f.PageFaults, f.MajorPageFaults = stat["total_rss"], stat["total_pgfault"], stat["total_pgmajfault"]
		if limit := readNumber(memory, "memory.limit_in_bytes"); limit < noLimit {
			f.MemoryLimit = limit
		}
		f.SwapUsage = stat["total_swap"]
		if limit := readNumber(memory, "memory.memsw.limit_in_bytes"); limit < noLimit {
			f.SwapLimit = minus(limit, f.MemoryLimit)
		}
	}
	if h.Trees["pids"] != "" {
		f.Processes = readNumber(filepath.Join(h.Trees["pids"], group), "pids.current")
	}
	return f, nil
}

func measureV2(dir string) (Figures, error) {
	var f Figures
	if _, err := os.Stat(dir); err != nil {
		return f, err
	}
	stat := readTable(dir, "memory.stat")
	f.CPUNanoseconds = readTable(dir, "cpu.stat")["usage_usec"] * 1000
	f.MemoryUsage = readNumber(dir, "memory.current")
	f.WorkingSet = minus(f.MemoryUsage, stat["inactive_file"])
	f.RSS, f.PageFaults, f.MajorPageFaults = stat["anon"], stat["pgfault"], stat["pgmajfault"]
	f.MemoryLimit = readNumber(dir, "memory.max") // "max" reads as 0
	f.SwapUsage, f.SwapLimit = readNumber(dir, "memory.swap.current"), readNumber(dir, "memory.swap.max")
	f.Processes = readNumber(dir, "pids.current")
	return f, nil
}

func minus(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func readNumber(dir, name string) uint64 {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}

func readTable(dir, name string) map[string]uint64 {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	table := map[string]uint64{}
	for _, line := range strings.Split(string(data), "\n") {
		if key, value, ok := strings.Cut(line, " "); ok {
			table[key], _ = strconv.ParseUint(value, 10, 64)
		}
	}
	return table
}
