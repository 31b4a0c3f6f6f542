// Package certificates_test checks the kinds that are about certificates of pods.
package certificates_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"hyperkube/api/certificates/clustertrustbundle"
	"hyperkube/api/certificates/podcertificaterequest"
	"hyperkube/api/rule/ruletest"
)

type request = certificatesv1.PodCertificateRequest

var start = time.Unix(1_700_000_000, 0)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certificate is one for key, in PEM, from start for that long.
func certificate(t *testing.T, key crypto.Signer, valid time.Duration, ca bool, names ...string) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(valid), IsCA: ca, BasicConstraintsValid: true, DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func stub(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func valid(t *testing.T, key crypto.Signer) *request {
	r := &request{Spec: certificatesv1.PodCertificateRequestSpec{
		SignerName: "example.com/a", PodName: "p", PodUID: "u", ServiceAccountName: "s", ServiceAccountUID: "u", NodeName: "n", NodeUID: "u", StubPKCS10Request: stub(t, key),
	}}
	podcertificaterequest.SetDefaults(r)
	return r
}

func TestRequest(t *testing.T) {
	key := newKey(t)
	small, _ := rsa.GenerateKey(rand.Reader, 2048)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	broken := stub(t, key)
	broken[len(broken)-1] ^= 1
	for _, test := range []struct {
		name   string
		change func(*request)
		want   []string
	}{
		{"good", func(r *request) {}, nil},
		{"edwards", func(r *request) { r.Spec.StubPKCS10Request = stub(t, edwards) }, nil},
		{"nothing", func(r *request) { *r = request{} }, []string{"spec.signerName: Required value", "spec.podName: Invalid value", "spec.podUID: Invalid value: \"\": must not be empty",
			"spec.serviceAccountName: Invalid value", "spec.serviceAccountUID: Invalid value", "spec.nodeName: Invalid value", "spec.nodeUID: Invalid value",
			"spec.maxExpirationSeconds: Required value: must be set"}},
		{"short", func(r *request) { r.Spec.MaxExpirationSeconds = ptr.To[int32](3599) }, []string{"spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]"}},
		{"long for Kubernetes", func(r *request) {
			r.Spec.SignerName, r.Spec.MaxExpirationSeconds = "kubernetes.io/a", ptr.To[int32](86401)
		}, []string{"spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"}},
		{"no request", func(r *request) { r.Spec.StubPKCS10Request = []byte("x") }, []string{"spec.stubPKCS10Request: Invalid value"}},
		{"signature", func(r *request) { r.Spec.StubPKCS10Request = broken }, []string{"spec.stubPKCS10Request: Invalid value"}},
		{"small key", func(r *request) { r.Spec.StubPKCS10Request = stub(t, small) }, []string{"spec.stubPKCS10Request: Invalid value: \"2048-bit modulus\": RSA keys must have modulus size 3072 or 4096"}},
		{"no key", func(r *request) { r.Spec.StubPKCS10Request = nil },
			[]string{"spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set"}},
		{"annotations", func(r *request) { r.Spec.UnverifiedUserAnnotations = map[string]string{"a": "b", "example.com/a": "b"} }, []string{"spec.unverifiedUserAnnotations: Invalid value: \"a\": must be a domain-prefixed key"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := valid(t, key)
			test.change(r)
			ruletest.Expect(t, podcertificaterequest.Validate(r), test.want...)
		})
	}
	changed := valid(t, key)
	changed.Spec.PodName = "q"
	ruletest.Expect(t, podcertificaterequest.ValidateUpdate(changed, valid(t, key)), "spec: Invalid value … field is immutable")
}

func ended(how string) []metav1.Condition {
	return []metav1.Condition{{Type: how, Status: metav1.ConditionTrue, Reason: "R", LastTransitionTime: metav1.NewTime(start)}}
}

// A request comes to one end.
func TestRequestStatus(t *testing.T) {
	key := newKey(t)
	old := valid(t, key)
	issue := func(chain string) *request {
		r := old.DeepCopy()
		r.Status = certificatesv1.PodCertificateRequestStatus{
			Conditions: ended("Issued"), CertificateChain: chain, NotBefore: ptr.To(metav1.NewTime(start)),
			NotAfter: ptr.To(metav1.NewTime(start.Add(2 * time.Hour))), BeginRefreshAt: ptr.To(metav1.NewTime(start.Add(time.Hour))),
		}
		return r
	}
	chain := certificate(t, key, 2*time.Hour, false, "a.example.com")
	for _, test := range []struct {
		name   string
		change func(*request)
		want   []string
	}{
		{"issued", func(r *request) { r.Status.CertificateChain += certificate(t, key, time.Hour, true) }, nil},
		{"denied", func(r *request) { r.Status = certificatesv1.PodCertificateRequestStatus{Conditions: ended("Denied")} }, nil},
		{"denied, and a certificate", func(r *request) { r.Status.Conditions = ended("Denied") }, []string{"status: Invalid value … non-condition status fields must be empty"}},
		{"no end", func(r *request) { r.Status.Conditions = nil }, []string{"status: Invalid value … status is immutable unless transitioning"}},
		{"two ends", func(r *request) { r.Status.Conditions = append(ended("Issued"), ended("Denied")...) }, []string{"status.conditions.[1].type: Invalid value: \"Denied\": There may be at most one"}},
		{"unknown end", func(r *request) { r.Status.Conditions = ended("Lost") }, []string{"status.conditions.[0].type: Unsupported value: \"Lost\""}},
		{"no certificate", func(r *request) { r.Status.CertificateChain = "x" }, []string{"status.certificateChain: Invalid value … must contain at least one certificate"}},
		{"another's", func(r *request) { r.Status.CertificateChain = certificate(t, newKey(t), 2*time.Hour, false) }, []string{"status.certificateChain: Invalid value … leaf certificate was not issued to the requested public key"}},
		{"names", func(r *request) { r.Status.CertificateChain = certificate(t, key, 2*time.Hour, false, ".a") }, []string{"status.certificateChain: Invalid value: \".a\": leaf certificate's DNSName should not start or end with '.'"}},
		{"no times", func(r *request) { r.Status.NotBefore, r.Status.NotAfter, r.Status.BeginRefreshAt = nil, nil, nil },
			[]string{"status.notBefore: Required value", "status.notAfter: Required value", "status.beginRefreshAt: Required value"}},
		{"other times", func(r *request) { r.Status.NotAfter = r.Status.NotBefore }, []string{"status.notAfter: Invalid value … must be set to the NotAfter time encoded in the leaf certificate"}},
		{"late refresh", func(r *request) { r.Status.BeginRefreshAt = ptr.To(metav1.NewTime(start.Add(111 * time.Minute))) },
			[]string{"status.beginRefreshAt: Invalid value … must be at least 10 minutes before status.notAfter"}},
		{"longer than asked for", func(r *request) { r.Spec.MaxExpirationSeconds = ptr.To[int32](3600) }, []string{"status.certificateChain: Invalid value … leaf certificate lifetime must be <= spec.maxExpirationSeconds (3600)"}},
		{"trailing block", func(r *request) {
			r.Status.CertificateChain += string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}))
		}, []string{"status.certificateChain: Invalid value … must consist entirely of"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := issue(chain)
			test.change(r)
			ruletest.Expect(t, podcertificaterequest.ValidateStatusUpdate(r, old, start.Add(time.Minute)), test.want...)
		})
	}
	ruletest.Expect(t, podcertificaterequest.ValidateStatusUpdate(issue(chain), old, start.Add(time.Hour)), "status.notBefore: Invalid value … must be set to within 5 minutes of kube-apiserver's current time")
	again := issue(chain)
	again.Status.Conditions[0].Message = "x"
	ruletest.Expect(t, podcertificaterequest.ValidateStatusUpdate(again, issue(chain), start), "status: Invalid value … immutable after PodCertificateRequest is issued, denied, or failed")
}

