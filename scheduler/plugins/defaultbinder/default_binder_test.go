package defaultbinder

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"hyperkube/scheduler/framework/runtime"
)

// A burst of pods waits in the scheduler, not in the apiserver's queues, which would refuse some of it; all are bound in the end, and
// one that is given up while it waits is not sent.
func TestBindingsTakeTurns(t *testing.T) {
	var mu sync.Mutex
	underWay, most, done := 0, 0, 0
	full, goOn := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if underWay++; underWay == maxBindings {
			close(full)
		}
		most = max(most, underWay)
		mu.Unlock()
		<-goOn
		mu.Lock()
		underWay--
		done++
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Success"}`))
	}))
	defer server.Close()
	set := kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1})
	plugin, err := New(t.Context(), &runtime.Framework{Options: runtime.Options{Client: set}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	bind := func(ctx context.Context, i int) error {
		pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i)}}
		return plugin.(*DefaultBinder).Bind(ctx, nil, pod, "n").AsError()
	}
	var all sync.WaitGroup
	for i := range 3 * maxBindings {
		all.Go(func() {
			if err := bind(t.Context(), i); err != nil {
				t.Errorf("pod %d: %v", i, err)
			}
		})
	}
	select {
	case <-full:
	case <-time.After(time.Minute):
		t.Fatal("the turns are not used")
	}
	// All turns are taken and nobody is answered: whoever comes now waits.
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bind(given, -1); err == nil {
		t.Error("a pod that is given up was bound")
	}
	close(goOn)
	all.Wait()
	if most != maxBindings || done != 3*maxBindings {
		t.Errorf("%d at once, %d in all; want %d and %d", most, done, maxBindings, 3*maxBindings)
	}
}
