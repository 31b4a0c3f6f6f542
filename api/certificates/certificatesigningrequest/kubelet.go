package certificatesigningrequest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
)

const (
	nodesGroup     = "system:nodes"
	nodeUserPrefix = "system:node:"
)

// usages are the key usages a signer asks for, and those it puts up with: key encipherment is of RSA keys only.
type usages struct{ required, optional []certificatesv1.KeyUsage }

var (
	kubeletServingUsages = usages{
		required: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		optional: []certificatesv1.KeyUsage{certificatesv1.UsageKeyEncipherment},
	}
	kubeletClientUsages = usages{
		required: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		optional: []certificatesv1.KeyUsage{certificatesv1.UsageKeyEncipherment},
	}
	clientUsages = usages{
		required: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		optional: []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment},
	}
)

func (u usages) check(asked []certificatesv1.KeyUsage) error {
	for _, usage := range u.required {
		if !slices.Contains(asked, usage) {
			return fmt.Errorf("usages did not match %v", slices.Sorted(slices.Values(u.required)))
		}
	}
	for _, usage := range asked {
		if !slices.Contains(u.required, usage) && !slices.Contains(u.optional, usage) {
			return fmt.Errorf("usages did not match %v", slices.Sorted(slices.Values(u.required)))
		}
	}
	return nil
}

// ValidateForSigner says why a built-in signer cannot sign a request; known is false for a signer that is not built in.
func ValidateForSigner(signer string, request *x509.CertificateRequest, asked []certificatesv1.KeyUsage) (known bool, err error) {
	switch signer {
	case certificatesv1.KubeAPIServerClientSignerName:
		return true, clientUsages.check(asked)
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		return true, ValidateKubeletClientCSR(request, asked)
	case certificatesv1.KubeletServingSignerName:
		return true, ValidateKubeletServingCSR(request, asked)
	}
	return false, nil
}

// ValidateKubeletServingCSR says why a request is not one for a kubelet's serving certificate: of the node's name, with the
// names or addresses it serves under.
func ValidateKubeletServingCSR(request *x509.CertificateRequest, asked []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(request.Subject.Organization, []string{nodesGroup}):
		return errors.New("subject organization is not system:nodes")
	case len(request.DNSNames) == 0 && len(request.IPAddresses) == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case len(request.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed")
	case len(request.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	if err := kubeletServingUsages.check(asked); err != nil {
		return err
	}
	return checkNodeName(request)
}

// ValidateKubeletClientCSR says why a request is not one for a kubelet's client certificate.
func ValidateKubeletClientCSR(request *x509.CertificateRequest, asked []certificatesv1.KeyUsage) error {
	switch {
	case !slices.Equal(request.Subject.Organization, []string{nodesGroup}):
		return errors.New("subject organization is not system:nodes")
	case len(request.DNSNames) > 0:
		return errors.New("DNS subjectAltNames are not allowed")
	case len(request.EmailAddresses) > 0:
		return errors.New("Email subjectAltNames are not allowed")
	case len(request.IPAddresses) > 0:
		return errors.New("IP subjectAltNames are not allowed")
	case len(request.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	}
	if err := checkNodeName(request); err != nil {
		return err
	}
	return kubeletClientUsages.check(asked)
}

func checkNodeName(request *x509.CertificateRequest) error {
	if !strings.HasPrefix(request.Subject.CommonName, nodeUserPrefix) {
		return errors.New("subject common name does not begin with system:node: ")
	}
	return nil
}
