// Package endpointslice is what is true of an EndpointSlice: defaults and validation.
//
// In Kubernetes: pkg/apis/discovery/v1/defaults.go and pkg/apis/discovery/validation.
package endpointslice

import (
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"hyperkube/api/core/endpoints"
	"hyperkube/api/rule"
)

// A slice is one message to every proxy: it must not grow without end.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxHints     = 8
	// of the deprecated topology
	maxTopologyLabels = 16
)

// SetDefaults fills the ports.
func SetDefaults(s *discoveryv1.EndpointSlice) {
	s.Endpoints, s.Ports = rule.NoneIfEmpty(s.Endpoints), rule.NoneIfEmpty(s.Ports)
	for i := range s.Ports {
		if s.Ports[i].Name == nil {
			s.Ports[i].Name = ptr.To("")
		}
		if s.Ports[i].Protocol == nil {
			s.Ports[i].Protocol = ptr.To(v1.ProtocolTCP)
		}
	}
}

// KeepNodeName empties the field that topology had before nodeName and zone, which nobody may write any more. From an
// unchanged entry it takes the node over, so that a partial update of an old slice keeps it.
func KeepNodeName(s, old *discoveryv1.EndpointSlice) {
	if old != nil && equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		return
	}
	known := sets.New[string]()
	if old != nil {
		for _, e := range old.Endpoints {
			if name := e.DeprecatedTopology[v1.LabelHostname]; name != "" {
				known.Insert(name)
			}
		}
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if name := e.DeprecatedTopology[v1.LabelHostname]; e.NodeName == nil && known.Has(name) && len(validation.IsDNS1123Subdomain(name)) == 0 {
			e.NodeName = &name
		}
		e.DeprecatedTopology = nil
	}
}

// Validate checks a new slice.
func Validate(s *discoveryv1.EndpointSlice) field.ErrorList { return validate(s, nil) }

// ValidateUpdate: a slice keeps its kind of addresses.
func ValidateUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList { return validate(s, old) }

func validate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	errs := rule.Supported(s.AddressType, field.NewPath("addressType"), discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	if old == nil || s.AddressType == "" { // else that it has changed is all that is declared
		errs = rule.Declared(errs)
	}
	if old != nil {
		errs = append(errs, rule.Fixed(s.AddressType, old.AddressType, field.NewPath("addressType"))...)
	}
	errs = append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
	found := validateEndpoints(s, field.NewPath("endpoints"))
	if len(found) > 0 && old != nil && equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		return errs // let in under fewer rules, they may stay as they are
	}
	return append(errs, found...)
}

func validateEndpoints(s *discoveryv1.EndpointSlice, path *field.Path) field.ErrorList {
	if len(s.Endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(s.Endpoints), maxEndpoints)}
	}
	var errs field.ErrorList
	for i := range s.Endpoints {
		errs = append(errs, validateEndpoint(&s.Endpoints[i], s.AddressType, path.Index(i))...)
	}
	return errs
}

func validateEndpoint(e *discoveryv1.Endpoint, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(e.Addresses) == 0 {
		errs = append(errs, rule.Declared(field.ErrorList{field.Required(path.Child("addresses"), "")})...)
	} else if len(e.Addresses) > maxAddresses {
		errs = append(errs, rule.Declared(field.ErrorList{field.TooMany(path.Child("addresses"), len(e.Addresses), maxAddresses)})...)
	}
	for i, address := range e.Addresses {
		errs = append(errs, validateAddress(address, kind, path.Child("addresses"), i)...)
	}
	if e.NodeName != nil {
		errs = append(errs, rule.DNSSubdomain(*e.NodeName, path.Child("nodeName"))...)
	}
	if n := len(e.DeprecatedTopology); n > maxTopologyLabels {
		errs = append(errs, field.TooMany(path.Child("deprecatedTopology"), n, maxTopologyLabels))
	}
	errs = append(errs, metav1validation.ValidateLabels(e.DeprecatedTopology, path.Child("deprecatedTopology"))...)
	if e.Hostname != nil {
		errs = append(errs, rule.DNSLabel(*e.Hostname, path.Child("hostname"))...)
	}
	if e.Hints != nil {
		errs = append(errs, validateHints(e.Hints, path.Child("hints"))...)
	}
	return errs
}

