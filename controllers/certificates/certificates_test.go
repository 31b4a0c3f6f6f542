package certificates

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// certificateRequest is a CSR in PEM.
func certificateRequest(t *testing.T, subject pkix.Name, dnsNames ...string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: dnsNames}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// newCA makes a CA that ends at notAfter.
func newCA(t *testing.T, notAfter time.Time) (cert *x509.Certificate, config SignerConfig) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: now.Add(-time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return cert, SignerConfig{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}
}

var (
	node         = pkix.Name{CommonName: "system:node:n1", Organization: []string{"system:nodes"}}
	clientUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth}
	serverUsages = []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth}
	approved     = certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}
	denied       = certificatesv1.CertificateSigningRequestCondition{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue}
)

func csr(signer string, request []byte, usages []certificatesv1.KeyUsage, conditions ...certificatesv1.CertificateSigningRequestCondition) *certificatesv1.CertificateSigningRequest {
	return &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "u", CreationTimestamp: metav1.NewTime(now)},
		Spec:       certificatesv1.CertificateSigningRequestSpec{SignerName: signer, Request: request, Usages: usages, Username: "system:node:n1", Groups: []string{"system:nodes"}},
		Status:     certificatesv1.CertificateSigningRequestStatus{Conditions: conditions},
	}
}

// start makes a client and a factory whose cache holds obj.
func start(obj *certificatesv1.CertificateSigningRequest) (*fake.Clientset, informers.SharedInformerFactory) {
	client := fake.NewClientset(obj)
	factory := informers.NewSharedInformerFactory(client, 0)
	_ = factory.Certificates().V1().CertificateSigningRequests().Informer().GetIndexer().Add(obj)
	return client, factory
}

func TestSigner(t *testing.T) {
	const client, kubelet, serving = certificatesv1.KubeAPIServerClientSignerName, certificatesv1.KubeAPIServerClientKubeletSignerName, certificatesv1.KubeletServingSignerName
	user := pkix.Name{CommonName: "jane", Organization: []string{"devs"}}
	for _, test := range []struct {
		name    string
		csr     *certificatesv1.CertificateSigningRequest
		signed  bool
		failure string
	}{
		{"a user's", csr(client, certificateRequest(t, user), clientUsages, approved), true, ""},
		{"a kubelet's", csr(kubelet, certificateRequest(t, node), clientUsages, approved), true, ""},
		{"a kubelet's serving", csr(serving, certificateRequest(t, node, "n1"), serverUsages, approved), true, ""},
		{"not approved", csr(client, certificateRequest(t, user), clientUsages), false, ""},
		{"denied", csr(client, certificateRequest(t, user), clientUsages, approved, denied), false, ""},
		{"somebody else's", csr("example.com/x", certificateRequest(t, user), clientUsages, approved), false, ""},
		{"server usage for a client", csr(client, certificateRequest(t, user), serverUsages, approved), false, "usages did not match [client auth]"},
		{"a user's as a kubelet's", csr(kubelet, certificateRequest(t, user), clientUsages, approved), false, "subject organization is not system:nodes"},
		{"serving without a name", csr(serving, certificateRequest(t, node), serverUsages, approved), false, "DNS or IP subjectAltName is required"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ca, config := newCA(t, now.Add(10*365*24*time.Hour))
			set, factory := start(test.csr)
			s, err := NewSigner(set, factory, config, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.handle(t.Context(), "r"); err != nil {
				t.Fatal(err)
			}
			after, err := set.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "r", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			failure := ""
			if last := after.Status.Conditions; len(last) > 0 && last[len(last)-1].Type == certificatesv1.CertificateFailed {
				failure = last[len(last)-1].Message
			}
			if (len(after.Status.Certificate) > 0) != test.signed || failure != test.failure {
				t.Fatalf("signed %v, failure %q; want %v, %q", len(after.Status.Certificate) > 0, failure, test.signed, test.failure)
			}
			if !test.signed {
				return
			}
			block, _ := pem.Decode(after.Status.Certificate)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if err := cert.CheckSignatureFrom(ca); err != nil || cert.IsCA || cert.NotBefore != now.Add(-5*time.Minute) || cert.NotAfter != now.Add(365*24*time.Hour-5*time.Minute) {
				t.Errorf("from %v to %v, CA %v: %v", cert.NotBefore, cert.NotAfter, cert.IsCA, err)
			}
		})
	}
}

