// Package networkpolicy is what is true of a NetworkPolicy.
//
// In Kubernetes: SetDefaults_NetworkPolicy and ValidateNetworkPolicy.
package networkpolicy

import (
	"net/netip"

	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
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

// Validate checks a policy on its own.
func Validate(p *networkingv1.NetworkPolicy) field.ErrorList {
	path := field.NewPath("spec")
	errs := metav1validation.ValidateLabelSelector(&p.Spec.PodSelector, selectorOptions, path.Child("podSelector"))
	for i, r := range p.Spec.Ingress {
		at := path.Child("ingress").Index(i)
		errs = append(errs, validatePorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(r.From, at.Child("from"))...)
	}
	for i, r := range p.Spec.Egress {
		at := path.Child("egress").Index(i)
		errs = append(errs, validatePorts(r.Ports, at.Child("ports"))...)
		errs = append(errs, validatePeers(r.To, at.Child("to"))...)
	}
	if len(p.Spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(path.Child("policyTypes"), p.Spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, kind := range p.Spec.PolicyTypes {
		errs = append(errs, rule.Supported(kind, path.Child("policyTypes").Index(i), networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress)...)
	}
	return errs
}

func validatePorts(ports []networkingv1.NetworkPolicyPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, port := range ports {
		at := path.Index(i)
		if port.Protocol != nil {
			errs = append(errs, rule.SupportedProtocol(*port.Protocol, at.Child("protocol"))...)
		}
		if port.Port != nil {
			errs = append(errs, rule.PortNumOrName(*port.Port, at.Child("port"))...)
		}
		if port.EndPort == nil {
			continue
		}
		switch {
		case port.Port == nil:
			errs = append(errs, field.Required(at.Child("port"), "must be specified when `endPort` is set"))
		case port.Port.Type == intstr.String:
			errs = append(errs, field.Forbidden(at.Child("endPort"), "may not be specified when `port` is non-numeric"))
		case *port.EndPort < port.Port.IntVal:
			errs = append(errs, field.Invalid(at.Child("endPort"), *port.EndPort, "must be greater than or equal to `port`"))
		default:
			errs = append(errs, rule.All(validation.IsValidPortNum(int(*port.EndPort)), at.Child("endPort"), *port.EndPort)...)
		}
	}
	return errs
}

func validatePeers(peers []networkingv1.NetworkPolicyPeer, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, peer := range peers {
		at := path.Index(i)
		selected := peer.PodSelector != nil || peer.NamespaceSelector != nil
		switch {
		case !selected && peer.IPBlock == nil:
			errs = append(errs, field.Required(at, "must specify a peer"))
		case selected && peer.IPBlock != nil:
			errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
		}
		errs = append(errs, metav1validation.ValidateLabelSelector(peer.PodSelector, selectorOptions, at.Child("podSelector"))...)
		errs = append(errs, metav1validation.ValidateLabelSelector(peer.NamespaceSelector, selectorOptions, at.Child("namespaceSelector"))...)
		if peer.IPBlock != nil {
			errs = append(errs, validateIPBlock(peer.IPBlock, at.Child("ipBlock"))...)
		}
	}
	return errs
}

func validateIPBlock(b *networkingv1.IPBlock, path *field.Path) field.ErrorList {
	if b.CIDR == "" {
		return field.ErrorList{field.Required(path.Child("cidr"), "")}
	}
	errs := validation.IsValidCIDRForLegacyField(path.Child("cidr"), b.CIDR, false, nil)
	block, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return errs
	}
	for i, text := range b.Except {
		at := path.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(at, text, false, nil)...)
		if except, err := netip.ParsePrefix(text); err == nil && (!block.Contains(except.Addr()) || except.Bits() <= block.Bits()) {
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
