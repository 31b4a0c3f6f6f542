package bootstrap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	clocktesting "k8s.io/utils/clock/testing"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var (
	now         = time.Unix(100000, 0)
	conflict    = apierrors.NewConflict(corev1.Resource("x"), "x", errors.New("another UID or version"))
	notFound    = apierrors.NewNotFound(corev1.Resource("x"), "x")
	unavailable = apierrors.NewServiceUnavailable("later")
)

// token is a Secret of a bootstrap token that is good for signing, for ever unless changed.
func token(id string, changes ...func(*corev1.Secret)) *corev1.Secret {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-" + id, UID: types.UID(id)},
		Type:       corev1.SecretTypeBootstrapToken,
		Data:       map[string][]byte{"token-id": []byte(id), "token-secret": []byte("0123456789abcdef"), "usage-bootstrap-signing": []byte("true")},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// with sets one of the token's texts.
func with(key, value string) func(*corev1.Secret) {
	return func(s *corev1.Secret) { s.Data[key] = []byte(value) }
}

// expires lets the token end so much later than now.
func expires(left time.Duration) func(*corev1.Secret) {
	return with("expiration", now.Add(left).UTC().Format(time.RFC3339))
}

func deleting(s *corev1.Secret) { s.DeletionTimestamp = &metav1.Time{Time: now} }

// clientFailing answers this verb with err, if there is one.
func clientFailing(verb string, err error) *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor(verb, "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
	return client
}

func TestTokenCleaner(t *testing.T) {
	for _, test := range []struct {
		name   string
		token  *corev1.Secret
		apiErr error
		delete bool
		after  time.Duration
		err    error
	}{
		{name: "gone"},
		{name: "good for ever", token: token("aaaaaa")},
		{name: "not yet", token: token("aaaaaa", expires(time.Minute)), after: time.Minute},
		{name: "at its very end", token: token("aaaaaa", expires(0)), delete: true},
		{name: "long expired", token: token("aaaaaa", expires(-time.Hour)), delete: true},
		{name: "an end that cannot be read has passed", token: token("aaaaaa", with("expiration", "soon")), delete: true},
		{name: "expired, and being deleted", token: token("aaaaaa", expires(-time.Hour), deleting)},
		{name: "somebody deleted it", token: token("aaaaaa", expires(0)), apiErr: notFound, delete: true},
		{name: "somebody made it anew", token: token("aaaaaa", expires(0)), apiErr: conflict, delete: true},
		{name: "the API fails", token: token("aaaaaa", expires(0)), apiErr: unavailable, delete: true, err: unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := clientFailing("delete", test.apiErr)
			c := NewTokenCleaner(client, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			if test.token != nil {
				_ = c.secrets.GetIndexer().Add(test.token)
			}
			result, err := c.syncSecret(t.Context(), "kube-system/bootstrap-token-aaaaaa")
			if result != (reconcile.Result{After: test.after}) || !errors.Is(err, test.err) {
				t.Errorf("result %+v, error %v; want after %v, %v", result, err, test.after, test.err)
			}
			var got, want []string
			for _, action := range client.Actions() {
				text := action.GetVerb()
				if d, ok := action.(clienttesting.DeleteActionImpl); ok {
					text = fmt.Sprintf("delete %s/%s", d.Namespace, d.Name)
					if p := d.DeleteOptions.Preconditions; p != nil && p.UID != nil {
						text += " of UID " + string(*p.UID)
					}
				}
				got = append(got, text)
			}
			if test.delete {
				// The UID: a token of the same id that was made since has a life of its own.
				want = []string{"delete kube-system/bootstrap-token-aaaaaa of UID aaaaaa"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("writes %q, want %q", got, want)
			}
		})
	}
}

// info is kube-public/cluster-info: this kubeconfig, signatures as given ("id=value") and a foreign key.
func info(kubeconfig string, signatures ...string) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: "cluster-info"}, Data: map[string]string{"other": "kept"}}
	if kubeconfig != "" {
		cm.Data["kubeconfig"] = kubeconfig
	}
	for _, s := range signatures {
		id, value, _ := strings.Cut(s, "=")
		cm.Data["jws-kubeconfig-"+id] = value
	}
	return cm
}

// signed is what info wants: the signature of the text by the token of token(id).
func signed(text, id string) string {
	return id + "=" + computeDetachedSignature(text, id, "0123456789abcdef")
}

