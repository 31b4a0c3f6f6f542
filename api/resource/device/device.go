// Package device is what the kinds of dynamic resource allocation have in common: names, selectors, driver configuration, taints
// and tolerations; and a DeviceClass, which is made of nothing else. CEL expressions are taken as text.
//
// In Kubernetes: pkg/apis/resource/validation/validation.go.
package device

import (
	"encoding/json"
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidateClass checks a DeviceClass on its own.
func ValidateClass(c *resourcev1.DeviceClass) field.ErrorList {
	path := field.NewPath("spec")
	errs := ValidateSelectors(c.Spec.Selectors, path.Child("selectors"))
	errs = append(errs, AtMost(len(c.Spec.Config), resourcev1.DeviceConfigMaxSize, path.Child("config"))...)
	for i := range c.Spec.Config {
		errs = append(errs, ValidateConfiguration(&c.Spec.Config[i].DeviceConfiguration, path.Child("config").Index(i))...)
	}
	return errs
}

// AtMost bounds the length of a list.
func AtMost(n, most int, path *field.Path) field.ErrorList {
	if n > most {
		return field.ErrorList{field.TooMany(path, n, most)}
	}
	return nil
}

// ValidateDriver asks for a driver's name, which is formed as a CSI driver's.
func ValidateDriver(name string, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(name, path)
	if len(name) > resourcev1.DriverNameMaxLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.DriverNameMaxLength))
	}
	if name == "" {
		return errs
	}
	return append(errs, rule.All(validation.IsDNS1123Subdomain(strings.ToLower(name)), path, name)...)
}

// ValidatePool asks for a pool's name: subdomains with slashes between them.
func ValidatePool(name string, path *field.Path) field.ErrorList {
	errs := rule.NonEmpty(name, path)
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.PoolNameMaxLength))
	}
	if name == "" {
		return errs
	}
	for _, part := range strings.Split(name, "/") {
		errs = append(errs, rule.DNSSubdomain(part, path)...)
	}
	return errs
}

// ValidateQualifiedName asks for a C identifier, which may have a domain before it ("memory", "example.com/memory").
func ValidateQualifiedName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "name required")}
	}
	domain, id, found := strings.Cut(name, "/")
	var errs field.ErrorList
	switch {
	case !found:
		id = domain
	case domain == "":
		errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
	default:
		if len(domain) > resourcev1.DeviceMaxDomainLength {
			errs = append(errs, field.TooLong(path, "", resourcev1.DeviceMaxDomainLength))
		}
		errs = append(errs, rule.DNSSubdomain(domain, path)...)
	}
	if id == "" {
		return append(errs, field.Invalid(path, "", "the name must not be empty"))
	}
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.DeviceMaxIDLength))
	}
	return append(errs, rule.All(validation.IsCIdentifier(id), path, id)...)
}

// ValidateFullyQualifiedName is ValidateQualifiedName, and there must be a domain.
func ValidateFullyQualifiedName(name string, path *field.Path) field.ErrorList {
	errs := ValidateQualifiedName(name, path)
	if name != "" && !strings.Contains(name, "/") {
		errs = append(errs, field.Invalid(path, name, "must include a domain"))
	}
	return errs
}

// ValidateSelectors checks which devices are asked for.
func ValidateSelectors(selectors []resourcev1.DeviceSelector, path *field.Path) field.ErrorList {
	errs := AtMost(len(selectors), resourcev1.DeviceSelectorsMaxSize, path)
	for i, s := range selectors {
		at := path.Index(i).Child("cel")
		switch {
		case s.CEL == nil:
			errs = append(errs, field.Required(at, ""))
		case strings.TrimSpace(s.CEL.Expression) == "":
			errs = append(errs, field.Required(at.Child("expression"), ""))
		case len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength:
			errs = append(errs, field.TooLong(at.Child("expression"), "", resourcev1.CELSelectorExpressionMaxLength))
		}
	}
	return errs
}

// ValidateConfiguration checks what is handed to a driver.
func ValidateConfiguration(c *resourcev1.DeviceConfiguration, path *field.Path) field.ErrorList {
	at := path.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(at, "")}
	}
	return append(ValidateDriver(c.Opaque.Driver, at.Child("driver")), ValidateObject(c.Opaque.Parameters, at.Child("parameters"), resourcev1.OpaqueParametersMaxLength)...)
}

// ValidateObject asks for a JSON object of at most so many bytes. Its value is not shown: it may be secret.
func ValidateObject(raw runtime.RawExtension, path *field.Path, most int) field.ErrorList {
	const omitted = "<value omitted>"
	if len(raw.Raw) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(raw.Raw) > most {
		errs = append(errs, field.TooLong(path, "", most))
	}
	var value any
	if err := json.Unmarshal(raw.Raw, &value); err != nil {
		return append(errs, field.Invalid(path, omitted, "error parsing data as JSON: "+err.Error()))
	}
	switch value.(type) {
	case map[string]any:
		return errs
	case nil:
		return append(errs, field.Required(path, ""))
	}
	return append(errs, field.Invalid(path, omitted, "must be a valid JSON object"))
}

var effects = []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone}

// ValidateTaint checks a taint of a device.
func ValidateTaint(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
	errs := rule.QualifiedName(t.Key, path.Child("key"))
	errs = append(errs, rule.All(validation.IsValidLabelValue(t.Value), path.Child("value"), t.Value)...)
	return append(errs, rule.Supported(t.Effect, path.Child("effect"), effects...)...)
}

// ValidateTolerations checks which taints a request puts up with.
func ValidateTolerations(list []resourcev1.DeviceToleration, path *field.Path) field.ErrorList {
	errs := AtMost(len(list), resourcev1.DeviceTolerationsMaxLength, path)
	for i, t := range list {
		at := path.Index(i)
		if t.Key != "" {
			errs = append(errs, rule.QualifiedName(t.Key, at.Child("key"))...)
		}
		switch t.Operator {
		case resourcev1.DeviceTolerationOpExists:
			if t.Value != "" {
				errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty for operator `Exists`"))
			}
		case resourcev1.DeviceTolerationOpEqual:
			errs = append(errs, rule.All(validation.IsValidLabelValue(t.Value), at.Child("value"), t.Value)...)
			if t.Key == "" {
				errs = append(errs, field.Invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty"))
			}
		default:
			errs = append(errs, rule.Supported(t.Operator, at.Child("operator"), resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)...)
		}
		errs = append(errs, rule.SupportedOrEmpty(t.Effect, at.Child("effect"), effects...)...)
	}
	return errs
}
