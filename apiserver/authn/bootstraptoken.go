package authn

import (
	"crypto/subtle"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

const (
	bootstrapUserPrefix   = "system:bootstrap:"
	bootstrapDefaultGroup = "system:bootstrappers"
	bootstrapSecretPrefix = "bootstrap-token-"
)

var (
	bootstrapTokenFormat = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)
	bootstrapGroupFormat = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// bootstrapTokens knows those who join: a token of the form ID.SECRET is good while the Secret kube-system/bootstrap-token-ID
// says so. Its bearer is no one in particular, and may do what is bound to system:bootstrappers: ask for a certificate.
//
// In Kubernetes: plugin/pkg/auth/authenticator/token/bootstrap.
type bootstrapTokens struct {
	secrets lister.Lister[*corev1.Secret]
	clock   clock.PassiveClock
}

// authenticate returns nil for a token that is none of these, or no longer good.
func (b *bootstrapTokens) authenticate(token string) *request.User {
	parts := bootstrapTokenFormat.FindStringSubmatch(token)
	if parts == nil {
		return nil
	}
	id, key := parts[1], parts[2]
	secret, err := b.secrets.Get(metav1.NamespaceSystem, bootstrapSecretPrefix+id)
	if err != nil || secret.DeletionTimestamp != nil || secret.Type != corev1.SecretTypeBootstrapToken {
		return nil
	}
	if subtle.ConstantTimeCompare(secret.Data["token-secret"], []byte(key)) != 1 || string(secret.Data["token-id"]) != id {
		return nil
	}
	if expired(string(secret.Data["expiration"]), b.clock.Now()) || string(secret.Data["usage-bootstrap-authentication"]) != "true" {
		return nil
	}
	groups := []string{bootstrapDefaultGroup}
	if extra := string(secret.Data["auth-extra-groups"]); extra != "" {
		for _, group := range strings.Split(extra, ",") {
			// A Secret must not make anybody system:masters: one wrong group, and the token is none.
			if !bootstrapGroupFormat.MatchString(group) {
				return nil
			}
			groups = append(groups, group)
		}
	}
	return &request.User{Name: bootstrapUserPrefix + id, Groups: groups, Authn: "bootstrap token " + id}
}

// expired: a time that cannot be read has passed; none never does.
func expired(text string, now time.Time) bool {
	if text == "" {
		return false
	}
	at, err := time.Parse(time.RFC3339, text)
	return err != nil || !now.Before(at)
}
