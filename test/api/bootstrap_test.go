package api_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/client-go/dynamic"

	"hyperkube/test/integration"
)

// Issue 4: what is there from the start is what kube-apiserver makes, all but roles of parts that upstream has not (their
// names begin with "hyperkube:"). What RBAC's objects grant is compared by the tests of apiserver/authz/bootstrappolicy; here it
// is that they are served, by name, with their labels, subjects and roles.
func TestBootstrapObjectsAreUpstreams(t *testing.T) {
	cluster := integration.Start(t)
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	rbac := func(name string) schema.GroupVersionResource { return rbacv1.SchemeGroupVersion.WithResource(name) }
	for _, test := range []struct {
		resource schema.GroupVersionResource
		file     string
		compared []string // fields beside labels and annotations
	}{
		{flowcontrolv1.SchemeGroupVersion.WithResource("flowschemas"), "bootstrap-flowschemas.json", []string{"spec"}},
		{flowcontrolv1.SchemeGroupVersion.WithResource("prioritylevelconfigurations"), "bootstrap-prioritylevelconfigurations.json", []string{"spec"}},
		{schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses"}, "bootstrap-priorityclasses.json", []string{"value", "globalDefault", "preemptionPolicy", "description"}},
		{rbac("clusterroles"), "bootstrap-clusterroles.json", []string{"aggregationRule"}},
		{rbac("clusterrolebindings"), "bootstrap-clusterrolebindings.json", []string{"roleRef"}},
		{rbac("roles"), "bootstrap-roles.json", nil},
		{rbac("rolebindings"), "bootstrap-rolebindings.json", []string{"roleRef"}},
	} {
		t.Run(test.resource.Resource, func(t *testing.T) {
			list, err := client.Resource(test.resource).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			ours := byName(list.Items)
			want := byName(read(t, "testdata/"+test.file))
			for _, name := range slices.Sorted(maps.Keys(want)) {
				if ours[name] == nil {
					t.Errorf("%s is missing", name)
					continue
				}
				if d := diff.Diff(part(want[name], test.compared), part(ours[name], test.compared)); d != "" {
					t.Errorf("%s differs:\n%s", name, d)
				}
			}
			for name := range ours {
				if want[name] == nil && !isOurs(name) {
					t.Errorf("%s is not upstream's", name)
				}
			}
		})
	}
}

func read(t *testing.T, file string) []unstructured.Unstructured {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []map[string]any
	if err := json.Unmarshal(data, &objects); err != nil {
		t.Fatal(err)
	}
	list := make([]unstructured.Unstructured, len(objects))
	for i, object := range objects {
		list[i].Object = object
	}
	return list
}

func byName(list []unstructured.Unstructured) map[string]*unstructured.Unstructured {
	named := map[string]*unstructured.Unstructured{}
	for i := range list {
		named[list[i].GetNamespace()+"/"+list[i].GetName()] = &list[i]
	}
	return named
}

func isOurs(name string) bool {
	_, rest, _ := strings.Cut(name, "/")
	return strings.HasPrefix(rest, "hyperkube:")
}

// part is what is compared of an object, as JSON would show it.
func part(obj *unstructured.Unstructured, fields []string) any {
	compared := map[string]any{"labels": obj.GetLabels(), "annotations": obj.GetAnnotations()}
	for _, field := range fields {
		compared[field] = obj.Object[field]
	}
	data, err := json.Marshal(compared)
	if err != nil {
		panic(err) // what came as JSON goes as JSON
	}
	var plain any
	_ = json.Unmarshal(data, &plain)
	return plain
}
