package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// R74: a write that leadership allows goes out only while the Lease holds; reads always, and so do writes of nobody's term.
func TestWritesOfALeaderEndWithTheLease(t *testing.T) {
	arrived := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived++
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}`))
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	ObeyFences(config)
	pods := kubernetes.NewForConfigOrDie(config).CoreV1().Pods("default")

	lost := errors.New("the lease is lost")
	var held error
	ctx := WithFence(t.Context(), func() error { return held })
	create := func(ctx context.Context) error {
		_, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
		return err
	}
	if err := create(ctx); err != nil || arrived != 1 {
		t.Fatalf("while the lease holds: %v, %d requests", err, arrived)
	}
	held = lost
	if err := create(ctx); !errors.Is(err, lost) || arrived != 1 {
		t.Errorf("after: %v, %d requests", err, arrived)
	}
	if err := pods.Delete(ctx, "a", metav1.DeleteOptions{}); !errors.Is(err, lost) || arrived != 1 {
		t.Errorf("after: %v, %d requests", err, arrived)
	}
	if _, err := pods.Get(ctx, "a", metav1.GetOptions{}); err != nil || arrived != 2 {
		t.Errorf("a read: %v, %d requests", err, arrived)
	}
	if err := create(t.Context()); err != nil || arrived != 3 {
		t.Errorf("of nobody's term: %v, %d requests", err, arrived)
	}
}

// lockOf is a lock whose writes take a while, and may fail.
type lockOf struct {
	resourcelock.Interface
	took time.Duration
	err  error
}

func (l *lockOf) Describe() string { return "kube-system/x" }
func (l *lockOf) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	time.Sleep(l.took)
	return l.err
}
func (l *lockOf) Update(context.Context, resourcelock.LeaderElectionRecord) error { return l.err }

// The time counts from before the request: what the others see may be as old as that.
func TestLeaseHoldsFromBeforeItsRenewal(t *testing.T) {
	inner := &lockOf{}
	lock := &LeaseLock{Interface: inner, Duration: time.Hour}
	if lock.Held() == nil {
		t.Error("held before it was taken")
	}
	inner.err = errors.New("conflict")
	if lock.Create(t.Context(), resourcelock.LeaderElectionRecord{}) == nil || lock.Held() == nil {
		t.Error("held after a refusal")
	}
	inner.err = nil
	if err := lock.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil || lock.Held() != nil {
		t.Errorf("%v, %v", err, lock.Held())
	}
	synctest.Test(t, func(t *testing.T) { // on a clock of its own
		for took, wanted := range map[time.Duration]bool{14 * time.Second: true, 16 * time.Second: false} {
			lock := &LeaseLock{Interface: &lockOf{took: took}, Duration: 15 * time.Second}
			if err := lock.Create(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil || (lock.Held() == nil) != wanted {
				t.Errorf("a lease of 15 s whose renewal took %v: %v, %v", took, err, lock.Held())
			}
		}
	})
}
