package integration

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
)

func deployment(name string) *appsv1.Deployment {
	labels, replicas := map[string]string{"app": name}, int32(2)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			},
		},
	}
}

// owner returns what a manager owns through an endpoint, "" when nothing.
func owner(entries []metav1.ManagedFieldsEntry, manager, subresource string) string {
	for _, e := range entries {
		if e.Manager == manager && e.Subresource == subresource {
			return e.FieldsV1.GetRawString()
		}
	}
	return ""
}

// Who writes status owns status and can change nothing else; who writes the object cannot touch status, nor own it.
func TestStatus(t *testing.T) {
	c := Start(t)
	ctx, deployments := context.Background(), c.Client.AppsV1().Deployments("default")
	d := deployment("d")
	d.Status.Replicas = 7
	d, err := deployments.Create(ctx, d, metav1.CreateOptions{FieldManager: "user"})
	if err != nil || d.Status.Replicas != 0 || d.Generation != 1 {
		t.Fatalf("created with status %+v, generation %d, %v", d.Status, d.Generation, err)
	}
	if fields := owner(d.ManagedFields, "user", ""); !strings.Contains(fields, "f:replicas") || strings.Contains(fields, "f:status") {
		t.Errorf("the creator owns %s", fields)
	}
	d.Status.Replicas, d.Status.ObservedGeneration = 2, 1
	more := int32(9)
	d.Spec.Replicas = &more
	d, err = deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{FieldManager: "controller"})
	if err != nil || d.Status.Replicas != 2 || *d.Spec.Replicas != 2 || d.Generation != 1 {
		t.Errorf("after a write of status: %+v, %d replicas wanted, generation %d, %v", d.Status, *d.Spec.Replicas, d.Generation, err)
	}
	if fields := owner(d.ManagedFields, "controller", "status"); !strings.Contains(fields, "f:status") || strings.Contains(fields, "f:spec") {
		t.Errorf("the controller owns %s", fields)
	}
	wanted := applyappsv1.Deployment("d", "default").WithStatus(applyappsv1.DeploymentStatus().WithReplicas(5))
	d, err = deployments.Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "applier"})
	if err != nil || d.Status.Replicas != 2 || strings.Contains(owner(d.ManagedFields, "applier", ""), "f:status") {
		t.Errorf("applied through the main endpoint: %+v, %v", d.Status, err)
	}
}

// Scale is a view with its own version check, and a change through it is a change of the object.
func TestScale(t *testing.T) {
	c := Start(t)
	ctx, deployments := context.Background(), c.Client.AppsV1().Deployments("default")
	if _, err := deployments.Create(ctx, deployment("s"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	scale, err := deployments.GetScale(ctx, "s", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 2 || scale.Status.Selector != "app=s" {
		t.Fatalf("%+v, %v", scale, err)
	}
	old := scale.DeepCopy()
	scale.Spec.Replicas = 3
	if scale, err = deployments.UpdateScale(ctx, "s", scale, metav1.UpdateOptions{}); err != nil || scale.Spec.Replicas != 3 {
		t.Fatalf("%+v, %v", scale, err)
	}
	old.Spec.Replicas = 4
	if _, err = deployments.UpdateScale(ctx, "s", old, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("an old scale: %v", err)
	}
	patch := []byte(`{"spec":{"replicas":6}}`)
	if _, err := deployments.Patch(ctx, "s", types.MergePatchType, patch, metav1.PatchOptions{}, "scale"); err != nil {
		t.Error(err)
	}
	d, err := deployments.Get(ctx, "s", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 6 || d.Generation != 3 {
		t.Errorf("%d replicas, generation %d, %v", *d.Spec.Replicas, d.Generation, err)
	}
	if fields := owner(d.ManagedFields, "integration.test", "scale"); !strings.Contains(fields, "f:replicas") {
		t.Errorf("owned through scale: %q in %+v", fields, d.ManagedFields)
	}
}

// Many clients that change one object by patches all succeed; those that PUT find out who was first.
func TestConcurrentPatches(t *testing.T) {
	c := Start(t)
	ctx, maps := context.Background(), c.Client.CoreV1().ConfigMaps("default")
	if _, err := maps.Create(ctx, configMap("m", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const n = 20
	failed := make(chan error, n)
	for i := range n {
		go func() {
			patch := `{"data":{"k` + string(rune('a'+i)) + `":"v"}}`
			_, err := maps.Patch(ctx, "m", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
			failed <- err
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if m, err := maps.Get(ctx, "m", metav1.GetOptions{}); err != nil || len(m.Data) != n {
		t.Errorf("%d of %d patches are there, %v", len(m.Data), n, err)
	}
}
