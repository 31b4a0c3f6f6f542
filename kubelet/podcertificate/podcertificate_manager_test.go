package podcertificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"
)

// cluster is a kubelet's manager, the API it speaks to, and a signer.
type cluster struct {
	*Manager
	api    *fake.Clientset
	clock  *testingclock.FakeClock
	events *record.FakeRecorder
	ca     *ecdsa.PrivateKey
}

var (
	at  = Projection{Volume: "v", Source: 1}
	pod = &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "pod-uid"},
		Spec: v1.PodSpec{ServiceAccountName: "sa", Volumes: []v1.Volume{{Name: "v", VolumeSource: v1.VolumeSource{Projected: &v1.ProjectedVolumeSource{
			Sources: []v1.VolumeProjection{{}, {PodCertificate: &v1.PodCertificateProjection{SignerName: "example.com/s", KeyType: "ECDSAP256"}}},
		}}}}},
	}
)

func newCluster(t *testing.T) *cluster {
	ca, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		api:   fake.NewClientset(&v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "sa-uid"}}),
		clock: testingclock.NewFakeClock(time.Unix(1_800_000_000, 0)), events: record.NewFakeRecorder(10), ca: ca,
	}
	made := 0
	c.api.PrependReactor("create", "podcertificaterequests", func(action clienttesting.Action) (bool, runtime.Object, error) {
		made++ // the fake API makes no names
		action.(clienttesting.CreateAction).GetObject().(*certificatesv1.PodCertificateRequest).Name = fmt.Sprintf("req-%d", made)
		return false, nil, nil
	})
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}}
	c.Manager = NewManager(Config{Client: c.api, Recorder: c.events, Clock: c.clock, Node: func() *v1.Node { return node }})
	return c
}

// requests are those that exist.
func (c *cluster) requests(t *testing.T) []certificatesv1.PodCertificateRequest {
	t.Helper()
	list, err := c.api.CertificatesV1().PodCertificateRequests("ns").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// sign answers the one pending request with a certificate of its key, for a day, to be renewed after half of it.
func (c *cluster) sign(t *testing.T) {
	t.Helper()
	r := c.requests(t)[0]
	stub, err := x509.ParseCertificateRequest(r.Spec.StubPKCS10Request)
	if err != nil {
		t.Fatal(err)
	}
	now := c.clock.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.Unix()), NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, stub.PublicKey, c.ca)
	if err != nil {
		t.Fatal(err)
	}
	refresh, end := metav1.NewTime(now.Add(12*time.Hour)), metav1.NewTime(template.NotAfter)
	r.Status = certificatesv1.PodCertificateRequestStatus{
		Conditions:       []metav1.Condition{{Type: "Issued", Status: "True"}},
		CertificateChain: "a word before\n" + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		BeginRefreshAt:   &refresh, NotAfter: &end,
	}
	c.answer(t, &r)
}

