package serviceaccount

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// tokens is a controller over what the API has and the Secret that its cache has.
func tokens(t *testing.T, cached *corev1.Secret, stored ...runtime.Object) (*TokensController, *fake.Clientset, informers.SharedInformerFactory, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset(stored...)
	factory := informers.NewSharedInformerFactory(client, 0)
	c, err := NewTokensController(client, factory, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), []byte("PEM"), reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if cached != nil {
		_ = c.secrets.GetIndexer().Add(cached)
	}
	return c, client, factory, key
}

// asked is a Secret whose user asks for a token of the account "a".
func asked(edit func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "s", UID: "s1", Annotations: map[string]string{corev1.ServiceAccountNameKey: "a"}},
		Type:       corev1.SecretTypeServiceAccountToken, Data: map[string][]byte{"theirs": []byte("kept")},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

func filled(s *corev1.Secret) {
	s.Data = map[string][]byte{"ca.crt": []byte("PEM"), "namespace": []byte("ns"), "token": []byte("old")}
}

func TestSyncSecret(t *testing.T) {
	update, remove := []string{"update secrets"}, []string{"delete secrets"}
	ofUID := func(uid string) func(*corev1.Secret) {
		return func(s *corev1.Secret) { s.Annotations[corev1.ServiceAccountUIDKey] = uid }
	}
	otherCA := func(s *corev1.Secret) { filled(s); s.Data["ca.crt"] = []byte("old") }
	for _, test := range []struct {
		name            string
		secret          *corev1.Secret
		cached, stored  *corev1.ServiceAccount
		verb            string // the one that is refused
		refusal         error
		want            []string
		err             func(error) bool
		token, otherKey string // in the Secret at last; "new": one that we signed
	}{
		{name: "empty", secret: asked(nil), cached: account("a", nil), want: update, token: "new", otherKey: "kept"},
		{name: "filled", secret: asked(filled), cached: account("a", nil), token: "old"},
		{name: "another CA, the token stays", secret: asked(otherCA), cached: account("a", nil), want: update, token: "old"},
		{name: "account unknown to the cache", secret: asked(ofUID("u1")), stored: account("a", nil), want: update, token: "new", otherKey: "kept"},
		{name: "no such account", secret: asked(nil), stored: account("b", nil), want: remove},
		{name: "an earlier account of that name", secret: asked(ofUID("u0")), cached: account("a", nil), stored: account("a", nil), want: remove},
		{name: "account cannot be asked for", secret: asked(nil), verb: "get", refusal: apierrors.NewInternalError(errors.New("x")), err: apierrors.IsInternalError},
		{name: "being deleted", secret: asked(func(s *corev1.Secret) { s.DeletionTimestamp = &now })},
		{name: "changed meanwhile", secret: asked(nil), cached: account("a", nil), verb: "update", refusal: apierrors.NewConflict(secrets, "s", nil), want: update},
		{name: "write fails", secret: asked(nil), cached: account("a", nil), verb: "update", refusal: apierrors.NewForbidden(secrets, "s", nil), want: update, err: apierrors.IsForbidden},
		{name: "deleted meanwhile", secret: asked(nil), verb: "delete", refusal: apierrors.NewNotFound(secrets, "s"), want: remove},
		{name: "deletion fails", secret: asked(nil), verb: "delete", refusal: apierrors.NewForbidden(secrets, "s", nil), want: remove, err: apierrors.IsForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, client, factory, key := tokens(t, test.secret, test.secret.DeepCopy())
			if test.cached != nil {
				_ = factory.Core().V1().ServiceAccounts().Informer().GetIndexer().Add(test.cached)
			}
			if test.stored != nil {
				_ = client.Tracker().Add(test.stored)
			}
			refuse(client, test.verb, test.refusal)

			_, err := c.syncSecret(t.Context(), "ns/s")

			expect(t, err, test.err)
			if got := writes(client); !slices.Equal(got, test.want) {
				t.Errorf("writes %v, want %v", got, test.want)
			}
			// Only the Secret that was judged may go, not another of its name.
			for _, action := range client.Actions() {
				if gone, ok := action.(clienttesting.DeleteActionImpl); ok && (gone.DeleteOptions.Preconditions == nil || *gone.DeleteOptions.Preconditions.UID != "s1") {
					t.Errorf("deleted upon %v", gone.DeleteOptions)
				}
			}
			if test.token != "" {
				checkFilled(t, client, key, test.token, test.otherKey)
			}
		})
	}
}

