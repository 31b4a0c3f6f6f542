// Package podcertificaterequest is what is true of a PodCertificateRequest: a kubelet asks a signer for a certificate for a pod.
//
// In Kubernetes: pkg/apis/certificates (v1/defaults.go, validation/validation.go).
package podcertificaterequest

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule"
)

// Seconds, bytes.
const (
	defaultExpiration = 24 * 60 * 60
	minExpiration     = 60 * 60
	// Kubernetes' own signers give a day, others 91 days.
	maxKubernetesExpiration = 24 * 60 * 60
	maxExpiration           = 91 * 24 * 60 * 60

	maxUID     = 128
	maxRequest = 10 * 1024
	maxChain   = 100 * 1024
)

// SetDefaults fills what the writer left out.
func SetDefaults(r *certificatesv1.PodCertificateRequest) {
	if r.Spec.MaxExpirationSeconds == nil {
		r.Spec.MaxExpirationSeconds = ptr.To[int32](defaultExpiration)
	}
}

// Validate checks a request on its own.
func Validate(r *certificatesv1.PodCertificateRequest) field.ErrorList {
	spec, path := &r.Spec, field.NewPath("spec")
	errs := rule.SignerName(spec.SignerName, path.Child("signerName"))
	errs = append(errs, validateAnnotations(spec.UnverifiedUserAnnotations, path.Child("unverifiedUserAnnotations"))...)
	for _, subject := range []struct {
		kind, name, uid string
		check           apivalidation.ValidateNameFunc
	}{
		{"pod", spec.PodName, string(spec.PodUID), apivalidation.NameIsDNSSubdomain},
		{"serviceAccount", spec.ServiceAccountName, string(spec.ServiceAccountUID), apivalidation.ValidateServiceAccountName},
		{"node", string(spec.NodeName), string(spec.NodeUID), apivalidation.NameIsDNSSubdomain},
	} {
		errs = append(errs, rule.All(subject.check(subject.name, false), path.Child(subject.kind+"Name"), subject.name)...)
		at := path.Child(subject.kind + "UID")
		if subject.uid == "" {
			errs = append(errs, field.Invalid(at, subject.uid, "must not be empty"))
		}
		if len(subject.uid) > maxUID {
			errs = append(errs, field.TooLong(at, subject.uid, maxUID))
		}
	}
	errs = append(errs, validateExpiration(spec, path.Child("maxExpirationSeconds"))...)
	return append(errs, validateStub(spec.StubPKCS10Request, path.Child("stubPKCS10Request"))...)
}

// ValidateUpdate: a signer may already have looked at the request.
func ValidateUpdate(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	return rule.Immutable(r.Spec, old.Spec, field.NewPath("spec"))
}

// validateAnnotations: each key says whose word it is.
func validateAnnotations(annotations map[string]string, path *field.Path) field.ErrorList {
	errs := apivalidation.ValidateAnnotations(annotations, path)
	for key := range annotations {
		if !strings.Contains(key, "/") {
			errs = append(errs, field.Invalid(path.Key(key), key, "must be a domain-prefixed key (such as \"acme.io/foo\")"))
		}
	}
	return errs
}

func validateExpiration(spec *certificatesv1.PodCertificateRequestSpec, path *field.Path) field.ErrorList {
	if spec.MaxExpirationSeconds == nil {
		return field.ErrorList{field.Required(path, "must be set")}
	}
	seconds, most := *spec.MaxExpirationSeconds, int32(maxExpiration)
	if strings.HasPrefix(spec.SignerName, "kubernetes.io/") {
		most = maxKubernetesExpiration
	}
	if seconds < minExpiration || seconds > most {
		return field.ErrorList{field.Invalid(path, seconds, fmt.Sprintf("must be in the range [%d, %d]", minExpiration, most))}
	}
	return nil
}

// validateStub asks for a request that its key has signed, and for a key that is strong enough.
func validateStub(der []byte, path *field.Path) field.ErrorList {
	switch n := len(der); {
	case n == 0:
		return field.ErrorList{field.Required(path, "")}
	case n > maxRequest:
		return field.ErrorList{field.TooLong(path, "", maxRequest)}
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "must be a valid PKCS#10 certificate signing request")}
	}
	if err := request.CheckSignature(); err != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "could not verify the signature of the certificate signing request")}
	}
	switch key := request.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
			return field.ErrorList{field.Invalid(path, "curve "+key.Curve.Params().Name, "elliptic public keys must use curve P256, P384, or P521")}
		}
	case *rsa.PublicKey:
		if bits := key.Size() * 8; bits != 3072 && bits != 4096 {
			return field.ErrorList{field.Invalid(path, fmt.Sprintf("%d-bit modulus", bits), "RSA keys must have modulus size 3072 or 4096")}
		}
	default:
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "unknown public key type; supported types are Ed25519, ECDSA, and RSA")}
	}
	return nil
}
