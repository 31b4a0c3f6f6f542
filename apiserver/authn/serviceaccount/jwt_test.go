package serviceaccount

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	"hyperkube/apiserver/lister"
	"hyperkube/pki/token"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func ecKey(t *testing.T) token.Key {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, key)
}

func rsaKey(t *testing.T) token.Key {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, key)
}

// parsed takes the way through PEM that a key file takes.
func parsed(t *testing.T, key crypto.PrivateKey) token.Key {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

func account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "sa-uid"}}
}

func claims() *Claims {
	return ClaimsFor{ServiceAccount: account(), Expiration: time.Hour, Audiences: []string{"api"}}.New(now)
}

// RFC 7519: what is signed here verifies here, with both kinds of keys, and with a key that is no longer the first.
func TestSignAndVerify(t *testing.T) {
	old, next := ecKey(t), rsaKey(t)
	issuer := func(keys ...token.Key) *Issuer {
		return &Issuer{Name: "https://me", Keys: keys, Audiences: []string{"api"}}
	}
	signed, err := issuer(old).Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	got, audiences, err := issuer(next, old).Verify(signed, nil)
	if err != nil || got.Subject != "system:serviceaccount:ns:sa" || len(audiences) != 1 || got.ID == "" {
		t.Errorf("%+v %v %v", got, audiences, err)
	}
	signed, err = issuer(next, old).Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := issuer(old).Verify(signed, nil); err == nil {
		t.Error("a token of an unknown key was accepted")
	}
	header, _, _ := strings.Cut(signed, ".")
	decoded, _ := base64.RawURLEncoding.DecodeString(header)
	if want := `{"alg":"RS256","kid":"` + next.ID + `"}`; string(decoded) != want {
		t.Errorf("header %s, want %s", decoded, want)
	}
}

