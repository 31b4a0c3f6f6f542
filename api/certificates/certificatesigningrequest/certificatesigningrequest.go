// Package certificatesigningrequest is what is true of a CertificateSigningRequest: how the request inside is read, what its
// conditions say, what a valid one looks like (validation.go), and which requests are a kubelet's (kubelet.go).
//
// In Kubernetes: pkg/apis/certificates (helpers.go, validation/validation.go) and pkg/controller/certificates/certificate_controller_utils.go.
package certificatesigningrequest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
)

// ParseCSR reads the PKCS#10 request of spec.request.
func ParseCSR(pemBytes []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(pemBytes)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	return x509.ParseCertificateRequest(block.Bytes)
}

// IsApproved says that somebody agreed and nobody refused.
func IsApproved(csr *certificatesv1.CertificateSigningRequest) bool {
	return hasCondition(csr, certificatesv1.CertificateApproved) && !hasCondition(csr, certificatesv1.CertificateDenied)
}

// IsDecided says that somebody agreed or refused: there is no way back from either.
func IsDecided(csr *certificatesv1.CertificateSigningRequest) bool {
	return hasCondition(csr, certificatesv1.CertificateApproved) || hasCondition(csr, certificatesv1.CertificateDenied)
}

// IsFailed says that the signer gave up.
func IsFailed(csr *certificatesv1.CertificateSigningRequest) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == certificatesv1.CertificateFailed && c.Status == v1.ConditionTrue {
			return true
		}
	}
	return false
}

func hasCondition(csr *certificatesv1.CertificateSigningRequest, wanted certificatesv1.RequestConditionType) bool {
	for _, c := range csr.Status.Conditions {
		if c.Type == wanted {
			return true
		}
	}
	return false
}
