package clients

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/disk"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/openapi3"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"hyperkube/test/integration"
)

const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

// asker asks by hand, and follows no redirect.
func asker(t *testing.T, cluster *integration.Cluster) func(path string, headers ...string) (*http.Response, string) {
	t.Helper()
	client, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return func(path string, headers ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, cluster.Config.Host+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(data)
	}
}

// Aggregated discovery (KEP-3352): who asks for it gets all groups at once, with a name by which to ask again; the beta version
// is no more, and who asks for it alone is told what there is.
func TestAggregatedDiscovery(t *testing.T) {
	cluster := integration.Start(t)
	ask := asker(t, cluster)
	for _, path := range []string{"/api", "/apis"} {
		answer, body := ask(path, "Accept", aggregated+",application/json")
		etag := answer.Header.Get("ETag")
		if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != aggregated || answer.Header.Get("Vary") != "Accept" || answer.Header.Get("Cache-Control") != "public" {
			t.Errorf("%s: %d %v", path, answer.StatusCode, answer.Header)
		}
		if len(etag) != 130 || strings.ToUpper(etag) != etag || !strings.Contains(body, `"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2"`) {
			t.Errorf("%s: ETag %s of %.200s", path, etag, body)
		}
		if again, body := ask(path, "Accept", aggregated, "If-None-Match", etag); again.StatusCode != 304 || body != "" || again.Header.Get("ETag") != etag {
			t.Errorf("%s again: %d %q", path, again.StatusCode, body)
		}
		if again, body := ask(path, "Accept", aggregated, "If-None-Match", `"other"`); again.StatusCode != 200 || body == "" {
			t.Errorf("%s, of another name: %d", path, again.StatusCode)
		}
		if plain, body := ask(path, "Accept", "application/json"); plain.StatusCode != 200 || strings.Contains(body, "APIGroupDiscoveryList") {
			t.Errorf("%s, plainly: %.200s", path, body)
		}
		beta := strings.Replace(aggregated, "v=v2", "v=v2beta1", 1)
		if old, body := ask(path, "Accept", beta+",application/json"); old.StatusCode != 200 || strings.Contains(body, "APIGroupDiscoveryList") {
			t.Errorf("%s, beta or plain: %d %.200s", path, old.StatusCode, body)
		}
		if old, _ := ask(path, "Accept", beta); old.StatusCode != 406 {
			t.Errorf("%s, beta alone: %d, want 406", path, old.StatusCode)
		}
	}
}

// client-go's caches, kept in memory and on disk, find what there is; the disk's asks again with the ETag.
func TestCachedDiscovery(t *testing.T) {
	cluster := integration.Start(t)
	dir := t.TempDir()
	for range 2 {
		onDisk, err := disk.NewCachedDiscoveryClientForConfig(cluster.Config, filepath.Join(dir, "discovery"), filepath.Join(dir, "http"), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		_, lists, err := onDisk.ServerGroupsAndResources()
		if err != nil || len(lists) < 20 {
			t.Fatalf("%d lists, %v", len(lists), err)
		}
		if !onDisk.Fresh() {
			onDisk.Invalidate()
		}
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(cluster.Client.Discovery()))
	for kind, want := range map[string]string{"Deployment": "apps/v1, Resource=deployments", "Ingress": "networking.k8s.io/v1, Resource=ingresses", "HorizontalPodAutoscaler": "autoscaling/v2, Resource=horizontalpodautoscalers", "Endpoints": "/v1, Resource=endpoints"} {
		group, _, _ := strings.Cut(want, "/")
		mapping, err := mapper.RESTMapping(schema.GroupKind{Group: group, Kind: kind})
		if err != nil || mapping.Resource.String() != want {
			t.Errorf("%s: %v %v, want %s", kind, mapping, err, want)
		}
	}
}

// The documents of OpenAPI have names: who names the present one may keep it for ever, who names an old one is sent on.
func TestOpenAPICaching(t *testing.T) {
	cluster := integration.Start(t)
	ask := asker(t, cluster)
	const v2, v3 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
	for _, test := range []struct{ path, accept, media string }{
		{"/openapi/v2", "application/json", "application/json"},
		{"/openapi/v2", "*/*", "application/json"},
		{"/openapi/v2", "", "application/json"},
		{"/openapi/v2", v2, strings.Replace(v2, "@", ".", 1)},
		{"/openapi/v2", strings.Replace(v2, "@", ".", 1) + ", */*;q=0.1", strings.Replace(v2, "@", ".", 1)},
		{"/openapi/v2", "application/json;q=0.5, " + v2, strings.Replace(v2, "@", ".", 1)},
		{"/openapi/v2", "text/html", ""},
		{"/openapi/v3", "application/json", "application/json"},
		{"/openapi/v3/apis/apps/v1", "application/json", "application/json"},
		{"/openapi/v3/apis/apps/v1", v3, strings.Replace(v3, "@", ".", 1)},
		{"/openapi/v3/apis/apps/v1", v2, ""},
	} {
		answer, body := ask(test.path, "Accept", test.accept)
		if test.media == "" {
			if answer.StatusCode != 406 {
				t.Errorf("%s as %s: %d", test.path, test.accept, answer.StatusCode)
			}
			continue
		}
		if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != test.media || answer.Header.Get("Vary") != "Accept" || len(body) < 1000 {
			t.Errorf("%s as %s: %d %v, %d bytes", test.path, test.accept, answer.StatusCode, answer.Header, len(body))
		}
		etag := answer.Header.Get("ETag")
		if again, body := ask(test.path, "Accept", test.accept, "If-None-Match", `W/"x", `+etag); etag == "" || again.StatusCode != 304 || body != "" {
			t.Errorf("%s as %s again (%s): %d", test.path, test.accept, etag, again.StatusCode)
		}
	}
	root := openapi3.NewRoot(cluster.Client.Discovery().OpenAPIV3())
	if spec, err := root.GVSpec(schema.GroupVersion{Group: "apps", Version: "v1"}); err != nil || spec.Components.Schemas["io.k8s.api.apps.v1.Deployment"] == nil {
		t.Errorf("apps/v1: %v", err)
	}
	paths, err := cluster.Client.Discovery().OpenAPIV3().Paths()
	if err != nil {
		t.Fatal(err)
	}
	url := paths["apis/apps/v1"].ServerRelativeURL()
	if !strings.HasPrefix(url, "/openapi/v3/apis/apps/v1?hash=") {
		t.Fatal(url)
	}
	for accept, media := range map[string]string{"application/json": "application/json", v3: strings.Replace(v3, "@", ".", 1)} {
		answer, _ := ask(url, "Accept", accept)
		expires, err := http.ParseTime(answer.Header.Get("Expires"))
		if answer.StatusCode != 200 || answer.Header.Get("Cache-Control") != "public, immutable" || err != nil || expires.Before(time.Now().AddDate(0, 11, 0)) || answer.Header.Get("Content-Type") != media {
			t.Errorf("%s: %d %v %v", url, answer.StatusCode, answer.Header, err)
		}
	}
	if answer, _ := ask("/openapi/v3/apis/apps/v1?hash=OLD", "Accept", "application/json"); answer.StatusCode != 301 || answer.Header.Get("Location") != url {
		t.Errorf("an old hash: %d to %s, want 301 to %s", answer.StatusCode, answer.Header.Get("Location"), url)
	}
	if answer, _ := ask("/openapi/v3/apis/no.such/v1"); answer.StatusCode != 404 {
		t.Errorf("no such group: %d", answer.StatusCode)
	}
}