func (c *cluster) answer(t *testing.T, r *certificatesv1.PodCertificateRequest) {
	t.Helper()
	if _, err := c.api.CertificatesV1().PodCertificateRequests("ns").UpdateStatus(t.Context(), r, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) remove(t *testing.T) {
	t.Helper()
	for _, r := range c.requests(t) {
		if err := c.api.CertificatesV1().PodCertificateRequests("ns").Delete(t.Context(), r.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// refused asks, and wants an error.
func (c *cluster) refused(t *testing.T, want string) {
	t.Helper()
	if _, _, err := c.CredentialBundle(t.Context(), pod, at); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("%v, want %q", err, want)
	}
}

// pair asks, and wants a key and a certificate that belong together.
func (c *cluster) pair(t *testing.T) (key, chain string) {
	t.Helper()
	k, ch, err := c.CredentialBundle(t.Context(), pod, at)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(ch, k); err != nil {
		t.Fatalf("key and certificate: %v", err)
	}
	if !strings.HasPrefix(string(ch), "-----BEGIN CERTIFICATE") {
		t.Errorf("the chain: %.40s", ch)
	}
	return string(k), string(ch)
}

// KEP-4317: asked once, waited for, renewed in time with another key; the old pair serves meanwhile.
func TestIssueAndRefresh(t *testing.T) {
	c := newCluster(t)
	c.refused(t, "credential bundle is not issued yet")
	c.refused(t, "credential bundle is not issued yet")
	asked := c.requests(t)
	if len(asked) != 1 {
		t.Fatalf("%d requests", len(asked))
	}
	if s := asked[0].Spec; s.PodName != "p" || s.PodUID != "pod-uid" || s.ServiceAccountUID != "sa-uid" || s.NodeName != "n1" || s.NodeUID != "node-uid" || s.SignerName != "example.com/s" {
		t.Errorf("the request says %+v", s)
	}
	c.sign(t)
	key, chain := c.pair(t)
	c.remove(t)
	if again, _ := c.pair(t); again != key || len(c.requests(t)) != 0 {
		t.Error("asked again while it is fresh")
	}
	c.clock.Step(12*time.Hour + maxJitter)
	if again, _ := c.pair(t); again != key || len(c.requests(t)) != 1 {
		t.Error("not asked for a new one, or the old one is gone")
	}
	c.sign(t)
	if newKey, newChain := c.pair(t); newKey == key || newChain == chain {
		t.Error("the same key, or the same certificate, after a refresh")
	}
}

// A signer's no is for ever, and said in the signer's words.
func TestDenied(t *testing.T) {
	c := newCluster(t)
	c.refused(t, "not issued yet")
	r := c.requests(t)[0]
	r.Status.Conditions = []metav1.Condition{{Type: "Denied", Status: "True", Reason: "UnsupportedKeyType", Message: "take another"}}
	c.answer(t, &r)
	const want = `PodCertificateRequest was permanently denied: reason="UnsupportedKeyType" message="take another"`
	c.refused(t, want)
	c.remove(t)
	c.refused(t, want)
	if len(c.requests(t)) != 0 {
		t.Error("asked again")
	}
	if event := <-c.events.Events; !strings.Contains(event, "Warning Denied PodCertificateRequest ns/") {
		t.Errorf("event %q", event)
	}
	c.ForgetPod(pod.UID)
	c.refused(t, "not issued yet") // another pod's life
}

// A request that somebody has deleted is made anew; an old pair says once that it is overdue, and once that it has expired.
func TestDeletedRequestAndAge(t *testing.T) {
	c := newCluster(t)
	c.refused(t, "not issued yet")
	c.remove(t)
	c.refused(t, "appears to have been deleted")
	c.refused(t, "not issued yet")
	c.sign(t)
	c.pair(t)
	c.remove(t)
	c.clock.Step(25 * time.Hour)
	for range 3 {
		c.pair(t)
	}
	close(c.events.Events)
	var said []string
	for event := range c.events.Events {
		said = append(said, event)
	}
	if got := strings.Join(said, "; "); got != "Warning CertificateOverdueForRefresh PodCertificate refresh overdue; Warning CertificateExpired PodCertificate expired" {
		t.Errorf("events: %s", got)
	}
}

// Each type of key, with a request that it has signed.
func TestKeys(t *testing.T) {
	for _, keyType := range []string{"ED25519", "ECDSAP256", "ECDSAP384", "ECDSAP521", "RSA3072"} {
		key, stub, err := newKey(rand.Reader, keyType)
		if err != nil {
			t.Fatalf("%s: %v", keyType, err)
		}
		request, err := x509.ParseCertificateRequest(stub)
		if err != nil {
			t.Fatalf("%s: %v", keyType, err)
		}
		if err := request.CheckSignature(); err != nil || request.Subject.String() != "" {
			t.Errorf("%s: %v, subject %s", keyType, err, request.Subject)
		}
		if block, _ := pem.Decode(key); block == nil || block.Type != "PRIVATE KEY" {
			t.Errorf("%s: no PKCS#8 key", keyType)
		}
	}
	if _, _, err := newKey(rand.Reader, "DSA"); err == nil {
		t.Error("made a key of a type that does not exist")
	}
}

func TestStandalone(t *testing.T) {
	m := NewManager(Config{})
	if _, _, err := m.CredentialBundle(context.Background(), pod, at); err == nil {
		t.Error("a certificate without an apiserver")
	}
}
