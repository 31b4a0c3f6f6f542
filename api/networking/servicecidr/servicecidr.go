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
		return field.ErrorList{field.Invalid(path, cidrs, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	families := map[bool]bool{}
	for i, cidr := range cidrs {
		errs = append(errs, utilvalidation.IsValidCIDR(path.Index(i), cidr)...)
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			families[prefix.Addr().Is4()] = true
		}
	}
	if len(errs) == 0 && len(families) < len(cidrs) {
		errs = append(errs, field.Invalid(path, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
	}
	return errs
}

// ValidateUpdate: Services hold addresses of the range. It may only get a second family.
func ValidateUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	now, before := c.Spec.CIDRs, old.Spec.CIDRs
	if slices.Equal(now, before) {
		return nil
	}
	if len(before) == 1 && len(now) == 2 && now[0] == before[0] {
		return Validate(c)
	}
	if len(now) == len(before) || (len(before) == 1 && len(now) == 2) {
		for i := range before {
			if now[i] != before[i] {
				return field.ErrorList{field.Invalid(path.Index(i), now[i], validation.FieldImmutableErrorMsg)}
			}
		}
	}
	return field.ErrorList{field.Invalid(path, now, validation.FieldImmutableErrorMsg)}
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
