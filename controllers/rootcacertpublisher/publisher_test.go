package rootcacertpublisher

import (
	"reflect"
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

var resource = schema.GroupResource{Resource: "configmaps"}

// published is what every namespace is to have; edit makes it differ.
func published(edit func(*corev1.ConfigMap)) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "kube-root-ca.crt", Annotations: map[string]string{"kubernetes.io/description": "anything"}},
		Data:       map[string]string{"ca.crt": "PEM"},
	}
	edit(cm)
	return cm
}

// terminating is what the apiserver says of a creation in a namespace that goes.
func terminating() error {
	err := apierrors.NewForbidden(resource, "kube-root-ca.crt", nil)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	return err
}

func TestSyncNamespace(t *testing.T) {
	unchanged := func(*corev1.ConfigMap) {}
	now := metav1.NewTime(time.Unix(100000, 0))
	for _, test := range []struct {
		name     string
		gone     bool // the namespace
		edit     func(*corev1.Namespace)
		cached   *corev1.ConfigMap
		refusal  error // of each write
		verbs    []string
		reported func(error) bool // nil: the turn ends well
	}{
		{name: "missing", verbs: []string{"create"}},
		{name: "there", cached: published(unchanged)},
		{name: "another name", cached: published(func(cm *corev1.ConfigMap) { cm.Name = "other" }), verbs: []string{"create"}},
		{name: "changed", cached: published(func(cm *corev1.ConfigMap) { cm.Data["ca.crt"] = "theirs" }), verbs: []string{"update"}},
		{name: "one key too many", cached: published(func(cm *corev1.ConfigMap) { cm.Data["more"] = "x" }), verbs: []string{"update"}},
		{name: "not described", cached: published(func(cm *corev1.ConfigMap) { cm.Annotations = map[string]string{"theirs": "kept"} }), verbs: []string{"update"}},
		{name: "namespace gone", gone: true},
		{name: "namespace being deleted", edit: func(ns *corev1.Namespace) { ns.DeletionTimestamp = &now }},
		{name: "namespace terminating", edit: func(ns *corev1.Namespace) { ns.Status.Phase = corev1.NamespaceTerminating }},
		{name: "terminating, unknown to the cache", refusal: terminating(), verbs: []string{"create"}},
		// What somebody else created is not ours yet: the next turn checks its content.
		{name: "created by another", refusal: apierrors.NewAlreadyExists(resource, "kube-root-ca.crt"), verbs: []string{"create"}, reported: apierrors.IsAlreadyExists},
		{name: "conflict", cached: published(func(cm *corev1.ConfigMap) { cm.Data = nil }), refusal: apierrors.NewConflict(resource, "kube-root-ca.crt", nil), verbs: []string{"update"}, reported: apierrors.IsConflict},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := fake.NewClientset()
			factory := informers.NewSharedInformerFactory(client, 0)
			c := New(client, factory, []byte("PEM"), reconcile.Options{})
			if !test.gone {
				ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}
				if test.edit != nil {
					test.edit(ns)
				}
				_ = factory.Core().V1().Namespaces().Informer().GetIndexer().Add(ns)
			}
			before := test.cached.DeepCopy()
			if test.cached != nil {
				_ = factory.Core().V1().ConfigMaps().Informer().GetIndexer().Add(test.cached)
				_ = client.Tracker().Add(before)
			}
			if test.refusal != nil {
				client.PrependReactor("*", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.refusal })
			}

			result, err := c.syncNamespace(t.Context(), "ns")

			if result != reconcile.Done || test.reported == nil && err != nil || test.reported != nil && !test.reported(err) {
				t.Errorf("result %v, error %v", result, err)
			}
			var verbs []string
			for _, action := range client.Actions() {
				verbs = append(verbs, action.GetVerb())
			}
			if !slices.Equal(verbs, test.verbs) {
				t.Errorf("writes %v, want %v", verbs, test.verbs)
			}
			if len(test.verbs) > 0 && test.refusal == nil {
				checkPublished(t, client, test.cached)
			}
			if !reflect.DeepEqual(test.cached, before) {
				t.Error("the cache's object was changed")
			}
		})
	}
}

// checkPublished: the certificate and nothing else, described, with the annotations that were there kept.
func checkPublished(t *testing.T, client *fake.Clientset, was *corev1.ConfigMap) {
	t.Helper()
	cm, err := client.CoreV1().ConfigMaps("ns").Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cm.Data) != 1 || cm.Data["ca.crt"] != "PEM" || cm.Annotations["kubernetes.io/description"] == "" {
		t.Errorf("published %v, annotations %v", cm.Data, cm.Annotations)
	}
	if was != nil && was.Annotations["theirs"] != cm.Annotations["theirs"] {
		t.Errorf("annotations %v, before %v", cm.Annotations, was.Annotations)
	}
}
