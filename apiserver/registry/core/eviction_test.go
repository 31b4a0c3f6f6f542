package core_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

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

// A pod that becomes ready in the moment of its eviction is paid for like any other: a budget
// that has nothing left is not passed by.
func TestEvictionOfPodThatBecomesReady(t *testing.T) {
	cluster, ctx := integration.Start(t), context.Background()
	core, budgets := cluster.Client.CoreV1(), cluster.Client.PolicyV1().PodDisruptionBudgets("default")
	if _, err := core.ServiceAccounts("default").Create(ctx, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	budget, err := budgets.Create(ctx, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "all"},
		Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: ptr.To(intstr.FromString("100%")), Selector: &metav1.LabelSelector{}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	budget.Status.ObservedGeneration = budget.Generation
	if _, err := budgets.UpdateStatus(ctx, budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	watcher, err := core.Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	evicted, refused := 0, 0
	for i := range 60 {
		pod := demoPod(fmt.Sprint("p", i))
		pod.Spec.NodeName = "n"
		if _, err := core.Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		var becomes sync.WaitGroup
		var readied error
		becomes.Go(func() {
			status := []byte(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`)
			_, readied = core.Pods("default").Patch(ctx, pod.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status")
		})
		err := core.Pods("default").EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: "default"}})
		becomes.Wait()
		switch {
		case err == nil:
			evicted++
		case apierrors.IsTooManyRequests(err):
			refused++
		default:
			t.Fatal(err)
		}
		if readied != nil {
			continue // it went first
		}
		isReady := false
		for event := range watcher.ResultChan() {
			now := event.Object.(*v1.Pod)
			if now.Name != pod.Name {
				continue
			}
			if now.DeletionTimestamp != nil {
				if isReady {
					t.Errorf("pod %s was ready and was evicted", pod.Name)
				}
				break
			}
			isReady = now.Status.Phase == v1.PodRunning
			if isReady && err != nil {
				break // refused
			}
		}
	}
	t.Logf("%d evicted, %d refused", evicted, refused)
}
