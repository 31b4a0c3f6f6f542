// Package ingress is what is true of Ingresses and their classes.
//
// In Kubernetes: pkg/apis/networking/validation.
package ingress

import (
	"net/netip"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// Validate checks an ingress on its own.
func Validate(i *networkingv1.Ingress) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(path, i.Spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	for n := range i.Spec.Rules {
		errs = append(errs, validateRule(&i.Spec.Rules[n], path.Child("rules").Index(n))...)
	}
	if b := i.Spec.DefaultBackend; b != nil {
		errs = append(errs, validateBackend(b, path.Child("defaultBackend"))...)
	}
	for n, tls := range i.Spec.TLS {
		for m, host := range tls.Hosts {
			errs = append(errs, validateHost(host, path.Child("tls").Index(n).Child("hosts").Index(m))...)
		}
		if tls.SecretName != "" {
			errs = append(errs, rule.DNSSubdomain(tls.SecretName, path.Child("tls").Index(n).Child("secretName"))...)
		}
	}
	if name := i.Spec.IngressClassName; name != nil {
		errs = append(errs, rule.DNSSubdomain(*name, path.Child("ingressClassName"))...)
	}
	return errs
}

func validateHost(host string, path *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return rule.All(validation.IsWildcardDNS1123Subdomain(host), path, host)
	}
	return rule.DNSSubdomain(host, path)
}

func validateRule(r *networkingv1.IngressRule, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Host != "" {
		if _, err := netip.ParseAddr(r.Host); err == nil {
			errs = append(errs, field.Invalid(path.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		}
		errs = append(errs, validateHost(r.Host, path.Child("host"))...)
	}
	if r.HTTP == nil {
		return errs
	}
	at := path.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		errs = append(errs, field.Required(at, ""))
	}
	for i := range r.HTTP.Paths {
		errs = append(errs, validatePath(&r.HTTP.Paths[i], at.Index(i))...)
	}
	return errs
}

func validatePath(p *networkingv1.HTTPIngressPath, path *field.Path) field.ErrorList {
	errs := validateBackend(&p.Backend, path.Child("backend"))
	if p.PathType == nil {
		return append(errs, field.Required(path.Child("pathType"), "pathType must be specified"))
	}
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(path.Child("path"), p.Path, "must be an absolute path"))
		}
		for _, part := range []string{"//", "/./", "/../", "%2f", "%2F"} {
			if strings.Contains(p.Path, part) {
				errs = append(errs, field.Invalid(path.Child("path"), p.Path, "must not contain '"+part+"'"))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(path.Child("path"), p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("pathType"), *p.PathType, []networkingv1.PathType{
			networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return errs
}

func validateBackend(b *networkingv1.IngressBackend, path *field.Path) field.ErrorList {
	switch {
	case b.Service != nil && b.Resource != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return append(rule.NonEmpty(b.Resource.Kind, path.Child("resource", "kind")), rule.NonEmpty(b.Resource.Name, path.Child("resource", "name"))...)
	case b.Service == nil:
		return field.ErrorList{field.Required(path, "resource or service backend is required")}
	}
	var errs field.ErrorList
	if b.Service.Name == "" {
		errs = append(errs, field.Required(path.Child("service", "name"), ""))
	} else {
		errs = append(errs, rule.All(validation.IsDNS1035Label(b.Service.Name), path.Child("service", "name"), b.Service.Name)...)
	}
	port := b.Service.Port
	switch at := path.Child("service", "port"); {
	case port.Name != "" && port.Number != 0:
		errs = append(errs, field.Invalid(path, "", "cannot set both port name & port number"))
	case port.Name != "":
		errs = append(errs, rule.All(validation.IsValidPortName(port.Name), at.Child("name"), port.Name)...)
	case port.Number != 0:
		errs = append(errs, rule.All(validation.IsValidPortNum(int(port.Number)), at.Child("number"), port.Number)...)
	default:
		errs = append(errs, field.Required(path, "port name or number is required"))
	}
	return errs
}

// ValidateClass checks an ingress class on its own.
func ValidateClass(c *networkingv1.IngressClass) field.ErrorList {
	path := field.NewPath("spec")
	if c.Spec.Controller == "" {
		return field.ErrorList{field.Required(path.Child("controller"), "")}
	}
	return validation.IsDomainPrefixedPath(path.Child("controller"), c.Spec.Controller)
}

// ValidateClassUpdate: a class stays with its controller.
func ValidateClassUpdate(c, old *networkingv1.IngressClass) field.ErrorList {
	return append(ValidateClass(c), rule.Immutable(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller"))...)
}
