package pod

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// What a projected volume may ask for of certificates: whom to trust (clusterTrustBundle), and how to be trusted
// (podCertificate).

// Seconds.
const (
	minCertificateLife           = 60 * 60
	maxKubernetesCertificateLife = 24 * 60 * 60
	maxCertificateLife           = 91 * 24 * 60 * 60
)

// keyTypes are the keys a kubelet can make.
var keyTypes = []string{"RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"}

// validateTrustProjection asks for a bundle's name, or for a signer's, not for both.
func validateTrustProjection(p *v1.ClusterTrustBundleProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case p.Name != nil && p.SignerName != nil:
		errs = append(errs, field.Invalid(at, rule.Untagged(p), "only one of name and signerName may be used"))
	case p.Name != nil:
		errs = append(errs, validateTrustName(*p.Name, at.Child("name"))...)
		if p.LabelSelector != nil {
			errs = append(errs, field.Invalid(at.Child("labelSelector"), p.LabelSelector, "labelSelector must be unset if name is specified"))
		}
	case p.SignerName != nil:
		if *p.SignerName == "" {
			errs = append(errs, field.Required(at.Child("signerName"), "must be a valid signer name"))
		}
		errs = append(errs, rule.SignerName(*p.SignerName, at.Child("signerName"))...)
		errs = append(errs, metav1validation.ValidateLabelSelector(p.LabelSelector, metav1validation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	default:
		errs = append(errs, field.Required(at, "either name or signerName must be specified"))
	}
	errs = append(errs, rule.NonEmpty(p.Path, at.Child("path"))...)
	return append(errs, validateLocalNonReservedPath(p.Path, at.Child("path"))...)
}

// validateTrustName: a name is a DNS name, behind its signer's if it has one ("example.com:signer:name").
func validateTrustName(name string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name == "" {
		errs = append(errs, field.Required(at, "must be a valid object name"))
	}
	for _, message := range apivalidation.NameIsDNSSubdomain(name[strings.LastIndex(name, ":")+1:], false) {
		errs = append(errs, field.Invalid(at, name, fmt.Sprintf("not a valid clustertrustbundlename: %v", message)))
	}
	return errs
}

func validateCertificateProjection(p *v1.PodCertificateProjection, at *field.Path, files *claimPaths) field.ErrorList {
	errs := rule.SignerName(p.SignerName, at.Child("signerName"))
	errs = append(errs, validateUserAnnotations(p.UserAnnotations, at.Child("userAnnotations"))...)
	if !slices.Contains(keyTypes, p.KeyType) {
		errs = append(errs, field.NotSupported(at.Child("keyType"), p.KeyType, keyTypes))
	}
	most := int32(maxCertificateLife)
	if host, _, _ := strings.Cut(p.SignerName, "/"); host == "kubernetes.io" || strings.HasSuffix(host, ".kubernetes.io") {
		most = maxKubernetesCertificateLife
	}
	if seconds := p.MaxExpirationSeconds; seconds != nil && *seconds < minCertificateLife {
		errs = append(errs, field.Invalid(at.Child("maxExpirationSeconds"), *seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", minCertificateLife)))
	} else if seconds != nil && *seconds > most {
		errs = append(errs, field.Invalid(at.Child("maxExpirationSeconds"), *seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", most)))
	}
	for _, file := range []struct{ field, path string }{
		{"credentialBundlePath", p.CredentialBundlePath}, {"keyPath", p.KeyPath}, {"certificateChainPath", p.CertificateChainPath},
	} {
		if file.path != "" {
			errs = append(errs, validateLocalNonReservedPath(file.path, at.Child(file.field))...)
			errs = append(errs, files.claim(file.path, file.path)...)
		}
	}
	if len(certificatePaths(p)) == 0 {
		errs = append(errs, field.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	return errs
}

// validateUserAnnotations checks what a signer is told besides; its keys belong to somebody's domain.
func validateUserAnnotations(annotations map[string]string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		errs = append(errs, validation.IsDomainPrefixedKey(at, strings.ToLower(key))...)
	}
	if apivalidation.ValidateAnnotationsSize(annotations) != nil {
		errs = append(errs, field.TooLong(at, "", apivalidation.TotalAnnotationSizeLimitB))
	}
	return errs
}

// certificatePaths are the files of a pod's certificate.
func certificatePaths(p *v1.PodCertificateProjection) []string {
	var paths []string
	for _, path := range []string{p.CredentialBundlePath, p.KeyPath, p.CertificateChainPath} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}
