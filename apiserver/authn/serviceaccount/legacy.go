package serviceaccount

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
	"hyperkube/pki/token"
)

const (
	// LastUsedLabelKey is put on a Secret with the day on which its token was last used.
	LastUsedLabelKey = "kubernetes.io/legacy-token-last-used"
	// InvalidSinceLabelKey on a Secret makes its token no good, until somebody takes the label off again.
	InvalidSinceLabelKey = "kubernetes.io/legacy-token-invalid-since"
)

// Legacy judges the tokens of Secrets of type kubernetes.io/service-account-token. Nothing in such a token
// ends it: it is good while the Secret that it names bears it, and the account that it names is the same.
type Legacy struct {
	Keys            []token.Key
	ServiceAccounts lister.Lister[*corev1.ServiceAccount]
	Secrets         lister.Lister[*corev1.Secret]
	Clock           clock.PassiveClock
	// Used notes on a Secret the day on which its token was used; it is called once a day and Secret. Nil: nobody does.
	Used func(ctx context.Context, secret *corev1.Secret, day string) error
}

// Authenticate says who bears data; ErrNotOurs: it is no token of a Secret.
func (l *Legacy) Authenticate(ctx context.Context, data string) (*request.User, error) {
	if issuerOf(data) != token.LegacyIssuer {
		return nil, ErrNotOurs
	}
	claims := &token.LegacyClaims{}
	if err := verifySignature(l.Keys, data, claims); err != nil {
		return nil, err
	}
	if claims.Subject == "" || claims.Subject != Username(claims.Namespace, claims.ServiceAccountName) {
		return nil, errors.New("sub claim is invalid")
	}
	secret, err := l.Secrets.Get(claims.Namespace, claims.SecretName)
	if err != nil || secret.DeletionTimestamp != nil {
		return nil, errInvalidated
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(data)) != 1 {
		return nil, errors.New("token does not match server's copy")
	}
	account, err := l.ServiceAccounts.Get(claims.Namespace, claims.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	if account.DeletionTimestamp != nil {
		return nil, fmt.Errorf("ServiceAccount %s/%s has been deleted", account.Namespace, account.Name)
	}
	if string(account.UID) != claims.ServiceAccountUID {
		return nil, fmt.Errorf("ServiceAccount UID (%s) does not match claim (%s)", account.UID, claims.ServiceAccountUID)
	}
	if secret.Labels[InvalidSinceLabelKey] != "" {
		l.noteUse(ctx, secret) // who cleans up must see that it would be missed
		return nil, fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			secret.Namespace, secret.Name, account.Namespace, account.Name, InvalidSinceLabelKey)
	}
	l.note(ctx, account, secret)
	return &request.User{
		Name: claims.Subject, UID: claims.ServiceAccountUID, Groups: Groups(claims.Namespace), Authn: "service account token of secret " + secret.Name,
	}, nil
}

// note tells those who want to be rid of such tokens that this one is in use: the client by a warning, if nobody made the Secret by hand,
// and the Secret by a label.
func (l *Legacy) note(ctx context.Context, account *corev1.ServiceAccount, secret *corev1.Secret) {
	for _, ref := range account.Secrets {
		if ref.Name == secret.Name {
			request.AddWarning(ctx, "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.")
		}
	}
	l.noteUse(ctx, secret)
}

// noteUse writes the day once. Tomorrow's may stand there already, by another apiserver's clock.
func (l *Legacy) noteUse(ctx context.Context, secret *corev1.Secret) {
	now := l.Clock.Now().UTC()
	day, noted := now.Format(time.DateOnly), secret.Labels[LastUsedLabelKey]
	if l.Used == nil || noted == day || noted == now.AddDate(0, 0, 1).Format(time.DateOnly) {
		return
	}
	// The token is good whether or not its use could be noted: the next use tries again.
	_ = l.Used(ctx, secret, day)
}
