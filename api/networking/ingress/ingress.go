// Package ingress is what is true of Ingresses and their classes.
//
// In Kubernetes: pkg/apis/networking/validation.
package ingress

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// Validate checks a new ingress.
func Validate(i *networkingv1.Ingress) field.ErrorList {
	errs := validate(&i.Spec, nil)
	if class, ok := i.Annotations[classAnnotation]; ok && i.Spec.IngressClassName != nil && class != *i.Spec.IngressClassName {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(classAnnotation), class, "must match `ingressClassName` when both are specified"))
	}
	return errs
}

// ValidateUpdate checks a changed one. A name of a secret that was let in once may stay.
func ValidateUpdate(i, old *networkingv1.Ingress) field.ErrorList {
	return validate(&i.Spec, &old.Spec)
}

func validate(spec, old *networkingv1.IngressSpec) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if len(spec.Rules) == 0 && spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(path, rule.Untagged(spec.Rules), "either `defaultBackend` or `rules` must be specified"))
	}
	if b := spec.DefaultBackend; b != nil {
		errs = append(errs, validateBackend(b, path.Child("defaultBackend"))...)
	}
	for n := range spec.Rules {
		errs = append(errs, validateRule(&spec.Rules[n], path.Child("rules").Index(n))...)
	}
	for n, tls := range spec.TLS {
		for m, host := range tls.Hosts {
			errs = append(errs, validateHost(host, path.Child("tls").Index(n).Child("hosts").Index(m))...)
		}
		if !hasBadSecret(old) {
			errs = append(errs, validateSecret(tls.SecretName, path.Child("tls").Index(n).Child("secretName"))...)
		}
	}
	if name := spec.IngressClassName; name != nil {
		errs = append(errs, rule.DNSSubdomain(*name, path.Child("ingressClassName"))...)
	}
	return errs
}

func validateSecret(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	return rule.DNSSubdomain(name, path)
}

