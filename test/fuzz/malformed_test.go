// Package fuzz throws at the apiserver what no well-behaved client sends, and makes objects of every kind at random.
// As plain tests they run their seeds; `go test ./test/fuzz -fuzz FuzzRequest` goes on for as long as one likes.
package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"hyperkube/apiserver"
	"hyperkube/test/integration"
)

// call is one request as a hostile client would send it.
type call struct {
	method, path, contentType, accept string
	body                              []byte
}

func (c call) String() string {
	body := c.body
	if len(body) > 200 {
		body = append(slices.Clone(body[:200]), "…"...)
	}
	return fmt.Sprintf("%s %s (%s, accepts %s) %q", c.method, c.path, c.contentType, c.accept, body)
}

// target is an apiserver that calls are thrown at.
type target struct {
	host   string
	client *http.Client
}

func newTarget(t testing.TB) *target {
	cluster := integration.Start(t, func(c *apiserver.Config) { c.RequestTimeout = 20 * time.Second })
	makeObjects(t, cluster.Config)
	client, err := rest.HTTPClientFor(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	return &target{host: cluster.Config.Host, client: client}
}

// send returns what is wrong with the answer: an internal error, or one that says nothing. A call that is none (a URL that
// cannot be one) is nobody's fault.
func (t *target) send(c call) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, c.method, t.host+c.path, bytes.NewReader(c.body))
	if err != nil {
		return 0, nil
	}
	for name, value := range map[string]string{"Content-Type": c.contentType, "Accept": c.accept} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	answer, err := t.client.Do(r)
	if err != nil {
		if strings.Contains(err.Error(), "invalid") {
			return 0, nil // net/http's client refuses to send it
		}
		return 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil && answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%d: reading the answer: %w", answer.StatusCode, err)
	}
	if answer.StatusCode == http.StatusInternalServerError {
		return answer.StatusCode, fmt.Errorf("an internal error: %s", body)
	}
	isAPI := strings.HasPrefix(c.path, "/api/v1/") || strings.HasPrefix(c.path, "/apis/")
	if answer.StatusCode < 400 || !isAPI || strings.Contains(c.path, "/proxy") || c.method == http.MethodHead {
		return answer.StatusCode, nil
	}
	return answer.StatusCode, checkStatus(answer, body)
}

