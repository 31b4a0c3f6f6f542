package certificatesigningrequest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/rule/ruletest"
)

func valid(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: "example.com/a",
		Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
	}}
}

func condition(kind certificatesv1.RequestConditionType, status v1.ConditionStatus) certificatesv1.CertificateSigningRequestCondition {
	return certificatesv1.CertificateSigningRequestCondition{Type: kind, Status: status}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*certificatesv1.CertificateSigningRequest)
		want   []string
	}{
		{"good", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.ExpirationSeconds = ptr.To[int32](600) }, nil},
		{"no request", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.Request = []byte("x") }, []string{"spec.request: Invalid value … PEM block type must be CERTIFICATE REQUEST"}},
		{"no usages", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.Usages = nil }, []string{"spec.usages: Required value"}},
		{"unknown usages", func(c *certificatesv1.CertificateSigningRequest) {
			c.Spec.Usages = []certificatesv1.KeyUsage{"x", certificatesv1.UsageAny, certificatesv1.UsageAny}
		}, []string{"spec.usages[0]: Unsupported value", "spec.usages[2]: Duplicate value"}},
		{"too short", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.ExpirationSeconds = ptr.To[int32](599) },
			[]string{"spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"}},
		{"no signer", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.SignerName = "" }, []string{"spec.signerName: Required value"}},
		{"signer without a path", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.SignerName = "example.com" },
			[]string{"spec.signerName: Invalid value … must be a fully qualified domain and path of the form 'example.com/signer-name'"}},
		{"signer without a domain", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.SignerName = "example/a_" },
			[]string{"spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated by dots", "spec.signerName: Invalid value: \"a_\" … validating label \"a_\""}},
		{"legacy signer", func(c *certificatesv1.CertificateSigningRequest) { c.Spec.SignerName = "kubernetes.io/legacy-unknown" },
			[]string{"spec.signerName: Invalid value … the legacy signerName is not allowed via this API version"}},
		{"conditions", func(c *certificatesv1.CertificateSigningRequest) {
			c.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{
				condition("", "x"), condition(certificatesv1.CertificateApproved, v1.ConditionFalse), condition(certificatesv1.CertificateDenied, v1.ConditionTrue), condition(certificatesv1.CertificateDenied, ""),
			}
		}, []string{"status.conditions[0].type: Required value", "status.conditions[0].status: Unsupported value", "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\"",
			"status.conditions[3].status: Required value", "status.conditions[3].type: Duplicate value",
			"status.conditions: Invalid value … must specify at most one of: `conditions[{\"type\": \"Approved\"}]`, `conditions[{\"type\": \"Denied\"}]`"}},
		{"not a certificate", func(c *certificatesv1.CertificateSigningRequest) { c.Status.Certificate = []byte("x") },
			[]string{"status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := valid(t)
			test.change(c)
			ruletest.Expect(t, Validate(c), test.want...)
		})
	}
}

// Who may write what: metadata at the resource, Approved and Denied at /approval, the certificate and Failed at /status; and
// nothing is taken back.
func TestValidateUpdate(t *testing.T) {
	old := valid(t)
	decided := old.DeepCopy()
	decided.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{condition(certificatesv1.CertificateApproved, v1.ConditionTrue)}
	failed := old.DeepCopy()
	failed.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{condition(certificatesv1.CertificateFailed, v1.ConditionTrue)}

	ruletest.Expect(t, ValidateApprovalUpdate(decided, old))
	ruletest.Expect(t, ValidateUpdate(decided, old), `status.conditions: Forbidden: updates may not add a condition of type "Approved"`)
	ruletest.Expect(t, ValidateStatusUpdate(decided, old), `status.conditions: Forbidden: updates may not add a condition of type "Approved"`)
	ruletest.Expect(t, ValidateStatusUpdate(failed, old))
	ruletest.Expect(t, ValidateApprovalUpdate(old, decided), `status.conditions: Forbidden: updates may not remove a condition of type "Approved"`)
	other := decided.DeepCopy()
	other.Status.Conditions[0].Reason = "changed"
	ruletest.Expect(t, ValidateApprovalUpdate(other, decided))
	ruletest.Expect(t, ValidateStatusUpdate(other, decided), `status.conditions: Forbidden: updates may not modify a condition of type "Approved"`)
}
