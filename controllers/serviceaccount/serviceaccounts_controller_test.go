package serviceaccount

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

var (
	accounts = schema.GroupResource{Resource: "serviceaccounts"}
	secrets  = schema.GroupResource{Resource: "secrets"}
	now      = metav1.NewTime(time.Unix(100000, 0))
)

func account(name string, edit func(*corev1.ServiceAccount)) *corev1.ServiceAccount {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u1"}}
	if edit != nil {
		edit(sa)
	}
	return sa
}

// refuse answers every request of that verb with err; nil: none.
func refuse(client *fake.Clientset, verb string, err error) {
	if err != nil {
		client.PrependReactor(verb, "*", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
	}
}

// writes are the actions but for reads: "create serviceaccounts".
func writes(client *fake.Clientset) []string {
	var all []string
	for _, action := range client.Actions() {
		if action.GetVerb() != "get" {
			all = append(all, fmt.Sprint(action.GetVerb(), " ", action.GetResource().Resource))
		}
	}
	return all
}

// expect: a nil want is a turn that ends well.
func expect(t *testing.T, err error, want func(error) bool) {
	t.Helper()
	if want == nil && err != nil || want != nil && !want(err) {
		t.Errorf("error %v", err)
	}
}

func TestSyncNamespace(t *testing.T) {
	terminating := apierrors.NewForbidden(accounts, "default", nil)
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for _, test := range []struct {
		name    string
		gone    bool // the namespace
		edit    func(*corev1.Namespace)
		cached  *corev1.ServiceAccount
		refusal error
		created bool // it was tried
		err     func(error) bool
	}{
		{name: "missing", created: true},
		{name: "there", cached: account("default", nil)},
		{name: "another's is not it", cached: account("other", nil), created: true},
		{name: "another namespace's is not it", cached: account("default", func(sa *corev1.ServiceAccount) { sa.Namespace = "elsewhere" }), created: true},
		{name: "namespace gone", gone: true},
		{name: "namespace being deleted", edit: func(ns *corev1.Namespace) { ns.DeletionTimestamp = &now }},
		{name: "namespace terminating", edit: func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating }},
		{name: "terminating, unknown to the cache", refusal: terminating, created: true},
		{name: "there, unknown to the cache", refusal: apierrors.NewAlreadyExists(accounts, "default"), created: true},
		{name: "refused", refusal: apierrors.NewForbidden(accounts, "default", nil), created: true, err: apierrors.IsForbidden},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			refuse(client, "create", test.refusal)
			factory := informers.NewSharedInformerFactory(client, 0)
			c := New(client, factory, reconcile.Options{})
			if !test.gone {
				ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
				if test.edit != nil {
					test.edit(ns)
				}
				_ = factory.Core().V1().Namespaces().Informer().GetIndexer().Add(ns)
			}
			if test.cached != nil {
				_ = factory.Core().V1().ServiceAccounts().Informer().GetIndexer().Add(test.cached)
			}

			_, err := c.syncNamespace(t.Context(), "ns")

			expect(t, err, test.err)
			var want []string
			if test.created {
				want = []string{"create serviceaccounts"}
			}
			if got := writes(client); !slices.Equal(got, want) {
				t.Errorf("writes %v, want %v", got, want)
			}
			if _, err := client.CoreV1().ServiceAccounts("ns").Get(t.Context(), "default", metav1.GetOptions{}); test.created && test.refusal == nil && err != nil {
				t.Error(err)
			}
		})
	}
}

// Only the end of a default account brings its namespace back.
func TestDeletedDefault(t *testing.T) {
	ours, other := account("default", nil), account("other", nil)
	for name, test := range map[string]struct {
		e    reconcile.Event
		want []string
	}{
		"deleted": {reconcile.Event{Old: ours}, []string{"ns"}}, "another deleted": {reconcile.Event{Old: other}, nil},
		"changed": {reconcile.Event{Old: ours, New: ours}, nil}, "added": {reconcile.Event{New: ours}, nil},
	} {
		if got := deletedDefault(test.e); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
