package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/randfill"

	"hyperkube/test/integration"
)

// media are the forms of an object on the wire.
var media = map[string]runtime.Serializer{
	runtime.ContentTypeJSON:     serializer(runtime.ContentTypeJSON),
	runtime.ContentTypeYAML:     serializer(runtime.ContentTypeYAML),
	runtime.ContentTypeProtobuf: serializer(runtime.ContentTypeProtobuf),
	runtime.ContentTypeCBOR:     cbor.NewSerializer(scheme.Scheme, scheme.Scheme),
}

func serializer(mediaType string) runtime.Serializer {
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), mediaType)
	if !ok {
		panic("no serializer of " + mediaType)
	}
	return info.Serializer
}

// trip takes one kind's objects there and back.
type trip struct {
	t      *testing.T
	host   string
	client *http.Client
	template
}

func (r *trip) path(name string) string {
	path := r.host + "/apis/" + r.resource.Group + "/" + r.resource.Version
	if r.resource.Group == "" {
		path = r.host + "/api/" + r.resource.Version
	}
	if r.namespaced {
		path += "/namespaces/default"
	}
	path += "/" + r.resource.Resource
	if name != "" {
		path += "/" + name
	}
	return path
}

// do sends obj, if there is one, and reads the answer, both in the form of mediaType.
func (r *trip) do(method, path, mediaType string, obj runtime.Object) (runtime.Object, error) {
	var body bytes.Buffer
	if obj != nil {
		if err := media[mediaType].Encode(obj, &body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(context.Background(), method, path, &body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", mediaType)
	request.Header.Set("Accept", mediaType)
	answer, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if got := answer.Header.Get("Content-Type"); got != mediaType {
		return nil, fmt.Errorf("%d in %s, %s was accepted: %s", answer.StatusCode, got, mediaType, data)
	}
	decoded, _, err := media[mediaType].Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%d: %w: %q", answer.StatusCode, err, data)
	}
	if status, refused := decoded.(*metav1.Status); refused && answer.StatusCode >= 400 {
		if status.Code != int32(answer.StatusCode) {
			return nil, fmt.Errorf("a Status of %d under %d", status.Code, answer.StatusCode)
		}
		return nil, &apierrors.StatusError{ErrStatus: *status}
	}
	return decoded, nil
}

// random makes an object of the kind: what the template needs to be valid, and chance around it. What the server finds
// invalid is taken back, field by field, to what the template has.
func (r *trip) random(seed int64, name string) *unstructured.Unstructured {
	typed, err := scheme.Scheme.New(r.object.GroupVersionKind())
	if err != nil {
		r.t.Fatal(err)
	}
	texts := rand.New(rand.NewPCG(uint64(seed), 1))
	randfill.NewWithSeed(seed).NilChance(0.6).NumElements(1, 2).MaxDepth(7).Funcs(
		func(s *string, _ randfill.Continue) { *s = "s" + strconv.FormatInt(texts.Int64N(1e6), 36) },
		func(n *int64, _ randfill.Continue) { *n = texts.Int64N(50) },
		func(n *int32, _ randfill.Continue) { *n = texts.Int32N(50) },
		func(o *metav1.ObjectMeta, _ randfill.Continue) {
			*o = metav1.ObjectMeta{Labels: map[string]string{"n": strconv.Itoa(texts.IntN(9))}, Annotations: map[string]string{"a": "\u2028é\"<&>\\ \x01"}}
		},
		func(o *runtime.RawExtension, _ randfill.Continue) { o.Raw = []byte(`{"x":[1,2.5,"é"]}`) },
		func(b *[]byte, _ randfill.Continue) { *b = []byte{0, byte(texts.IntN(256)), 0xff} }, // null and "" are the same, and look different
		func(f *metav1.FieldsV1, _ randfill.Continue) {},
	).Fill(typed)
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		r.t.Fatal(err)
	}
	delete(content, "status")
	obj := &unstructured.Unstructured{Object: merge(content, r.object.DeepCopy().Object)}
	obj.SetName(name)
	return obj
}

// merge puts what the template says over what chance made.
func merge(random, template map[string]any) map[string]any {
	for key, value := range template {
		below, isMap := value.(map[string]any)
		chance, wasMap := random[key].(map[string]any)
		if isMap && wasMap {
			random[key] = merge(chance, below)
		} else {
			random[key] = value
		}
	}
	return random
}

// create makes the object, taking back what is refused; the template itself must do at last.
func (r *trip) create(obj *unstructured.Unstructured, mediaType string) (runtime.Object, error) {
	for attempt := 0; ; attempt++ {
		typed, err := scheme.Scheme.New(obj.GroupVersionKind())
		if err != nil {
			return nil, err
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, typed); err != nil {
			return nil, err
		}
		made, err := r.do(http.MethodPost, r.path(""), mediaType, typed)
		if err == nil || attempt == 40 {
			return made, err
		}
		status, ok := err.(apierrors.APIStatus)
		if !ok || status.Status().Code >= 500 {
			return nil, err
		}
		if os.Getenv("HYPERKUBE_FUZZ_LOG") != "" {
			r.t.Logf("%s: %v", r.object.GetKind(), err)
		}
		if !takeBack(obj, status.Status(), attempt < 30) {
			name := obj.GetName()
			obj.Object = r.object.DeepCopy().Object
			obj.SetName(name)
		}
	}
}

// takeBack drops the fields that a refusal names: the deepest part of each path that is there, or all of a top-level field.
func takeBack(obj *unstructured.Unstructured, status metav1.Status, exact bool) bool {
	if status.Details == nil || !exact {
		return false
	}
	found := false
	for _, cause := range status.Details.Causes {
		path := strings.FieldsFunc(cause.Field, func(c rune) bool { return c == '.' || c == '[' || c == ']' })
		if len(path) < 2 || path[0] == "metadata" || path[0] == "<nil>" {
			continue
		}
		found = drop(obj.Object, path) || found
	}
	return found
}

func drop(at map[string]any, path []string) bool {
	value, there := at[path[0]]
	if !there {
		return false
	}
	if below, isMap := value.(map[string]any); isMap && len(path) > 1 && drop(below, path[1:]) {
		return true
	}
	if _, isMap := value.(map[string]any); isMap && len(path) > 1 && path[0] == "spec" {
		return false
	}
	delete(at, path[0])
	return true
}

// plain is an object as a map, for comparing: numbers as JSON has them.
func plain(t *testing.T, obj runtime.Object) map[string]any {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]any{}
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatal(err)
	}
	return content
}

