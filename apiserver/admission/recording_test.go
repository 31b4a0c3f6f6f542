package admission

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// rereader reads the body of a pod.
type rereader struct{}

func (rereader) Reread(_ string, body []byte) (runtime.Object, error) {
	pod := &corev1.Pod{}
	return pod, json.Unmarshal(body, pod)
}

// recorded runs a chain on a pod within a recorded request, and returns what each plugin did.
func recorded(t *testing.T, chain *Chain, a *request.AdmissionAttributes) []flow.AdmissionStep {
	t.Helper()
	record := flow.NewRecord(0)
	q := record.Begin(http.Header{}, time.Unix(1, 0))
	q.Verb, q.Resource, q.Namespace, q.Name = "create", "pods", "ns", "web"
	body, err := json.Marshal(a.Object)
	if err != nil {
		t.Fatal(err)
	}
	q.Came("application/json", body, rereader{})
	ctx := request.WithInfo(t.Context(), &request.Info{Flow: q})
	if err = chain.Admit(ctx, a); err == nil {
		err = chain.Validate(ctx, a)
	}
	if err == nil {
		stored, err := json.Marshal(a.Object)
		if err != nil {
			t.Fatal(err)
		}
		q.Wrote(flow.Write{Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Key: "ns/web", Revision: 7, New: stored})
	}
	// A later write of the same pod: the refused one is in its story.
	record.Internal(flow.Write{Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Key: "ns/web", Revision: 8})
	record.End(q, map[bool]int{true: 201, false: 403}[err == nil], 0)
	story := record.Trace(flow.Target{Kind: schema.GroupKind{Kind: "Pod"}, Namespace: "ns", Name: "web"})
	for _, n := range story.Flat() {
		if n.What == "create" {
			return n.AdmissionSteps
		}
	}
	t.Fatalf("the request is not in its object's story: %+v", story.Roots)
	return nil
}

