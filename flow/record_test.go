package flow

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

var began = time.Unix(1000, 0)

// request is one that wrote: kind ns/name at a revision, n milliseconds after began.
func request(r *Record, n int, user, agent, cause string, w Write) {
	at := began.Add(time.Duration(n) * time.Millisecond)
	q := r.Begin(http.Header{"User-Agent": {agent}, CauseHeader: {cause}}, at)
	q.Verb = "update"
	q.Known(user, "")
	w.Time = at
	q.Wrote(w)
	r.End(q, 200, time.Millisecond)
}

func kind(name string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Version: "v1", Kind: name}
}

// The record never holds more than it was given, drops the oldest, and says so.
func TestRecordIsBounded(t *testing.T) {
	r := NewRecord(1 << 20)
	value := []byte(fmt.Sprintf(`{"data":%q}`, strings.Repeat("x", 10_000)))
	for i := range 1000 {
		request(r, i, "u", "kubectl/v1", "", Write{Kind: kind("ConfigMap"), Key: "ns/a", Revision: int64(i + 1), New: value})
		if s := r.Status(); s.Bytes > s.Limit {
			t.Fatalf("%d bytes after %d entries, limit %d", s.Bytes, i+1, s.Limit)
		}
	}
	s := r.Status()
	if s.Entries < 50 || int(s.Dropped)+s.Entries != 1000 {
		t.Errorf("%d kept, %d dropped, want all 1000 accounted for", s.Entries, s.Dropped)
	}
	entries := r.snapshot()
	if last := entries[len(entries)-1].(*Request); last.write.Revision != 1000 || !s.Oldest.Equal(entries[0].when()) {
		t.Errorf("last revision %d, want the newest kept in order", last.write.Revision)
	}
	story := r.Trace(Target{Kind: schema.GroupKind{Kind: "ConfigMap"}, Namespace: "ns", Name: "a"})
	if !story.Lost {
		t.Error("the story does not say that its beginning is lost")
	}
	huge := Write{Kind: kind("ConfigMap"), Key: "ns/b", Revision: 2000, New: make([]byte, 2<<20)}
	request(r, 2000, "u", "kubectl/v1", "", huge)
	if got := r.Status(); got.Bytes > got.Limit {
		t.Errorf("%d bytes after an entry larger than all, limit %d", got.Bytes, got.Limit)
	}
}

// Deliveries are bounded too, and a watch's end leaves its deliveries readable.
func TestDeliveriesAreBounded(t *testing.T) {
	r := NewRecord(1)
	w := r.Watching(&Watch{UserAgent: "kubectl/v1"})
	for i := range 3 * deliveryChunk {
		w.Sent(int64(i + 1))
		w.Flushed()
	}
	w.Ended()
	kept, dropped, open := r.watches.counts()
	if kept != deliveryChunk || dropped != 2*deliveryChunk || open != 0 {
		t.Errorf("kept %d, dropped %d, open %d", kept, dropped, open)
	}
	last := int64(3 * deliveryChunk)
	if got := r.watches.deliveries(func(revision int64) bool { return revision == last || revision == 1 }); len(got) != 1 || len(got[last]) != 1 {
		t.Errorf("%v, want the last revision only", got)
	}
}

// A record that is off costs nothing and breaks nothing.
func TestNilRecord(t *testing.T) {
	r := NewRecord(-1)
	q := r.Begin(http.Header{}, began)
	q.Known("u", "")
	q.Allowed("")
	q.Admitted(Admission{})
	q.Judged(nil, 0, 0, 0)
	q.Wrote(Write{})
	r.End(q, 200, 0)
	w := r.Watching(&Watch{})
	w.Sent(1)
	w.Flushed()
	w.Ended()
	r.Internal(Write{})
	r.Effect(Effect{})
	if r != nil || len(r.Open()) != 0 || len(r.Trace(Target{}).Roots) != 0 {
		t.Error("a record that is off remembers")
	}
}

