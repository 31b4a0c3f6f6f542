package noderesources

import (
	"errors"
	"fmt"
	"math"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"hyperkube/scheduler/framework"
)

// weighted is a resource that is scored, and how much it counts.
type weighted struct {
	name   v1.ResourceName
	weight int64
}

// scorer is a scoring strategy: a curve over the share in use, and the resources it looks at.
type scorer struct {
	resources []weighted
	// curve gives the score, 0 to 100, of so much in use of so much.
	curve func(used, allocatable int64) int64
	// skipsZero leaves resources with score 0 out of the mean, as RequestedToCapacityRatio does.
	skipsZero bool
}

// newScorer checks a strategy and makes its scorer.
func newScorer(strategy *configv1.ScoringStrategy) (*scorer, error) {
	if strategy == nil {
		strategy = &configv1.ScoringStrategy{}
	}
	ratio := strategy.RequestedToCapacityRatio
	if ratio != nil && strategy.Type != configv1.RequestedToCapacityRatio {
		return nil, errors.New("scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio")
	}
	resources, err := weightedResources(strategy.Resources)
	if err != nil {
		return nil, fmt.Errorf("scoringStrategy.%w", err)
	}
	switch strategy.Type {
	case "", configv1.LeastAllocated:
		return &scorer{resources: resources, curve: leastRequestedScore}, nil
	case configv1.MostAllocated:
		return &scorer{resources: resources, curve: mostRequestedScore}, nil
	case configv1.RequestedToCapacityRatio:
		if ratio == nil {
			return nil, errors.New("scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio")
		}
		curve, err := framework.BrokenLine(ratio.Shape)
		if err != nil {
			return nil, fmt.Errorf("scoringStrategy.requestedToCapacityRatio.shape%w", err)
		}
		return &scorer{resources: resources, curve: curve, skipsZero: true}, nil
	}
	return nil, fmt.Errorf("scoringStrategy.type: Unsupported value: %q: supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"", strategy.Type)
}

// weightedResources are those of the settings; CPU and memory alike if there are none.
func weightedResources(specs []configv1.ResourceSpec) ([]weighted, error) {
	if len(specs) == 0 {
		return []weighted{{v1.ResourceCPU, 1}, {v1.ResourceMemory, 1}}, nil
	}
	var resources []weighted
	for i, spec := range specs {
		weight := spec.Weight
		if weight == 0 {
			weight = 1
		}
		if weight < 1 || weight > 100 {
			return nil, fmt.Errorf("resources[%d].weight: Invalid value: %d: resource weight of %s not in valid range (0, 100]", i, weight, spec.Name)
		}
		resources = append(resources, weighted{v1.ResourceName(spec.Name), weight})
	}
	return resources, nil
}

// score is the weighted mean of the resources' scores; of those that the node has, and,
// unless they are CPU or memory, that the pod asks for.
func (s *scorer) score(pod *framework.PodInfo, node *framework.NodeInfo) int64 {
	var sum, weights int64
	for _, r := range s.resources {
		allocatable := amount(node.Allocatable, r.name)
		if allocatable == 0 || isScalar(r.name) && amount(pod.Requests, r.name) == 0 {
			continue
		}
		score := s.curve(amount(node.NonZeroRequested, r.name)+amount(pod.NonZeroRequests, r.name), allocatable)
		if isScalar(r.name) || r.name == v1.ResourceEphemeralStorage {
			score = s.curve(amount(node.Requested, r.name)+amount(pod.Requests, r.name), allocatable)
		}
		if s.skipsZero && score == 0 {
			continue
		}
		sum += score * r.weight
		weights += r.weight
	}
	if weights == 0 {
		return 0
	}
	if s.skipsZero {
		return int64(math.Round(float64(sum) / float64(weights)))
	}
	return sum / weights
}

func isScalar(name v1.ResourceName) bool {
	return name != v1.ResourceCPU && name != v1.ResourceMemory && name != v1.ResourceEphemeralStorage
}

// amount is a resource of a sum by its name.
func amount(r *framework.Resource, name v1.ResourceName) int64 {
	switch name {
	case v1.ResourceCPU:
		return r.MilliCPU
	case v1.ResourceMemory:
		return r.Memory
	case v1.ResourceEphemeralStorage:
		return r.EphemeralStorage
	}
	return r.ScalarResources[name]
}

// leastRequestedScore is the free share in percent. Pods without requests are
// counted with a minimum, so the sum may exceed the capacity.
func leastRequestedScore(requested, capacity int64) int64 {
	if capacity == 0 || requested > capacity {
		return 0
	}
	return (capacity - requested) * framework.MaxNodeScore / capacity
}

// mostRequestedScore is the used share in percent.
func mostRequestedScore(requested, capacity int64) int64 {
	if capacity == 0 {
		return 0
	}
	return min(requested, capacity) * framework.MaxNodeScore / capacity
}

// ignored are the extended resources that Filter leaves to others (a device manager of one's own).
type ignored struct {
	names, groups map[string]bool
}

func newIgnored(args *configv1.NodeResourcesFitArgs) (ignored, error) {
	i := ignored{names: map[string]bool{}, groups: map[string]bool{}}
	var faults field.ErrorList
	for at, name := range args.IgnoredResources {
		i.names[name] = true
		faults = append(faults, metav1validation.ValidateLabelName(name, field.NewPath("ignoredResources").Index(at))...)
	}
	for at, group := range args.IgnoredResourceGroups {
		path := field.NewPath("ignoredResourceGroups").Index(at)
		i.groups[group] = true
		if strings.Contains(group, "/") {
			faults = append(faults, field.Invalid(path, group, "resource group name can't contain '/'"))
		}
		faults = append(faults, metav1validation.ValidateLabelName(group, path)...)
	}
	return i, faults.ToAggregate()
}

func (i *ignored) has(name v1.ResourceName) bool {
	if len(i.names)+len(i.groups) == 0 {
		return false
	}
	group, _, _ := strings.Cut(string(name), "/")
	return i.names[string(name)] || i.groups[group]
}
