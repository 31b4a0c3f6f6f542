// Package node is what is true of a Node: defaults, validation, and its conditions.
//
// In Kubernetes: ValidateNode* of pkg/apis/core/validation, SetDefaults_NodeStatus,
// and pkg/util/node (GetNodeCondition, IsNodeReady).
package node

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults lets pods have all of a node that says nothing else, and keeps the
// single pod CIDR and the list of them in step.
func SetDefaults(node *v1.Node) {
	node.Spec.PodPreemptionPolicy = nil // InPlacePodVerticalScalingSchedulerPreemption is a gate that v1.37 has off: nobody can have it yet
	for i := range node.Status.Images {
		if image := &node.Status.Images[i]; len(image.Names) == 0 {
			image.Names = nil // an answer shows none as null
		}
	}
	if len(node.Status.Allocatable) == 0 && node.Status.Capacity != nil {
		node.Status.Allocatable = node.Status.Capacity.DeepCopy()
	}
	if one := node.Spec.PodCIDR; one != "" && (len(node.Spec.PodCIDRs) == 0 || node.Spec.PodCIDRs[0] != one) {
		node.Spec.PodCIDRs = []string{one} // an old client changes the one that it knows
	}
	if node.Spec.PodCIDR == "" && len(node.Spec.PodCIDRs) > 0 {
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	}
}

// DropRemoved drops what once configured a kubelet, unless an old node has it still.
func DropRemoved(node, old *v1.Node) {
	if old == nil {
		old = &v1.Node{}
		node.Status.Config = nil
	}
	if old.Spec.ConfigSource == nil {
		node.Spec.ConfigSource = nil
	}
}

// DropRemovedStatus is DropRemoved of the status.
func DropRemovedStatus(node, old *v1.Node) {
	if old.Status.Config == nil {
		node.Status.Config = nil
	}
}

// taintsPath: upstream looks for the taints among the metadata; kubectl users know the errors by that name.
var taintsPath = field.NewPath("metadata", "taints")

// Validate checks a new node.
func Validate(node *v1.Node) field.ErrorList {
	errs := validateTaints(node.Spec.Taints, taintsPath)
	errs = append(errs, validateResources(&node.Status)...)
	if swap := node.Status.NodeInfo.Swap; swap != nil && swap.Capacity != nil {
		errs = append(errs, rule.Positive(*swap.Capacity, field.NewPath("metadata", "nodeSwapStatus", "capacity"))...)
	}
	errs = append(errs, validateFeatures(node.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))...)
	return append(errs, validatePodCIDRs(node.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))...)
}

// ValidateUpdate checks a changed node.
func ValidateUpdate(node, old *v1.Node) field.ErrorList {
	return append(Validate(node), ValidateStatusUpdate(node, old)...)
}

// ValidateStatusUpdate: pod CIDRs and the provider's id are set once.
func ValidateStatusUpdate(node, old *v1.Node) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateResources(&node.Status)
	errs = append(errs, validateFeatures(node.Status.DeclaredFeatures, field.NewPath("status", "declaredFeatures"))...)
	errs = append(errs, validateAddresses(node)...)
	if len(old.Spec.PodCIDRs) > 0 && !slices.Equal(node.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(path.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	switch was := old.Spec.ProviderID; {
	case was == "" || node.Spec.ProviderID == was:
	case node.Spec.ProviderID == "":
		errs = append(errs, field.Invalid(path.Child("providerID"), nil, "field cannot be cleared once set").MarkCoveredByDeclarative())
	default:
		errs = append(errs, field.Invalid(path.Child("providerID"), nil, "field cannot be modified once set").MarkCoveredByDeclarative())
	}
	errs = append(errs, validateTaints(node.Spec.Taints, taintsPath)...)
	if node.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(path.Child("externalID"), "may not be updated"))
	}
	return errs
}

func validateTaints(taints []v1.Taint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[string]()
	for i, taint := range taints {
		at := path.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(taint.Key, at.Child("key"))...)
		if wrong := validation.IsValidLabelValue(taint.Value); len(wrong) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), taint.Value, strings.Join(wrong, ";")))
		}
		errs = append(errs, pod.ValidateTaintEffect(taint.Effect, at.Child("effect"))...)
		key := taint.Key + ":" + string(taint.Effect)
		if seen.Has(key) {
			dup := field.Duplicate(at, rule.Untagged(taint))
			dup.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, dup)
		}
		seen.Insert(key)
	}
	return errs
}

func validateResources(status *v1.NodeStatus) field.ErrorList {
	var errs field.ErrorList
	for _, part := range []struct {
		name string
		list v1.ResourceList
	}{{"capacity", status.Capacity}, {"allocatable", status.Allocatable}} {
		for _, resource := range slices.Sorted(maps.Keys(part.list)) {
			errs = append(errs, pod.ValidateResourceQuantityValue(resource, part.list[resource], field.NewPath("status", part.name, string(resource)))...)
		}
	}
	return errs
}

// validateFeatures: a kubelet lists its features in order, each by segments of letters and digits (KEP-5328).
func validateFeatures(features []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, feature := range features {
		if wrong := featureName(feature); wrong != "" {
			errs = append(errs, field.Invalid(path.Index(i), feature, fmt.Sprintf("invalid feature name %q: %s", feature, wrong)))
		}
		if i+1 == len(features) {
			break
		}
		switch next := features[i+1]; {
		case feature == next:
			errs = append(errs, field.Duplicate(path.Index(i+1), next))
		case feature > next:
			errs = append(errs, field.Invalid(path.Index(i+1), next, "list must be sorted alphabetically"))
		}
	}
	return errs
}

var featureForm = regexp.MustCompile(`^[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*$`)

// featureName is what is wrong with a feature's name.
func featureName(name string) string {
	switch {
	case len(name) > validation.DNS1123SubdomainMaxLength:
		return fmt.Sprintf("must be no more than %d characters", validation.DNS1123SubdomainMaxLength)
	case !featureForm.MatchString(name):
		return "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
	}
	return ""
}

func validatePodCIDRs(cidrs []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), cidr, true, nil)...)
	}
	if len(cidrs) < 2 {
		return errs
	}
	dual, err := netutils.IsDualStackCIDRStrings(cidrs)
	if err != nil {
		errs = append(errs, field.InternalError(path, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if !dual || len(cidrs) > 2 {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

func validateAddresses(node *v1.Node) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[v1.NodeAddress]()
	for i, address := range node.Status.Addresses {
		if seen.Has(address) {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), rule.Untagged(address)))
		}
		seen.Insert(address)
	}
	return errs
}

// Warnings tell of fields that nothing reads.
func Warnings(node *v1.Node) []string {
	var warnings []string
	if node.Spec.ConfigSource != nil {
		warnings = append(warnings, "spec.configSource: the feature is removed")
	}
	if node.Spec.DoNotUseExternalID != "" {
		warnings = append(warnings, "spec.externalID: this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range node.Spec.PodCIDRs {
		warnings = append(warnings, validation.GetWarningsForCIDR(field.NewPath("spec", "podCIDRs").Index(i), cidr)...)
	}
	return warnings
}