func TestVerifyRefuses(t *testing.T) {
	key := rsaKey(t)
	issuer := &Issuer{Name: "https://me", Keys: []token.Key{key}, Audiences: []string{"api"}}
	sign := func(method jwt.SigningMethod, secret any, change func(*Claims)) string {
		c := claims()
		c.Issuer = issuer.Name
		change(c)
		signed, err := jwt.NewWithClaims(method, c).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		t.Fatal(err)
	}
	good := sign(jwt.SigningMethodRS256, key.Private, func(*Claims) {})
	parts := strings.Split(good, ".")
	for name, test := range map[string]struct {
		token     string
		audiences []string
		notOurs   bool
	}{
		"no token":                           {token: "abc", notOurs: true},
		"another issuer":                     {token: sign(jwt.SigningMethodRS256, key.Private, func(c *Claims) { c.Issuer = "https://other" }), notOurs: true},
		"another audience":                   {token: sign(jwt.SigningMethodRS256, key.Private, func(c *Claims) { c.Audience = jwt.ClaimStrings{"vault"} })},
		"not the asked audience":             {token: good, audiences: []string{"vault"}},
		"no signature":                       {token: parts[0] + "." + parts[1] + "."},
		"alg none":                           {token: sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, func(*Claims) {})},
		"the public key as a shared secret":  {token: sign(jwt.SigningMethodHS256, public, func(*Claims) {})},
		"another algorithm of the same key":  {token: sign(jwt.SigningMethodRS512, key.Private, func(*Claims) {})},
		"a changed body under the signature": {token: parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://me","aud":["api"],"sub":"root"}`)) + "." + parts[2]},
	} {
		_, _, err := issuer.Verify(test.token, test.audiences)
		if err == nil || errors.Is(err, ErrNotOurs) != test.notOurs {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := issuer.Verify(good, nil); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestValidate(t *testing.T) {
	ago := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-d)} }
	pod := func(name string, deleted *metav1.Time) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid"), DeletionTimestamp: deleted}}
	}
	gone := account()
	gone.Name, gone.DeletionTimestamp = "gone", ago(2*time.Minute)
	v := &Validator{
		ServiceAccounts: lister.Slice(schema.GroupResource{Resource: "serviceaccounts"}, account(), gone),
		Pods:            lister.Slice(schema.GroupResource{Resource: "pods"}, pod("web", nil), pod("ending", ago(30*time.Second)), pod("ended", ago(2*time.Minute))),
		Secrets:         lister.Slice[*corev1.Secret](schema.GroupResource{Resource: "secrets"}),
		Nodes:           lister.Slice(schema.GroupResource{Resource: "nodes"}, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "n-uid"}}),
		Clock:           testingclock.NewFakePassiveClock(now),
	}
	for name, test := range map[string]struct {
		change func(*Claims)
		want   string
	}{
		"good":                    {func(*Claims) {}, ""},
		"expired within leeway":   {func(c *Claims) { c.ExpiresAt = jwt.NewNumericDate(now.Add(-30 * time.Second)) }, ""},
		"expired":                 {func(c *Claims) { c.ExpiresAt = jwt.NewNumericDate(now.Add(-2 * time.Minute)) }, "service account token has expired"},
		"not yet":                 {func(c *Claims) { c.NotBefore = jwt.NewNumericDate(now.Add(2 * time.Minute)) }, "service account token is not valid yet"},
		"account missing":         {func(c *Claims) { c.Kubernetes.ServiceAccount.Name = "none" }, `serviceaccounts "none" not found`},
		"account deleted":         {func(c *Claims) { c.Kubernetes.ServiceAccount.Name = "gone" }, "service account ns/gone has been deleted"},
		"account recreated":       {func(c *Claims) { c.Kubernetes.ServiceAccount.UID = "before" }, "service account UID (sa-uid) does not match claim (before)"},
		"pod":                     {func(c *Claims) { c.Kubernetes.Pod = &Ref{"web", "web-uid"} }, ""},
		"pod missing":             {func(c *Claims) { c.Kubernetes.Pod = &Ref{"none", "x"} }, "service account token has been invalidated"},
		"pod recreated":           {func(c *Claims) { c.Kubernetes.Pod = &Ref{"web", "before"} }, "pod UID (web-uid) does not match service account pod ref claim (before)"},
		"pod shutting down":       {func(c *Claims) { c.Kubernetes.Pod = &Ref{"ending", "ending-uid"} }, ""},
		"pod long deleted":        {func(c *Claims) { c.Kubernetes.Pod = &Ref{"ended", "ended-uid"} }, "service account token has been invalidated"},
		"secret missing":          {func(c *Claims) { c.Kubernetes.Secret = &Ref{"none", "x"} }, "service account token has been invalidated"},
		"node":                    {func(c *Claims) { c.Kubernetes.Node = &Ref{"n", "n-uid"} }, ""},
		"node recreated":          {func(c *Claims) { c.Kubernetes.Node = &Ref{"n", "before"} }, "node UID (n-uid) does not match service account node ref claim (before)"},
		"node gone, beside a pod": {func(c *Claims) { c.Kubernetes.Pod, c.Kubernetes.Node = &Ref{"web", "web-uid"}, &Ref{"none", "x"} }, ""},
	} {
		c := claims()
		test.change(c)
		err := v.Validate(c)
		if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestUserOfClaims(t *testing.T) {
	c := ClaimsFor{
		ServiceAccount: account(),
		Pod:            &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "p"}},
		Node:           &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "n"}},
	}.New(now)
	u := c.User()
	if u.Name != "system:serviceaccount:ns:sa" || u.UID != "sa-uid" || strings.Join(u.Groups, " ") != "system:serviceaccounts system:serviceaccounts:ns" {
		t.Errorf("%+v", u)
	}
	for key, want := range map[string]string{PodNameKey: "web", PodUIDKey: "p", NodeNameKey: "n1", NodeUIDKey: "n", CredentialIDKey: "JTI=" + c.ID} {
		if len(u.Extra[key]) != 1 || u.Extra[key][0] != want {
			t.Errorf("%s: %v", key, u.Extra[key])
		}
	}
	for _, name := range []string{"system:serviceaccount:ns", "system:serviceaccount:ns:a:b", "system:serviceaccount::a", "jane"} {
		if _, _, ok := SplitUsername(name); ok {
			t.Errorf("%q was taken for a service account", name)
		}
	}
}

// OpenID Connect Discovery 1.0: others verify tokens with these two documents.
func TestDiscovery(t *testing.T) {
	issuer := &Issuer{Name: "https://me", Keys: []token.Key{rsaKey(t), ecKey(t)}}
	handlers := issuer.DiscoveryHandlers("https://10.0.0.1:6443")
	get := func(path string, into any) {
		w := httptest.NewRecorder()
		handlers[path].ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	var config openIDConfig
	get(OpenIDConfigPath, &config)
	if config.Issuer != "https://me" || config.JWKSURI != "https://10.0.0.1:6443/openid/v1/jwks" || strings.Join(config.SigningAlgs, " ") != "RS256 ES256" {
		t.Errorf("%+v", config)
	}
	var set struct{ Keys []jsonWebKey }
	get(JWKSPath, &set)
	if len(set.Keys) != 2 || set.Keys[0].E != "AQAB" || set.Keys[1].Curve != "P-256" || len(set.Keys[1].X) != 43 || len(set.Keys[1].Y) != 43 {
		t.Errorf("%+v", set)
	}
}
