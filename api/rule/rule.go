// Package rule has the small checks that the validation of many kinds shares.
// Each returns the field errors it found, with the path and the words a user of
// kubectl knows. The rules on names, labels and metadata themselves are
// k8s.io/apimachinery's (pkg/util/validation, pkg/api/validation).
//
// In Kubernetes: the small functions spread over
// pkg/apis/core/validation/validation.go.
package rule

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Messages that several rules use.
const (
	NegativeMessage    = apivalidation.IsNegativeErrorMsg
	NotPositiveMessage = "must be greater than zero"
	NotIntegerMessage  = "must be an integer"
	FileModeMessage    = "must be a number between 0 and 0777 (octal), both inclusive"
)

// All turns the messages of an apimachinery check into Invalid errors.
func All(messages []string, path *field.Path, value any) field.ErrorList {
	var errs field.ErrorList
	for _, message := range messages {
		errs = append(errs, field.Invalid(path, value, message))
	}
	return errs
}

// NonEmpty asks for a value.
func NonEmpty(value string, path *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nil
}

// DNSLabel asks for an RFC 1123 label.
func DNSLabel(value string, path *field.Path) field.ErrorList {
	return All(validation.IsDNS1123Label(value), path, value)
}

// DNSSubdomain asks for an RFC 1123 subdomain.
func DNSSubdomain(value string, path *field.Path) field.ErrorList {
	return All(validation.IsDNS1123Subdomain(value), path, value)
}

// QualifiedName asks for a label key: name, or prefix/name.
func QualifiedName(value string, path *field.Path) field.ErrorList {
	return All(validation.IsQualifiedName(value), path, value)
}

// NonNegative asks for 0 or more.
func NonNegative(value int64, path *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(value, path)
}

// Positive asks for 1 or more.
func Positive(value int64, path *field.Path) field.ErrorList {
	if value <= 0 {
		return field.ErrorList{field.Invalid(path, value, NotPositiveMessage)}
	}
	return nil
}

// Supported asks for one of a set of words; an empty value is Required.
func Supported[T ~string](value T, path *field.Path, words ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return SupportedOrEmpty(value, path, words...)
}

// SupportedOrEmpty is Supported for a field that may be left out.
func SupportedOrEmpty[T ~string](value T, path *field.Path, words ...T) field.ErrorList {
	if value == "" {
		return nil
	}
	return OneOf(value, path, words...)
}

// NoneIfEmpty is a list as it comes back from upstream's store, which has no empty ones.
func NoneIfEmpty[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// OneOf asks for one of a set of words; no value is no word either.
func OneOf[T ~string](value T, path *field.Path, words ...T) field.ErrorList {
	known := sets.New(words...)
	if known.Has(value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, sets.List(known))}
}

// Listed is OneOf whose message names the words in the order given.
func Listed[T ~string](value T, path *field.Path, words ...T) field.ErrorList {
	if slices.Contains(words, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, value, words)}
}

// RequiredListed is Listed for a field that may not be empty.
func RequiredListed[T ~string](value T, path *field.Path, words ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return Listed(value, path, words...)
}

// Immutable asks that a field has not changed.
func Immutable(value, old any, path *field.Path) field.ErrorList {
	if equality.Semantic.DeepEqual(value, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, shown(value), apivalidation.FieldImmutableErrorMsg)}
}

// Fixed is Immutable of a field whose immutability stands in its type (+k8s:immutable): such an error shows no value, and is Declared.
func Fixed(value, old any, path *field.Path) field.ErrorList {
	if equality.Semantic.DeepEqual(value, old) {
		return nil
	}
	return Declared(field.ErrorList{field.Invalid(path, nil, apivalidation.FieldImmutableErrorMsg)})
}

// shown is Untagged of what has fields, and anything else as it is.
func shown(value any) any {
	switch reflect.ValueOf(value).Kind() {
	case reflect.Struct, reflect.Pointer, reflect.Slice:
		return Untagged(value)
	}
	return value
}

// PortNumOrName asks for a port number or the name of a port.
func PortNumOrName(port intstr.IntOrString, path *field.Path) field.ErrorList {
	if port.Type == intstr.String {
		return All(validation.IsValidPortName(port.StrVal), path, port.StrVal)
	}
	return All(validation.IsValidPortNum(port.IntValue()), path, port.IntValue())
}

// IntOrPercent asks for a number that is not negative, or for a percentage.
func IntOrPercent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if value.Type == intstr.String {
		var errs field.ErrorList
		for _, message := range validation.IsValidPercent(value.StrVal) {
			errs = append(errs, field.Invalid(path, value, message))
		}
		return errs
	}
	return NonNegative(int64(value.IntValue()), path)
}

