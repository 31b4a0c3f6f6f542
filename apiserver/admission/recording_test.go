package admission

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/request"
	"hyperkube/flow"
)

// recorded runs a chain on an object within a recorded request, and returns what each plugin did.
func recorded(t *testing.T, chain *Chain, a *request.AdmissionAttributes) []flow.AdmissionStep {
	t.Helper()
	record := flow.NewRecord(0)
	q := record.Begin(http.Header{}, time.Unix(1, 0))
	q.Verb = "create"
	ctx := request.WithInfo(t.Context(), &request.Info{Flow: q})
	if err := chain.Admit(ctx, a); err == nil {
		_ = chain.Validate(ctx, a)
	}
	q.Wrote(flow.Write{Kind: schema.GroupVersionKind{Version: "v1", Kind: "Pod"}, Key: "ns/web", Revision: 7})
	record.End(q, 201, 0)
	story := record.Trace(flow.Target{Kind: schema.GroupKind{Kind: "Pod"}, Namespace: "ns", Name: "web"})
	if len(story.Roots) != 1 {
		t.Fatalf("%d roots", len(story.Roots))
	}
	return story.Roots[0].AdmissionSteps
}

// Of each plugin that was asked the record knows whether it changed the object, and in what.
func TestWhatPluginsChange(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	a := &request.AdmissionAttributes{
		User: &request.User{Name: "jane"}, Operation: request.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "ns", Name: "web", Object: pod,
	}
	steps := recorded(t, newChain(t), a)
	want := map[string]string{
		"ServiceAccount":           `spec.serviceAccountName: none → "default"`,
		"Priority":                 "spec.priority: none → 0",
		"DefaultTolerationSeconds": "spec.tolerations: none → ",
	}
	var asked []string
	for _, s := range steps {
		asked = append(asked, s.Plugin)
		diff := strings.Join(s.Diff, "\n")
		if text, changes := want[s.Plugin]; changes != s.Changed || !strings.Contains(diff, text) || changes != (diff != "") {
			t.Errorf("%s: changed %v, in\n%s", s.Plugin, s.Changed, diff)
		}
	}
	for name := range want {
		if !slices.Contains(asked, name) {
			t.Errorf("%s is not among %v", name, asked)
		}
	}
}

// What a plugin does that nobody expected to change this kind is known from the second time on; that
// it did, at once. The plugin that refuses is named, and none after it.
func TestUnexpectedChangesAndRefusals(t *testing.T) {
	label := func(value string) func(context.Context, *request.AdmissionAttributes) error {
		return func(_ context.Context, a *request.AdmissionAttributes) error {
			metav1.SetMetaDataLabel(&a.Object.(*corev1.ConfigMap).ObjectMeta, "by", value)
			return nil
		}
	}
	on := []request.Operation{request.Create}
	chain := &Chain{Plugins: []plugin.Plugin{
		{Name: "Idle", Operations: on, Admit: func(context.Context, *request.AdmissionAttributes) error { return nil }},
		{Name: "Labels", Operations: on, Admit: label("aa")},
		{Name: "MutatingAdmissionWebhook", Operations: on, Admit: label("bb")}, // as long as what it replaces
		{Name: "Judge", Operations: on, Validate: func(context.Context, *request.AdmissionAttributes) error { return errors.New("no") }},
		{Name: "Never", Operations: on, Validate: func(context.Context, *request.AdmissionAttributes) error { return nil }},
	}}
	attributes := func() *request.AdmissionAttributes {
		return &request.AdmissionAttributes{Operation: request.Create, Resource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"},
			Object: &corev1.ConfigMap{Data: map[string]string{"k": "v"}}}
	}
	first := recorded(t, chain, attributes())
	if len(first) != 4 || first[0].Changed || !first[1].Changed || first[1].Diff != nil || !first[3].Refused || first[3].Plugin != "Judge" {
		t.Errorf("the first time: %+v", first)
	}
	second := recorded(t, chain, attributes())
	if len(second) != 4 || strings.Join(second[1].Diff, "") != `metadata.labels: none → {"by":"aa"}` || strings.Join(second[2].Diff, "") != `metadata.labels.by: "aa" → "bb"` {
		t.Errorf("the second time: %+v", second)
	}
}

// Most kinds are changed by no plugin: to know that costs no allocation.
func TestRecordingCostsNothing(t *testing.T) {
	nothing := func(context.Context, *request.AdmissionAttributes) error { return nil }
	chain := &Chain{}
	for range 12 {
		chain.Plugins = append(chain.Plugins, plugin.Plugin{Name: "p", Operations: []request.Operation{request.Update}, Admit: nothing, Validate: nothing})
	}
	a := &request.AdmissionAttributes{Operation: request.Update, Object: &corev1.ConfigMap{Data: map[string]string{"k": "v"}}}
	q := flow.NewRecord(0).Begin(http.Header{}, time.Unix(1, 0))
	ctx := request.WithInfo(t.Context(), &request.Info{Flow: q})
	if n := testing.AllocsPerRun(100, func() { _ = chain.Admit(ctx, a); _ = chain.Validate(ctx, a) }); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}
