package apps_test

import (
	"context"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"hyperkube/test/integration"
)

func demoDeployment() *appsv1.Deployment {
	app := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: app},
			Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: app}, Spec: v1.PodSpec{Containers: []v1.Container{{Name: "web", Image: "hyperkube.local/demo"}}}},
		},
	}
}

// Spec and status are written through different doors, and only what is wanted counts generations.
func TestDeployment(t *testing.T) {
	client, ctx := integration.Start(t).Client, context.Background()
	deployments := client.AppsV1().Deployments("default")
	d, err := deployments.Create(ctx, demoDeployment(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if *d.Spec.Replicas != 1 || d.Generation != 1 || d.Spec.Strategy.RollingUpdate.MaxSurge.String() != "25%" || *d.Spec.RevisionHistoryLimit != 10 || *d.Spec.ProgressDeadlineSeconds != 600 {
		t.Errorf("defaults: %+v, generation %d", d.Spec, d.Generation)
	}
	d.Status.Replicas, d.Status.ObservedGeneration = 1, 1
	d.Spec.Replicas = ptr.To[int32](9)
	d, err = deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{})
	if err != nil || *d.Spec.Replicas != 1 || d.Status.Replicas != 1 || d.Generation != 1 {
		t.Fatalf("writing the status: %+v, %v", d, err)
	}
	d.Status.Replicas = 7
	d.Spec.Template.Spec.Containers[0].Image = "hyperkube.local/demo:2"
	d, err = deployments.Update(ctx, d, metav1.UpdateOptions{})
	if err != nil || d.Status.Replicas != 1 || d.Generation != 2 {
		t.Fatalf("writing the spec: %+v, %v", d, err)
	}
	d.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
	if _, err = deployments.Update(ctx, d, metav1.UpdateOptions{}); !errors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.selector: Invalid value") || !strings.Contains(err.Error(), "field is immutable") {
		t.Errorf("changing the selector: %v", err)
	}
}

func TestScale(t *testing.T) {
	client, ctx := integration.Start(t).Client, context.Background()
	deployments := client.AppsV1().Deployments("default")
	d, err := deployments.Create(ctx, demoDeployment(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale, err := deployments.GetScale(ctx, "web", metav1.GetOptions{})
	if err != nil || scale.Spec.Replicas != 1 || scale.Status.Selector != "app=web" || scale.ResourceVersion != d.ResourceVersion {
		t.Fatalf("reading: %+v, %v", scale, err)
	}
	scale.Spec.Replicas = 3
	if scale, err = deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); err != nil || scale.Spec.Replicas != 3 {
		t.Fatalf("writing: %+v, %v", scale, err)
	}
	scale.ResourceVersion = d.ResourceVersion
	if _, err := deployments.UpdateScale(ctx, "web", scale, metav1.UpdateOptions{}); !errors.IsConflict(err) {
		t.Errorf("writing an old version: %v, want a conflict", err)
	}
	negative := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: -1}}
	if _, err := deployments.UpdateScale(ctx, "web", negative, metav1.UpdateOptions{}); !errors.IsInvalid(err) {
		t.Errorf("a negative scale: %v", err)
	}
	negative.UID = "another"
	if _, err := deployments.UpdateScale(ctx, "web", negative, metav1.UpdateOptions{}); !errors.IsConflict(err) || !strings.Contains(err.Error(), "Key: /registry/deployments/default/web, ") {
		t.Errorf("a scale of another object: %v", err)
	}
	patched, err := deployments.Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{}, "scale")
	if err != nil || patched == nil {
		t.Fatalf("patching: %v", err)
	}
	if d, err = deployments.Get(ctx, "web", metav1.GetOptions{}); err != nil || *d.Spec.Replicas != 5 || d.Generation != 3 {
		t.Errorf("the deployment: %+v, %v", d, err)
	}
}

// Who takes a name that is on its way out learns that it will be free, whether it tries or does it.
func TestNameOnItsWayOut(t *testing.T) {
	client, ctx := integration.Start(t).Client, context.Background()
	deployments := client.AppsV1().Deployments("default")
	held := demoDeployment()
	held.Finalizers = []string{"example.com/held"}
	if _, err := deployments.Create(ctx, held, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := deployments.Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, dry := range [][]string{nil, {metav1.DryRunAll}} {
		_, err := deployments.Create(ctx, demoDeployment(), metav1.CreateOptions{DryRun: dry})
		if !errors.IsAlreadyExists(err) || !strings.HasPrefix(err.Error(), "object is being deleted: ") {
			t.Errorf("dry run %q: %v", dry, err)
		}
	}
}
