// Package endpoints is what is true of Endpoints: their addresses and ports.
//
// In Kubernetes: SetDefaults_Endpoints, ValidateEndpoints*, and
// pkg/api/v1/endpoints (RepackSubsets).
package endpoints

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"

	"hyperkube/api/rule"
)

// SetDefaults: a port without a protocol is TCP.
func SetDefaults(e *v1.Endpoints) {
	for i := range e.Subsets {
		for j := range e.Subsets[i].Ports {
			if e.Subsets[i].Ports[j].Protocol == "" {
				e.Subsets[i].Ports[j].Protocol = v1.ProtocolTCP
			}
		}
	}
}

// Validate checks each subset of new Endpoints.
func Validate(e *v1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i := range e.Subsets {
		s, path := &e.Subsets[i], field.NewPath("subsets").Index(i)
		if len(s.Addresses) == 0 && len(s.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(path, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range s.Addresses {
			errs = append(errs, validateAddress(&s.Addresses[j], path.Child("addresses").Index(j))...)
		}
		for j := range s.NotReadyAddresses {
			errs = append(errs, validateAddress(&s.NotReadyAddresses[j], path.Child("notReadyAddresses").Index(j))...)
		}
		for j := range s.Ports {
			errs = append(errs, validatePort(&s.Ports[j], len(s.Ports) > 1, path.Child("ports").Index(j))...)
		}
	}
	return errs
}

// ValidateUpdate: subsets that were let in under fewer rules may stay as they are.
func ValidateUpdate(e, old *v1.Endpoints) field.ErrorList {
	errs := Validate(e)
	if len(errs) > 0 && equality.Semantic.DeepEqual(e.Subsets, old.Subsets) {
		return nil
	}
	return errs
}

func validateAddress(a *v1.EndpointAddress, path *field.Path) field.ErrorList {
	errs := rule.IP(a.IP, path.Child("ip"))
	if a.Hostname != "" {
		errs = append(errs, rule.DNSLabel(a.Hostname, path.Child("hostname"))...)
	}
	if a.NodeName != nil {
		errs = append(errs, rule.DNSSubdomain(*a.NodeName, path.Child("nodeName"))...)
	}
	return append(errs, ValidateIP(a.IP, path.Child("ip"))...)
}

// ValidateIP refuses addresses by which an endpoint would reach into the node itself.
func ValidateIP(address string, path *field.Path) field.ErrorList {
	ip := netutils.ParseIPSloppy(address)
	if ip == nil {
		return field.ErrorList{field.Invalid(path, address, "must be a valid IP address")}
	}
	switch {
	case ip.IsUnspecified():
		return field.ErrorList{field.Invalid(path, address, fmt.Sprintf("may not be unspecified (%v)", address))}
	case ip.IsLoopback():
		return field.ErrorList{field.Invalid(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case ip.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case ip.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}

func validatePort(p *v1.EndpointPort, needName bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if needName && p.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else if p.Name != "" {
		errs = append(errs, rule.DNSLabel(p.Name, path.Child("name"))...)
	}
	errs = append(errs, rule.All(validation.IsValidPortNum(int(p.Port)), path.Child("port"), p.Port)...)
	errs = append(errs, rule.SupportedProtocol(p.Protocol, path.Child("protocol"))...)
	if p.AppProtocol != nil {
		errs = append(errs, rule.QualifiedName(*p.AppProtocol, path.Child("appProtocol"))...)
	}
	return errs
}

// What the endpoints controller writes is told apart by this label.
const (
	labelManagedBy     = "endpoints.kubernetes.io/managed-by"
	endpointController = "endpoint-controller"
)

// Warnings tell of addresses in a form that others may read otherwise; the controller is known to write none.
func Warnings(e *v1.Endpoints) []string {
	if e.Labels[labelManagedBy] == endpointController {
		return nil
	}
	var warnings []string
	for i := range e.Subsets {
		path := field.NewPath("subsets").Index(i)
		for j, address := range e.Subsets[i].Addresses {
			warnings = append(warnings, validation.GetWarningsForIP(path.Child("addresses").Index(j).Child("ip"), address.IP)...)
		}
		for j, address := range e.Subsets[i].NotReadyAddresses {
			warnings = append(warnings, validation.GetWarningsForIP(path.Child("notReadyAddresses").Index(j).Child("ip"), address.IP)...)
		}
	}
	return warnings
}
