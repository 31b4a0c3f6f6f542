package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestPodCertificates: a pod gets a key and a certificate of a signer in the cluster, and the anchors to trust it by; a
// signer that says no shows in the pod's events (KEP-4317, KEP-3257). That a certificate is renewed takes ten
// minutes at least, by the API's rules: `kubelet/podcertificate` tests it with a clock of its own.
func TestPodCertificates(t *testing.T) {
	r := shared(t).room(t)
	ca := newAuthority(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		ca.serve(t, r)
	}()
	t.Cleanup(func() { <-served })
	r.create(t, ca.trustBundle())
	t.Cleanup(func() { r.try("delete", "clustertrustbundle", "e2e.example:signer:anchors") })
	r.create(t, certifiedPods)

	r.ready(t, "certified")
	bundle := r.sh(t, "certified", "cat /tls/bundle.pem")
	pair, err := tls.X509KeyPair([]byte(bundle), []byte(bundle))
	if err != nil {
		t.Fatalf("the key is not the certificate's: %v\n%s", err, bundle)
	}
	anchors := x509.NewCertPool()
	if !anchors.AppendCertsFromPEM([]byte(r.sh(t, "certified", "cat /tls/anchors.pem"))) {
		t.Fatal("no trust anchors")
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: anchors, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("the certificate is not of those to be trusted: %v", err)
	}
	if want := r.ns + "/certified of default"; pair.Leaf.Subject.CommonName != want {
		t.Errorf("the signer heard of %q, want %q", pair.Leaf.Subject.CommonName, want)
	}
	apart := r.sh(t, "certified", "cat /tls/key.pem /tls/chain.pem; ls -l /tls/..data/key.pem")
	if _, err := tls.X509KeyPair([]byte(apart), []byte(apart)); err != nil {
		t.Errorf("in two files: %v", err)
	}
	holds(t, apart, "-rw-------", "1000")

	r.event(t, "denied", "Denied", `denied, reason="NotYou", message="not this one"`)
	r.event(t, "denied", "FailedMount", `PodCertificateRequest was permanently denied: reason="NotYou" message="not this one"`)
	r.event(t, "failed", "Failed", `failed, reason="NoKey", message="out of order"`)
	r.event(t, "failed", "FailedMount", `PodCertificateRequest was permanently failed: reason="NoKey" message="out of order"`)
}

// authority is a signer's key and certificate.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (a *authority) trustBundle() string {
	return "apiVersion: certificates.k8s.io/v1\nkind: ClusterTrustBundle\nmetadata: {name: \"e2e.example:signer:anchors\", labels: {of: e2e}}\nspec:\n  signerName: e2e.example/signer\n  trustBundle: |\n    " +
		strings.ReplaceAll(strings.TrimSpace(certPEM(a.cert.Raw)), "\n", "\n    ") + "\n"
}

// serve answers the requests of the room until the test ends.
func (a *authority) serve(t *testing.T, r *room) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(r.dir, "admin.kubeconfig"))
	if err != nil {
		t.Error(err)
		return
	}
	requests := kubernetes.NewForConfigOrDie(config).CertificatesV1().PodCertificateRequests(r.ns)
	watch, err := requests.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Error(err)
		return
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		request, ok := event.Object.(*certificatesv1.PodCertificateRequest)
		if !ok || len(request.Status.Conditions) > 0 || event.Type == "DELETED" {
			continue
		}
		if err := a.answer(request); err != nil {
			t.Error(err)
		} else if _, err := requests.UpdateStatus(t.Context(), request, metav1.UpdateOptions{}); err != nil && t.Context().Err() == nil {
			t.Errorf("answering %s: %v", request.Name, err)
		}
	}
}

func (a *authority) answer(request *certificatesv1.PodCertificateRequest) error {
	condition := metav1.Condition{Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now()}
	switch request.Spec.PodName {
	case "denied":
		condition.Type, condition.Reason, condition.Message = certificatesv1.PodCertificateRequestConditionTypeDenied, "NotYou", "not this one"
	case "failed":
		condition.Type, condition.Reason, condition.Message = certificatesv1.PodCertificateRequestConditionTypeFailed, "NoKey", "out of order"
	default:
		condition.Type, condition.Reason = certificatesv1.PodCertificateRequestConditionTypeIssued, "Issued"
		stub, err := x509.ParseCertificateRequest(request.Spec.StubPKCS10Request)
		if err != nil {
			return fmt.Errorf("the stub of %s: %w", request.Name, err)
		}
		from := time.Now().Add(-time.Minute).Truncate(time.Second)
		leaf := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: from.Add(2 * time.Hour),
			Subject: pkix.Name{CommonName: request.Namespace + "/" + request.Spec.PodName + " of " + request.Spec.ServiceAccountName}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, stub.PublicKey, a.key)
		if err != nil {
			return err
		}
		request.Status.CertificateChain = certPEM(der) + certPEM(a.cert.Raw)
		refresh := metav1.NewTime(from.Add(time.Hour))
		before, after := metav1.NewTime(leaf.NotBefore), metav1.NewTime(leaf.NotAfter)
		request.Status.NotBefore, request.Status.NotAfter, request.Status.BeginRefreshAt = &before, &after, &refresh
	}
	request.Status.Conditions = []metav1.Condition{condition}
	return nil
}

var certifiedPods = func() string {
	var all bytes.Buffer
	for _, name := range []string{"certified", "denied", "failed"} {
		fmt.Fprintf(&all, `---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000}
  volumes:
  - name: tls
    projected:
      sources:
      - podCertificate: {signerName: e2e.example/signer, keyType: ECDSAP256, credentialBundlePath: bundle.pem}
      - podCertificate: {signerName: e2e.example/signer, keyType: ED25519, keyPath: key.pem, certificateChainPath: chain.pem}
      - clusterTrustBundle: {signerName: e2e.example/signer, labelSelector: {matchLabels: {of: e2e}}, path: anchors.pem}
  containers: [{name: c, image: hyperkube.local/demo, volumeMounts: [{name: tls, mountPath: /tls}]}]
`, name)
	}
	return all.String()
}()
