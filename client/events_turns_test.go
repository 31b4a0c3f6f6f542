package client

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// A burst of Events goes out a few at a time, and none is lost.
func TestEventsTakeTurns(t *testing.T) {
	const burst = 10 * maxEventWrites
	var mu sync.Mutex
	underWay, most, done := 0, 0, 0
	full, goOn, all := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if underWay++; underWay == maxEventWrites && most < maxEventWrites {
			close(full)
		}
		most = max(most, underWay)
		mu.Unlock()
		<-goOn
		event, _ := io.ReadAll(r.Body)
		mu.Lock()
		underWay--
		if done++; done == burst {
			close(all)
		}
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		w.Write(event)
	}))
	defer server.Close()
	broadcaster := NewEventsBroadcaster(kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1}))
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	recorder := broadcaster.NewRecorder(scheme.Scheme, "test")
	for i := range burst {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint(i))}}
		recorder.Eventf(pod, nil, corev1.EventTypeNormal, "Scheduled", "Binding", "to a node")
	}
	for _, step := range []struct {
		what string
		came chan struct{}
		then func()
	}{{"the turns are used", full, func() { close(goOn) }}, {"every event arrives", all, func() {}}} {
		select {
		case <-step.came:
			step.then()
		case <-time.After(time.Minute):
			t.Fatalf("waited for: %s", step.what)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if most != maxEventWrites {
		t.Errorf("%d at once, want %d", most, maxEventWrites)
	}
}
