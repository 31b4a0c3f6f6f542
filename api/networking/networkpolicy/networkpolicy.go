// Package networkpolicy is what is true of a NetworkPolicy.
//
// In Kubernetes: SetDefaults_NetworkPolicy and ValidateNetworkPolicy.
package networkpolicy

import (
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// SetDefaults: a policy is about ingress, and about egress if it says anything of it.
func SetDefaults(p *networkingv1.NetworkPolicy) {
	for i := range p.Spec.Ingress {
		setDefaultsPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		setDefaultsPorts(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(p.Spec.Egress) != 0 {
			p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		}
	}
}

func setDefaultsPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		if ports[i].Protocol == nil {
			ports[i].Protocol = ptr.To(v1.ProtocolTCP)
		}
	}
}

var selectorOptions = metav1validation.LabelSelectorValidationOptions{}

// Validate checks a new policy.
func Validate(p *networkingv1.NetworkPolicy) field.ErrorList { return validate(p, nil) }

// ValidateUpdate checks a changed one. It may go on to name any range that it named before.
func ValidateUpdate(p, old *networkingv1.NetworkPolicy) field.ErrorList {
	var known []string
	for _, r := range old.Spec.Ingress {
		known = append(known, ranges(r.From)...)
	}
	for _, r := range old.Spec.Egress {
		known = append(known, ranges(r.To)...)
	}
	return validate(p, known)
}

func ranges(peers []networkingv1.NetworkPolicyPeer) []string {
	var list []string
	for _, peer := range peers {
		if b := peer.IPBlock; b != nil {
			list = append(append(list, b.CIDR), b.Except...)
		}
	}
	return list
}

func validate(p *networkingv1.NetworkPolicy, known []string) field.ErrorList {
	path := field.NewPath("spec")
	errs := metav1validation.ValidateLabelSelector(&p.Spec.PodSelector, selectorOptions, path.Child("podSelector"))
	for i, r := range p.Spec.Ingress {
		at := path.Child("ingress").Index(i)
		errs = append(errs, validatePorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(r.From, known, at.Child("from"))...)
	}
	for i, r := range p.Spec.Egress {
		at := path.Child("egress").Index(i)
		errs = append(errs, validatePorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(r.To, known, at.Child("to"))...)
	}
	if len(p.Spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(path.Child("policyTypes"), p.Spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, kind := range p.Spec.PolicyTypes {
		if kind != networkingv1.PolicyTypeIngress && kind != networkingv1.PolicyTypeEgress {
			errs = append(errs, field.NotSupported(path.Child("policyTypes").Index(i), kind, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}))
		}
	}
	return errs
}

func validatePorts(ports []networkingv1.NetworkPolicyPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, port := range ports {
		at := path.Index(i)
		if p := port.Protocol; p != nil && *p != v1.ProtocolTCP && *p != v1.ProtocolUDP && *p != v1.ProtocolSCTP {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p, []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP}))
		}
		errs = append(errs, validateRange(&port, at)...)
	}
	return errs
}

// validateRange checks a port, and the end where there are more.
func validateRange(p *networkingv1.NetworkPolicyPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	end := path.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
		}
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
		}
		errs = append(errs, rule.All(validation.IsValidPortName(p.Port.StrVal), path.Child("port"), p.Port.StrVal)...)
	default:
		errs = append(errs, rule.All(validation.IsValidPortNum(int(p.Port.IntVal)), path.Child("port"), p.Port.IntVal)...)
		if p.EndPort == nil {
			return errs
		}
		if *p.EndPort < p.Port.IntVal {
			errs = append(errs, field.Invalid(end, *p.EndPort, "must be greater than or equal to `port`"))
		}
		errs = append(errs, rule.All(validation.IsValidPortNum(int(*p.EndPort)), end, *p.EndPort)...)
	}
	return errs
}

func validatePeers(peers []networkingv1.NetworkPolicyPeer, known []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, peer := range peers {
		at := path.Index(i)
		if peer.PodSelector != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(peer.PodSelector, selectorOptions, at.Child("podSelector"))...)
		}
		if peer.NamespaceSelector != nil {
			errs = append(errs, metav1validation.ValidateLabelSelector(peer.NamespaceSelector, selectorOptions, at.Child("namespaceSelector"))...)
		}
		if peer.IPBlock != nil {
			errs = append(errs, validateIPBlock(peer.IPBlock, known, at.Child("ipBlock"))...)
		}
		switch selected := peer.PodSelector != nil || peer.NamespaceSelector != nil; {
		case !selected && peer.IPBlock == nil:
			errs = append(errs, field.Required(at, "must specify a peer"))
		case selected && peer.IPBlock != nil:
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
		}
	}
	return errs
}

func validateIPBlock(b *networkingv1.IPBlock, known []string, path *field.Path) field.ErrorList {
	if b.CIDR == "" {
		return rule.Declared(rule.NonEmpty(b.CIDR, path.Child("cidr")))
	}
	errs := validation.IsValidCIDRForLegacyField(path.Child("cidr"), b.CIDR, true, known)
	_, block, err := netutils.ParseCIDRSloppy(b.CIDR)
	if err != nil {
		return errs
	}
	for i, text := range b.Except {
		at := path.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, true, known)...)
		_, except, err := netutils.ParseCIDRSloppy(text)
		if err != nil {
			continue
		}
		bits, _ := block.Mask.Size()
		exceptBits, _ := except.Mask.Size()
		if !block.Contains(except.IP) || bits >= exceptBits {
			errs = append(errs, field.Invalid(at, text, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}

// Warnings tell of ranges in a form that others may read otherwise.
func Warnings(p *networkingv1.NetworkPolicy) []string {
	var warnings []string
	blocks := func(peers []networkingv1.NetworkPolicyPeer, path *field.Path) {
		for i, peer := range peers {
			if peer.IPBlock == nil {
				continue
			}
			at := path.Index(i).Child("ipBlock")
			warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("cidr"), peer.IPBlock.CIDR)...)
			for j, except := range peer.IPBlock.Except {
				warnings = append(warnings, validation.GetWarningsForCIDR(at.Child("except").Index(j), except)...)
			}
		}
	}
	for i := range p.Spec.Ingress {
		blocks(p.Spec.Ingress[i].From, field.NewPath("spec", "ingress").Index(i).Child("from"))
	}
	for i := range p.Spec.Egress {
		blocks(p.Spec.Egress[i].To, field.NewPath("spec", "egress").Index(i).Child("to"))
	}
	return warnings
}