// checkStatus holds that a refusal is a Status that gives its code and says why.
func checkStatus(answer *http.Response, body []byte) error {
	if answer.Header.Get("Content-Type") != "application/json" {
		return nil // in another form of the client's choice
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil {
		return fmt.Errorf("%d with no Status: %q", answer.StatusCode, body)
	}
	if status.Kind != "Status" || status.Status != metav1.StatusFailure || int(status.Code) != answer.StatusCode || status.Message == "" {
		return fmt.Errorf("%d with a Status that does not say so: %s", answer.StatusCode, body)
	}
	return nil
}

// bodies are no object of any kind, or nearly one.
var bodies = map[string][]string{
	"application/json": {
		``, ` `, `null`, `[]`, `{}`, `"x"`, `0`, `{`, `{"metadata":null}`, `{"metadata":[]}`, `{"metadata":{"name":5}}`, `{"kind":5}`, `{"kind":"X"}`,
		`{"kind":"X","apiVersion":"a/b/c"}`, `{"metadata":{"name":"a/b"}}`, `{"metadata":{"name":"m","name":"m"}}`, `{"metadata":{"name":""}}`,
		`{"metadata":{"name":"m","resourceVersion":"x"}}`, `{"metadata":{"generateName":"` + strings.Repeat("g", 300) + `"}}`,
		`{"metadata":{"name":"m","labels":{"":""},"annotations":{"a b":"c"}}}`, `{"metadata":{"name":"m","ownerReferences":[{}]}}`,
		`{"metadata":{"name":"m","finalizers":[""," "]}}`, `{"metadata":{"name":"m","creationTimestamp":"yesterday"}}`,
		`{"metadata":{"name":"m","managedFields":[{"manager":"x","operation":"Apply","fieldsV1":{"f:x":5}}]}}`,
		`{"metadata":{"name":"m","namespace":"elsewhere"}}`, `{"metadata":{"name":"m","deletionGracePeriodSeconds":-1}}`,
		`{"metadata":{"name":"m"},"spec":null,"status":null}`, `{"metadata":{"name":"m"},"spec":{}}`, `{"metadata":{"name":"m"},"spec":[]}`,
		`{"metadata":{"name":"m"},"spec":{"template":{}},"rules":[{}],"subjects":[{}],"webhooks":[{}],"ports":[{}],"endpoints":[{}],"subsets":[{}]}`,
		`{"metadata":{"name":"m"},"spec":{"selector":{"matchExpressions":[{}]},"replicas":-1,"ports":[{}],"rules":[{}],"containers":[{}],"volumes":[{}]}}`,
		strings.Repeat(`{"a":`, 20000), strings.Repeat(`[`, 20000), "\xff\xfe\x00", `{"metadata":{"name":"\ud800"}}`,
	},
	"application/yaml":                    {"", "a: b: c", "- x", "&a [*a, *a]", "kind: [", "metadata: {name: m}\n---\nmetadata: {name: n}", "!!binary x", "a: &a {<<: *a}"},
	"application/vnd.kubernetes.protobuf": {"", "k8s\x00", "k8s\x00\x0a", "k8s\x00\x0a\x04\x0a\x02v1\x12\x02\xff\xff", "\xff\xff\xff\xff", "k8s\x00\x12\xff\xff\xff\xff\x0f"},
	"application/cbor":                    {"", "\xd9\xd9\xf7", "\xd9\xd9\xf7\xa0", "\xa1\x64kind\x01", "\xbf\xff", "\x9f", "\xd9\xd9\xf7\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "\xa2\x61a\x01\x61a\x02"},
	"text/html":                           {"<html>"},
	";":                                   {"x"},
}

var patches = map[string][]string{
	"application/json-patch+json": {
		``, `null`, `{}`, `[]`, `[{}]`, `[null]`, `[{"op":"x"}]`, `[{"op":"add"}]`, `[{"op":"add","path":"metadata"}]`, `[{"op":"remove","path":""}]`, `[{"op":"replace","path":"","value":null}]`,
		`[{"op":"add","path":"/metadata/labels/-","value":1}]`, `[{"op":"move","from":"/metadata","path":"/spec"}]`, `[{"op":"copy","from":"/x","path":"/y"}]`,
		`[{"op":"test","path":"/kind","value":"x"}]`, `[{"op":"replace","path":"/kind","value":"x"}]`, `[{"op":"remove","path":"/metadata"}]`, `[{"op":"remove","path":"/metadata/name"}]`,
		`[{"op":"replace","path":"/metadata","value":5}]`, `[{"op":"replace","path":"/spec","value":"x"}]`, `[{"op":"add","path":"/metadata/managedFields","value":[{}]}]`, `[{"op":5}]`, `[{"op":"add","path":"/a/~2","value":1}]`,
		`[{"op":"replace","path":"/metadata/resourceVersion","value":"x"}]`, `[{"op":"replace","path":"/metadata/uid","value":"x"}]`, `[{"op":"add","path":"/spec/x/99999999999999999999","value":1}]`,
	},
	"application/merge-patch+json": {
		``, `null`, `[]`, `5`, `{"metadata":null}`, `{"metadata":{"name":"other"}}`, `{"metadata":{"labels":5}}`, `{"kind":null}`, `{"spec":[]}`, `{"spec":null,"data":null,"rules":null}`,
		`{"metadata":{"resourceVersion":"0"}}`, `{"metadata":{"managedFields":[{"operation":"x"}]}}`, `{"a":1,"a":2}`, `{"metadata":{"deletionTimestamp":"2020-01-01T00:00:00Z"}}`, `{"status":{"conditions":5}}`, `{`,
	},
	"application/strategic-merge-patch+json": {
		``, `null`, `[]`, `5`, `{"$patch":"x"}`, `{"$patch":"delete"}`, `{"$patch":"replace"}`, `{"metadata":{"$patch":"replace"}}`, `{"$retainKeys":5}`, `{"metadata":{"$retainKeys":["x"],"labels":{}}}`,
		`{"metadata":{"$deleteFromPrimitiveList/finalizers":5}}`, `{"metadata":{"$setElementOrder/ownerReferences":[5]}}`, `{"metadata":{"ownerReferences":[{"$patch":"delete"}]}}`, `{"metadata":{"finalizers":[{}]}}`,
		`{"spec":{"containers":[{"name":null}]}}`, `{"spec":{"containers":5}}`, `{"spec":{"template":{"spec":{"containers":[5]}}}}`, `{"spec":{"$setElementOrder/containers":[{"name":5}]}}`, `{"spec":{"ports":[{"$patch":"replace"}]}}`,
		`{"metadata":{"labels":{"$patch":5}}}`, `{"spec":{"$setElementOrder/ports":{}}}`, `{"rules":[{"$patch":"merge"}],"subjects":[{"$patch":"delete"}],"secrets":[{"$patch":"delete"}]}`, `{`,
	},
	"application/apply-patch+yaml": {
		``, `null`, `[]`, `x`, `a: b: c`, `{}`, `{"apiVersion":"v1","kind":"X"}`, `{"metadata":5}`, `{"metadata":{"managedFields":[]}}`, "a: &a [*a]", `{"apiVersion":5,"kind":[]}`,
	},
	"application/x": {`{}`}, "": {`{}`}, "application/json": {`{}`},
}

var queries = []string{
	"limit=-1", "limit=x", "continue=x", "continue=e30", "resourceVersion=x", "resourceVersion=-1", "resourceVersion=99999999999999999999", "resourceVersionMatch=x", "labelSelector=%3D", "labelSelector=a%20b",
	"labelSelector=a%20in%20(", "labelSelector=" + strings.Repeat("a%2C", 3000), "fieldSelector=x", "fieldSelector=a%3Db", "fieldSelector=metadata.name%3D%3D%3D", "fieldSelector=metadata.name%3E1", "watch=1&resourceVersion=x", "watch=1&timeoutSeconds=1&resourceVersion=5&sendInitialEvents=true",
	"watch=x&timeoutSeconds=1", "watch=1&timeoutSeconds=-1&resourceVersion=x", "timeout=x", "timeout=-1s", "timeout=1ns", "dryRun=x", "dryRun=All&dryRun=All", "fieldManager=" + strings.Repeat("m", 200), "fieldManager=%00", "fieldValidation=x", "force=x", "force=true", "gracePeriodSeconds=x",
	"gracePeriodSeconds=-5", "propagationPolicy=x", "orphanDependents=x", "pretty=x", "includeObject=x", "%zz=1", "a;b", "resourceVersion=0&resourceVersionMatch=Exact", "limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJ4In0",
}

var accepts = []string{
	"", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor", "application/cbor-seq", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
	"application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "application/cbor;as=Table;v=v1;g=meta.k8s.io", "text/html", ";;;,,,", "*/*;q=x", "application/json;stream=watch",
}

// resources are the paths of all collections and objects that are served, in a namespace that is there.
func resources(t testing.TB, target *target) (collections, objects []string) {
	for _, version := range groupVersions(t, target) {
		list := metav1.APIResourceList{}
		get(t, target, version, &list)
		base := version + "/namespaces/default"
		for _, r := range list.APIResources {
			root := base
			if !r.Namespaced {
				root = version
			}
			name, sub, isSub := strings.Cut(r.Name, "/")
			if isSub {
				objects = append(objects, root+"/"+name+"/m/"+sub)
				continue
			}
			collections, objects = append(collections, root+"/"+name), append(objects, root+"/"+name+"/m")
		}
	}
	return collections, objects
}

func groupVersions(t testing.TB, target *target) []string {
	groups := metav1.APIGroupList{}
	get(t, target, "/apis", &groups)
	versions := []string{"/api/v1"}
	for _, group := range groups.Groups {
		for _, version := range group.Versions {
			versions = append(versions, "/apis/"+version.GroupVersion)
		}
	}
	return versions
}

func get(t testing.TB, target *target, path string, into any) {
	t.Helper()
	answer, err := target.client.Get(target.host + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// Issue 4: malformed bodies, patches and queries at every path: no panic, no 500, always a Status.
func TestMalformedRequests(t *testing.T) {
	target := newTarget(t)
	collections, objects := resources(t, target)
	calls := make(chan call, 100)
	go func() {
		defer close(calls)
		for i, path := range slices.Concat(collections, objects) {
			spread(i, path, func(n int, c call) {
				if (n+i)%share() == 0 {
					calls <- c
				}
			})
		}
	}()
	failures := make(chan string)
	done := make(chan struct{})
	const workers = 8
	for range workers {
		go func() {
			for c := range calls {
				if _, err := target.send(c); err != nil {
					failures <- fmt.Sprintf("%s: %v", c, err)
				}
			}
			done <- struct{}{}
		}()
	}
	for running := workers; running > 0; {
		select {
		case failure := <-failures:
			t.Error(failure)
		case <-done:
			running--
		}
	}
}

// share is how much of the table a path gets: one row of so many. Its neighbours get the others; all get all with
// HYPERKUBE_FUZZ_ALL=1, which takes a minute.
func share() int {
	if os.Getenv("HYPERKUBE_FUZZ_ALL") != "" {
		return 1
	}
	return 6
}

// spread sends malformed bodies, patches and queries to a path.
func spread(i int, path string, send func(n int, c call)) {
	count := 0
	add := func(method, path, contentType, accept, body string) {
		count++
		send(count, call{method, path, contentType, accept, []byte(body)})
	}
	isObject := strings.HasSuffix(path, "/m") || strings.Contains(path, "/m/")
	for _, contentType := range slices.Sorted(maps.Keys(bodies)) {
		for n, body := range bodies[contentType] {
			method := []string{http.MethodPost, http.MethodPut}[n%2]
			if isObject {
				method = http.MethodPut
			}
			add(method, path, contentType, accepts[(i+n)%len(accepts)], body)
		}
	}
	for _, contentType := range slices.Sorted(maps.Keys(patches)) {
		for n, patch := range patches[contentType] {
			add(http.MethodPatch, path+"?"+queries[(i+n)%len(queries)], contentType, "", patch)
			add(http.MethodPatch, path+"?fieldManager=f&fieldValidation="+[]string{"Strict", "Warn", "Ignore"}[n%3], contentType, "", patch)
		}
	}
	for n, query := range queries {
		method := []string{http.MethodGet, http.MethodDelete, http.MethodPost}[(i+n)%3]
		if method == http.MethodDelete && !isObject {
			method = http.MethodGet
		}
		add(method, path+"?"+query, "", accepts[(i*7+n)%len(accepts)], "")
	}
}

// FuzzRequest goes where the table does not.
func FuzzRequest(f *testing.F) {
	for contentType, texts := range bodies {
		for _, text := range texts {
			f.Add("POST", "/api/v1/namespaces/default/pods", contentType, "", []byte(text))
		}
	}
	for contentType, texts := range patches {
		for _, text := range texts {
			f.Add("PATCH", "/api/v1/namespaces/default/services/m", contentType, "", []byte(text))
		}
	}
	for _, query := range queries {
		f.Add("GET", "/api/v1/pods?"+query, "", "", []byte(nil))
	}
	for _, path := range []string{"//", "/api/", "/apis//", "/api/v1/namespaces//pods", "/api/v1/namespaces/default/pods/", "/api/v1/namespaces/default/pods/a/b/c/d", "/api/v1/watch/pods", "/apis/apps/v1/%2e%2e", "/api/v1/namespaces/%2f/pods/x", "/openapi/v3/x", "/healthz/x"} {
		for _, accept := range accepts {
			f.Add("GET", path, "", accept, []byte(nil))
		}
	}
	target := newTarget(f)
	f.Fuzz(func(t *testing.T, method, path, contentType, accept string, body []byte) {
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "watch") || strings.Contains(path, "follow") || strings.Contains(path, "/debug/") {
			return // no request; or one that stays open
		}
		c := call{method, path, contentType, accept, body}
		if _, err := target.send(c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	})
}
