package eviction

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// observation is how much there is of something and how much is left.
type observation struct {
	capacity, available resource.Quantity
}

// observe makes observations of a summary. What the summary does not tell is not there. It is pure.
func observe(summary *statsapi.Summary) map[Signal]observation {
	seen := map[Signal]observation{}
	note := func(signal Signal, capacity, available *uint64, format resource.Format) {
		if capacity != nil && available != nil {
			seen[signal] = observation{*resource.NewQuantity(int64(*capacity), format), *resource.NewQuantity(int64(*available), format)}
		}
	}
	if memory := summary.Node.Memory; memory != nil && memory.AvailableBytes != nil && memory.WorkingSetBytes != nil {
		all := *memory.AvailableBytes + *memory.WorkingSetBytes
		note(SignalMemoryAvailable, &all, memory.AvailableBytes, resource.BinarySI)
	}
	if fs := summary.Node.Fs; fs != nil {
		note(SignalNodeFsAvailable, fs.CapacityBytes, fs.AvailableBytes, resource.BinarySI)
		note(SignalNodeFsInodesFree, fs.Inodes, fs.InodesFree, resource.DecimalSI)
	}
	if runtime := summary.Node.Runtime; runtime != nil && runtime.ImageFs != nil {
		note(SignalImageFsAvailable, runtime.ImageFs.CapacityBytes, runtime.ImageFs.AvailableBytes, resource.BinarySI)
		note(SignalImageFsInodesFree, runtime.ImageFs.Inodes, runtime.ImageFs.InodesFree, resource.DecimalSI)
	}
	if limits := summary.Node.Rlimit; limits != nil && limits.MaxPID != nil && limits.NumOfRunningProcesses != nil {
		most, left := uint64(max(*limits.MaxPID, 0)), uint64(max(*limits.MaxPID-*limits.NumOfRunningProcesses, 0))
		note(SignalPIDAvailable, &most, &left, resource.DecimalSI)
	}
	return seen
}

// thresholdsMet are those with less left than they ask for; with reclaim, also less
// than what ends a shortage. It is pure.
func thresholdsMet(list []Threshold, seen map[Signal]observation, reclaim bool) []Threshold {
	var met []Threshold
	for _, t := range list {
		o, known := seen[t.Signal]
		if !known {
			continue
		}
		least := t.Value.Of(o.capacity)
		if reclaim {
			least.Add(t.MinReclaim.Of(o.capacity))
		}
		if o.available.Cmp(least) < 0 {
			met = append(met, t)
		}
	}
	return met
}

// merge adds what list lacks.
func merge(list, more []Threshold) []Threshold {
	for _, t := range more {
		if !slices.ContainsFunc(list, func(l Threshold) bool { return l.key() == t.key() }) {
			list = append(list, t)
		}
	}
	return list
}

// since keeps when each threshold was crossed: those that hold no longer are forgotten. It is pure.
func since(list []Threshold, before map[key]time.Time, now time.Time) map[key]time.Time {
	result := map[key]time.Time{}
	for _, t := range list {
		if result[t.key()] = before[t.key()]; result[t.key()].IsZero() {
			result[t.key()] = now
		}
	}
	return result
}

// due are the thresholds whose grace is over, memory first: a shortage of it kills soonest. It is pure.
func due(crossed []Threshold, at map[key]time.Time, now time.Time) []Threshold {
	var list []Threshold
	for _, t := range crossed {
		if now.Sub(at[t.key()]) >= t.GracePeriod {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b Threshold) int {
		if x, y := order(a), order(b); x != y {
			return x - y
		}
		return cmp.Compare(a.GracePeriod, b.GracePeriod) // the hard one decides how
	})
	return list
}

func order(t Threshold) int {
	return slices.Index([]Signal{SignalMemoryAvailable, SignalNodeFsAvailable, SignalImageFsAvailable, SignalNodeFsInodesFree, SignalImageFsInodesFree, SignalPIDAvailable}, t.Signal)
}

// explain says in numbers what is short, and where (R64).
func explain(t Threshold, o observation, paths Paths) string {
	least := t.Value.Of(o.capacity)
	text := fmt.Sprintf("%s is %s of %s, less than the %s that have to be left", t.Signal, o.available.String(), o.capacity.String(), least.String())
	switch t.Signal {
	case SignalNodeFsAvailable, SignalNodeFsInodesFree:
		return text + fmt.Sprintf(", on the file system of %s: remove files there, or images by `hyperkube image rm`", paths.NodeFs)
	case SignalImageFsAvailable, SignalImageFsInodesFree:
		return text + fmt.Sprintf(", on the file system of %s: remove images by `hyperkube image rm`, or other files there", paths.ImageFs)
	}
	return text
}

// Paths are where the file systems are, for messages.
type Paths struct{ NodeFs, ImageFs string }

// conditions are the pressures that thresholds stand for.
func conditions(list []Threshold) map[v1.NodeConditionType]bool {
	result := map[v1.NodeConditionType]bool{}
	for _, t := range list {
		result[signals[t.Signal].condition] = true
	}
	return result
}
