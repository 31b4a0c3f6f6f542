package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/lister"
	satoken "hyperkube/pki/token"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newCreator(t *testing.T) (*creator, *serviceaccount.Issuer) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := satoken.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	issuer := &serviceaccount.Issuer{Name: "https://me", Keys: keys, Audiences: []string{"https://me"}}
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid")}
	}
	gr := func(s string) schema.GroupResource { return schema.GroupResource{Resource: s} }
	return &creator{
		accounts: lister.Slice(gr("serviceaccounts"), &corev1.ServiceAccount{ObjectMeta: meta("sa")}),
		pods: lister.Slice(gr("pods"),
			&corev1.Pod{ObjectMeta: meta("web"), Spec: corev1.PodSpec{ServiceAccountName: "sa", NodeName: "n1"}},
			&corev1.Pod{ObjectMeta: meta("stranger"), Spec: corev1.PodSpec{ServiceAccountName: "other"}}),
		secrets: lister.Slice(gr("secrets"), &corev1.Secret{ObjectMeta: meta("s")}),
		nodes:   lister.Slice(gr("nodes"), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n1-uid"}}),
		clock:   testingclock.NewFakePassiveClock(now),
		issuer:  func() (*serviceaccount.Issuer, error) { return issuer, nil },
	}, issuer
}

func bound(kind, name string, uid types.UID) *authenticationv1.BoundObjectReference {
	return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid}
}

func TestCreate(t *testing.T) {
	c, issuer := newCreator(t)
	for name, test := range map[string]struct {
		account string
		meta    metav1.ObjectMeta
		spec    authenticationv1.TokenRequestSpec
		err     string
		lasts   time.Duration // as told
		real    time.Duration // as signed
		aud     string
		bound   string
	}{
		"by default":             {lasts: time.Hour, real: time.Hour, aud: "https://me"},
		"for someone else":       {spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}, ExpirationSeconds: ptr.To(int64(600))}, lasts: 10 * time.Minute, real: 10 * time.Minute, aud: "vault"},
		"for a pod":              {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Pod", "web", "web-uid")}, lasts: time.Hour, real: time.Hour, aud: "https://me", bound: "pod web node n1"},
		"as admission mounts it": {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Pod", "web", "web-uid"), ExpirationSeconds: ptr.To(int64(3607))}, lasts: 3607 * time.Second, real: 365 * 24 * time.Hour, aud: "https://me", bound: "pod web node n1"},
		"for a secret":           {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Secret", "s", "")}, lasts: time.Hour, real: time.Hour, aud: "https://me", bound: "secret s"},
		"for a node":             {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Node", "n1", "")}, lasts: time.Hour, real: time.Hour, aud: "https://me", bound: "node n1"},
		"no such account":        {account: "none", err: `serviceaccounts "none" not found`},
		"too short":              {spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(599))}, err: "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"},
		"too long":               {spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To(int64(1<<32 + 1))}, err: "may not specify a duration larger than 2^32 seconds"},
		"another account's pod":  {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Pod", "stranger", "")}, err: `cannot bind token for serviceaccount "sa" to pod running with different serviceaccount name.`},
		"a former pod":           {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Pod", "web", "before")}, err: "the UID in the bound object reference (before) does not match the UID in record"},
		"no such pod":            {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound("Pod", "none", "")}, err: `pods "none" not found`},
		"a deployment":           {spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "x"}}, err: "cannot bind token to object of type apps/v1, Kind=Deployment"},
		"a former account":       {meta: metav1.ObjectMeta{UID: "before"}, err: "does not match the UID of the service account (sa-uid)"},
		"another name":           {meta: metav1.ObjectMeta{Name: "other"}, err: `TokenRequest.authentication.k8s.io "sa" is invalid: metadata.name: Invalid value: "other": must match the service account name if specified`},
	} {
		t.Run(name, func(t *testing.T) {
			if test.account == "" {
				test.account = "sa"
			}
			answer, err := c.create(t.Context(), "ns", test.account, &authenticationv1.TokenRequest{ObjectMeta: test.meta, Spec: test.spec}, &metav1.CreateOptions{})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			status := answer.(*authenticationv1.TokenRequest).Status
			claims, _, err := issuer.Verify(status.Token, []string{test.aud})
			if err != nil {
				t.Fatal(err)
			}
			if got := status.ExpirationTimestamp.Sub(now); got != test.lasts {
				t.Errorf("told to last %v", got)
			}
			if got := claims.ExpiresAt.Sub(now); got != test.real {
				t.Errorf("lasts %v", got)
			}
			if (claims.Kubernetes.WarnAfter != nil) != (test.real != test.lasts) {
				t.Errorf("warnafter %v", claims.Kubernetes.WarnAfter)
			}
			if got := describe(claims.Kubernetes); got != test.bound {
				t.Errorf("bound to %q, want %q", got, test.bound)
			}
		})
	}
}

func describe(b serviceaccount.Bound) string {
	var words []string
	for _, r := range []struct {
		kind string
		ref  *serviceaccount.Ref
	}{{"pod", b.Pod}, {"secret", b.Secret}, {"node", b.Node}} {
		if r.ref != nil {
			words = append(words, r.kind, r.ref.Name)
		}
	}
	return strings.Join(words, " ")
}
