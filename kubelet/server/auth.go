package server

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// How long an answer of the apiserver about a caller is believed.
const (
	allowedTTL = time.Minute
	deniedTTL  = 10 * time.Second
)

// user is who calls.
type user struct {
	name   string
	uid    string
	groups []string
	extra  map[string]authorizationv1.ExtraValue
}

// auth decides who may call what.
type auth struct {
	cfg Config

	mu    sync.Mutex
	known map[string]answer // by question
}

type answer struct {
	allowed bool
	user    *user
	until   time.Time
}

func newAuth(cfg Config) *auth { return &auth{cfg: cfg, known: map[string]answer{}} }

// protect lets a request through if its caller is known and allowed.
func (a *auth) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/healthz") || r.URL.Path == "/livez" || r.URL.Path == "/readyz" || a.cfg.AllowAnonymous {
			next.ServeHTTP(w, r)
			return
		}
		u, err := a.authenticate(r)
		if err != nil {
			klog.FromContext(r.Context()).V(2).Info("Refused a caller", "remote", r.RemoteAddr, "path", r.URL.Path, "err", err)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if !a.authorize(r.Context(), u, r) {
			verb, subresource := attributes(r)
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", u.name, verb, subresource), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// authenticate takes a client certificate, else a bearer token.
func (a *auth) authenticate(r *http.Request) (*user, error) {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && a.cfg.ClientCAFile != "" {
		return a.fromCertificate(r.TLS.PeerCertificates)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case (!ok || token == "") && a.cfg.Access.Anonymous:
		return &user{name: "system:anonymous", groups: []string{"system:unauthenticated"}}, nil
	case !ok || token == "":
		return nil, errors.New("no client certificate and no token")
	case a.cfg.Access.NoTokens:
		return nil, errors.New("tokens are not reviewed")
	}
	if a.cfg.Client == nil {
		return nil, errors.New("tokens cannot be reviewed without an apiserver")
	}
	key := "token " + token
	if found, ok := a.lookup(key); ok {
		if !found.allowed {
			return nil, errors.New("invalid token")
		}
		return found.user, nil
	}
	review, err := a.cfg.Client.AuthenticationV1().TokenReviews().Create(r.Context(), &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	if !review.Status.Authenticated {
		a.remember(key, answer{}, deniedTTL)
		return nil, errors.New("invalid token")
	}
	u := &user{name: review.Status.User.Username, uid: review.Status.User.UID, groups: review.Status.User.Groups, extra: map[string]authorizationv1.ExtraValue{}}
	for k, v := range review.Status.User.Extra {
		u.extra[k] = authorizationv1.ExtraValue(v)
	}
	a.remember(key, answer{allowed: true, user: u}, cmp.Or(a.cfg.Access.TokenTTL, allowedTTL))
	return u, nil
}

func (a *auth) fromCertificate(chain []*x509.Certificate) (*user, error) {
	roots, err := loadCAs(a.cfg.ClientCAFile)
	if err != nil {
		return nil, err
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, err
	}
	return &user{name: chain[0].Subject.CommonName, groups: append(chain[0].Subject.Organization, "system:authenticated")}, nil
}

// attributes say what of the node a path is, as RBAC rules name it.
func attributes(r *http.Request) (verb, subresource string) {
	verb = map[string]string{http.MethodPost: "create", http.MethodGet: "get", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	for prefix, name := range map[string]string{"/stats": "stats", "/metrics": "metrics", "/logs": "log", "/pods": "pods", "/runningpods": "pods", "/configz": "configz"} {
		if strings.HasPrefix(r.URL.Path, prefix) {
			return verb, name
		}
	}
	return verb, "proxy"
}

// authorize asks the apiserver. nodes/proxy allows everything, so that older rules work.
func (a *auth) authorize(ctx context.Context, u *user, r *http.Request) bool {
	if a.cfg.Access.AlwaysAllow || slices.Contains(u.groups, "system:masters") {
		return true
	}
	if a.cfg.Client == nil {
		return false
	}
	verb, subresource := attributes(r)
	return a.allowed(ctx, u, verb, subresource) || subresource != "proxy" && a.allowed(ctx, u, verb, "proxy")
}

func (a *auth) allowed(ctx context.Context, u *user, verb, subresource string) bool {
	key := fmt.Sprintf("access %q %q %q %s %s", u.name, u.uid, u.groups, verb, subresource)
	if found, ok := a.lookup(key); ok {
		return found.allowed
	}
	review, err := a.cfg.Client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: u.name, UID: u.uid, Groups: u.groups, Extra: u.extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Version: "v1", Resource: "nodes", Subresource: subresource, Name: a.cfg.NodeName},
	}}, metav1.CreateOptions{})
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot ask the apiserver whether a caller is allowed", "user", u.name)
		return false
	}
	ttl := cmp.Or(a.cfg.Access.DeniedTTL, deniedTTL)
	if review.Status.Allowed {
		ttl = cmp.Or(a.cfg.Access.AllowedTTL, allowedTTL)
	}
	a.remember(key, answer{allowed: review.Status.Allowed}, ttl)
	return review.Status.Allowed
}

func (a *auth) lookup(key string) (answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.known[key]
	return found, ok && time.Now().Before(found.until)
}

func (a *auth) remember(key string, found answer, ttl time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) > 1000 { // strangers must not fill the memory
		a.known = map[string]answer{}
	}
	found.until = time.Now().Add(ttl)
	a.known[key] = found
}

// selfSigned makes a certificate for a kubelet that was given none.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// quiet sends what net/http complains about (handshakes of strangers) to level 4.
func quiet(logger klog.Logger) *log.Logger {
	return log.New(lineWriter{logger}, "", 0)
}

type lineWriter struct{ logger klog.Logger }

func (l lineWriter) Write(data []byte) (int, error) {
	l.logger.V(4).Info(strings.TrimSpace(string(data)))
	return len(data), nil
}
