// Package ipaddress is what is true of an IPAddress: one address that somebody holds, named by itself.
//
// In Kubernetes: ValidateIPAddress* of pkg/apis/networking/validation.
package ipaddress

import (
	networkingv1 "k8s.io/api/networking/v1"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidateName asks for an address in its one canonical form: there must not be two objects of one address.
func ValidateName(name string, prefix bool) []string {
	var wrong []string
	for _, err := range validation.IsValidIP(nil, name) {
		wrong = append(wrong, err.Detail)
	}
	return wrong
}

// Validate checks an address on its own.
func Validate(a *networkingv1.IPAddress) field.ErrorList {
	path, ref := field.NewPath("spec", "parentRef"), a.Spec.ParentRef
	if ref == nil {
		return rule.Declared(field.ErrorList{field.Required(path, "")})
	}
	var errs field.ErrorList
	if ref.Group != "" {
		errs = append(errs, rule.DNSSubdomain(ref.Group, path.Child("group"))...)
	}
	errs = append(errs, rule.Declared(rule.NonEmpty(ref.Resource, path.Child("resource")))...)
	errs = append(errs, rule.All(pathvalidation.ValidatePathSegmentName(ref.Resource, false), path.Child("resource"), ref.Resource)...)
	errs = append(errs, rule.Declared(rule.NonEmpty(ref.Name, path.Child("name")))...)
	errs = append(errs, rule.All(pathvalidation.ValidatePathSegmentName(ref.Name, false), path.Child("name"), ref.Name)...)
	return append(errs, rule.All(pathvalidation.ValidatePathSegmentName(ref.Namespace, false), path.Child("namespace"), ref.Namespace)...)
}

// ValidateUpdate: an address does not change hands; it is given back and taken anew.
func ValidateUpdate(a, old *networkingv1.IPAddress) field.ErrorList {
	return append(Validate(a), rule.Fixed(a.Spec.ParentRef, old.Spec.ParentRef, field.NewPath("spec", "parentRef"))...)
}