// The time asked for counts, within ten minutes and what the signer and its CA allow.
func TestLifetime(t *testing.T) {
	for _, test := range []struct {
		name          string
		asked         *int32
		caEnd         time.Duration
		before, after time.Duration
	}{
		{"nothing asked", nil, 1000 * time.Hour, -5 * time.Minute, 24*time.Hour - 5*time.Minute},
		{"less", ptr.To[int32](12 * 3600), 1000 * time.Hour, -5 * time.Minute, 12*time.Hour - 5*time.Minute},
		{"short, exact", ptr.To[int32](3600), 1000 * time.Hour, -5 * time.Minute, time.Hour},
		{"more than the signer gives", ptr.To[int32](7 * 24 * 3600), 1000 * time.Hour, -5 * time.Minute, 24*time.Hour - 5*time.Minute},
		{"more than the CA has", nil, 2 * time.Hour, -5 * time.Minute, 2 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, config := newCA(t, now.Add(test.caEnd))
			config.Duration = 24 * time.Hour
			ca, err := newAuthority(config, clocktesting.NewFakeClock(now))
			if err != nil {
				t.Fatal(err)
			}
			cert, err := ca.template(&x509.CertificateRequest{}, &certificatesv1.CertificateSigningRequestSpec{ExpirationSeconds: test.asked, Usages: clientUsages})
			if err != nil || cert.NotBefore.Sub(now) != test.before || cert.NotAfter.Sub(now) != test.after {
				t.Errorf("from %v to %v: %v", cert.NotBefore.Sub(now), cert.NotAfter.Sub(now), err)
			}
		})
	}
}

func TestApprover(t *testing.T) {
	const kubelet = certificatesv1.KubeAPIServerClientKubeletSignerName
	other := pkix.Name{CommonName: "system:node:n2", Organization: []string{"system:nodes"}}
	for _, test := range []struct {
		name     string
		csr      *certificatesv1.CertificateSigningRequest
		may      []string
		approved string
		retry    bool
	}{
		{"its own, and may", csr(kubelet, certificateRequest(t, node), clientUsages), []string{"selfnodeclient"}, "Auto approving self kubelet client certificate after SubjectAccessReview.", false},
		{"another's, and may only its own", csr(kubelet, certificateRequest(t, other), clientUsages), []string{"selfnodeclient"}, "", true},
		{"a new node's, and may", csr(kubelet, certificateRequest(t, other), clientUsages), []string{"nodeclient"}, "Auto approving kubelet client certificate after SubjectAccessReview.", false},
		{"may nothing", csr(kubelet, certificateRequest(t, node), clientUsages), nil, "", true},
		{"a person's", csr(certificatesv1.KubeAPIServerClientSignerName, certificateRequest(t, node), clientUsages), []string{"selfnodeclient", "nodeclient"}, "", false},
		{"serving", csr(certificatesv1.KubeletServingSignerName, certificateRequest(t, node, "n1"), serverUsages), []string{"selfnodeclient", "nodeclient"}, "", false},
		{"denied", csr(kubelet, certificateRequest(t, node), clientUsages, denied), []string{"selfnodeclient"}, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, factory := start(test.csr)
			set.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
				review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
				review.Status.Allowed = review.Spec.User == "system:node:n1" && slices.Contains(test.may, review.Spec.ResourceAttributes.Subresource)
				return true, review, nil
			})
			a := NewApprover(set, factory, reconcile.Options{})
			result, err := a.handle(t.Context(), "r")
			if err != nil || result.Retry != test.retry {
				t.Errorf("again %v, error %v", result.Retry, err)
			}
			after, err := set.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "r", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			message := ""
			if c := after.Status.Conditions; len(c) > 0 && c[0].Type == certificatesv1.CertificateApproved {
				message = c[0].Message
			}
			if message != test.approved {
				t.Errorf("approved %q, want %q", message, test.approved)
			}
		})
	}
}

func TestCleaner(t *testing.T) {
	at := func(age time.Duration) certificatesv1.CertificateSigningRequestCondition {
		c := approved
		c.LastUpdateTime = metav1.NewTime(now.Add(-age))
		return c
	}
	for _, test := range []struct {
		name       string
		age        time.Duration
		conditions []certificatesv1.CertificateSigningRequestCondition
		left       time.Duration
	}{
		{"pending", 23 * time.Hour, nil, time.Hour},
		{"pending too long", 24 * time.Hour, nil, 0},
		{"approved", 30 * time.Hour, []certificatesv1.CertificateSigningRequestCondition{at(20 * time.Minute)}, 40 * time.Minute},
		{"approved long ago", 2 * time.Hour, []certificatesv1.CertificateSigningRequestCondition{at(time.Hour)}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := csr("example.com/x", nil, nil, test.conditions...)
			r.CreationTimestamp = metav1.NewTime(now.Add(-test.age))
			set, factory := start(r)
			result, err := NewCleaner(set, factory, reconcile.Options{Clock: clocktesting.NewFakeClock(now)}).handle(t.Context(), "r")
			_, getErr := set.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "r", metav1.GetOptions{})
			if err != nil || result.After != test.left || apierrors.IsNotFound(getErr) != (test.left == 0) {
				t.Errorf("comes back after %v, error %v, then %v", result.After, err, getErr)
			}
		})
	}
}