// Of each plugin that was asked the record knows whether it changed the object, and in what.
func TestWhatPluginsChange(t *testing.T) {
	want := map[string]string{
		"ServiceAccount":           `spec.serviceAccountName: none → "default"`,
		"Priority":                 "spec.priority: none → 0",
		"DefaultTolerationSeconds": "spec.tolerations: none → ",
	}
	for name, refuse := range map[string]bool{"stored": false, "refused at the end": true} {
		t.Run(name, func(t *testing.T) {
			chain := newChain(t)
			if refuse {
				chain.Plugins = append(chain.Plugins, plugin.Plugin{Name: "Judge", Operations: []request.Operation{request.Create},
					Validate: func(context.Context, *request.AdmissionAttributes) error { return errors.New("no") }})
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
			var asked []string
			for _, s := range recorded(t, chain, create("pods", pod)) {
				asked = append(asked, s.Plugin)
				diff := strings.Join(s.Diff, "\n")
				if text, changes := want[s.Plugin]; changes != s.Changed || !strings.Contains(diff, text) || changes != (diff != "") {
					t.Errorf("%s: changed %v, in\n%s", s.Plugin, s.Changed, diff)
				}
				if s.Refused != (s.Plugin == "Judge") {
					t.Errorf("%s refused: %v", s.Plugin, s.Refused)
				}
			}
			for name := range want {
				if !slices.Contains(asked, name) {
					t.Errorf("%s is not among %v", name, asked)
				}
			}
			if refuse != slices.Contains(asked, "Judge") {
				t.Errorf("asked were %v", asked)
			}
		})
	}
}

// A plugin that says no is named, and none after it.
func TestNobodyIsAskedAfterARefusal(t *testing.T) {
	var names []string
	no := errors.New("no")
	step := func(name string, err error) plugin.Plugin {
		return plugin.Plugin{Name: name, Operations: []request.Operation{request.Create}, Sets: map[schema.GroupResource][]string{plugin.Pods: {"spec"}},
			Admit: func(context.Context, *request.AdmissionAttributes) error { return err }}
	}
	chain := &Chain{Plugins: []plugin.Plugin{step("First", nil), step("Second", no), step("Never", nil)}}
	for _, s := range recorded(t, chain, create("pods", &corev1.Pod{})) {
		names = append(names, s.Plugin)
		if s.Refused != (s.Plugin == "Second") || s.Changed {
			t.Errorf("%+v", s)
		}
	}
	if strings.Join(names, " ") != "First Second" {
		t.Errorf("asked were %v", names)
	}
}

// What a plugin changes stands in its Sets: otherwise the record would not show it. Here each plugin is
// compared before and after, on objects that all of them have something to do with.
func TestPluginsSayWhatTheySet(t *testing.T) {
	chain := newChain(t, func(c *Config) {
		c.Nodes = lister.Slice(none, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyZone: "z"}}})
		c.LimitRanges = lister.Slice(none, &corev1.LimitRange{ObjectMeta: named("l"), Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Default: amounts("cpu", "1"), DefaultRequest: amounts("cpu", "100m")}}}})
		c.RuntimeClasses = lister.Slice(none, &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "sandboxed"}, Handler: "h", Overhead: &nodev1.Overhead{PodFixed: amounts("cpu", "10m")},
			Scheduling: &nodev1.Scheduling{NodeSelector: map[string]string{"a": "b"}, Tolerations: []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists}}}})
		c.StorageClasses = lister.Slice(none, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}})
		c.IngressClasses = lister.Slice(none, &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: "front", Annotations: map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}}})
	})
	pod := podOf(nil, nil)
	pod.Spec.NodeName, pod.Spec.RuntimeClassName = "n1", ptr.To("sandboxed")
	pod.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i"}}
	changed := map[string]bool{}
	for _, a := range []*request.AdmissionAttributes{
		create("pods", pod), create("nodes", &corev1.Node{}), create("persistentvolumeclaims", &corev1.PersistentVolumeClaim{}), create("persistentvolumes", &corev1.PersistentVolume{}),
		create("configmaps", &corev1.ConfigMap{}), write(request.Create, "networking.k8s.io", "ingresses", "", &networkingv1.Ingress{}, nil),
		write(request.Update, "", "pods", "", podOf(nil, nil), &corev1.Pod{Spec: corev1.PodSpec{Priority: ptr.To(int32(1))}}),
	} {
		for i := range chain.Plugins {
			p := &chain.Plugins[i]
			if p.Admit == nil || !p.Handles(a) {
				continue
			}
			before := fieldsOf(t, a.Object)
			if err := p.Admit(t.Context(), a); err != nil {
				t.Fatalf("%s, %s: %v", p.Name, a.Resource.Resource, err)
			}
			after := fieldsOf(t, a.Object)
			for path, value := range after {
				if before[path] == value {
					continue
				}
				changed[p.Name] = true
				if !slices.ContainsFunc(p.Sets[a.Resource.GroupResource()], func(field string) bool { return path == field || strings.HasPrefix(path, field+".") }) {
					t.Errorf("%s sets %s of %s, which is not in its Sets", p.Name, path, a.Resource.Resource)
				}
			}
		}
	}
	for i := range chain.Plugins {
		if p := &chain.Plugins[i]; len(p.Sets) > 0 && !changed[p.Name] {
			t.Errorf("%s has Sets, and changed nothing here", p.Name)
		}
	}
}

// fieldsOf are the values of an object by the path of their field, items of lists together.
func fieldsOf(t *testing.T, object runtime.Object) map[string]string {
	t.Helper()
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch v := value.(type) {
		case map[string]any:
			for name, field := range v {
				walk(strings.TrimPrefix(path+"."+name, "."), field)
			}
		case []any:
			for _, item := range v {
				walk(path, item)
			}
		default:
			text, _ := json.Marshal(v)
			fields[path] += string(text) + "\n"
		}
	}
	walk("", value)
	return fields
}

// To note what the plugins do costs no allocation, whether they may change the object or not.
func TestRecordingCostsNothing(t *testing.T) {
	nothing := func(context.Context, *request.AdmissionAttributes) error { return nil }
	chain := &Chain{}
	for range 12 {
		chain.Plugins = append(chain.Plugins, plugin.Plugin{Name: "p", Operations: []request.Operation{request.Create}, Admit: nothing, Validate: nothing,
			Sets: map[schema.GroupResource][]string{plugin.Pods: {"spec"}}})
	}
	q := flow.NewRecord(0).Begin(http.Header{}, time.Unix(1, 0))
	ctx := request.WithInfo(t.Context(), &request.Info{Flow: q})
	for _, a := range []*request.AdmissionAttributes{create("pods", &corev1.Pod{}), create("configmaps", &corev1.ConfigMap{})} {
		if n := testing.AllocsPerRun(100, func() { _ = chain.Admit(ctx, a); _ = chain.Validate(ctx, a) }); n > 0 {
			t.Errorf("%s: %.0f allocations", a.Resource.Resource, n)
		}
	}
}
