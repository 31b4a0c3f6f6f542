package authn

import (
	"crypto/subtle"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"hyperkube/api/core/secret"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

const (
	bootstrapUserPrefix   = "system:bootstrap:"
	bootstrapDefaultGroup = "system:bootstrappers"
)

var bootstrapTokenFormat = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

// bootstrapTokens knows those who join: a token of the form ID.SECRET is good while the Secret kube-system/bootstrap-token-ID
// says so. Its bearer is no one in particular, and may do what is bound to system:bootstrappers: ask for a certificate.
//
// In Kubernetes: plugin/pkg/auth/authenticator/token/bootstrap.
type bootstrapTokens struct {
	secrets lister.Lister[*corev1.Secret]
	clock   clock.PassiveClock
}

// authenticate returns nil for a token that is none of these, or no longer good.
func (b *bootstrapTokens) authenticate(shown string) *request.User {
	parts := bootstrapTokenFormat.FindStringSubmatch(shown)
	if parts == nil {
		return nil
	}
	stored, err := b.secrets.Get(metav1.NamespaceSystem, secret.BootstrapTokenPrefix+parts[1])
	if err != nil {
		return nil
	}
	token, ok := secret.BootstrapTokenOf(stored, secret.BootstrapTokenAuthentication, b.clock.Now())
	if !ok || subtle.ConstantTimeCompare([]byte(token.Secret), []byte(parts[2])) != 1 {
		return nil
	}
	return &request.User{
		Name: bootstrapUserPrefix + token.ID, Groups: append([]string{bootstrapDefaultGroup}, token.Groups...), Authn: "bootstrap token " + token.ID,
	}
}
