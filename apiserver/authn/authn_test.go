package authn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/authz"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
	satoken "hyperkube/pki/token"
)

// ca is a certificate authority for one test.
type ca struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t *testing.T) *ca {
	c := &ca{}
	c.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	c.cert = create(t, template, template, c.key, c.key)
	return c
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t *testing.T, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (c *ca) leaf(t *testing.T, subject pkix.Name, usage x509.ExtKeyUsage) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}}
	return create(t, template, c.cert, newKey(t), c.key)
}

func (c *ca) write(t *testing.T, file string) {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newIssuer(t *testing.T) *serviceaccount.Issuer {
	der, err := x509.MarshalECPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := satoken.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return &serviceaccount.Issuer{Name: "https://me", Keys: keys, Audiences: []string{"https://me"}}
}

func newAuthenticator(t *testing.T, c *ca, clock *testingclock.FakeClock) (*Authenticator, string, string) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	c.write(t, file)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "u"}}
	issuer := newIssuer(t)
	a, err := New(Config{
		ClientCAFile: file, Issuer: issuer, Clock: clock,
		ServiceAccounts: lister.Slice(schema.GroupResource{Resource: "serviceaccounts"}, account),
		Pods:            lister.Slice[*corev1.Pod](schema.GroupResource{Resource: "pods"}),
		Secrets:         lister.Slice[*corev1.Secret](schema.GroupResource{Resource: "secrets"}),
		Nodes:           lister.Slice[*corev1.Node](schema.GroupResource{Resource: "nodes"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := issuer.Sign(serviceaccount.ClaimsFor{ServiceAccount: account, Expiration: time.Hour, Audiences: issuer.Audiences}.New(clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return a, token, file
}

func TestAuthenticateRequest(t *testing.T) {
	good, other := newCA(t), newCA(t)
	a, token, _ := newAuthenticator(t, good, testingclock.NewFakeClock(time.Now()))
	jane := pkix.Name{CommonName: "jane", Organization: []string{"devs", "ops"}}
	withUID := pkix.Name{CommonName: "jane", ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier(uidOID), Value: "42"}}}
	for name, test := range map[string]struct {
		cert        *x509.Certificate
		token, path string
		user        string
		groups      string
		uid         string
		ok, fails   bool
	}{
		"certificate":               {cert: good.leaf(t, jane, x509.ExtKeyUsageClientAuth), path: "/api", user: "jane", groups: "ops devs system:authenticated", ok: true},
		"certificate with a uid":    {cert: good.leaf(t, withUID, x509.ExtKeyUsageClientAuth), path: "/api", user: "jane", uid: "42", groups: "system:authenticated", ok: true},
		"of another CA":             {cert: other.leaf(t, jane, x509.ExtKeyUsageClientAuth), path: "/healthz", fails: true},
		"of a server":               {cert: good.leaf(t, jane, x509.ExtKeyUsageServerAuth), path: "/api", fails: true},
		"without a name":            {cert: good.leaf(t, pkix.Name{Organization: []string{"devs"}}, x509.ExtKeyUsageClientAuth), path: "/api", fails: true},
		"token":                     {token: token, path: "/api", user: "system:serviceaccount:ns:sa", uid: "u", groups: "system:serviceaccounts system:serviceaccounts:ns system:authenticated", ok: true},
		"wrong token":               {token: "x.y.z", path: "/healthz", fails: true},
		"wrong certificate, token":  {cert: other.leaf(t, jane, x509.ExtKeyUsageClientAuth), token: token, path: "/api", user: "system:serviceaccount:ns:sa", uid: "u", groups: "system:serviceaccounts system:serviceaccounts:ns system:authenticated", ok: true},
		"nobody on /healthz":        {path: "/healthz", user: "system:anonymous", groups: "system:unauthenticated", ok: true},
		"nobody on /livez/etcd":     {path: "/livez/etcd", user: "system:anonymous", groups: "system:unauthenticated", ok: true},
		"nobody on /version":        {path: "/version", user: "system:anonymous", groups: "system:unauthenticated", ok: true},
		"nobody on /api":            {path: "/api"},
		"nobody on /healthzzz":      {path: "/healthzzz"},
		"nobody on /apis/x/version": {path: "/apis/x/version"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, test.path, nil)
			r.TLS = &tls.ConnectionState{}
			if test.cert != nil {
				r.TLS.PeerCertificates = []*x509.Certificate{test.cert}
			}
			if test.token != "" {
				r.Header.Set("Authorization", "Bearer "+test.token)
			}
			user, ok, err := a.AuthenticateRequest(r)
			if ok != test.ok || (err != nil) != test.fails {
				t.Fatalf("ok %v, err %v", ok, err)
			}
			if ok && (user.Name != test.user || user.UID != test.uid || strings.Join(user.Groups, " ") != test.groups) {
				t.Errorf("%+v", user)
			}
			if r.Header.Get("Authorization") != "" && test.token != "" && test.cert == nil {
				t.Error("the token is still in the request")
			}
		})
	}
}

// A CA that is renewed in place counts without a restart, after at most the interval.
func TestClientCAIsReloaded(t *testing.T) {
	first, second := newCA(t), newCA(t)
	clock := testingclock.NewFakeClock(time.Now())
	a, _, file := newAuthenticator(t, first, clock)
	cert := second.leaf(t, pkix.Name{CommonName: "jane"}, x509.ExtKeyUsageClientAuth)
	if _, err := a.x509.authenticate([]*x509.Certificate{cert}); err == nil {
		t.Fatal("known before its CA is")
	}
	second.write(t, file)
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(file, later, later); err != nil {
		t.Fatal(err)
	}
	clock.Step(caCheckInterval)
	if _, err := a.x509.authenticate([]*x509.Certificate{cert}); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	clock.Step(caCheckInterval)
	if _, err := a.x509.authenticate([]*x509.Certificate{cert}); err != nil {
		t.Errorf("a half written file takes the CA away: %v", err)
	}
}

// What was verified once is not verified again, and yet is no longer known when the
// certificate has run out or its CA is gone.
func TestVerifiedChainIsForgottenInTime(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, file string, clock *testingclock.FakeClock){
		"expired": func(_ *testing.T, _ string, clock *testingclock.FakeClock) { clock.Step(2 * time.Hour) },
		"CA replaced": func(t *testing.T, file string, clock *testingclock.FakeClock) {
			newCA(t).write(t, file)
			later := time.Now().Add(time.Minute)
			if err := os.Chtimes(file, later, later); err != nil {
				t.Fatal(err)
			}
			clock.Step(caCheckInterval)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCA(t)
			clock := testingclock.NewFakeClock(time.Now())
			a, _, file := newAuthenticator(t, c, clock)
			chain := []*x509.Certificate{c.leaf(t, pkix.Name{CommonName: "jane", Organization: []string{"devs"}}, x509.ExtKeyUsageClientAuth)}
			for range 2 {
				user, err := a.x509.authenticate(chain)
				if err != nil || user.Name != "jane" || !slices.Equal(user.Groups, []string{"devs"}) {
					t.Fatalf("%+v, %v", user, err)
				}
				user.Groups[0] = "a caller's own" // must not reach the next request
			}
			if len(a.x509.verified) != 1 {
				t.Errorf("%d chains are remembered", len(a.x509.verified))
			}
			end(t, file, clock)
			if user, err := a.x509.authenticate(chain); err == nil {
				t.Errorf("still known: %+v", user)
			}
		})
	}
}

