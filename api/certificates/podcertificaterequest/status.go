package podcertificaterequest

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	issued = certificatesv1.PodCertificateRequestConditionTypeIssued
	denied = certificatesv1.PodCertificateRequestConditionTypeDenied
	failed = certificatesv1.PodCertificateRequestConditionTypeFailed

	// How far the beginning of a certificate may be from now, how long it is valid at least, and how far from its beginning
	// and from its end it is renewed.
	clockSkew     = 5 * time.Minute
	minLifetime   = time.Hour
	refreshMargin = 10 * time.Minute
)

// ValidateStatusUpdate: a request comes to one end, and to no other after that: its status is written once.
func ValidateStatusUpdate(r, old *certificatesv1.PodCertificateRequest, now time.Time) field.ErrorList {
	path := field.NewPath("status")
	if errs := validateConditions(r.Status.Conditions, path.Child("conditions")); len(errs) > 0 {
		return errs
	}
	same := func(other certificatesv1.PodCertificateRequestStatus, message string) field.ErrorList {
		if equality.Semantic.DeepEqual(r.Status, other) {
			return nil
		}
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, message)}
	}
	is := func(r *certificatesv1.PodCertificateRequest, kind string) bool {
		return meta.IsStatusConditionTrue(r.Status.Conditions, kind)
	}
	switch {
	case is(old, issued) || is(old, denied) || is(old, failed):
		return same(old.Status, "immutable after PodCertificateRequest is issued, denied, or failed")
	case is(r, denied) || is(r, failed):
		return same(certificatesv1.PodCertificateRequestStatus{Conditions: r.Status.Conditions},
			"non-condition status fields must be empty when denying or failing the PodCertificateRequest")
	case is(r, issued):
		return validateIssued(r, old, now)
	}
	return same(old.Status, `status is immutable unless transitioning to "Issued", "Denied", or "Failed"`)
}

func validateConditions(conditions []metav1.Condition, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	known := []string{issued, denied, failed}
	ends := 0
	for i, c := range conditions {
		// Upstream's paths have a dot before the bracket.
		at := path.Child(fmt.Sprintf("[%d]", i))
		if !slices.Contains(known, c.Type) {
			errs = append(errs, field.NotSupported(at.Child("type"), c.Type, known))
			continue
		}
		if ends++; ends > 1 {
			errs = append(errs, field.Invalid(at.Child("type"), c.Type, `There may be at most one condition with type "Issued", "Denied", or "Failed"`))
		}
		if c.Status != metav1.ConditionTrue {
			errs = append(errs, field.NotSupported(at.Child("status"), c.Status, []metav1.ConditionStatus{metav1.ConditionTrue}))
		}
	}
	return append(errs, metav1validation.ValidateConditions(conditions, path)...)
}

