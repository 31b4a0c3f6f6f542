package autoscaling_test

import (
	"context"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

// versions are the API versions of the managed fields, each once.
func versions(entries []metav1.ManagedFieldsEntry) []string {
	var list []string
	for _, e := range entries {
		list = append(list, e.Manager+" "+e.APIVersion)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// One autoscaler, applied in both of its versions: each manager owns what it wrote in the version it speaks.
func TestApplyBothVersions(t *testing.T) {
	client, ctx := integration.Start(t).Client, context.Background()
	body := func(version, spec string) []byte {
		return []byte(`{"apiVersion":"autoscaling/` + version + `","kind":"HorizontalPodAutoscaler","metadata":{"name":"a"},"spec":{` + spec + `}}`)
	}
	target := `"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"a"}`
	one := client.AutoscalingV1().HorizontalPodAutoscalers("default")
	two := client.AutoscalingV2().HorizontalPodAutoscalers("default")
	a, err := one.Patch(ctx, "a", types.ApplyPatchType, body("v1", target+`,"maxReplicas":3,"targetCPUUtilizationPercentage":60`), metav1.PatchOptions{FieldManager: "elder"})
	if err != nil {
		t.Fatal(err)
	}
	if got := versions(a.ManagedFields); a.Spec.MaxReplicas != 3 || !slices.Equal(got, []string{"elder autoscaling/v1"}) {
		t.Fatalf("applied as v1: %+v, %q", a.Spec, got)
	}
	if _, err := two.Patch(ctx, "a", types.ApplyPatchType, body("v2", `"maxReplicas":5`), metav1.PatchOptions{FieldManager: "newer"}); !errors.IsConflict(err) {
		t.Errorf("v2 takes what v1 owns: %v", err)
	}
	b, err := two.Patch(ctx, "a", types.ApplyPatchType, body("v2", `"minReplicas":2`), metav1.PatchOptions{FieldManager: "newer", Force: ptr.To(true)})
	if err != nil {
		t.Fatal(err)
	}
	if got := versions(b.ManagedFields); *b.Spec.MinReplicas != 2 || *b.Spec.Metrics[0].Resource.Target.AverageUtilization != 60 || !slices.Equal(got, []string{"elder autoscaling/v1", "newer autoscaling/v2"}) {
		t.Errorf("applied as v2: %+v, %q", b.Spec, got)
	}
	if a, err = one.Patch(ctx, "a", types.ApplyPatchType, body("v1", target+`,"maxReplicas":4`), metav1.PatchOptions{FieldManager: "elder"}); err != nil {
		t.Fatal(err)
	}
	if a.Spec.MaxReplicas != 4 || *a.Spec.MinReplicas != 2 {
		t.Errorf("applied again as v1: max %d, min %d", a.Spec.MaxReplicas, *a.Spec.MinReplicas)
	}
	if a, err = one.Patch(ctx, "a", types.MergePatchType, []byte(`{"spec":{"maxReplicas":6}}`), metav1.PatchOptions{FieldManager: "patcher"}); err != nil {
		t.Fatal(err)
	}
	if got := versions(a.ManagedFields); !slices.Contains(got, "patcher autoscaling/v1") {
		t.Errorf("patched as v1: %q", got)
	}
}

// An applier that no longer says a field gives it up, and the default comes back: by v1's conversion, for v1's only metric.
func TestApplyGivesUpTheTarget(t *testing.T) {
	client, ctx := integration.Start(t).Client, context.Background()
	body := func(more string) []byte {
		return []byte(`{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","metadata":{"name":"a"},"spec":{
			"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"a"},"maxReplicas":3` + more + `}}`)
	}
	one, mine := client.AutoscalingV1().HorizontalPodAutoscalers("default"), metav1.PatchOptions{FieldManager: "me"}
	for _, step := range []struct {
		more string
		want int32
	}{{`,"targetCPUUtilizationPercentage":60`, 60}, {``, 80}, {`,"targetCPUUtilizationPercentage":70`, 70}, {``, 80}} {
		a, err := one.Patch(ctx, "a", types.ApplyPatchType, body(step.more), mine)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Spec.TargetCPUUtilizationPercentage; got == nil || *got != step.want {
			t.Errorf("applied %q: %v, want %d", step.more, ptr.Deref(got, -1), step.want)
		}
	}
}

func TestApplyEvent(t *testing.T) {
	client, ctx := integration.Start(t).Client, context.Background()
	body := `{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"e"},"regarding":{"kind":"Pod","namespace":"default","name":"p"},
		"eventTime":"2026-01-01T00:00:00.000000Z","reportingController":"example.com/a","reportingInstance":"a","action":"Do","reason":"Done","note":"well","type":"Normal"}`
	e, err := client.EventsV1().Events("default").Patch(ctx, "e", types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: "me"})
	if err != nil {
		t.Fatal(err)
	}
	if got := versions(e.ManagedFields); !slices.Equal(got, []string{"me events.k8s.io/v1"}) {
		t.Errorf("owners: %q", got)
	}
	stored, err := client.CoreV1().Events("default").Get(ctx, "e", metav1.GetOptions{})
	if err != nil || stored.Message != "well" || stored.InvolvedObject.Name != "p" {
		t.Errorf("stored: %+v, %v", stored, err)
	}
	// The newer version asks for more than the elder.
	if _, err := client.EventsV1().Events("default").Create(ctx, &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Regarding: v1.ObjectReference{Namespace: "default"}}, metav1.CreateOptions{}); !errors.IsInvalid(err) {
		t.Errorf("an event without a time: %v", err)
	}
}
