package service

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hyperkube/api/rule"
)

// A service has an address of one family or one of each: clusterIPs and ipFamilies are lists of at most two that go together, and
// ipFamilyPolicy says which it must be (KEP-563).

// ValidateClusterIPs checks addresses, families and policy against each other; whether an address is free and in range, and a
// family there at all, is known where they are allocated. What old has already is an address.
func ValidateClusterIPs(s, old *v1.Service) field.ErrorList {
	if s.Spec.Type == v1.ServiceTypeExternalName {
		return nil
	}
	path := field.NewPath("spec")
	at, ips := path.Child("clusterIPs"), s.Spec.ClusterIPs
	var errs field.ErrorList
	switch {
	case s.Spec.ClusterIP != "" && len(ips) == 0:
		errs = append(errs, field.Required(at, ""))
	case s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP:
		errs = append(errs, field.Invalid(at, ips, "first value must match `clusterIP`"))
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(at, ips, "must be empty when `clusterIP` is not specified"))
	}
	seen := sets.New[v1.IPFamily]()
	for i, family := range s.Spec.IPFamilies {
		errs = append(errs, rule.OneOf(family, path.Child("ipFamilies").Index(i), v1.IPv4Protocol, v1.IPv6Protocol)...)
		if seen.Has(family) {
			errs = append(errs, field.Duplicate(path.Child("ipFamilies").Index(i), family))
		}
		seen.Insert(family)
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		errs = append(errs, rule.OneOf(*p, path.Child("ipFamilyPolicy"), v1.IPFamilyPolicySingleStack, v1.IPFamilyPolicyPreferDualStack, v1.IPFamilyPolicyRequireDualStack)...)
	}
	return append(errs, validateAddresses(s, old, at)...)
}

func validateAddresses(s, old *v1.Service, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	ips, families := s.Spec.ClusterIPs, s.Spec.IPFamilies
	broken := false
	for i, ip := range ips {
		if i == 0 && ip == v1.ClusterIPNone {
			if len(ips) > 1 {
				broken = true
				errs = append(errs, field.Invalid(path, ips, "'None' must be the first and only value"))
			}
			continue
		}
		found := rule.IP(ip, path.Index(i), old.Spec.ClusterIPs...)
		broken = broken || len(found) > 0
		errs = append(errs, found...)
	}
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(path, ips, "may only hold up to 2 values"))
	}
	if broken || IsHeadless(s) {
		return errs // what follows would only say it again
	}
	if len(ips) > 1 && !bothFamilies(ips) {
		errs = append(errs, field.Invalid(path, ips, "may specify no more than one IP for each IP family"))
	}
	for i, ip := range ips[:min(len(ips), len(families))] {
		if known := families[i] == v1.IPv4Protocol || families[i] == v1.IPv6Protocol; known && FamilyOf(ip) != families[i] {
			errs = append(errs, field.Invalid(path.Index(i), ip, fmt.Sprintf("expected an %v value as indicated by `ipFamilies[%v]`", families[i], i)))
		}
	}
	return errs
}

// FamilyOf is the family of an address.
func FamilyOf(ip string) v1.IPFamily {
	if netutils.IsIPv6String(ip) {
		return v1.IPv6Protocol
	}
	return v1.IPv4Protocol
}

func bothFamilies(ips []string) bool {
	seen := sets.New[v1.IPFamily]()
	for _, ip := range ips {
		seen.Insert(FamilyOf(ip))
	}
	return seen.Len() == 2
}

const stays = "may not change once set"

// validateChangedIPs: a second address may come, or go when the policy says SingleStack; what stays does not change. All is free
// where the service gets its addresses anew, or never had any.
func validateChangedIPs(s, old *v1.Service, path *field.Path) field.ErrorList {
	if !NeedsClusterIP(s) || !NeedsClusterIP(old) || IsHeadless(s) && IsHeadless(old) {
		return nil
	}
	var errs field.ErrorList
	at, now, before := path.Child("clusterIPs"), s.Spec.ClusterIPs, old.Spec.ClusterIPs
	both := min(len(now), len(before))
	if len(now) != len(before) {
		both = min(both, 1) // the second is the one that comes or goes
	}
	for i := range both {
		if now[i] != before[i] {
			errs = append(errs, field.Invalid(at.Index(i), now, stays))
		}
	}
	switch {
	case len(now) >= len(before):
	case len(now) == 0:
		errs = append(errs, field.Invalid(at.Index(0), now, "primary clusterIP can not be unset"))
	case len(now) == 1 && !isSingleStack(s):
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary clusterIP"))
	}
	return errs
}

// validateChangedFamilies is the same for families; those of a headless service are nobody's address and may change.
func validateChangedFamilies(s, old *v1.Service, path *field.Path) field.ErrorList {
	if !NeedsClusterIP(s) || !NeedsClusterIP(old) || IsHeadless(s) || IsHeadless(old) {
		return nil
	}
	var errs field.ErrorList
	at, now, before := path.Child("ipFamilies"), s.Spec.IPFamilies, old.Spec.IPFamilies
	both := min(len(now), len(before))
	if len(now) != len(before) {
		both = min(both, 1)
	}
	for i := range both {
		if now[i] != before[i] {
			errs = append(errs, field.Invalid(at.Index(0), now, stays))
		}
	}
	switch {
	case len(now) >= len(before):
	case len(s.Spec.ClusterIPs) == 0:
		errs = append(errs, field.Invalid(at.Index(0), now, "primary ipFamily can not be unset"))
	case len(now) == 1 && !isSingleStack(s):
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary ipFamily"))
	}
	return errs
}

func isSingleStack(s *v1.Service) bool {
	return s.Spec.IPFamilyPolicy != nil && *s.Spec.IPFamilyPolicy == v1.IPFamilyPolicySingleStack
}