// Steps hang under the newest cause, and the link says how that is known.
func TestTraceLinks(t *testing.T) {
	r := NewRecord(0)
	const kcm, controllers = "controller-manager/hyperkube (linux)", "system:kube-controller-manager"
	request(r, 0, "admin", "kubectl/v1.37", "", Write{Kind: kind("A"), Key: "ns/a", Revision: 10, New: []byte(`{}`)})
	request(r, 1, "admin", "kubectl/v1.37", "", Write{Kind: kind("A"), Key: "ns/unrelated", Revision: 11, New: []byte(`{}`)})
	request(r, 2, controllers, kcm, "ADDED A ns/a@10, ADDED A ns/unrelated@9", Write{Kind: kind("B"), Key: "ns/b", Revision: 12, New: []byte(`{}`)})
	// The revision is another object's: it is not believed.
	request(r, 3, controllers, kcm, "ADDED A ns/a@11", Write{Kind: kind("B"), Key: "ns/lie", Revision: 13, New: []byte(`{}`)})
	// Anybody may claim.
	request(r, 4, "somebody", "curl/8", "MODIFIED B ns/b@12", Write{Kind: kind("C"), Key: "ns/c", Revision: 14, New: []byte(`{}`)})
	// A listener without headers that was told of b, and writes what b owns.
	w := r.Watching(&Watch{UserAgent: "upstream/v1", User: "system:upstream", Resource: "bs"})
	w.Sent(12)
	w.Flushed()
	at := int(time.Since(began).Milliseconds()) + 1000
	owned := []byte(`{"metadata":{"namespace":"ns","ownerReferences":[{"kind":"B","name":"b","controller":true}]}}`)
	request(r, at, "system:upstream", "upstream/v1", "", Write{Kind: kind("D"), Key: "ns/d", Revision: 15, New: owned})
	r.Effect(Effect{Time: began.Add(5 * time.Millisecond), Component: "kubelet", What: "CRI", Cause: "MODIFIED B ns/b@12"})

	story := r.Trace(Target{Kind: schema.GroupKind{Kind: "A"}, Namespace: "ns", Name: "a"})
	var got []string
	for _, n := range story.Flat() {
		got = append(got, fmt.Sprint(n.Component, " ", n.What, " ", n.Object, " ", n.Link))
	}
	want := []string{"kubectl update A ns/a ", "controller-manager update B ns/b observed", "curl update C ns/c claimed",
		"kubelet CRI  observed", "upstream update D ns/d inferred"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Asked about c, the story begins where c's began, without b's other consequences.
	story = r.Trace(Target{Kind: schema.GroupKind{Kind: "C"}, Namespace: "ns", Name: "c"})
	if all := story.Flat(); len(all) != 3 || all[0].Object != "A ns/a" || all[2].Object != "C ns/c" {
		t.Errorf("%d steps in the story of c, want a, b, c", len(all))
	}
}

// A loop that wakes for two reasons, another's change and the echo of its own write, acts on the other's, though the echo
// may be newer.
func TestOwnEchoIsTheLesserCause(t *testing.T) {
	r := NewRecord(0)
	const kcm, user = "controller-manager/hyperkube (linux)", "system:kube-controller-manager"
	request(r, 0, "system:node:n1", "kubelet-n1/hyperkube (linux)", "", Write{Kind: kind("Pod"), Key: "ns/p", Revision: 10, New: []byte(`{}`)})
	request(r, 1, user, kcm, "", Write{Kind: kind("EndpointSlice"), Key: "ns/s", Revision: 11, New: []byte(`{}`)})
	request(r, 2, user, kcm, "MODIFIED Pod ns/p@10, MODIFIED EndpointSlice ns/s@11", Write{Kind: kind("EndpointSlice"), Key: "ns/s", Revision: 12, New: []byte(`{}`)})
	story := r.Trace(Target{Kind: schema.GroupKind{Kind: "Pod"}, Namespace: "ns", Name: "p"})
	if all := story.Flat(); len(all) != 2 || all[1].Revision != 12 {
		t.Errorf("%d steps in the pod's story, want its own and the slice's second write", len(all))
	}
}

// What was done for several changes at once is part of the story of each of them.
func TestEffectOfSeveralCauses(t *testing.T) {
	r := NewRecord(0)
	request(r, 0, "admin", "kubectl/v1.37", "", Write{Kind: kind("Service"), Key: "ns/a", Revision: 10, New: []byte(`{}`)})
	request(r, 1, "admin", "kubectl/v1.37", "", Write{Kind: kind("EndpointSlice"), Key: "ns/a-1", Revision: 11, New: []byte(`{}`)})
	r.Effect(Effect{Time: began.Add(2 * time.Millisecond), Component: "proxy", What: "iptables-restore", Kind: "EndpointSlice", Namespace: "ns", Name: "a-1",
		Cause: "ADDED Service ns/a@10, ADDED EndpointSlice ns/a-1@11"})
	for of, name := range map[string]string{"Service": "a", "EndpointSlice": "a-1"} {
		story := r.Trace(Target{Kind: schema.GroupKind{Kind: of}, Namespace: "ns", Name: name})
		all := story.Flat()
		if len(story.Roots) != 1 || len(all) != 2 || all[0].Object != of+" ns/"+name || all[1].What != "iptables-restore" {
			t.Errorf("the story of the %s: %d roots, %d steps, want its write and the rules", of, len(story.Roots), len(all))
		}
	}
}

// A diff names what changed and nothing else; a Secret's data is nowhere in it.
func TestDiff(t *testing.T) {
	for name, test := range map[string]struct {
		kind, before, after string
		want                []string
	}{
		"a field": {"Deployment", `{"spec":{"replicas":1},"metadata":{"managedFields":[1]}}`, `{"spec":{"replicas":3},"metadata":{"managedFields":[2]}}`,
			[]string{"spec.replicas: 1 → 3"}},
		"items are paired by name": {"Pod", `{"c":[{"name":"a","x":1},{"name":"b","x":1}]}`, `{"c":[{"name":"b","x":2},{"name":"a","x":1}]}`,
			[]string{"c[b].x: 1 → 2"}},
		"conditions that appear": {"Pod", `{"status":{}}`, `{"status":{"conditions":[{"type":"Ready","status":"False","message":"long"}]}}`,
			[]string{`status.conditions[Ready]: none → "False"`}},
		"a secret's data": {"Secret", `{"data":{"p":"aaaa"},"type":"t"}`, `{"data":{"p":"bbbb","q":"cccc"},"type":"t"}`,
			[]string{"data.p: (redacted) → (redacted)", "data.q: none → (redacted)"}},
		"a secret's first data": {"Secret", `{"metadata":{"name":"x"}}`, `{"data":{"p":"bbbb"},"metadata":{"name":"x"}}`,
			[]string{"data: none → (redacted)"}},
		"a secret in kubectl's annotation": {"Secret", `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"aaaa"}}}`,
			`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"bbbb"}}}`,
			[]string{"metadata.annotations.[kubectl.kubernetes.io/last-applied-configuration]: (redacted) → (redacted)"}},
		"a secret's label": {"Secret", `{"metadata":{"labels":{"a":"1"}}}`, `{"metadata":{"labels":{"a":"2"}}}`, []string{`metadata.labels.a: "1" → "2"`}},
	} {
		w := Write{Kind: kind(test.kind), Old: []byte(test.before), New: []byte(test.after)}
		if got := w.diff(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// BenchmarkRequest is all that the record does for one create.
func BenchmarkRequest(b *testing.B) {
	header := http.Header{"User-Agent": {"kubectl/v1.37.2"}}
	w, plugins, body := Write{Kind: kind("Pod"), Key: "default/a", Prefix: "/registry/pods/", New: make([]byte, 2000)}, make([]Plugin, 18), make([]byte, 300)
	r := NewRecord(0)
	b.ReportAllocs()
	for b.Loop() {
		q := r.Begin(header, time.Now())
		q.Known("kubernetes-admin", "client certificate")
		q.Allowed("member of system:masters")
		q.Came("application/json", body, nil)
		began := time.Now()
		q.Admitted(Admission{Plugins: plugins, Asked: 7, Took: time.Since(began)})
		q.Judged(plugins, 7, 0, time.Since(time.Now()))
		w.Time = time.Now()
		q.Wrote(w)
		r.End(q, 201, time.Since(q.Start))
	}
}