// A browser's token comes as a WebSocket subprotocol, and must not be sent back.
func TestWebSocketToken(t *testing.T) {
	encoded := websocketTokenPrefix + base64.RawURLEncoding.EncodeToString([]byte("secret"))
	for _, test := range []struct{ protocols, token, rest string }{
		{encoded + ", v5.channel.k8s.io", "secret", "v5.channel.k8s.io"},
		{encoded, "", encoded},
		{"v5.channel.k8s.io", "", "v5.channel.k8s.io"},
		{encoded + "," + encoded + ",x", "", encoded + "," + encoded + ",x"},
		{websocketTokenPrefix + "!,x", "", websocketTokenPrefix + "!,x"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Protocol", test.protocols)
		token, _ := takeBearerToken(r)
		if token != test.token || r.Header.Get("Sec-WebSocket-Protocol") != test.rest {
			t.Errorf("%s: %q, left %q", test.protocols, token, r.Header.Get("Sec-WebSocket-Protocol"))
		}
	}
}

// mayImpersonate allows what it lists, as "resource[/subresource] namespace/name".
type mayImpersonate map[string]bool

func (m mayImpersonate) Authorize(_ context.Context, a request.Attributes) (request.Decision, string, error) {
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	if a.Verb == "impersonate" && m[resource+" "+a.Namespace+"/"+a.Name] {
		return request.Allow, "", nil
	}
	return request.NoOpinion, "", nil
}

func TestImpersonate(t *testing.T) {
	for name, test := range map[string]struct {
		headers map[string][]string
		may     mayImpersonate
		user    string
		groups  string
		err     string
	}{
		"nobody":    {user: "root", groups: "system:masters"},
		"a user":    {headers: map[string][]string{"Impersonate-User": {"jane"}}, may: mayImpersonate{"users /jane": true}, user: "jane", groups: "system:authenticated"},
		"forbidden": {headers: map[string][]string{"Impersonate-User": {"jane"}}, err: `forbidden: User "root" cannot impersonate-on:user-info:get path "/"`},
		"groups": {
			headers: map[string][]string{"Impersonate-User": {"jane"}, "Impersonate-Group": {"devs", "ops"}},
			may:     mayImpersonate{"users /jane": true, "groups /devs": true, "groups /ops": true}, user: "jane", groups: "devs ops system:authenticated",
		},
		"a group too many": {
			headers: map[string][]string{"Impersonate-User": {"jane"}, "Impersonate-Group": {"system:masters"}},
			may:     mayImpersonate{"users /jane": true},
			err:     `forbidden: User "root" cannot impersonate-on:user-info:get path "/"`,
		},
		"a service account": {
			headers: map[string][]string{"Impersonate-User": {"system:serviceaccount:ns:sa"}},
			may:     mayImpersonate{"serviceaccounts ns/sa": true}, user: "system:serviceaccount:ns:sa", groups: "system:serviceaccounts system:serviceaccounts:ns system:authenticated",
		},
		"extra": {
			headers: map[string][]string{"Impersonate-User": {"jane"}, "Impersonate-Extra-Acme.com%2fproject": {"x"}},
			may:     mayImpersonate{"users /jane": true, "userextras/acme.com/project /x": true}, user: "jane", groups: "system:authenticated",
		},
		"extra forbidden": {
			headers: map[string][]string{"Impersonate-User": {"jane"}, "Impersonate-Extra-Scope": {"x"}}, may: mayImpersonate{"users /jane": true},
			err: `forbidden: User "root" cannot impersonate-on:user-info:get path "/"`,
		},
		"anonymous":           {headers: map[string][]string{"Impersonate-User": {"system:anonymous"}}, may: mayImpersonate{"users /system:anonymous": true}, user: "system:anonymous", groups: "system:unauthenticated"},
		"groups without user": {headers: map[string][]string{"Impersonate-Group": {"devs"}}, err: `requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"devs"}, Extra:map[string][]string(nil)} without impersonating a user name`},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for key, values := range test.headers {
				r.Header[key] = values
			}
			user, _, err := NewImpersonator(func() request.Authorizer { return test.may }, authz.Forbidden).Impersonate(r, request.Attributes{User: &request.User{Name: "root", Groups: []string{"system:masters"}}, Verb: "get", Path: "/"})
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("%v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if user.Name != test.user || strings.Join(user.Groups, " ") != test.groups {
				t.Errorf("%+v", user)
			}
			for key := range r.Header {
				if strings.HasPrefix(key, "Impersonate-") {
					t.Errorf("%s is passed on", key)
				}
			}
		})
	}
}
