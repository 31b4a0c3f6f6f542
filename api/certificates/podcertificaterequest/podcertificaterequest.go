// Package podcertificaterequest is what is true of a PodCertificateRequest: a kubelet asks a signer for a certificate for a pod.
//
// In Kubernetes: pkg/apis/certificates (v1/defaults.go, validation/validation.go).
package podcertificaterequest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
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
	switch {
	case spec.MaxExpirationSeconds == nil:
	case len(spec.StubPKCS10Request) == 0:
		// The other way of asking is v1beta1's.
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"))
	default:
		errs = append(errs, validateStub(spec.StubPKCS10Request, path.Child("stubPKCS10Request"))...)
	}
	return errs
}

// ValidateUpdate: a signer may already have looked at the request.
func ValidateUpdate(r, old *certificatesv1.PodCertificateRequest) field.ErrorList {
	if equality.Semantic.DeepEqual(r.Spec, old.Spec) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), shown{r.Spec}, apivalidation.FieldImmutableErrorMsg)}
}

// shown is a spec as an error shows it: with the two fields that only v1beta1 has.
type shown struct {
	spec certificatesv1.PodCertificateRequestSpec
}

func (s shown) MarshalJSON() ([]byte, error) {
	text, err := rule.Untagged(s.spec).MarshalJSON()
	next := []byte(`"StubPKCS10Request":`)
	return bytes.Replace(text, next, append([]byte(`"PKIXPublicKey":null,"ProofOfPossession":null,`), next...), 1), err
}

// validateAnnotations: each key says whose word it is. Case tells no two of them apart.
func validateAnnotations(annotations map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		errs = append(errs, validation.IsDomainPrefixedKey(path, strings.ToLower(key))...)
	}
	if apivalidation.ValidateAnnotationsSize(annotations) != nil {
		errs = append(errs, field.TooLong(path, "", apivalidation.TotalAnnotationSizeLimitB))
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

// validateStub asks for a key that is strong enough, and for a request that it has signed.
func validateStub(der []byte, path *field.Path) field.ErrorList {
	if len(der) > maxRequest {
		return field.ErrorList{field.TooLong(path, "", maxRequest)}
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "must be a valid PKCS#10 CSR")}
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
	if request.CheckSignature() != nil {
		return field.ErrorList{field.Invalid(path, field.OmitValueType{}, "invalid signature")}
	}
	return nil
}