// checkFilled: the three entries, what was there before, and a token that says whose it is.
func checkFilled(t *testing.T, client *fake.Clientset, key *ecdsa.PrivateKey, wanted, theirs string) {
	t.Helper()
	s, err := client.CoreV1().Secrets("ns").Get(t.Context(), "s", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Data["ca.crt"]) != "PEM" || string(s.Data["namespace"]) != "ns" || string(s.Data["theirs"]) != theirs {
		t.Errorf("data %q", s.Data)
	}
	if wanted != "new" {
		if string(s.Data["token"]) != wanted {
			t.Errorf("token %q, want %q", s.Data["token"], wanted)
		}
		return
	}
	claims := jwt.MapClaims{}
	if _, err := jwt.ParseWithClaims(string(s.Data["token"]), claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil }); err != nil {
		t.Error(err)
	}
	if claims["sub"] != "system:serviceaccount:ns:a" || claims["kubernetes.io/serviceaccount/secret.name"] != "s" || s.Annotations[corev1.ServiceAccountUIDKey] != "u1" {
		t.Errorf("claims %v, annotations %v", claims, s.Annotations)
	}
}

// The name of a Secret that is gone leaves the accounts that list it, in its namespace only; nothing else of theirs changes.
func TestRemoveReferences(t *testing.T) {
	listing := func(name, namespace string, names ...string) *corev1.ServiceAccount {
		return account(name, func(sa *corev1.ServiceAccount) {
			sa.Namespace = namespace
			for _, n := range names {
				sa.Secrets = append(sa.Secrets, corev1.ObjectReference{Name: n})
			}
		})
	}
	conflict := apierrors.NewConflict(accounts, "a", nil)
	for _, test := range []struct {
		name    string
		account *corev1.ServiceAccount
		refusal error
		left    string
		updated bool
		err     func(error) bool
	}{
		{name: "listed", account: listing("a", "ns", "s", "kept"), left: "kept", updated: true},
		{name: "not listed", account: listing("a", "ns", "kept"), left: "kept"},
		{name: "another namespace", account: listing("a", "elsewhere", "s"), left: "s"},
		{name: "account gone too", account: listing("a", "ns", "s"), refusal: apierrors.NewNotFound(accounts, "a"), left: "s", updated: true},
		{name: "conflict is tried again", account: listing("a", "ns", "s"), refusal: conflict, left: "s", updated: true, err: apierrors.IsConflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, client, factory, _ := tokens(t, nil, test.account.DeepCopy())
			_ = factory.Core().V1().ServiceAccounts().Informer().GetIndexer().Add(test.account)
			refuse(client, "update", test.refusal)

			_, err := c.syncSecret(t.Context(), "ns/s")

			expect(t, err, test.err)
			var want []string
			if test.updated {
				want = []string{"update serviceaccounts"}
			}
			if got := writes(client); !slices.Equal(got, want) {
				t.Errorf("writes %v, want %v", got, want)
			}
			stored, err := client.CoreV1().ServiceAccounts(test.account.Namespace).Get(t.Context(), "a", metav1.GetOptions{})
			if err != nil || len(stored.Secrets) != 1 || stored.Secrets[0].Name != test.left {
				t.Errorf("left %v, %v; want %s", stored, err, test.left)
			}
		})
	}
}
