// Package endpointslice is what is true of an EndpointSlice: defaults and validation.
//
// In Kubernetes: pkg/apis/discovery/v1/defaults.go and pkg/apis/discovery/validation.
package endpointslice

import (
	v1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
)

// SetDefaults fills the ports.
func SetDefaults(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		if s.Ports[i].Name == nil {
			s.Ports[i].Name = ptr.To("")
		}
		if s.Ports[i].Protocol == nil {
			s.Ports[i].Protocol = ptr.To(v1.ProtocolTCP)
		}
	}
}

// Validate checks a slice on its own.
func Validate(s *discoveryv1.EndpointSlice) field.ErrorList {
	errs := rule.Supported(s.AddressType, field.NewPath("addressType"), discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN)
	errs = append(errs, validateEndpoints(s, field.NewPath("endpoints"))...)
	return append(errs, validatePorts(s.Ports, field.NewPath("ports"))...)
}

// ValidateUpdate: a slice keeps its kind of addresses.
func ValidateUpdate(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	return append(Validate(s), rule.Immutable(s.AddressType, old.AddressType, field.NewPath("addressType"))...)
}

func validateEndpoints(s *discoveryv1.EndpointSlice, path *field.Path) field.ErrorList {
	if len(s.Endpoints) > maxEndpoints {
		return field.ErrorList{field.TooMany(path, len(s.Endpoints), maxEndpoints)}
	}
	var errs field.ErrorList
	for i := range s.Endpoints {
		e, at := &s.Endpoints[i], path.Index(i)
		if len(e.Addresses) == 0 {
			errs = append(errs, field.Required(at.Child("addresses"), "must contain at least 1 address"))
		} else if len(e.Addresses) > maxAddresses {
			errs = append(errs, field.TooMany(at.Child("addresses"), len(e.Addresses), maxAddresses))
		}
		for j, address := range e.Addresses {
			errs = append(errs, validateAddress(address, s.AddressType, at.Child("addresses").Index(j))...)
		}
		if e.NodeName != nil {
			errs = append(errs, rule.DNSSubdomain(*e.NodeName, at.Child("nodeName"))...)
		}
		if e.Hostname != nil {
			errs = append(errs, rule.DNSLabel(*e.Hostname, at.Child("hostname"))...)
		}
		errs = append(errs, metav1validation.ValidateLabels(e.DeprecatedTopology, at.Child("deprecatedTopology"))...)
		if e.Hints != nil && len(e.Hints.ForZones) > maxHints {
			errs = append(errs, field.TooMany(at.Child("hints", "forZones"), len(e.Hints.ForZones), maxHints))
		}
	}
	return errs
}

func validateAddress(address string, kind discoveryv1.AddressType, path *field.Path) field.ErrorList {
	switch kind {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path, address)
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
		errs := rule.IP(address, path)
		return append(errs, endpoints.ValidateIP(address, path)...)
	}
	return nil
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
		errs = append(errs, rule.SupportedProtocol(ptr.Deref(port.Protocol, ""), at.Child("protocol"))...)
		if port.AppProtocol != nil {
			errs = append(errs, rule.QualifiedName(*port.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

// Warnings tell of addresses in a form that others may read otherwise.
func Warnings(s *discoveryv1.EndpointSlice) []string {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
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
