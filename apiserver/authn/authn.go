package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/authn/serviceaccount"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

// Config is what authentication needs.
type Config struct {
	// ClientCAFile holds the CAs of client certificates, PEM; it is read again when it
	// changes. Default "": no client certificates.
	ClientCAFile string
	// Issuer signs and verifies service account tokens. Default nil: no tokens.
	Issuer *serviceaccount.Issuer
	// What tokens are bound to; required beside Issuer. Confirmed listers: a token is used right
	// after its pod was made.
	ServiceAccounts lister.Lister[*corev1.ServiceAccount]
	Pods            lister.Lister[*corev1.Pod]
	Secrets         lister.Lister[*corev1.Secret]
	Nodes           lister.Lister[*corev1.Node]
	// LegacyTokenUsed notes on a Secret the day on which its token was used. Default nil: nobody does.
	LegacyTokenUsed func(ctx context.Context, secret *corev1.Secret, day string) error
	// TokenFile is a static token file. Default "": none.
	TokenFile string
	// BootstrapTokens lets the Secrets of type bootstrap.kubernetes.io/token in; it needs Secrets. Default: no.
	BootstrapTokens bool
	// AnonymousPaths may be asked for without credentials. Default: /healthz, /livez, /readyz (with what
	// is below them) and /version.
	AnonymousPaths []string
	// Clock default: the real one.
	Clock clock.PassiveClock
}

func (c *Config) validate() error {
	if c.Issuer != nil && (c.ServiceAccounts == nil || c.Pods == nil || c.Secrets == nil || c.Nodes == nil) {
		return errors.New("authn: Issuer needs the listers of what tokens are bound to")
	}
	if c.BootstrapTokens && c.Secrets == nil {
		return errors.New("authn: BootstrapTokens needs the lister of Secrets")
	}
	return nil
}

// Authenticator implements request.Authenticator; see the package comment for the order.
type Authenticator struct {
	x509           *x509Authenticator
	issuer         *serviceaccount.Issuer
	validator      *serviceaccount.Validator
	legacy         *serviceaccount.Legacy
	anonymousPaths []string
	// tokens know bearer tokens beside those of service accounts; each returns nil for one it does not know.
	tokens []func(token string) *request.User
}

var _ request.Authenticator = &Authenticator{}

// New makes an Authenticator. It fails when the CA file can't be read.
func New(cfg Config) (*Authenticator, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.AnonymousPaths == nil {
		cfg.AnonymousPaths = []string{"/healthz", "/livez", "/readyz", "/version"}
	}
	a := &Authenticator{issuer: cfg.Issuer, anonymousPaths: cfg.AnonymousPaths}
	if cfg.ClientCAFile != "" {
		var err error
		if a.x509, err = newX509(cfg.ClientCAFile, cfg.Clock); err != nil {
			return nil, err
		}
	}
	if cfg.TokenFile != "" {
		file, err := newTokenFile(cfg.TokenFile)
		if err != nil {
			return nil, err
		}
		a.tokens = append(a.tokens, file.authenticate)
	}
	if cfg.BootstrapTokens {
		a.tokens = append(a.tokens, (&bootstrapTokens{cfg.Secrets, cfg.Clock}).authenticate)
	}
	a.validator = &serviceaccount.Validator{
		ServiceAccounts: cfg.ServiceAccounts, Pods: cfg.Pods, Secrets: cfg.Secrets, Nodes: cfg.Nodes, Clock: cfg.Clock,
	}
	if cfg.Issuer != nil {
		a.legacy = &serviceaccount.Legacy{
			Keys: cfg.Issuer.Keys, ServiceAccounts: cfg.ServiceAccounts, Secrets: cfg.Secrets, Clock: cfg.Clock, Used: cfg.LegacyTokenUsed,
		}
	}
	return a, nil
}

