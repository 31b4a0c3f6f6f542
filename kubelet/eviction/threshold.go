package eviction

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is what is watched.
type Signal string

const (
	SignalMemoryAvailable   Signal = "memory.available"
	SignalNodeFsAvailable   Signal = "nodefs.available"
	SignalNodeFsInodesFree  Signal = "nodefs.inodesFree"
	SignalImageFsAvailable  Signal = "imagefs.available"
	SignalImageFsInodesFree Signal = "imagefs.inodesFree"
	SignalPIDAvailable      Signal = "pid.available"
)

// What inodes and process numbers are called in messages; no pod can ask for them.
const (
	resourceInodes v1.ResourceName = "inodes"
	resourcePids   v1.ResourceName = "pids"
)

// signals is the table of all: the resource that is short, and the node's pressure.
var signals = map[Signal]struct {
	resource  v1.ResourceName
	condition v1.NodeConditionType
}{
	SignalMemoryAvailable:   {v1.ResourceMemory, v1.NodeMemoryPressure},
	SignalNodeFsAvailable:   {v1.ResourceEphemeralStorage, v1.NodeDiskPressure},
	SignalImageFsAvailable:  {v1.ResourceEphemeralStorage, v1.NodeDiskPressure},
	SignalNodeFsInodesFree:  {resourceInodes, v1.NodeDiskPressure},
	SignalImageFsInodesFree: {resourceInodes, v1.NodeDiskPressure},
	SignalPIDAvailable:      {resourcePids, v1.NodePIDPressure},
}

// Amount is a quantity, or a part of the whole.
type Amount struct {
	Quantity resource.Quantity
	Percent  float64 // of capacity; 0: Quantity counts
}

// Of is the amount when the whole is capacity.
func (a Amount) Of(capacity resource.Quantity) resource.Quantity {
	if a.Percent == 0 {
		return a.Quantity
	}
	return *resource.NewQuantity(int64(float64(capacity.Value())*a.Percent/100), resource.BinarySI)
}

// Threshold is the least that has to be left of something.
type Threshold struct {
	Signal Signal
	Value  Amount
	// GracePeriod is how long less may be left before pods are evicted; 0: not at all (a hard threshold).
	GracePeriod time.Duration
	// MinReclaim is how much more than Value has to be left for the shortage to be over.
	MinReclaim Amount
}

// key tells thresholds apart: of a signal there is a hard one and a soft one at most.
type key struct {
	signal Signal
	hard   bool
}

func (t Threshold) key() key { return key{t.Signal, t.hard()} }

func (t Threshold) hard() bool { return t.GracePeriod == 0 }

// Thresholds is the configuration in words, by signal, as the flags have it.
type Thresholds struct {
	Hard, Soft      map[string]string // "100Mi" or "10%"
	SoftGracePeriod map[string]string // "1m30s"
	MinimumReclaim  map[string]string // "100Mi" or "5%"
}

// DefaultHard are the hard thresholds if nothing else is said. Upstream's are parts
// of the disk (nodefs 10 %, imagefs 15 %), which suit a machine that does nothing
// else; on a learner's computer whose disk is nine tenths full, with 100 GB left,
// they would end every pod.
func DefaultHard() map[string]string {
	return map[string]string{"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi", "nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%"}
}

// Parse checks them, in an order that does not change.
func (t Thresholds) Parse() ([]Threshold, error) {
	var list []Threshold
	for _, kind := range []struct {
		flag       string
		statements map[string]string
	}{{"--eviction-hard", t.Hard}, {"--eviction-soft", t.Soft}} {
		for _, name := range slices.Sorted(maps.Keys(kind.statements)) {
			if _, ok := signals[Signal(name)]; !ok {
				return nil, fmt.Errorf("%s: unsupported eviction signal %s; known are %s", kind.flag, name, strings.Join(known(), ", "))
			}
			text := kind.statements[name]
			if text == "0%" || text == "100%" {
				continue // this one is not to be watched
			}
			value, err := parseAmount(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", kind.flag, name, err)
			}
			threshold := Threshold{Signal: Signal(name), Value: value}
			if kind.flag == "--eviction-soft" {
				if threshold.GracePeriod, err = time.ParseDuration(t.SoftGracePeriod[name]); err != nil || threshold.GracePeriod <= 0 {
					return nil, fmt.Errorf("--eviction-soft: grace period must be specified for the soft eviction threshold %s: pass --eviction-soft-grace-period=%s=1m30s", name, name)
				}
			}
			list = append(list, threshold)
		}
	}
	for name, text := range t.MinimumReclaim {
		amount, err := parseAmount(text)
		if _, ok := signals[Signal(name)]; !ok {
			err = fmt.Errorf("unsupported eviction signal %s", name)
		}
		if err != nil {
			return nil, fmt.Errorf("--eviction-minimum-reclaim: %s: %w", name, err)
		}
		for i := range list {
			if list[i].Signal == Signal(name) {
				list[i].MinReclaim = amount
			}
		}
	}
	return list, nil
}

func known() []string {
	var names []string
	for name := range signals {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

func parseAmount(text string) (Amount, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || percent < 0 || percent > 100 {
			return Amount{}, fmt.Errorf("%q is no percentage from 0%% to 100%%", text)
		}
		return Amount{Percent: percent}, nil
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil || quantity.Sign() < 0 {
		return Amount{}, fmt.Errorf("%q is neither a quantity, such as 100Mi, nor a percentage", text)
	}
	return Amount{Quantity: quantity}, nil
}

// Reserved is what hard thresholds keep from pods of a capacity: it is not
// allocatable, since a pod that used it would be evicted.
func Reserved(list []Threshold, capacity v1.ResourceList) v1.ResourceList {
	reserved := v1.ResourceList{}
	for _, t := range list {
		if t.hard() && (t.Signal == SignalMemoryAvailable || t.Signal == SignalNodeFsAvailable) {
			name := signals[t.Signal].resource
			reserved[name] = t.Value.Of(capacity[name])
		}
	}
	return reserved
}
