package fuzz

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"io"
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

//go:embed testdata/objects.yaml
var objectsYAML []byte

// template is one object of testdata/objects.yaml, and where it belongs.
type template struct {
	resource   schema.GroupVersionResource
	namespaced bool
	object     *unstructured.Unstructured
}

func (t template) client(client dynamic.Interface) dynamic.ResourceInterface {
	if t.namespaced {
		return client.Resource(t.resource).Namespace("default")
	}
	return client.Resource(t.resource)
}

// templates reads testdata/objects.yaml and holds that each kind that can be created has its object there.
func templates(t testing.TB, config *rest.Config) []template {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := client.ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	_, all, err := client.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	resources := map[schema.GroupVersionKind]metav1.APIResource{}
	for _, list := range append(lists, all...) {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			if canBeMade(r) {
				resources[gv.WithKind(r.Kind)] = r
			}
		}
	}
	var found []template
	known := maps.Clone(resources)
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(objectsYAML), 1<<16)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		kind := object.GroupVersionKind()
		r, served := known[kind]
		if !served {
			t.Errorf("testdata/objects.yaml has a %s, which is not served", kind)
			continue
		}
		delete(resources, kind)
		found = append(found, template{kind.GroupVersion().WithResource(r.Name), r.Namespaced, object})
	}
	for kind := range resources {
		t.Errorf("testdata/objects.yaml has no %s", kind)
	}
	return found
}

// canBeMade says whether a resource's objects can be made and read again.
func canBeMade(r metav1.APIResource) bool {
	verbs := map[string]bool{}
	for _, verb := range r.Verbs {
		verbs[verb] = true
	}
	return verbs["create"] && verbs["get"] && verbs["list"]
}

// makeObjects creates one object of every kind.
func makeObjects(t testing.TB, config *rest.Config) {
	t.Helper()
	client := dynamic.NewForConfigOrDie(config)
	for _, template := range templates(t, config) {
		if _, err := template.client(client).Create(context.Background(), template.object, metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
			t.Errorf("%s: %v", template.resource, err)
		}
	}
}
