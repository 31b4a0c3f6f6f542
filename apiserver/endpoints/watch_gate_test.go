package endpoints

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/storage"
	"hyperkube/flow"
)

// A list of a client that is held is one of the state where it stands, or is refused.
func TestStandingAt(t *testing.T) {
	const exact, notOlder = metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan
	for name, test := range map[string]struct {
		opts    storage.ListOptions
		version string
		match   metav1.ResourceVersionMatch
		future  bool
	}{
		"newest":                  {storage.ListOptions{}, "10", exact, false},
		"any":                     {storage.ListOptions{ResourceVersion: "0"}, "10", exact, false},
		"any, by name":            {storage.ListOptions{ResourceVersion: "0", ResourceVersionMatch: notOlder}, "10", exact, false},
		"not older than 9":        {storage.ListOptions{ResourceVersion: "9"}, "10", exact, false},
		"not older than 11":       {storage.ListOptions{ResourceVersion: "11"}, "", "", true},
		"exactly 9":               {storage.ListOptions{ResourceVersion: "9", ResourceVersionMatch: exact}, "9", exact, false},
		"exactly 11":              {storage.ListOptions{ResourceVersion: "11", ResourceVersionMatch: exact}, "", "", true},
		"a page from 9":           {storage.ListOptions{ResourceVersion: "9", Limit: 5}, "9", "", false},
		"a page of the newest":    {storage.ListOptions{Limit: 5}, "10", exact, false},
		"what the store refuses":  {storage.ListOptions{ResourceVersion: "x"}, "x", "", false},
		"that too":                {storage.ListOptions{ResourceVersionMatch: notOlder}, "", notOlder, false},
		"exactly 0, refused, too": {storage.ListOptions{ResourceVersion: "0", ResourceVersionMatch: exact}, "0", exact, false},
	} {
		got, err := standingAt(10, test.opts)
		if (err != nil) != test.future || err == nil && (got.ResourceVersion != test.version || got.ResourceVersionMatch != test.match) {
			t.Errorf("%s: %q %q, %v; want %q %q, refused %v", name, got.ResourceVersion, got.ResourceVersionMatch, err, test.version, test.match, test.future)
		}
	}
}

// fakeWatcher is a watch whose events a test sends.
type fakeWatcher struct {
	events  chan storage.Event
	stopped bool
}

func (w *fakeWatcher) Events() <-chan storage.Event { return w.events }
func (w *fakeWatcher) Stop()                        { w.stopped = true }

// heldStream is the stream of a watch of pods by the scheduler, which stands at revision 10.
func heldStream(t *testing.T, limit int) (*eventStream, *flow.Gates, *httptest.ResponseRecorder) {
	t.Helper()
	gates := flow.NewRecord(0).Gates()
	gates.MaxWaiting = limit
	gates.Attach(func(context.Context) (int64, error) { return 10, nil }, func(string) bool { return true })
	if _, err := gates.Close(t.Context(), flow.GateName{Component: "scheduler"}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	scope := &Scope{Resource: &registry.Resource{Kind: corev1.SchemeGroupVersion.WithKind("Pod"), Name: "pods"}, Gates: gates}
	return &eventStream{scope: scope, form: form{media: mediaJSON}, w: w, flusher: http.NewResponseController(w),
		client: flow.Client{User: "system:kube-scheduler", Resource: "pods"}}, gates, w
}

func added(revision int64) storage.Event {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprintf("p%d", revision), ResourceVersion: fmt.Sprint(revision)}}
	return storage.Event{Type: watch.Added, Object: storage.NewObject("a/"+pod.Name, pod), ResourceVersion: revision}
}

// expectSent checks which pods were sent, in order, and how the stream ended.
func expectSent(t *testing.T, sent string, pods ...string) {
	t.Helper()
	at := 0
	for _, pod := range pods {
		i := strings.Index(sent[at:], pod)
		if i < 0 {
			t.Fatalf("%s is missing, or out of order, in %s", pod, sent)
		}
		at += i
	}
	if n := strings.Count(sent, `"type":`); n != len(pods) {
		t.Errorf("%d events were sent, want %d: %s", n, len(pods), sent)
	}
}

// A gate that is full ends the watch with 410, after what it holds has been let through:
// then the client lists anew where it stands. The store's watch is let go at once.
func TestFullGateEndsTheWatch(t *testing.T) {
	e, gates, w := heldStream(t, 2)
	watcher := &fakeWatcher{events: make(chan storage.Event, 4)}
	for _, revision := range []int64{9, 11, 12, 13} {
		watcher.events <- added(revision)
	}
	done := make(chan struct{})
	go func() { defer close(done); e.copy(t.Context(), watcher) }()
	for _, want := range []int64{11, 12} {
		passed, note, err := gates.One(t.Context(), flow.GateName{Component: "scheduler"}, 1<<40)
		if err != nil || passed == nil || passed.Revision != want {
			t.Fatalf("passed %v, %q, %v; want %d", passed, note, err, want)
		}
	}
	<-done
	expectSent(t, w.Body.String(), `"p9"`, `"p11"`, `"p12"`, `"code":410`)
	if !watcher.stopped || !e.expired {
		t.Errorf("stopped %v, expired %v", watcher.stopped, e.expired)
	}
}

// Until the initial events have ended nothing is held: the client would not begin to
// work. Once the gate is open the watch goes on as any other.
func TestGateHoldsAfterTheInitialEvents(t *testing.T) {
	e, gates, w := heldStream(t, 0)
	e.initial = true
	watcher := &fakeWatcher{events: make(chan storage.Event)}
	done := make(chan struct{})
	go func() { defer close(done); e.copy(t.Context(), watcher) }()
	watcher.events <- added(11)
	watcher.events <- storage.Event{Type: watch.Bookmark, ResourceVersion: 11, InitialEventsEnd: true}
	watcher.events <- storage.Event{Type: watch.Bookmark, ResourceVersion: 20}
	watcher.events <- added(21)
	watcher.events <- storage.Event{Type: watch.Bookmark, ResourceVersion: 22}
	watcher.events <- added(23) // that it was taken says that what came before has arrived at the gate
	if gate := gates.Status()[0]; gate.Held == 0 || gate.Next.Name != "p21" {
		t.Errorf("%d are held, next %v; want p21", gate.Held, gate.Next)
	}
	if _, err := gates.Continue(flow.GateName{}); err != nil {
		t.Fatal(err)
	}
	watcher.events <- added(24)
	close(watcher.events)
	<-done
	sent := w.Body.String()
	if strings.Contains(sent, `"resourceVersion":"20"`) || strings.Contains(sent, `"resourceVersion":"22"`) {
		t.Errorf("a bookmark has passed what was held: %s", sent)
	}
	for _, pod := range []string{`"p11"`, `"k8s.io/initial-events-end"`, `"p21"`, `"p23"`, `"p24"`} {
		if !strings.Contains(sent, pod) {
			t.Errorf("%s is missing in %s", pod, sent)
		}
	}
}