// NotMoreThan100Percent asks a percentage to stay within the whole.
func NotMoreThan100Percent(value intstr.IntOrString, path *field.Path) field.ErrorList {
	if percent, ok := Percent(value); ok && percent > 100 {
		return field.ErrorList{field.Invalid(path, value, "must not be greater than 100%")}
	}
	return nil
}

// Percent is the number in "25%".
func Percent(value intstr.IntOrString) (int, bool) {
	if value.Type != intstr.String || len(validation.IsValidPercent(value.StrVal)) != 0 {
		return 0, false
	}
	n := 0
	for _, digit := range strings.TrimSuffix(value.StrVal, "%") {
		n = n*10 + int(digit-'0')
	}
	return n, true
}

// NonNegativeQuantity asks for a quantity of 0 or more.
func NonNegativeQuantity(value resource.Quantity, path *field.Path) field.ErrorList {
	if value.Sign() < 0 {
		return field.ErrorList{field.Invalid(path, value.String(), NegativeMessage)}
	}
	return nil
}

// FileMode asks for permission bits.
func FileMode(mode *int32, path *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0777) {
		return field.ErrorList{field.Invalid(path, *mode, FileModeMessage)}
	}
	return nil
}

// IP asks for an IP address, in a form that all readers understand alike (no leading zeros); an object that
// was let in under fewer rules may keep its old ones.
func IP(value string, path *field.Path, old ...string) field.ErrorList {
	return validation.IsValidIPForLegacyField(path, value, true, old)
}

// SupportedProtocol asks for TCP, UDP or SCTP.
func SupportedProtocol(value v1.Protocol, path *field.Path) field.ErrorList {
	return Supported(value, path, v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP)
}

// maxDriverName: a CSI driver's name is also a file's name and a label's value.
const maxDriverName = 63

// DriverName asks for the name of a CSI driver; upper case is let through, as drivers of old have it.
func DriverName(name string, path *field.Path) field.ErrorList {
	errs := NonEmpty(name, path)
	if len(name) > maxDriverName {
		errs = append(errs, field.TooLong(path, "", maxDriverName))
	}
	if name == "" {
		return errs
	}
	return append(errs, All(validation.IsDNS1123Subdomain(strings.ToLower(name)), path, name)...)
}

const maxSignerName = 2*validation.DNS1123SubdomainMaxLength + validation.DNS1123LabelMaxLength + 2

// SignerName asks for the name of a signer of certificates: a domain of two segments or more, a slash, and a path of subdomains.
func SignerName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	domain, rest, found := strings.Cut(name, "/")
	if !found || strings.Contains(rest, "/") {
		return field.ErrorList{field.Invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")}
	}
	var errs field.ErrorList
	if len(domain) > validation.DNS1123SubdomainMaxLength {
		errs = append(errs, field.TooLong(path, domain, validation.DNS1123SubdomainMaxLength))
	}
	labels := strings.Split(domain, ".")
	errs = append(errs, firstBadLabel(labels, domain, validation.IsDNS1123Label, path)...)
	if len(labels) < 2 {
		errs = append(errs, field.Invalid(path, domain, "should be a domain with at least two segments separated by dots"))
	}
	errs = append(errs, firstBadLabel(strings.Split(rest, "."), rest, validation.IsDNS1123Subdomain, path)...)
	if len(name) > maxSignerName {
		errs = append(errs, field.TooLong(path, name, maxSignerName))
	}
	return errs
}

// firstBadLabel tells what is wrong with one part of a dotted name; the others would say the same again.
func firstBadLabel(labels []string, whole string, check func(string) []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, label := range labels {
		for _, message := range check(label) {
			errs = append(errs, field.Invalid(path, whole, fmt.Sprintf("validating label %q: %s", label, message)))
		}
		if len(errs) > 0 {
			break
		}
	}
	return errs
}

// OnceNamed asks for a name (a condition's type) that is not empty and was not there before.
func OnceNamed(name string, again bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if again {
		errs = append(errs, field.Duplicate(path, name))
	}
	if name == "" {
		errs = append(errs, field.Required(path, ""))
	}
	return errs
}

// Wildcard asks that "*" stands alone in a list; others names what it would make pointless.
func Wildcard(list []string, path *field.Path, others string) field.ErrorList {
	if len(list) > 1 && slices.Contains(list, "*") {
		return field.ErrorList{field.Invalid(path, list, "if '*' is present, must not specify other "+others)}
	}
	return nil
}
