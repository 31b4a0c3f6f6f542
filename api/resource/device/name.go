package device

import (
	"strings"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// ValidatePool asks for a pool's name: subdomains with slashes between them.
func ValidatePool(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > resourcev1.PoolNameMaxLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.PoolNameMaxLength))
	}
	for _, part := range strings.Split(name, "/") {
		errs = append(errs, rule.DNSSubdomain(part, path)...)
	}
	return errs
}

// ValidateQualifiedName asks for a C identifier, which may have a domain before it ("memory", "example.com/memory"). As upstream
// does, it lets names with more slashes through.
func ValidateQualifiedName(name string, path *field.Path) field.ErrorList {
	parts := strings.Split(name, "/")
	var errs field.ErrorList
	switch len(parts) {
	case 1:
		return validateIdentifier(name, path)
	case 2:
		if parts[0] == "" {
			errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
		} else {
			errs = append(errs, rule.DriverName(parts[0], path)...)
		}
		if parts[1] == "" {
			errs = append(errs, field.Invalid(path, "", "the name must not be empty"))
		} else {
			errs = append(errs, validateIdentifier(parts[1], path)...)
		}
	}
	return errs
}

func validateIdentifier(id string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.DeviceMaxIDLength))
	}
	return append(errs, rule.All(content.IsCIdentifier(id), path, id)...)
}

// ID names a device, and which share of it where it is shared. Errors show it as JSON, with these names.
type ID struct{ Driver, Pool, Device, ShareID string }
