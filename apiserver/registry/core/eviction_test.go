package core_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"hyperkube/apiserver/request"
	"hyperkube/test/integration"
)

// listening notes what admission is asked about pods.
type listening struct {
	request.Admission
	mu    sync.Mutex
	asked []string
}

func (l *listening) Admit(ctx context.Context, a *request.AdmissionAttributes) error {
	if a.Resource.Resource == "pods" {
		l.mu.Lock()
		l.asked = append(l.asked, string(a.Operation)+" "+a.Subresource)
		l.mu.Unlock()
	}
	return l.Admission.Admit(ctx, a)
}

// An eviction is admitted as one, and not a second time as the deletion that comes of it.
func TestEvictionIsAdmittedOnce(t *testing.T) {
	cluster, ctx := integration.Start(t), context.Background()
	core := cluster.Client.CoreV1()
	if _, err := core.ServiceAccounts("default").Create(ctx, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := core.Pods("default").Create(ctx, demoPod("web"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	env := cluster.Server.Env()
	ear := &listening{Admission: env.Admission}
	env.Admission = ear
	if err := core.Pods("default").EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"CREATE eviction"}; !slices.Equal(ear.asked, want) {
		t.Errorf("admission was asked about %q, want %q", ear.asked, want)
	}
}