func hasBadSecret(spec *networkingv1.IngressSpec) bool {
	return spec != nil && slices.ContainsFunc(spec.TLS, func(tls networkingv1.IngressTLS) bool { return len(validateSecret(tls.SecretName, nil)) > 0 })
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
		if netutils.ParseIPSloppy(r.Host) != nil {
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
	if p.PathType == nil {
		return field.ErrorList{field.Required(path.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
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
		for _, end := range []string{"/..", "/."} {
			if strings.HasSuffix(p.Path, end) {
				errs = append(errs, field.Invalid(path.Child("path"), p.Path, "cannot end with '"+end+"'"))
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
	return append(errs, validateBackend(&p.Backend, path.Child("backend"))...)
}

func validateBackend(b *networkingv1.IngressBackend, path *field.Path) field.ErrorList {
	switch {
	case b.Service != nil && b.Resource != nil:
		return field.ErrorList{field.Invalid(path, "", "cannot set both resource and service backends")}
	case b.Resource != nil:
		return validateReference(b.Resource.APIGroup, b.Resource.Kind, b.Resource.Name, path.Child("resource"))
	case b.Service == nil:
		return field.ErrorList{field.Invalid(path, "", "resource or service backend is required")}
	}
	var errs field.ErrorList
	if b.Service.Name == "" {
		errs = append(errs, field.Required(path.Child("service", "name"), ""))
	} else {
		errs = append(errs, rule.All(validation.IsDNS1123Label(b.Service.Name), path.Child("service", "name"), b.Service.Name)...)
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

// ValidateStatusUpdate checks where a controller says the ingress can be reached.
func ValidateStatusUpdate(i, old *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	var known []string
	for _, point := range old.Status.LoadBalancer.Ingress {
		known = append(known, point.IP)
	}
	for n, point := range i.Status.LoadBalancer.Ingress {
		path := field.NewPath("status", "loadBalancer", "ingress").Index(n)
		if point.IP != "" {
			errs = append(errs, rule.IP(point.IP, path.Child("ip"), known...)...)
		}
		if point.Hostname != "" {
			errs = append(errs, rule.DNSSubdomain(point.Hostname, path.Child("hostname"))...)
			if netutils.ParseIPSloppy(point.Hostname) != nil {
				errs = append(errs, field.Invalid(path.Child("hostname"), point.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}

const classAnnotation = "kubernetes.io/ingress.class"

// Warnings tell of a class that is named as it was before there were classes.
func Warnings(i *networkingv1.Ingress) []string {
	if _, ok := i.Annotations[classAnnotation]; ok && i.Spec.IngressClassName == nil {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", classAnnotation)}
	}
	return nil
}

// WarningsOnStatusUpdate tell of addresses in a form that others may read otherwise.
func WarningsOnStatusUpdate(i, old *networkingv1.Ingress) []string {
	var warnings []string
	for n, point := range i.Status.LoadBalancer.Ingress {
		if point.IP != "" {
			warnings = append(warnings, validation.GetWarningsForIP(field.NewPath("status", "loadBalancer", "ingress").Index(n), point.IP)...)
		}
	}
	return warnings
}

// SetDefaultsClass: parameters are of the whole cluster.
func SetDefaultsClass(c *networkingv1.IngressClass) {
	if p := c.Spec.Parameters; p != nil && p.Scope == nil {
		p.Scope = ptr.To(networkingv1.IngressClassParametersReferenceScopeCluster)
	}
}

const maxController = 250

// ValidateClass checks an ingress class on its own.
func ValidateClass(c *networkingv1.IngressClass) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if len(c.Spec.Controller) > maxController {
		errs = append(errs, field.TooLong(path.Child("controller"), "", maxController))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(path.Child("controller"), c.Spec.Controller)...)
	if p := c.Spec.Parameters; p != nil {
		errs = append(errs, validateParameters(p, path.Child("parameters"))...)
	}
	return errs
}

func validateParameters(p *networkingv1.IngressClassParametersReference, path *field.Path) field.ErrorList {
	errs := validateReference(p.APIGroup, p.Kind, p.Name, path)
	for _, err := range errs {
		if err.Type == field.ErrorTypeRequired {
			rule.Declared(field.ErrorList{err})
		}
	}
	switch scope := ptr.Deref(p.Scope, ""); {
	case p.Scope == nil:
		errs = append(errs, field.Required(path.Child("scope"), ""))
	case scope == networkingv1.IngressClassParametersReferenceScopeNamespace && p.Namespace == nil:
		errs = append(errs, field.Required(path.Child("namespace"), "`parameters.scope` is set to 'Namespace'"))
	case scope == networkingv1.IngressClassParametersReferenceScopeNamespace:
		errs = append(errs, rule.All(apivalidation.ValidateNamespaceName(*p.Namespace, false), path.Child("namespace"), *p.Namespace)...)
	case scope == networkingv1.IngressClassParametersReferenceScopeCluster && p.Namespace != nil:
		errs = append(errs, field.Forbidden(path.Child("namespace"), "`parameters.scope` is set to 'Cluster'"))
	default:
		errs = append(errs, rule.OneOf(scope, path.Child("scope"), networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace)...)
	}
	return errs
}

// validateReference checks a reference to an object of any kind.
func validateReference(group *string, kind, name string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if group != nil {
		errs = append(errs, rule.DNSSubdomain(*group, path.Child("apiGroup"))...)
	}
	for _, part := range []struct{ field, value string }{{"kind", kind}, {"name", name}} {
		if part.value == "" {
			errs = append(errs, field.Required(path.Child(part.field), ""))
			continue
		}
		errs = append(errs, rule.All(pathvalidation.IsValidPathSegmentName(part.value), path.Child(part.field), part.value)...)
	}
	return errs
}

// ValidateClassUpdate: a class stays with its controller.
func ValidateClassUpdate(c, old *networkingv1.IngressClass) field.ErrorList {
	return append(rule.Immutable(c.Spec.Controller, old.Spec.Controller, field.NewPath("spec", "controller")), ValidateClass(c)...)
}
