// Package clustertrustbundle is what is true of a ClusterTrustBundle: certificate authorities that pods may trust.
//
// In Kubernetes: pkg/apis/certificates/validation/validation.go.
package clustertrustbundle

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// maxSize of a bundle, in bytes.
const maxSize = 1 << 20

// Validate checks a bundle on its own.
func Validate(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	return append(validateNames(b), validateBundle(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
}

// ValidateUpdate: for whom a bundle speaks stays. One that stays is not read again: another release may read certificates
// otherwise.
func ValidateUpdate(b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
	errs := validateNames(b)
	if b.Spec.TrustBundle != old.Spec.TrustBundle {
		errs = append(errs, validateBundle(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
	}
	return append(errs, rule.Immutable(b.Spec.SignerName, old.Spec.SignerName, field.NewPath("spec", "signerName"))...)
}

func validateNames(b *certificatesv1.ClusterTrustBundle) field.ErrorList {
	var errs field.ErrorList
	if b.GenerateName != "" {
		errs = append(errs, rule.All(validateName(b.Spec.SignerName, b.GenerateName, true), field.NewPath("metadata", "generateName"), b.GenerateName)...)
	}
	if b.Name != "" {
		errs = append(errs, rule.All(validateName(b.Spec.SignerName, b.Name, false), field.NewPath("metadata", "name"), b.Name)...)
	}
	if b.Spec.SignerName != "" {
		errs = append(errs, rule.SignerName(b.Spec.SignerName, field.NewPath("spec", "signerName"))...)
	}
	return errs
}

// validateName: a signer's bundles bear its name, "example.com:signer:v1", so that who may write them can be said by name.
func validateName(signer, name string, prefix bool) []string {
	if signer == "" {
		if strings.Contains(name, ":") {
			return []string{"ClusterTrustBundle without signer name must not have \":\" in its name"}
		}
		return apivalidation.NameIsDNSSubdomain(name, prefix)
	}
	start := strings.ReplaceAll(signer, "/", ":") + ":"
	rest, found := strings.CutPrefix(name, start)
	if !found {
		return []string{fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, start)}
	}
	return apivalidation.NameIsDNSSubdomain(rest, prefix)
}

// validateBundle asks for certificates of authorities, each once, and nothing else.
func validateBundle(text string, path *field.Path) field.ErrorList {
	if len(text) > maxSize {
		return field.ErrorList{field.TooLong(path, "", maxSize)}
	}
	refuse := func(format string, args ...any) *field.Error {
		return field.Invalid(path, "<value omitted>", fmt.Sprintf(format, args...))
	}
	var errs field.ErrorList
	seen := map[string][]int{}
	rest := []byte(text)
	for i := 0; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if wrong := entry(block); wrong != "" {
			errs = append(errs, refuse("entry %d %s", i, wrong))
			continue
		}
		seen[string(block.Bytes)] = append(seen[string(block.Bytes)], i)
	}
	// Beside a malformed block, what is missing or there twice may be its consequence.
	if len(errs) > 0 {
		return errs
	}
	if len(seen) == 0 {
		errs = append(errs, refuse("at least one trust anchor must be provided"))
	}
	for _, key := range slices.Sorted(maps.Keys(seen)) {
		if len(seen[key]) > 1 {
			errs = append(errs, refuse("duplicate trust anchor (indices %v)", seen[key]))
		}
	}
	return errs
}

// entry says what is wrong with one block; "": nothing.
func entry(block *pem.Block) string {
	if block.Type != "CERTIFICATE" {
		return "has bad block type: " + block.Type
	}
	if len(block.Headers) > 0 {
		return "has PEM block headers"
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil:
		return "does not parse as X.509"
	case !certificate.IsCA:
		return "does not have the CA bit set"
	case !certificate.BasicConstraintsValid:
		return "has invalid basic constraints"
	}
	return ""
}
