// Package servicecidr is what is true of a ServiceCIDR: a range of ClusterIPs.
//
// In Kubernetes: ValidateServiceCIDR* of pkg/apis/networking/validation.
package servicecidr

import (
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hyperkube/api/rule"
)

// DefaultName is the range that the apiserver was started with.
const DefaultName = "kubernetes"

var path = field.NewPath("spec", "cidrs")

// Validate checks a range on its own: one CIDR, or one of each family.
func Validate(c *networkingv1.ServiceCIDR) field.ErrorList {
	cidrs := c.Spec.CIDRs
	switch {
	case len(cidrs) == 0:
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	case len(cidrs) > 2:
		return field.ErrorList{field.Invalid(path, rule.Untagged(c.Spec), "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	for i, cidr := range cidrs {
		errs = append(errs, utilvalidation.IsValidCIDR(path.Index(i), cidr)...)
	}
	if len(cidrs) < 2 {
		return errs
	}
	if family := netutils.IPFamilyOfCIDRString(cidrs[0]); family != netutils.IPFamilyUnknown && family == netutils.IPFamilyOfCIDRString(cidrs[1]) {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}

// ValidateUpdate: Services hold addresses of the range. It may only get a second family.
func ValidateUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	now, before := c.Spec.CIDRs, old.Spec.CIDRs
	second := len(before) == 1 && len(now) == 2
	if len(now) != len(before) && !second {
		return field.ErrorList{field.Invalid(path, now, validation.FieldImmutableErrorMsg)}
	}
	var errs field.ErrorList
	for i := range before {
		if now[i] != before[i] {
			errs = append(errs, field.Invalid(path.Index(i), now[i], validation.FieldImmutableErrorMsg))
		}
	}
	if second {
		errs = append(errs, Validate(c)...)
	}
	return errs
}

// Prefixes are the ranges of a ServiceCIDR that addresses may be taken from: none once its controller says that it is not ready, or
// while it goes. Of one that no controller has seen yet they may: there need not be one.
func Prefixes(c *networkingv1.ServiceCIDR) []netip.Prefix {
	refused := slices.ContainsFunc(c.Status.Conditions, func(condition metav1.Condition) bool {
		return condition.Type == networkingv1.ServiceCIDRConditionReady && condition.Status != metav1.ConditionTrue
	})
	if refused || c.DeletionTimestamp != nil {
		return nil
	}
	var prefixes []netip.Prefix
	for _, cidr := range c.Spec.CIDRs {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}