// AuthenticateRequest says who sent r, and takes the token out of it. ok=false without
// an error: r has no credentials and asks for something that is not for everybody.
func (a *Authenticator) AuthenticateRequest(r *http.Request) (*request.User, bool, error) {
	var failures []error
	if a.x509 != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		user, err := a.x509.authenticate(r.TLS.PeerCertificates)
		if err == nil {
			return authenticated(user), true, nil
		}
		failures = append(failures, err)
	}
	if token, ok := takeBearerToken(r); ok {
		user, _, err := a.AuthenticateToken(r.Context(), token, nil)
		if err == nil {
			return user, true, nil
		}
		failures = append(failures, err)
	}
	if len(failures) > 0 {
		err := errors.Join(failures...)
		klog.FromContext(r.Context()).Info("Unable to authenticate the request", "path", r.URL.Path, "err", err)
		return nil, false, err
	}
	if a.anonymousMay(r.URL.Path) {
		return &request.User{Name: request.Anonymous, Groups: []string{request.AllUnauthenticated}, Authn: "no credentials"}, true, nil
	}
	return nil, false, nil
}

// AuthenticateToken says who bears token, and for which of the wanted audiences (nil: the
// apiserver's own) it is good. TokenReview asks the same.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string, audiences []string) (*request.User, []string, error) {
	for _, authenticate := range a.tokens {
		if user := authenticate(token); user != nil {
			return a.forUs(user, audiences)
		}
	}
	if a.issuer == nil {
		return nil, nil, errors.New("invalid bearer token")
	}
	claims, good, err := a.issuer.Verify(token, audiences)
	if errors.Is(err, serviceaccount.ErrNotOurs) {
		return a.authenticateLegacy(ctx, token, audiences)
	}
	if err == nil {
		err = a.validator.Validate(claims)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("invalid bearer token: %w", err)
	}
	return authenticated(claims.User()), good, nil
}

func (a *Authenticator) authenticateLegacy(ctx context.Context, token string, audiences []string) (*request.User, []string, error) {
	user, err := a.legacy.Authenticate(ctx, token)
	if errors.Is(err, serviceaccount.ErrNotOurs) {
		return nil, nil, errors.New("invalid bearer token") // nothing is known of it: neither what is wrong with it
	}
	if err != nil {
		return nil, nil, fmt.Errorf("invalid bearer token: %w", err)
	}
	return a.forUs(user, audiences)
}

// forUs answers for a token that names no audience: it is for this apiserver and nobody else.
func (a *Authenticator) forUs(user *request.User, wanted []string) (*request.User, []string, error) {
	ours := a.APIAudiences()
	if wanted == nil {
		return authenticated(user), ours, nil
	}
	good := slices.DeleteFunc(slices.Clone(wanted), func(audience string) bool { return !slices.Contains(ours, audience) })
	if len(good) == 0 {
		return nil, nil, errors.New("invalid bearer token: it is not for the audience asked about")
	}
	return authenticated(user), good, nil
}

// APIAudiences are the names of this apiserver in a token's audience.
func (a *Authenticator) APIAudiences() []string {
	if a.issuer == nil {
		return nil
	}
	return a.issuer.Audiences
}

func (a *Authenticator) anonymousMay(path string) bool {
	return slices.ContainsFunc(a.anonymousPaths, func(p string) bool {
		return path == p || strings.HasPrefix(path, p+"/")
	})
}

// authenticated adds the group of all who are known, unless the credential itself already says
// whether they are.
func authenticated(u *request.User) *request.User {
	if u.Name != request.Anonymous && !u.InGroup(request.AllAuthenticated) && !u.InGroup(request.AllUnauthenticated) {
		u.Groups = append(slices.Clone(u.Groups), request.AllAuthenticated)
	}
	return u
}

// websocketTokenPrefix marks the WebSocket subprotocol in which a browser, which cannot set
// headers on an upgrade, sends its token (base64url, unpadded).
const websocketTokenPrefix = "base64url.bearer.authorization.k8s.io."

// takeBearerToken returns the token of r and removes it there.
func takeBearerToken(r *http.Request) (string, bool) {
	scheme, token, found := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if found && strings.EqualFold(scheme, "bearer") {
		token, _, _ = strings.Cut(strings.TrimLeft(token, " "), " ")
		if token != "" {
			r.Header.Del("Authorization")
			return token, true
		}
	}
	return takeWebSocketToken(r)
}
