package serviceaccount

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/clock"

	"hyperkube/apiserver/lister"
)

// leeway is how far the clocks of the signer and of the verifier may be apart, and
// how long a token outlives the deletion of what it is bound to.
const leeway = time.Minute

// Claims is a service account token's body: the registered claims (RFC 7519) and
// what the token is bound to.
type Claims struct {
	jwt.RegisteredClaims
	Kubernetes Bound `json:"kubernetes.io,omitempty"`
}

// Bound names the objects a token lives and dies with. At most one of Pod, Secret is
// set by the issuer; Node goes along with Pod, or stands alone.
type Bound struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount Ref              `json:"serviceaccount,omitempty"`
	Pod            *Ref             `json:"pod,omitempty"`
	Secret         *Ref             `json:"secret,omitempty"`
	Node           *Ref             `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

// Ref is an object's name and identity. Without the uid a token would come back to
// life with the next object of the same name.
type Ref struct {
	Name string    `json:"name,omitempty"`
	UID  types.UID `json:"uid,omitempty"`
}

func refOf(o metav1.Object) *Ref { return &Ref{Name: o.GetName(), UID: o.GetUID()} }

// ClaimsFor are the claims of a new token of sa. pod, secret and node may be nil.
type ClaimsFor struct {
	ServiceAccount *corev1.ServiceAccount
	Pod            *corev1.Pod
	Secret         *corev1.Secret
	Node           *corev1.Node
	// Expiration and WarnAfter count from now; WarnAfter 0 means none.
	Expiration, WarnAfter time.Duration
	Audiences             []string
}

// New makes the claims at the time now, with a fresh id.
func (f ClaimsFor) New(now time.Time) *Claims {
	c := &Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   Username(f.ServiceAccount.Namespace, f.ServiceAccount.Name),
			Audience:  f.Audiences,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(f.Expiration)),
			ID:        string(uuid.NewUUID()),
		},
		Kubernetes: Bound{Namespace: f.ServiceAccount.Namespace, ServiceAccount: *refOf(f.ServiceAccount)},
	}
	if f.Pod != nil {
		c.Kubernetes.Pod = refOf(f.Pod)
	}
	if f.Secret != nil {
		c.Kubernetes.Secret = refOf(f.Secret)
	}
	if f.Node != nil {
		c.Kubernetes.Node = refOf(f.Node)
	}
	if f.WarnAfter != 0 {
		c.Kubernetes.WarnAfter = jwt.NewNumericDate(now.Add(f.WarnAfter))
	}
	return c
}

// Validator judges the claims of a token whose signature is good: in time, and all
// that it is bound to still there.
type Validator struct {
	ServiceAccounts lister.Lister[*corev1.ServiceAccount]
	Pods            lister.Lister[*corev1.Pod]
	Secrets         lister.Lister[*corev1.Secret]
	Nodes           lister.Lister[*corev1.Node]
	Clock           clock.PassiveClock
}

var errInvalidated = errors.New("service account token has been invalidated")

// Validate returns why c is not (or no longer) good.
func (v *Validator) Validate(c *Claims) error {
	now := v.Clock.Now()
	if c.ExpiresAt != nil && now.After(c.ExpiresAt.Add(leeway)) {
		return errors.New("service account token has expired")
	}
	if c.NotBefore != nil && now.Add(leeway).Before(c.NotBefore.Time) {
		return errors.New("service account token is not valid yet")
	}
	if c.IssuedAt != nil && now.Add(leeway).Before(c.IssuedAt.Time) {
		return errors.New("service account token is issued in the future")
	}
	b := c.Kubernetes
	sa, err := v.ServiceAccounts.Get(b.Namespace, b.ServiceAccount.Name)
	if err != nil {
		return err
	}
	if deletedLongAgo(sa, now) {
		return fmt.Errorf("service account %s/%s has been deleted", b.Namespace, b.ServiceAccount.Name)
	}
	if sa.UID != b.ServiceAccount.UID {
		return fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, b.ServiceAccount.UID)
	}
	if err := validateBound(b.Secret, "secret", now, func(name string) (metav1.Object, error) { return v.Secrets.Get(b.Namespace, name) }); err != nil {
		return err
	}
	if err := validateBound(b.Pod, "pod", now, func(name string) (metav1.Object, error) { return v.Pods.Get(b.Namespace, name) }); err != nil {
		return err
	}
	if b.Pod != nil {
		return nil // the node beside a pod is information only: the pod's own end ends the token
	}
	return validateBound(b.Node, "node", now, func(name string) (metav1.Object, error) { return v.Nodes.Get("", name) })
}

func validateBound(ref *Ref, kind string, now time.Time, get func(name string) (metav1.Object, error)) error {
	if ref == nil {
		return nil
	}
	obj, err := get(ref.Name)
	if err != nil || deletedLongAgo(obj, now) {
		return errInvalidated
	}
	if obj.GetUID() != ref.UID {
		return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)", kind, obj.GetUID(), kind, ref.UID)
	}
	return nil
}

// deletedLongAgo spares what is being deleted for the leeway, so that a pod can use
// its token while it shuts down.
func deletedLongAgo(o metav1.Object, now time.Time) bool {
	t := o.GetDeletionTimestamp()
	return t != nil && t.Add(leeway).Before(now)
}