func TestSigner(t *testing.T) {
	a, b := token("aaaaaa"), token("bbbbbb")
	for _, test := range []struct {
		name   string
		info   *corev1.ConfigMap
		tokens []*corev1.Secret
		apiErr error
		update *corev1.ConfigMap // nil: none
		after  time.Duration
		err    error
	}{
		{name: "no cluster-info", tokens: []*corev1.Secret{a}},
		{name: "nothing to sign: old signatures are not ours to judge", info: info("", "aaaaaa=old"), tokens: []*corev1.Secret{a}},
		{name: "each token signs", info: info("k"), tokens: []*corev1.Secret{a, b}, update: info("k", signed("k", "aaaaaa"), signed("k", "bbbbbb"))},
		{name: "all signed", info: info("k", signed("k", "aaaaaa")), tokens: []*corev1.Secret{a}},
		{name: "the text has changed", info: info("new", signed("old", "aaaaaa")), tokens: []*corev1.Secret{a}, update: info("new", signed("new", "aaaaaa"))},
		{name: "a token is gone: so is its signature", info: info("k", signed("k", "aaaaaa"), signed("k", "bbbbbb")), tokens: []*corev1.Secret{b}, update: info("k", signed("k", "bbbbbb"))},
		{
			name: "those that are not good sign nothing", info: info("k"),
			tokens: []*corev1.Secret{
				token("cccccc", with("usage-bootstrap-signing", "false")), token("dddddd", expires(0)), token("eeeeee", deleting),
				token("ffffff", with("token-secret", "short")), token("gggggg", with("token-id", "aaaaaa")), token("hhhhhh", with("auth-extra-groups", "system:masters")),
			},
		},
		{name: "somebody wrote it: its event comes", info: info("k"), tokens: []*corev1.Secret{token("aaaaaa", expires(time.Hour))}, apiErr: conflict, update: info("k", signed("k", "aaaaaa")), after: time.Hour},
		{name: "somebody deleted it", info: info("k"), tokens: []*corev1.Secret{a}, apiErr: notFound, update: info("k", signed("k", "aaaaaa"))},
		{name: "the API fails", info: info("k"), tokens: []*corev1.Secret{a}, apiErr: unavailable, update: info("k", signed("k", "aaaaaa")), err: unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := clientFailing("update", test.apiErr)
			factory := informers.NewSharedInformerFactory(client, 0)
			c := NewSigner(client, factory, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
			before := test.info.DeepCopy()
			if test.info != nil {
				_ = factory.Core().V1().ConfigMaps().Informer().GetIndexer().Add(test.info)
			}
			for _, s := range test.tokens {
				_ = c.secrets.GetIndexer().Add(s)
			}
			result, err := c.signConfigMap(t.Context(), "kube-public/cluster-info")
			if result != (reconcile.Result{After: test.after}) || !errors.Is(err, test.err) {
				t.Errorf("result %+v, error %v; want after %v, %v", result, err, test.after, test.err)
			}
			if test.info != nil && !maps.Equal(test.info.Data, before.Data) {
				t.Errorf("the cached cluster-info became %v", test.info.Data)
			}
			writes := client.Actions()
			if test.update == nil {
				if len(writes) > 0 {
					t.Errorf("writes %v, want none", writes)
				}
				return
			}
			if len(writes) != 1 || !writes[0].Matches("update", "configmaps") {
				t.Fatalf("writes %v, want one update", writes)
			}
			if got := writes[0].(clienttesting.UpdateAction).GetObject().(*corev1.ConfigMap); got.Name != "cluster-info" || !maps.Equal(got.Data, test.update.Data) {
				t.Errorf("%s becomes %v, want %v", got.Name, got.Data, test.update.Data)
			}
		})
	}
}

// The signer comes back when the first of the tokens expires, in whatever order the store lists them: hence the many turns.
func TestSignerComesBack(t *testing.T) {
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	c := NewSigner(client, factory, reconcile.Options{Clock: clocktesting.NewFakeClock(now)})
	_ = factory.Core().V1().ConfigMaps().Informer().GetIndexer().Add(info("k", signed("k", "aaaaaa"), signed("k", "bbbbbb"), signed("k", "cccccc")))
	for _, s := range []*corev1.Secret{token("aaaaaa", expires(time.Hour)), token("bbbbbb", expires(time.Minute)), token("cccccc")} {
		_ = c.secrets.GetIndexer().Add(s)
	}
	for range 50 {
		result, err := c.signConfigMap(t.Context(), "kube-public/cluster-info")
		if err != nil || result != (reconcile.Result{After: time.Minute}) || len(client.Actions()) > 0 {
			t.Fatalf("result %+v, error %v, writes %v; want after a minute and no write", result, err, client.Actions())
		}
	}
}

// The signature is that of RFC 7515 with the content detached, as those who join compute it: here by openssl.
func TestDetachedSignature(t *testing.T) {
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9..tcCI8-8kUuzCuuGGEm5qYB8ZOGj5d75MLJYsDNTYQKQ"
	if got := computeDetachedSignature("k", "aaaaaa", "0123456789abcdef"); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}
