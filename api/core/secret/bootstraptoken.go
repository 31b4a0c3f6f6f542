package secret

import (
	"regexp"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BootstrapTokenPrefix comes before the id in the name of a Secret of type bootstrap.kubernetes.io/token.
const BootstrapTokenPrefix = "bootstrap-token-"

// What a bootstrap token may be good for.
const (
	BootstrapTokenAuthentication = "usage-bootstrap-authentication"
	BootstrapTokenSigning        = "usage-bootstrap-signing"
)

var (
	bootstrapTokenID     = regexp.MustCompile(`^[a-z0-9]{6}$`)
	bootstrapTokenSecret = regexp.MustCompile(`^[a-z0-9]{16}$`)
	bootstrapGroup       = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
)

// BootstrapToken is what a Secret of that type says. Who shows ID.Secret is let in; with Secret as a key, ConfigMaps are signed.
type BootstrapToken struct {
	ID, Secret string
	// Groups are those of its bearer, beside system:bootstrappers.
	Groups []string
}

// BootstrapTokenOf reads the token of a Secret; false where it is none that is good for usage at the time now.
func BootstrapTokenOf(s *v1.Secret, usage string, now time.Time) (*BootstrapToken, bool) {
	token := &BootstrapToken{ID: string(s.Data["token-id"]), Secret: string(s.Data["token-secret"])}
	switch {
	case s.Type != v1.SecretTypeBootstrapToken || s.Namespace != metav1.NamespaceSystem || s.DeletionTimestamp != nil,
		!bootstrapTokenID.MatchString(token.ID) || !bootstrapTokenSecret.MatchString(token.Secret),
		s.Name != BootstrapTokenPrefix+token.ID, string(s.Data[usage]) != "true":
		return nil, false
	}
	if left, expires := BootstrapTokenExpires(s, now); expires && left <= 0 {
		return nil, false
	}
	if extra := string(s.Data["auth-extra-groups"]); extra != "" {
		for _, group := range strings.Split(extra, ",") {
			// A Secret must not make anybody system:masters: one wrong group, and the token is none.
			if !bootstrapGroup.MatchString(group) {
				return nil, false
			}
			token.Groups = append(token.Groups, group)
		}
	}
	return token, true
}

// BootstrapTokenExpires is how long the token of a Secret is still good; false: for ever. A time that cannot be read has passed.
func BootstrapTokenExpires(s *v1.Secret, now time.Time) (left time.Duration, expires bool) {
	text := string(s.Data["expiration"])
	if text == "" {
		return 0, false
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, true
	}
	return at.Sub(now), true
}
