package namespacelifecycle

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testingclock "k8s.io/utils/clock/testing"

	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

func namespace(name string, phase corev1.NamespacePhase) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NamespaceStatus{Phase: phase}}
}

func TestAdmit(t *testing.T) {
	gr := schema.GroupResource{Resource: "namespaces"}
	// The cache is behind: it still shows "stale" alive.
	cached := lister.Slice(gr, namespace("ok", corev1.NamespaceActive), namespace("ending", corev1.NamespaceTerminating), namespace("stale", corev1.NamespaceActive))
	live := lister.Slice(gr, namespace("ok", corev1.NamespaceActive), namespace("ending", corev1.NamespaceTerminating), namespace("stale", corev1.NamespaceTerminating))
	clock := testingclock.NewFakeClock(time.Now())
	p := New(cached, live, clock)
	admit := func(op request.Operation, resource, namespace, name string) error {
		return p.Admit(t.Context(), &request.AdmissionAttributes{
			Operation: op, Resource: schema.GroupVersionResource{Version: "v1", Resource: resource}, Namespace: namespace, Name: name,
			Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"}},
		})
	}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"create":                      {admit(request.Create, "pods", "ok", "x"), ""},
		"create in nothing":           {admit(request.Create, "pods", "none", "x"), `namespaces "none" not found`},
		"update in nothing":           {admit(request.Update, "pods", "none", "x"), `namespaces "none" not found`},
		"create in a terminating one": {admit(request.Create, "pods", "ending", "x"), `pods "x" is forbidden: unable to create new content in namespace ending because it is being terminated`},
		"generated name":              {admit(request.Create, "pods", "ending", ""), `pods "web-" is forbidden: unable to create`},
		"update in a terminating one": {admit(request.Update, "pods", "ending", "x"), ""},
		"delete in a terminating one": {admit(request.Delete, "pods", "ending", "x"), ""},
		"cluster-scoped":              {admit(request.Create, "nodes", "", "x"), ""},
		"a namespace":                 {admit(request.Create, "namespaces", "new", "new"), ""},
		"delete default":              {admit(request.Delete, "namespaces", "default", "default"), `namespaces "default" is forbidden: this namespace may not be deleted`},
		"delete kube-system":          {admit(request.Delete, "namespaces", "kube-system", "kube-system"), "this namespace may not be deleted"},
		"delete kube-public":          {admit(request.Delete, "namespaces", "kube-public", "kube-public"), "this namespace may not be deleted"},
		"before a delete seen here":   {admit(request.Create, "pods", "stale", "x"), ""},
		"delete":                      {admit(request.Delete, "namespaces", "stale", "stale"), ""},
	} {
		if test.want == "" && test.err != nil || test.want != "" && (test.err == nil || !strings.Contains(test.err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", name, test.err, test.want)
		}
	}
	if err := admit(request.Create, "pods", "stale", "x"); !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		t.Errorf("the cache was believed right after a delete: %v", err)
	}
	clock.Step(liveFor + time.Second)
	if err := admit(request.Create, "pods", "stale", "x"); err != nil {
		t.Errorf("etcd is asked for ever: %v", err)
	}
}