// validateHints checks for whom an endpoint is meant.
func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	at := path.Child("forZones")
	if n := len(h.ForZones); n > maxHints {
		return field.ErrorList{field.TooMany(at, n, maxHints)}
	}
	var errs field.ErrorList
	zones, nodes := sets.New[string](), sets.New[string]()
	for i, zone := range h.ForZones {
		here := at.Index(i).Child("name")
		if zones.Has(zone.Name) {
			errs = append(errs, field.Duplicate(here, zone.Name))
		}
		zones.Insert(zone.Name)
		errs = append(errs, rule.All(validation.IsValidLabelValue(zone.Name), here, zone.Name)...)
	}
	at = path.Child("forNodes")
	if n := len(h.ForNodes); n > maxHints {
		return append(errs, field.TooMany(at, n, maxHints))
	}
	for i, node := range h.ForNodes {
		here := at.Index(i).Child("name")
		if nodes.Has(node.Name) {
			errs = append(errs, field.Duplicate(here, node.Name))
		}
		nodes.Insert(node.Name)
		errs = append(errs, rule.DNSSubdomain(node.Name, here)...)
	}
	return errs
}

// validateAddress: IPv6 came late enough to have one form only.
func validateAddress(address string, kind discoveryv1.AddressType, list *field.Path, i int) field.ErrorList {
	path := list.Index(i)
	var errs field.ErrorList
	switch kind {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path, address)
	case discoveryv1.AddressTypeIPv4:
		if errs = rule.IP(address, path); len(errs) > 0 {
			return errs
		}
		if !netutils.IsIPv4String(address) {
			errs = append(errs, field.Invalid(list, address, "must be an IPv4 address"))
		}
	case discoveryv1.AddressTypeIPv6:
		if errs = validation.IsValidIP(path, address); len(errs) > 0 {
			return errs
		}
		if !netutils.IsIPv6String(address) {
			errs = append(errs, field.Invalid(list, address, "must be an IPv6 address"))
		}
	default:
		return nil
	}
	return append(errs, endpoints.ValidateIP(address, path)...)
}

func validatePorts(ports []discoveryv1.EndpointPort, path *field.Path) field.ErrorList {
	if len(ports) > maxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), maxPorts)}
	}
	var errs field.ErrorList
	names := sets.New[string]()
	for i, port := range ports {
		at := path.Index(i)
		name := ptr.Deref(port.Name, "")
		if name != "" {
			errs = append(errs, rule.DNSLabel(name, at.Child("name"))...)
		}
		if names.Has(name) {
			errs = append(errs, field.Duplicate(at.Child("name"), port.Name))
		}
		names.Insert(name)
		errs = append(errs, rule.OneOf(ptr.Deref(port.Protocol, ""), at.Child("protocol"), v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP)...)
		if port.AppProtocol != nil {
			errs = append(errs, rule.QualifiedName(*port.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

// What controllers write is known to be well formed.
const (
	controller          = "endpointslice-controller.k8s.io"
	mirroringController = "endpointslicemirroring-controller.k8s.io"
)

// Warnings tell of names instead of addresses; the path in the text is upstream's.
func Warnings(s *discoveryv1.EndpointSlice) []string {
	var warnings []string
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		warnings = append(warnings, "spec.addressType: FQDN endpoints are deprecated")
	}
	return append(warnings, warnAddresses(s)...)
}

// WarningsOnUpdate: the kind of addresses cannot be helped any more.
func WarningsOnUpdate(s, old *discoveryv1.EndpointSlice) []string { return warnAddresses(s) }

// warnAddresses tells of addresses in a form that others may read otherwise.
func warnAddresses(s *discoveryv1.EndpointSlice) []string {
	if by := s.Labels[discoveryv1.LabelManagedBy]; by == controller || by == mirroringController {
		return nil
	}
	var warnings []string
	for i := range s.Endpoints {
		for j, address := range s.Endpoints[i].Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), address)...)
		}
	}
	return warnings
}