func TestTrustBundle(t *testing.T) {
	key := newKey(t)
	authority, leaf := certificate(t, key, time.Hour, true), certificate(t, key, time.Hour, false)
	bundle := func(signer, name, text string) *certificatesv1.ClusterTrustBundle {
		return &certificatesv1.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: text}}
	}
	for _, test := range []struct {
		name, signer, object, text string
		want                       []string
	}{
		{"good", "", "a", authority, nil},
		{"of a signer", "example.com/s", "example.com:s:v1", authority, nil},
		{"name of another", "example.com/s", "example.com:t:v1", authority, []string{"metadata.name: Invalid value: \"example.com:t:v1\": ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:"}},
		{"name of a signer", "", "a:b", authority, []string{"metadata.name: Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in its name"}},
		{"empty", "", "a", "x", []string{"spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided"}},
		{"twice", "", "a", authority + authority, []string{"spec.trustBundle: Invalid value: \"<value omitted>\": duplicate trust anchor (indices [0 1])"}},
		{"no authority", "", "a", authority + leaf, []string{"spec.trustBundle: Invalid value: \"<value omitted>\": entry 1 does not have the CA bit set"}},
		{"headers", "", "a", strings.Replace(authority, "-----\n", "-----\nA: b\n\n", 1), []string{"spec.trustBundle: Invalid value: \"<value omitted>\": entry 0 has PEM block headers"}},
		{"no certificate", "", "a", string(pem.EncodeToMemory(&pem.Block{Type: "X"})), []string{"spec.trustBundle: Invalid value: \"<value omitted>\": entry 0 has bad block type: X"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ruletest.Expect(t, clustertrustbundle.Validate(bundle(test.signer, test.object, test.text)), test.want...)
		})
	}
	ruletest.Expect(t, clustertrustbundle.ValidateUpdate(bundle("", "a", "x"), bundle("", "a", "x")))
	ruletest.Expect(t, clustertrustbundle.ValidateUpdate(bundle("", "a", authority), bundle("example.com/s", "a", authority)), "spec.signerName: Invalid value … field is immutable")
}