// Issue 4: objects of every kind, random as far as the kind lets them be, come back the same from create and get in JSON,
// YAML, protobuf and CBOR; what is sent in one is stored as if sent in another. HYPERKUBE_SEEDS says how many there are of each.
func TestEveryKindRoundTrips(t *testing.T) {
	cluster := integration.Start(t)
	makeObjects(t, cluster.Config)
	seeds, err := strconv.Atoi(os.Getenv("HYPERKUBE_SEEDS"))
	if err != nil {
		seeds = 1
	}
	client, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	all := templates(t, cluster.Config)
	for seed := range seeds {
		for _, template := range all {
			r := &trip{t: t, host: cluster.Config.Host, client: client, template: template}
			r.check(int64(seed))
		}
	}
}

// sent is the order in which the forms are written; the first finds out what is valid.
var sent = []string{runtime.ContentTypeJSON, runtime.ContentTypeProtobuf, runtime.ContentTypeCBOR}

func (r *trip) check(seed int64) {
	t, kind := r.t, r.object.GetKind()
	obj := r.random(seed, r.name(seed, 0))
	var first map[string]any
	for n, mediaType := range sent {
		name := r.name(seed, n)
		obj.SetName(name)
		made, err := r.create(obj, mediaType)
		if err != nil {
			t.Errorf("%s, seed %d, %s: %v", kind, seed, mediaType, err)
			return
		}
		content := plain(t, made)
		for accepted := range media {
			got, err := r.do(http.MethodGet, r.path(name), accepted, nil)
			if err != nil {
				t.Errorf("%s, seed %d, %s, read as %s: %v", kind, seed, mediaType, accepted, err)
			} else if diff := r.diff(content, plain(t, got)); diff != "" {
				t.Errorf("%s, seed %d, made in %s, is another in %s (-made +got):\n%s", kind, seed, mediaType, accepted, diff)
			}
		}
		if n == 0 {
			first = content
		} else if diff := cmp.Diff(own(first), own(content)); diff != "" && !r.allocated() {
			t.Errorf("%s, seed %d: what was sent in %s (-) is not what was sent in %s (+):\n%s", kind, seed, sent[0], mediaType, diff)
		}
		if _, err := r.do(http.MethodDelete, r.path(name), mediaType, nil); err != nil {
			t.Errorf("%s, seed %d: deleting: %v", kind, seed, err)
		}
	}
}

// diff is what a reader sees otherwise than who made the object. Somebody may have written to it since: the namespace's controller,
// and the apiserver, which tells a FlowSchema whether its level is there.
func (r *trip) diff(made, got map[string]any) string {
	switch r.object.GetKind() {
	case "Namespace":
		return ""
	case "FlowSchema":
		return cmp.Diff(own(made), own(got))
	}
	return cmp.Diff(made, got)
}

// allocated kinds get an address or a port of their own each.
func (r *trip) allocated() bool {
	return r.object.GetKind() == "Service" || r.object.GetKind() == "ServiceAccount"
}

func (r *trip) name(seed int64, n int) string {
	if r.object.GetKind() == "IPAddress" {
		return fmt.Sprintf("192.0.2.%d", 100+(seed*3+int64(n))%100)
	}
	return fmt.Sprintf("r%d-%d", seed, n)
}

// own is an object without what is its own: identity and times.
func own(content map[string]any) map[string]any {
	data, _ := json.Marshal(content)
	copied := map[string]any{}
	_ = json.Unmarshal(data, &copied)
	metadata := copied["metadata"].(map[string]any)
	for _, key := range []string{"name", "uid", "resourceVersion", "creationTimestamp", "managedFields"} {
		delete(metadata, key)
	}
	if labels, ok := metadata["labels"].(map[string]any); ok {
		for key := range labels {
			if strings.HasPrefix(key, "kubernetes.io/") || strings.HasPrefix(key, "batch.kubernetes.io/") || key == "controller-uid" || key == "job-name" {
				delete(labels, key)
			}
		}
	}
	if copied["kind"] == "Job" {
		delete(copied["spec"].(map[string]any), "selector")
		delete(copied["spec"].(map[string]any)["template"].(map[string]any), "metadata")
	}
	delete(copied, "status")
	return copied
}
