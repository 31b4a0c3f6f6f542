// Package node is what is true of a Node: defaults, validation, and its conditions.
//
// In Kubernetes: ValidateNode* of pkg/apis/core/validation, SetDefaults_NodeStatus,
// and pkg/util/node (GetNodeCondition, IsNodeReady).
package node

import (
	"fmt"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
)

// SetDefaults lets pods have all of a node that says nothing else, and keeps the
// single pod CIDR and the list of them in step.
func SetDefaults(node *v1.Node) {
	node.Spec.PodPreemptionPolicy = nil // InPlacePodVerticalScalingSchedulerPreemption is a gate that v1.37 has off: nobody can have it yet
	if node.Status.Allocatable == nil && node.Status.Capacity != nil {
		node.Status.Allocatable = node.Status.Capacity.DeepCopy()
	}
	if node.Spec.PodCIDR != "" && len(node.Spec.PodCIDRs) == 0 {
		node.Spec.PodCIDRs = []string{node.Spec.PodCIDR}
	}
	if node.Spec.PodCIDR == "" && len(node.Spec.PodCIDRs) > 0 {
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	}
}

// Validate checks a new node.
func Validate(node *v1.Node) field.ErrorList {
	// Upstream looks for the taints among the metadata; kubectl users know the errors by that name.
	errs := validateTaints(node.Spec.Taints, field.NewPath("metadata", "taints"))
	errs = append(errs, validateResources(&node.Status)...)
	errs = append(errs, validatePodCIDRs(node.Spec.PodCIDRs, field.NewPath("spec", "podCIDRs"))...)
	return append(errs, validateAddresses(node)...)
}

// ValidateUpdate: pod CIDRs and the provider's id are set once.
func ValidateUpdate(node, old *v1.Node) field.ErrorList {
	path := field.NewPath("spec")
	errs := Validate(node)
	if len(old.Spec.PodCIDRs) > 0 && !equality.Semantic.DeepEqual(node.Spec.PodCIDRs, old.Spec.PodCIDRs) {
		errs = append(errs, field.Forbidden(path.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"))
	}
	if old.Spec.ProviderID != "" && node.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(path.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
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
		errs = append(errs, rule.All(validation.IsValidLabelValue(taint.Value), at.Child("value"), taint.Value)...)
		errs = append(errs, pod.ValidateTaintEffect(taint.Effect, at.Child("effect"))...)
		key := taint.Key + ":" + string(taint.Effect)
		if seen.Has(key) {
			dup := field.Duplicate(at, taint)
			dup.Detail = "taints must be unique by key and effect pair"
			errs = append(errs, dup)
		}
		seen.Insert(key)
	}
	return errs
}

func validateResources(status *v1.NodeStatus) field.ErrorList {
	var errs field.ErrorList
	for name, list := range map[string]v1.ResourceList{"capacity": status.Capacity, "allocatable": status.Allocatable} {
		for resource, quantity := range list {
			errs = append(errs, pod.ValidateResourceQuantityValue(resource, quantity, field.NewPath("status", name, string(resource)))...)
		}
	}
	return errs
}

func validatePodCIDRs(cidrs []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	families := sets.New[bool]()
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDRForLegacyField(path.Index(i), cidr, false, nil)...)
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			families.Insert(prefix.Addr().Is4())
		}
	}
	for i, cidr := range cidrs {
		if slices.Contains(cidrs[:i], cidr) {
			errs = append(errs, field.Duplicate(path.Index(i), cidr))
		}
	}
	if len(cidrs) > 2 || (len(cidrs) == 2 && len(families) == 1) {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

func validateAddresses(node *v1.Node) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[v1.NodeAddress]()
	for i, address := range node.Status.Addresses {
		if seen.Has(address) {
			errs = append(errs, field.Duplicate(field.NewPath("status", "addresses").Index(i), fmt.Sprintf("%v", address)))
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
