package clients

import (
	"net/http"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cbor "k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	clientfeatures "k8s.io/client-go/features"
	clientfeaturestesting "k8s.io/client-go/features/testing"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"hyperkube/test/integration"
)

// spoken counts what was really sent and answered in CBOR: a client falls back to JSON without a word.
type spoken struct {
	http.RoundTripper
	mu            sync.Mutex
	asked, gotten map[string]int
}

func (s *spoken) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.RoundTripper.RoundTrip(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[r.Header.Get("Content-Type")]++
	if err == nil {
		s.gotten[answer.Header.Get("Content-Type")]++
	}
	return answer, err
}

// client-go speaks CBOR where its gates say so (KEP-4222): objects, lists, watches, applies and Tables.
func TestClientsThatPreferCBOR(t *testing.T) {
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.ClientsAllowCBOR, true)
	clientfeaturestesting.SetFeatureDuringTest(t, clientfeatures.ClientsPreferCBOR, true)
	cluster := integration.Start(t)
	heard := &spoken{asked: map[string]int{}, gotten: map[string]int{}}
	config := rest.CopyConfig(cluster.Config)
	config.WrapTransport = transport.Wrappers(func(rt http.RoundTripper) http.RoundTripper { heard.RoundTripper = rt; return heard })
	untyped := dynamic.NewForConfigOrDie(config).Resource(configMaps).Namespace("default")
	config.ContentType = "application/cbor" // what is generated speaks protobuf unless told
	typed := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")

	watcher, err := untyped.Watch(t.Context(), metav1.ListOptions{AllowWatchBookmarks: true})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "u"}, "data": map[string]any{"a": "é\u2028"}}}
	if made, err := untyped.Create(t.Context(), object, metav1.CreateOptions{}); err != nil || made.GetUID() == "" {
		t.Fatal(made, err)
	}
	if event := <-watcher.ResultChan(); event.Type != watch.Added || event.Object.(*unstructured.Unstructured).GetName() != "u" {
		t.Errorf("%+v", event)
	}
	object.SetLabels(map[string]string{"x": "y"})
	object.SetManagedFields(nil)
	if applied, err := untyped.Apply(t.Context(), "u", object, metav1.ApplyOptions{FieldManager: "m", Force: true}); err != nil || applied.GetLabels()["x"] != "y" {
		t.Error(applied, err)
	}
	if event := <-watcher.ResultChan(); event.Type != watch.Modified || event.Object.(*unstructured.Unstructured).GetLabels()["x"] != "y" {
		t.Errorf("%+v", event)
	}
	if m, err := typed.Apply(t.Context(), applycorev1.ConfigMap("t", "default").WithData(map[string]string{"a": "b"}).WithBinaryData(map[string][]byte{"b": {0, 255}}), metav1.ApplyOptions{FieldManager: "m"}); err != nil || m.BinaryData["b"][1] != 255 {
		t.Error(m, err)
	}
	if m, err := typed.Update(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "t"}, Data: map[string]string{"a": "c"}}, metav1.UpdateOptions{}); err != nil || m.Data["a"] != "c" {
		t.Error(m, err)
	}
	if m, err := typed.Patch(t.Context(), "t", types.MergePatchType, []byte(`{"data":{"a":"d"}}`), metav1.PatchOptions{}); err != nil || m.Data["a"] != "d" {
		t.Error(m, err)
	}
	list, err := untyped.List(t.Context(), metav1.ListOptions{Limit: 1})
	if err != nil || len(list.Items) != 1 || list.GetContinue() == "" || *list.GetRemainingItemCount() != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := typed.List(t.Context(), metav1.ListOptions{}); err != nil || len(list.Items) != 2 || list.Items[1].Data["a"] != "é\u2028" {
		t.Error(list, err)
	}
	table := &metav1.Table{}
	data, err := kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Get().Namespace("default").Resource("configmaps").
		SetHeader("Accept", "application/cbor;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.Context())
	if err == nil {
		err = cbor.Unmarshal(data, table)
	}
	if err != nil || len(table.Rows) != 2 || len(table.ColumnDefinitions) == 0 || table.Rows[0].Cells[0] != "t" {
		t.Errorf("%+v %v", table, err)
	}
	if _, err := untyped.Get(t.Context(), "none", metav1.GetOptions{}); message(err) != `configmaps "none" not found` {
		t.Error(err)
	}
	if err := typed.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	for media, n := range heard.gotten {
		if media != "application/cbor" && media != "application/cbor-seq" {
			t.Errorf("%d answers in %s", n, media)
		}
	}
	if heard.asked["application/cbor"] < 3 || heard.asked["application/apply-patch+cbor"] != 2 {
		t.Errorf("asked in %v", heard.asked)
	}
}
