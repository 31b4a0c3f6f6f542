package flow

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// follow returns the arrows of a record as a reader gets them who stops after n.
func follow(t *testing.T, r *Record, from Place, n int) []Arrow {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []Arrow
	if err := r.Follow(ctx, from, func(arrows []Arrow) error {
		if all = append(all, arrows...); len(all) >= n {
			cancel()
		}
		return nil
	}); err != nil || len(all) < n {
		t.Fatalf("%d arrows, want %d: %v", len(all), n, err)
	}
	return all
}

// Writes, refusals, effects and deliveries are arrows, reads are not; each names its entry, and
// the last says where to go on.
func TestStream(t *testing.T) {
	r := NewRecord(1 << 20)
	read := r.Begin(http.Header{}, began)
	read.Verb = "list"
	r.End(read, 200, 0)
	request(r, 1, "system:kube-controller-manager", "controller-manager/hyperkube", "ADDED Deployment ns/web@7", Write{Kind: kind("Pod"), Key: "ns/a", Revision: 9})
	refused := r.Begin(http.Header{"User-Agent": {"kubectl/v1"}}, began)
	refused.Verb, refused.Resource, refused.Namespace, refused.Name = "delete", "pods", "ns", "b"
	r.End(refused, 403, 0)
	r.Effect(Effect{Time: began, Component: "proxy", What: "iptables-restore", Source: "proxy/proxy.go:1 Proxy.sync"})
	w := r.Watching(&Watch{UserAgent: "scheduler/hyperkube", Resource: "pods"})
	w.Sent(9)
	w.Flushed()
	var got []string
	arrows := follow(t, r, Place{}, 4)
	for _, a := range arrows {
		line := fmt.Sprintf("%s %s %s %s %s %d", a.Kind, a.ID, a.From, a.What, a.Object, a.Revision)
		for _, told := range a.To {
			line += " to " + told.Component
		}
		got = append(got, line)
	}
	want := []string{"write 1.0 controller-manager update Pod ns/a 9", "refused 2.0 kubectl delete pods ns/b 0",
		"effect 3.0 proxy iptables-restore  0", "delivery     9 to scheduler"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if arrows[0].Link != Observed || arrows[2].Source.Line != 1 {
		t.Errorf("link %q, source %v", arrows[0].Link, arrows[2].Source)
	}
	next, err := ParsePlace(arrows[3].Next)
	if err != nil || next != r.Now() {
		t.Errorf("next %v (%v), want %v", next, err, r.Now())
	}
	for _, bad := range []string{"x", "-1,0", "1"} {
		if _, err := ParsePlace(bad); err == nil {
			t.Errorf("%q is taken for a place", bad)
		}
	}
}

// A reader that waits is woken by what comes; one that is too slow learns how many entries it has missed.
func TestStreamWakesAndMisses(t *testing.T) {
	r := NewRecord(16 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan Arrow, 1)
	go r.Follow(ctx, r.Now(), func(arrows []Arrow) error { got <- arrows[0]; return nil })
	for r.changed.waiting.Load() == nil {
		runtime.Gosched() // until it listens
	}
	request(r, 1, "u", "kubectl/v1", "", Write{Kind: kind("Pod"), Key: "ns/a", Revision: 1})
	if a := <-got; a.Object != "Pod ns/a" {
		t.Errorf("woken with %+v", a)
	}
	cancel()
	for i := range 3 * maxTurn {
		request(r, i, "u", "kubectl/v1", "", Write{Kind: kind("Pod"), Key: "ns/a", Revision: int64(i + 2)})
	}
	if a := follow(t, r, Place{entries: 1}, 2); a[0].Kind != ArrowMissed || int(a[0].Missed) != 2*maxTurn {
		t.Errorf("%+v, want %d missed", a[0], 2*maxTurn)
	}
	// A place of an earlier life of the apiserver is no place in this one.
	if a := follow(t, r, Place{entries: 1 << 40}, 1); a[0].Kind != ArrowMissed {
		t.Errorf("%+v, want to be told that it begins anew", a[0])
	}
}

// While nobody follows, the stream costs a write no allocation.
func TestStreamCostsNothingUnread(t *testing.T) {
	r := NewRecord(1 << 20)
	if n := testing.AllocsPerRun(100, r.changed.ring); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An entry tells all that an object was made with, but of a Secret no value; and what caused it.
func TestEntry(t *testing.T) {
	r := NewRecord(1 << 20)
	request(r, 1, "admin", "kubectl/v1", "", Write{Kind: kind("Deployment"), Key: "ns/web", Revision: 7, New: []byte(`{"spec":{"replicas":3}}`)})
	request(r, 2, "system:kube-controller-manager", "cm/v1", "ADDED Deployment ns/web@7", Write{Kind: kind("Pod"), Key: "ns/a", Revision: 9, New: []byte(`{"spec":{"nodeName":"n"}}`)})
	request(r, 3, "admin", "kubectl/v1", "", Write{Kind: kind("Secret"), Key: "ns/s", Revision: 10,
		New: []byte(`{"data":{"password":"Y2FuYXJ5"},"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"Y2FuYXJ5"}}}`)})
	pod, found := r.Entry("1.0")
	if !found || strings.Join(pod.Fields, ";") != `spec.nodeName: "n"` || len(pod.Chain) != 1 || pod.Chain[0].Object != "Deployment ns/web" {
		t.Errorf("%v %+v", found, pod)
	}
	if cause, _ := r.Entry("0.0"); len(cause.Node.Children) != 1 {
		t.Errorf("the Deployment caused %d, want the pod", len(cause.Node.Children))
	}
	secret, _ := r.Entry("2.0")
	if text := strings.Join(secret.Fields, ";"); strings.Contains(text, "Y2Fu") || !strings.Contains(text, "data.password: (redacted)") {
		t.Errorf("a Secret is shown as %s", text)
	}
	for _, id := range []string{"", "9.0", "0.7", "-1.0", "x"} {
		if _, found := r.Entry(id); found {
			t.Errorf("there is an entry %q", id)
		}
	}
}
