package service

import (
	"fmt"
	"net/netip"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/service"
	"hyperkube/apiserver/registry"
)

// families are those that this cluster has addresses of, the default one first.
func families(env *registry.Env) []v1.IPFamily {
	found := []v1.IPFamily{family(env.ServiceCIDR)}
	if env.SecondaryServiceCIDR.IsValid() {
		found = append(found, family(env.SecondaryServiceCIDR))
	}
	return found
}

func family(cidr netip.Prefix) v1.IPFamily { return familyOf(cidr.Addr()) }

func familyOf(ip netip.Addr) v1.IPFamily {
	if ip.Is4() {
		return v1.IPv4Protocol
	}
	return v1.IPv6Protocol
}

func otherFamily(f v1.IPFamily) v1.IPFamily {
	if f == v1.IPv4Protocol {
		return v1.IPv6Protocol
	}
	return v1.IPv4Protocol
}

// initIPFamilyFields says of which families the addresses of s are to be, as far as its writer did not; old is nil at a create.
// What makes no sense is refused here already, before addresses are given out and all else is validated.
//
//	policy     that of before, or SingleStack; a headless service without a selector may have any endpoints: RequireDualStack
//	families   those of its addresses; else the cluster's default
//	second     where the policy is not SingleStack and the cluster has two
//
// A PreferDualStack service of which none of this was changed is left alone: it must not get a second address, or lose one,
// because the cluster was configured anew.
func initIPFamilyFields(s, old *v1.Service, configured []v1.IPFamily) field.ErrorList {
	if !service.NeedsClusterIP(s) || isMatchingPreferDualStack(s, old) {
		return nil
	}
	anyFamily := s.Spec.ClusterIP == v1.ClusterIPNone && len(s.Spec.Selector) == 0
	if s.Spec.IPFamilyPolicy == nil {
		switch {
		case old != nil && old.Spec.IPFamilyPolicy != nil:
			s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
		case anyFamily:
			s.Spec.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicyRequireDualStack)
		default:
			s.Spec.IPFamilyPolicy = ptr.To(v1.IPFamilyPolicySingleStack)
		}
	}
	before := old
	if before == nil {
		before = &v1.Service{}
	}
	if errs := service.ValidateClusterIPs(s, before); len(errs) > 0 {
		return errs
	}
	errs := releaseSecond(s, old)
	errs = append(errs, refuseTwo(s)...)
	inferred, wrong := inferFamilies(s, configured)
	if errs = append(errs, wrong...); len(errs) > 0 {
		return errs
	}
	s.Spec.IPFamilies = inferred
	single := *s.Spec.IPFamilyPolicy == v1.IPFamilyPolicySingleStack
	if !anyFamily {
		if errs := validateConfigured(s, configured); len(errs) > 0 {
			return errs
		}
	}
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []v1.IPFamily{configured[0]}
	}
	if !single && len(s.Spec.IPFamilies) == 1 && (anyFamily || len(configured) == 2) {
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, otherFamily(s.Spec.IPFamilies[0]))
	}
	return nil
}

func isMatchingPreferDualStack(s, old *v1.Service) bool {
	if old == nil || old.Spec.Type != s.Spec.Type || s.Spec.IPFamilyPolicy == nil {
		return false
	}
	prefers := *s.Spec.IPFamilyPolicy == v1.IPFamilyPolicyPreferDualStack && ptr.Deref(old.Spec.IPFamilyPolicy, v1.IPFamilyPolicyPreferDualStack) == v1.IPFamilyPolicyPreferDualStack
	return prefers && sameClusterIPs(s, old) && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies)
}

// releaseSecond: who sets SingleStack and leaves the lists alone means their first entries. To shorten a list and not to say
// SingleStack may be a mistake.
func releaseSecond(s, old *v1.Service) field.ErrorList {
	if old == nil {
		return nil
	}
	if *s.Spec.IPFamilyPolicy == v1.IPFamilyPolicySingleStack {
		if len(s.Spec.ClusterIPs) > 1 && sameClusterIPs(s, old) {
			s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1:1]
		}
		if len(s.Spec.IPFamilies) > 1 && slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = s.Spec.IPFamilies[:1:1]
		}
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "ipFamilyPolicy")
	if isReduced(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		errs = append(errs, field.Invalid(path, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if isReduced(s.Spec.IPFamilies, old.Spec.IPFamilies) {
		errs = append(errs, field.Invalid(path, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return errs
}

// isReduced: an empty list is that of an old client, who knows of none.
func isReduced[T any](now, before []T) bool { return len(now) > 0 && len(now) < len(before) }

func refuseTwo(s *v1.Service) field.ErrorList {
	if *s.Spec.IPFamilyPolicy != v1.IPFamilyPolicySingleStack {
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "ipFamilyPolicy")
	if len(s.Spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(path, s.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if len(s.Spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(path, s.Spec.IPFamilyPolicy, "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	return errs
}

// inferFamilies is the families, with those of addresses that were asked for.
func inferFamilies(s *v1.Service, configured []v1.IPFamily) ([]v1.IPFamily, field.ErrorList) {
	families := slices.Clone(s.Spec.IPFamilies)
	if service.IsHeadless(s) {
		return families, nil
	}
	var errs field.ErrorList
	for i := len(families); i < len(s.Spec.ClusterIPs); i++ {
		f := service.FamilyOf(s.Spec.ClusterIPs[i])
		if !slices.Contains(configured, f) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), s.Spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", f)))
		}
		families = append(families, f)
	}
	return families, errs
}

// validateConfigured refuses what this cluster has no addresses of.
func validateConfigured(s *v1.Service, configured []v1.IPFamily) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if *s.Spec.IPFamilyPolicy == v1.IPFamilyPolicyRequireDualStack && len(configured) < 2 {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), s.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, f := range s.Spec.IPFamilies {
		if !slices.Contains(configured, f) {
			errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(i), f, "not configured on this cluster"))
		}
	}
	return errs
}
