package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestEncodedOnceAnID(t *testing.T) {
	o := NewObject("a/x", newPod("a", "x", nil))
	calls := 0
	encode := func() ([]byte, error) { calls++; return []byte(fmt.Sprint(calls)), nil }
	if _, err := o.Encoded("a", func() ([]byte, error) { return nil, errors.New("no") }); err == nil {
		t.Error("an error was lost")
	}
	for _, want := range []struct{ id, data string }{{"a", "1"}, {"b", "2"}, {"a", "1"}, {"b", "2"}} {
		if got, err := o.Encoded(want.id, encode); err != nil || string(got) != want.data {
			t.Errorf("%s gave %s, %v; want %s", want.id, got, err, want.data)
		}
	}
}

// The JSON made from the stored bytes says what encoding the object would.
func TestAppendJSONIsTheObject(t *testing.T) {
	f := newFixture(t)
	created := f.create("a/x", "<one>")
	deleted := f.delete("a/x")
	bare := NewObject("a/y", &v1.Pod{})
	for name, o := range map[string]*Object{"stored": created, "deleted": deleted, "not stored": bare} {
		t.Run(name, func(t *testing.T) {
			item, err := o.AppendJSON([]byte("before"), false)
			if err != nil {
				t.Fatal(err)
			}
			var got v1.Pod
			if err := json.Unmarshal(bytes.TrimPrefix(item, []byte("before")), &got); err != nil {
				t.Fatal(err)
			}
			wantJSON, _ := json.Marshal(o.Object)
			gotJSON, _ := json.Marshal(&got)
			if !bytes.Equal(gotJSON, wantJSON) {
				t.Errorf("got %s, want %s", gotJSON, wantJSON)
			}
			if o.value == nil {
				return
			}
			whole, err := o.AppendJSON(nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(whole, &got); err != nil || got.Kind != "Pod" || got.APIVersion != "v1" {
				t.Errorf("with its kind: %s, %v", whole, err)
			}
		})
	}
}

// What a writer gave is kept as another process would read it: a time without its nanoseconds, an empty list as none.
// Otherwise the same time, sent back by a client, would differ from the one that is kept. What the writer does with its
// object afterwards is nobody else's.
func TestWrittenIsWhatIsRead(t *testing.T) {
	f := newFixture(t)
	now := metav1.NewTime(time.Date(2026, 7, 1, 12, 0, 0, 123_456_789, time.Local))
	pod := newPod("a", "x", map[string]string{"app": "one"})
	pod.CreationTimestamp, pod.Status.StartTime = now, &now
	pod.Spec.Tolerations, pod.Annotations = []v1.Toleration{}, map[string]string{}
	pod.Spec.Containers = []v1.Container{{Name: "c", Resources: v1.ResourceRequirements{Requests: v1.ResourceList{"cpu": quantity.MustParse("0.5")}}}}
	created, err := f.pods.Create(f.ctx, "a/x", pod, 0)
	if err != nil {
		t.Fatal(err)
	}
	pod.Labels["app"], pod.Spec.Containers[0].Name = "changed", "changed"
	kept := created.Object.(*v1.Pod)
	read, err := f.pods.decode(created.Stored(), created.ResourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	if !equality.Semantic.DeepEqual(kept, read) {
		t.Errorf("kept %+v\nread %+v", kept, read)
	}
	if kept.Status.StartTime.Nanosecond() != 0 || kept.Spec.Tolerations != nil || kept.Annotations != nil {
		t.Errorf("kept as it was given: %v, %v, %v", kept.Status.StartTime, kept.Spec.Tolerations, kept.Annotations)
	}
	if again, err := f.pods.encodeJSON(kept); err != nil || !bytes.Equal(again, created.Stored()) {
		t.Errorf("encoded again it is\n%s, not\n%s (%v)", again, created.Stored(), err)
	}
}

// Serving an object of our own costs no encoding: its bytes go out as they came.
func TestAppendJSONDoesNotEncode(t *testing.T) {
	f := newFixture(t)
	o := f.create("a/x", "one")
	buffer := make([]byte, 0, 4096)
	allocs := testing.AllocsPerRun(100, func() { buffer, _ = o.AppendJSON(buffer[:0], true) })
	if allocs > 0 {
		t.Errorf("%v allocations", allocs)
	}
	if len(o.encodings) > 0 {
		t.Error("an encoding was kept beside the stored bytes")
	}
}

// Upstream's codes and reasons: clients decide by them.
func TestStatusError(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	for name, test := range map[string]struct {
		err    error
		code   int32
		reason string
	}{
		"exists":    {fmt.Errorf("x: %w", ErrExists), http.StatusConflict, "AlreadyExists"},
		"not found": {fmt.Errorf("x: %w", ErrNotFound), http.StatusNotFound, "NotFound"},
		"conflict":  {fmt.Errorf("x: %w", ErrConflict), http.StatusConflict, "Conflict"},
		"too old":   {fmt.Errorf("x: %w", ErrTooOld), http.StatusGone, "Expired"},
		"continue":  {&CompactedContinueError{Continue: "next"}, http.StatusGone, "Expired"},
		"future":    {&FutureRevisionError{9, 5}, http.StatusGatewayTimeout, "Timeout"},
		"options":   {fmt.Errorf("x: %w", ErrInvalidOptions), http.StatusBadRequest, "BadRequest"},
		"not ready": {fmt.Errorf("x: %w", ErrNotReady), http.StatusTooManyRequests, "TooManyRequests"},
	} {
		t.Run(name, func(t *testing.T) {
			var status apierrors.APIStatus
			if err := StatusError(test.err, pods, "x"); !errors.As(err, &status) || status.Status().Code != test.code || string(status.Status().Reason) != test.reason {
				t.Errorf("got %#v", err)
			}
		})
	}
	var status apierrors.APIStatus
	errors.As(StatusError(&CompactedContinueError{Continue: "next"}, pods, ""), &status)
	if status.Status().Continue != "next" {
		t.Error("the token to go on with is lost")
	}
	if !apierrors.IsTooManyRequests(StatusError(ErrNotReady, pods, "")) || !apierrors.HasStatusCause(StatusError(&FutureRevisionError{}, pods, ""), "ResourceVersionTooLarge") {
		t.Error("client-go does not recognize it")
	}
}

// An object that etcd refuses for its size is the client's fault.
func TestTooLargeObjects(t *testing.T) {
	f := newFixture(t)
	for _, size := range []int{1_600_000, 2_500_000} {
		pod := newPod("a", "x", map[string]string{})
		pod.Annotations = map[string]string{"large": strings.Repeat("x", size)}
		_, err := f.pods.Create(f.ctx, "a/x", pod, 0)
		if err = StatusError(err, schema.GroupResource{Resource: "pods"}, "x"); !apierrors.IsRequestEntityTooLargeError(err) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// The same bytes written twice at the same time must not swap their revisions.
func TestWritesOfTheSameBytes(t *testing.T) {
	var w writes
	data := []byte("same")
	first, second := w.begin("k", data, nil), w.begin("k", data, nil)
	// The watch sees second's revision, and cannot tell the two apart.
	if got := w.claim("k", data, 5); got != first {
		t.Fatal("no write was claimed")
	}
	if w.finish(second, 5) != second {
		t.Error("second was not taken by anyone")
	}
	if w.finish(first, 7) != nil {
		t.Error("first serves the event of revision 5; its own object is another")
	}
	w.claim("k", []byte("other"), 8)
	if len(w.byKey) != 0 {
		t.Errorf("still kept: %v", w.byKey)
	}
}
