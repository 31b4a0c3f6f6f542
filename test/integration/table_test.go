package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

const asTable = "application/json;as=Table;v=v1;g=meta.k8s.io"

// open asks as the administrator, and returns the answer with its body still to be read.
func (c *Cluster) open(ctx context.Context, path, accept string) *http.Response {
	c.t.Helper()
	client, err := rest.HTTPClientFor(c.Config)
	if err != nil {
		c.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Config.Host+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	return response
}

// A watch as Table (kubectl get -w) carries the columns once, and each object as a row.
func TestTableWatch(t *testing.T) {
	c := Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	response := c.open(ctx, "/api/v1/namespaces/default/configmaps?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", asTable)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for i, name := range []string{"", "one", "two"} {
		if name != "" {
			if _, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, configMap(name, nil), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		var event struct {
			Type   string
			Object metav1.Table
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		if name == "" {
			if event.Type != "BOOKMARK" || !strings.Contains(lines.Text(), metav1.InitialEventsAnnotationKey) {
				t.Errorf("the end of the initial events: %s", lines.Text())
			}
			continue
		}
		if event.Type != "ADDED" || len(event.Object.Rows) != 1 || event.Object.Rows[0].Cells[0] != name {
			t.Errorf("%s: %s", name, lines.Text())
		}
		if first := i == 1; first != (len(event.Object.ColumnDefinitions) > 0) {
			t.Errorf("%s: %d columns", name, len(event.Object.ColumnDefinitions))
		}
	}
}

// Garbage collectors read metadata only, also in protobuf.
func TestMetadataOnly(t *testing.T) {
	c := Start(t)
	ctx := context.Background()
	for _, config := range []*rest.Config{c.Config, c.Protobuf()} {
		client, err := metadata.NewForConfig(metadata.ConfigFor(config))
		if err != nil {
			t.Fatal(err)
		}
		namespaces := client.Resource(corev1.SchemeGroupVersion.WithResource("namespaces"))
		list, err := namespaces.List(ctx, metav1.ListOptions{})
		if err != nil || len(list.Items) != 4 || list.ResourceVersion == "" {
			t.Errorf("list: %+v, %v", list, err)
		}
		one, err := namespaces.Get(ctx, "default", metav1.GetOptions{})
		if err != nil || one.UID == "" {
			t.Errorf("get: %+v, %v", one, err)
		}
		watcher, err := namespaces.Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			t.Fatal(err)
		}
		event := <-watcher.ResultChan()
		if partial, ok := event.Object.(*metav1.PartialObjectMetadata); !ok || partial.Name == "" {
			t.Errorf("watch: %+v", event)
		}
		watcher.Stop()
	}
}

// Large answers are compressed for who asks, small ones never.
func TestCompression(t *testing.T) {
	c := Start(t)
	ctx := context.Background()
	for _, name := range []string{"big0", "big1", "big2"} {
		if _, err := c.Client.CoreV1().ConfigMaps("default").Create(ctx, configMap(name, map[string]string{"x": strings.Repeat("x", 100_000)}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for path, compressed := range map[string]bool{"/api/v1/namespaces/default/configmaps": true, "/api/v1/namespaces": false} {
		response := c.open(ctx, path, "application/json")
		data, err := io.ReadAll(response.Body)
		response.Body.Close()
		// net/http undoes gzip itself, and says so.
		if err != nil || response.Uncompressed != compressed || !json.Valid(data) {
			t.Errorf("%s: compressed %v, %d bytes, %v", path, response.Uncompressed, len(data), err)
		}
	}
}

// What is only computed (a review), or done (an eviction), has no columns: who asks for nothing but a Table hears 406
// before it is done; who takes plain JSON too gets that.
func TestNoTableOfWhatIsNotStored(t *testing.T) {
	c := Start(t)
	for path, body := range map[string]string{
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": `{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`,
		"/api/v1/namespaces/default/serviceaccounts/sa/token":    `{"spec":{}}`,
		"/api/v1/namespaces/default/pods/p/eviction":             `{"metadata":{"name":"p"}}`,
	} {
		post := c.Client.CoreV1().RESTClient().Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body([]byte(body))
		err := post.SetHeader("Accept", asTable).Do(t.Context()).Error()
		if status, ok := err.(errors.APIStatus); !ok || status.Status().Code != http.StatusNotAcceptable {
			t.Errorf("%s: %v", path, err)
		}
	}
	data, err := c.Client.CoreV1().RESTClient().Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").
		SetHeader("Content-Type", "application/json").SetHeader("Accept", asTable+",application/json").
		Body([]byte(`{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`)).DoRaw(t.Context())
	if err != nil || !strings.Contains(string(data), `"kind":"SelfSubjectAccessReview"`) {
		t.Errorf("%v %s", err, data)
	}
}
