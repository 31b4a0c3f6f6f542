package answers

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"
)

// object is a Kubernetes object as its JSON has it.
type object map[string]any

func (o object) clone() object { return clone(map[string]any(o)).(map[string]any) }

func clone(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came from JSON or YAML
	}
	var c any
	if err := json.Unmarshal(data, &c); err != nil {
		panic(err)
	}
	return c
}

// drop removes keys of one of o's maps.
func (o object) drop(field string, keys ...string) {
	if m, ok := o[field].(map[string]any); ok {
		for _, k := range keys {
			delete(m, k)
		}
	}
}

func (o object) text(field string) string {
	s, _ := o[field].(string)
	return s
}

func (o object) meta(field string) string {
	m, _ := o["metadata"].(map[string]any)
	return object(m).text(field)
}

func (o object) kind() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(o.text("apiVersion"), o.text("kind"))
}

type seed struct {
	writes []string
	before []object
	object object
}

func readSeed(t *testing.T, file string) seed {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := seed{writes: []string{"create", "update", "status"}}
	for line := range strings.Lines(string(data)) {
		if words, ok := strings.CutPrefix(line, "# writes:"); ok {
			s.writes = strings.Fields(words)
		}
	}
	for part := range strings.SplitSeq("\n"+string(data), "\n---") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(part), &o); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if o != nil {
			s.before = append(s.before, o)
		}
	}
	last := len(s.before) - 1
	s.object, s.before = s.before[last], s.before[:last]
	return s
}

// paths finds the URL of an object by its kind.
type paths struct{ mapper meta.RESTMapper }

func newPaths(t *testing.T, config *rest.Config) paths {
	t.Helper()
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(client)
	if err != nil {
		t.Fatal(err)
	}
	return paths{restmapper.NewDiscoveryRESTMapper(groups)}
}

// of returns the path of o's collection and its own.
func (p paths) of(t *testing.T, o object) (collection, named string) {
	t.Helper()
	kind := o.kind()
	mapping, err := p.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		t.Fatal(err)
	}
	collection = "/apis/" + kind.GroupVersion().String()
	if kind.Group == "" {
		collection = "/api/" + kind.Version
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := o.meta("namespace")
		if namespace == "" {
			namespace = "default"
		}
		collection += "/namespaces/" + namespace
	}
	collection += "/" + mapping.Resource.Resource
	return collection, collection + "/" + o.meta("name")
}