// publicKey is what each of Go's public keys can do.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// validateIssued reads the certificate as the pod will get it, and compares what the status says of it. The first thing that is
// wrong ends it: the rest would follow from it.
func validateIssued(r, old *certificatesv1.PodCertificateRequest, now time.Time) field.ErrorList {
	path := field.NewPath("status", "certificateChain")
	text := r.Status.CertificateChain
	if len(text) > maxChain {
		return field.ErrorList{field.TooLong(path, text, maxChain)}
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return field.ErrorList{field.Invalid(path, text, "issued certificate chain must contain at least one certificate")}
	case block.Type != "CERTIFICATE":
		return field.ErrorList{field.Invalid(path, text, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")}
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return field.ErrorList{field.Invalid(path, text, "leaf certificate does not parse as valid X.509")}
	}
	errs := validateNames(leaf, path)
	request, err := x509.ParseCertificateRequest(old.Spec.StubPKCS10Request)
	if err != nil {
		return append(errs, field.Invalid(field.NewPath("spec", "stubPKCS10Request"), field.OmitValueType{}, "must be a valid PKCS#10 certificate signing request"))
	}
	if key, ok := request.PublicKey.(publicKey); !ok || !key.Equal(leaf.PublicKey) {
		return append(errs, field.Invalid(path, text, "leaf certificate was not issued to the requested public key"))
	}
	if errs = append(errs, validateTimes(r, leaf, now)...); len(errs) > 0 {
		return errs
	}
	return validateRest(rest, text, path)
}

func validateNames(leaf *x509.Certificate, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range leaf.DNSNames {
		if name == "" {
			errs = append(errs, field.Invalid(path, name, "leaf certificate should not contain empty DNSName"))
		}
		if strings.Contains(name, "..") {
			errs = append(errs, field.Invalid(path, name, "leaf certificate's DNSName should not contain '..'"))
		}
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
			errs = append(errs, field.Invalid(path, name, "leaf certificate's DNSName should not start or end with '.'"))
		}
	}
	for _, address := range leaf.EmailAddresses {
		if _, err := mail.ParseAddress(address); err != nil {
			errs = append(errs, field.Invalid(path, address, "leaf certificate should not contain invalid EmailAddress"))
		}
	}
	return errs
}

// validateTimes: the certificate begins about now, lives as long as it was asked for at most, and is renewed in between.
func validateTimes(r *certificatesv1.PodCertificateRequest, leaf *x509.Certificate, now time.Time) field.ErrorList {
	s, path := &r.Status, field.NewPath("status")
	before, after, refresh := path.Child("notBefore"), path.Child("notAfter"), path.Child("beginRefreshAt")
	var errs field.ErrorList
	const consistent = "must be present and consistent with the issued certificate"
	if s.NotBefore == nil {
		errs = append(errs, field.Required(before, consistent))
	}
	if s.NotAfter == nil {
		errs = append(errs, field.Required(after, consistent))
	}
	if s.BeginRefreshAt == nil {
		errs = append(errs, field.Required(refresh, "must be present and in the range [notbefore+10min, notafter-10min]"))
	}
	if len(errs) > 0 {
		return errs
	}
	chain, lifetime := path.Child("certificateChain"), leaf.NotAfter.Sub(leaf.NotBefore)
	most := *r.Spec.MaxExpirationSeconds
	for _, check := range []struct {
		wrong   bool
		at      *field.Path
		value   any
		message string
	}{
		{!s.NotBefore.Time.Equal(leaf.NotBefore), before, s.NotBefore.Time, "must be set to the NotBefore time encoded in the leaf certificate"},
		{s.NotBefore.Sub(now).Abs() >= clockSkew, before, s.NotBefore.Time, "must be set to within 5 minutes of kube-apiserver's current time"},
		{!s.NotAfter.Time.Equal(leaf.NotAfter), after, s.NotAfter.Time, "must be set to the NotAfter time encoded in the leaf certificate"},
		{lifetime < minLifetime, chain, lifetime, "leaf certificate lifetime must be >= 1 hour"},
		{lifetime > time.Duration(most)*time.Second, chain, lifetime, fmt.Sprintf("leaf certificate lifetime must be <= spec.maxExpirationSeconds (%v)", most)},
		{s.BeginRefreshAt.Time.Before(s.NotBefore.Add(refreshMargin)), refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes after status.notBefore"},
		{s.BeginRefreshAt.After(s.NotAfter.Add(-refreshMargin)), refresh, s.BeginRefreshAt.Time, "must be at least 10 minutes before status.notAfter"},
	} {
		if check.wrong {
			return field.ErrorList{field.Invalid(check.at, check.value, check.message)}
		}
	}
	return nil
}

// validateRest: what follows are certificates too. Whether they make a chain cannot be told without knowing its end.
func validateRest(rest []byte, text string, path *field.Path) field.ErrorList {
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil
		}
		if block.Type != "CERTIFICATE" {
			// Upstream's own spelling.
			return field.ErrorList{field.Invalid(path, text, "issued certificate chain must consist entirely of CERTFICATE PEM blocks")}
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return field.ErrorList{field.Invalid(path, text, "intermediate certificate does not parse as valid X.509")}
		}
	}
}
