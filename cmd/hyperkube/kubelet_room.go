package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"hyperkube/kubelet"
	"hyperkube/kubelet/eviction"
	"hyperkube/kubelet/images"
)

// roomOptions are the kubelet's flags about the node's room, under upstream's names.
type roomOptions struct {
	kubeReserved, systemReserved map[string]string
	hard, soft                   []string
	softGrace, minReclaim        map[string]string
	transition                   time.Duration
	maxPodGrace                  int64
	imageHigh, imageLow          int
	imageMinAge, imageMaxAge     time.Duration
	logMaxSize                   string
	logMaxFiles                  int
	enforce                      []string
}

func (o *roomOptions) AddFlags(flags *pflag.FlagSet) {
	flags.StringToStringVar(&o.kubeReserved, "kube-reserved", nil, "kept from pods for Kubernetes' own: cpu=200m,memory=256Mi,ephemeral-storage=1Gi")
	flags.StringToStringVar(&o.systemReserved, "system-reserved", nil, "kept from pods for the rest of the machine: cpu=200m,memory=256Mi,…")
	flags.StringSliceVar(&o.enforce, "enforce-node-allocatable", []string{"pods"}, "pods: all pods together may use what is not reserved; none: they have no common limit")
	flags.StringSliceVar(&o.hard, "eviction-hard", nil, "when less is left, pods are evicted at once: memory.available<100Mi,nodefs.available<10%,… (default "+defaultHard()+")")
	flags.StringSliceVar(&o.soft, "eviction-soft", nil, "when less is left for a while, pods are evicted: memory.available<500Mi,…")
	flags.StringToStringVar(&o.softGrace, "eviction-soft-grace-period", nil, "for how long: memory.available=1m30s,…")
	flags.StringToStringVar(&o.minReclaim, "eviction-minimum-reclaim", nil, "how much more has to be left for a shortage to be over: nodefs.available=500Mi,…")
	flags.DurationVar(&o.transition, "eviction-pressure-transition-period", 5*time.Minute, "how long the node's pressure is told after its cause has gone")
	flags.Int64Var(&o.maxPodGrace, "eviction-max-pod-grace-period", 0, "seconds that pods get at most when evicted at a soft threshold")
	flags.IntVar(&o.imageHigh, "image-gc-high-threshold", 100, "percent of the disk in use at which unused images go; 100: only when the disk runs short")
	flags.IntVar(&o.imageLow, "image-gc-low-threshold", 80, "percent of the disk in use down to which they go")
	flags.DurationVar(&o.imageMinAge, "minimum-image-ttl-duration", 2*time.Minute, "how long a new image stays although unused")
	flags.DurationVar(&o.imageMaxAge, "image-maximum-gc-age", 0, "how long an image may go unused; 0: for ever")
	flags.StringVar(&o.logMaxSize, "container-log-max-size", "10Mi", "size at which a container's log is rotated")
	flags.IntVar(&o.logMaxFiles, "container-log-max-files", 5, "how many log files a container has at most, at least 2")
}

// room is what the flags mean.
func (o *roomOptions) room() (kubelet.Room, error) {
	room := kubelet.Room{PressureTransitionPeriod: o.transition, MaxPodGracePeriodSeconds: o.maxPodGrace, ContainerLogMaxFiles: o.logMaxFiles,
		Images:     images.GCPolicy{HighThresholdPercent: o.imageHigh, LowThresholdPercent: o.imageLow, MinAge: o.imageMinAge, MaxAge: o.imageMaxAge},
		Thresholds: eviction.Thresholds{SoftGracePeriod: o.softGrace, MinimumReclaim: o.minReclaim}}
	var err error
	if room.NoEnforcement, err = o.notEnforced(); err != nil {
		return room, err
	}
	if room.KubeReserved, err = resourceList("--kube-reserved", o.kubeReserved); err != nil {
		return room, err
	}
	if room.SystemReserved, err = resourceList("--system-reserved", o.systemReserved); err != nil {
		return room, err
	}
	if room.Thresholds.Hard, err = lessThan("--eviction-hard", o.hard); err != nil {
		return room, err
	}
	if room.Thresholds.Soft, err = lessThan("--eviction-soft", o.soft); err != nil {
		return room, err
	}
	size, err := resource.ParseQuantity(o.logMaxSize)
	if err != nil {
		return room, fmt.Errorf("--container-log-max-size=%s: %w", o.logMaxSize, err)
	}
	room.ContainerLogMaxSize = size.Value()
	return room, nil
}

// notEnforced: what is reserved has no cgroup here that could be limited to it, so that only the pods' remains.
func (o *roomOptions) notEnforced() (bool, error) {
	for _, word := range o.enforce {
		switch word {
		case "pods":
		case "none":
			if len(o.enforce) > 1 {
				return false, errors.New(`--enforce-node-allocatable: may not contain additional enforcements when "none" is specified`)
			}
		case "system-reserved", "kube-reserved", "system-reserved-compressible", "kube-reserved-compressible":
			return false, fmt.Errorf("--enforce-node-allocatable: %s: only pods are limited here; leave it out, and give the daemons' cgroups limits of their own", word)
		default:
			return false, fmt.Errorf("--enforce-node-allocatable: %q: must be pods or none", word)
		}
	}
	return !slices.Contains(o.enforce, "pods"), nil
}

func resourceList(flag string, words map[string]string) (v1.ResourceList, error) {
	list := v1.ResourceList{}
	for name, text := range words {
		quantity, err := resource.ParseQuantity(text)
		switch v1.ResourceName(name) {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage:
		default:
			return nil, fmt.Errorf("%s: cannot reserve %q: only cpu, memory and ephemeral-storage", flag, name)
		}
		if err != nil || quantity.Sign() < 0 {
			return nil, fmt.Errorf("%s: %s=%s: not a quantity, such as 256Mi", flag, name, text)
		}
		list[v1.ResourceName(name)] = quantity
	}
	return list, nil
}

// lessThan splits statements like memory.available<100Mi; nil if there are none.
func lessThan(flag string, statements []string) (map[string]string, error) {
	if statements == nil {
		return nil, nil
	}
	result := map[string]string{}
	for _, statement := range statements {
		name, amount, ok := strings.Cut(statement, "<")
		if !ok {
			return nil, fmt.Errorf("%s: %q: must be SIGNAL<AMOUNT, such as memory.available<100Mi", flag, statement)
		}
		result[strings.TrimSpace(name)] = strings.TrimSpace(amount)
	}
	return result, nil
}

func defaultHard() string {
	hard := eviction.DefaultHard()
	var list []string
	for _, name := range slices.Sorted(maps.Keys(hard)) {
		list = append(list, name+"<"+hard[name])
	}
	return strings.Join(list, ",")
}

// parseTaints takes key=value:Effect, key:Effect.
func parseTaints(words []string) ([]v1.Taint, error) {
	var taints []v1.Taint
	for _, word := range words {
		spec, effect, ok := strings.Cut(word, ":")
		key, value, _ := strings.Cut(spec, "=")
		taint := v1.Taint{Key: key, Value: value, Effect: v1.TaintEffect(effect)}
		known := []v1.TaintEffect{v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute}
		if !ok || key == "" || !slices.Contains(known, taint.Effect) {
			return nil, fmt.Errorf("--register-with-taints: %q: must be KEY=VALUE:NoSchedule, PreferNoSchedule or NoExecute", word)
		}
		taints = append(taints, taint)
	}
	return taints, nil
}
