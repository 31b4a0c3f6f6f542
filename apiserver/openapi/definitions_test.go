package openapi

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// Every served kind must be known to managed fields, Scale too (which client-go's own converter lacks).
func TestTypeConverterKnowsKinds(t *testing.T) {
	converter := TypeConverter()
	for _, obj := range []runtime.Object{&appsv1.Deployment{}, &autoscalingv1.Scale{}} {
		kinds, _, err := scheme.Scheme.ObjectKinds(obj)
		if err != nil {
			t.Fatal(err)
		}
		obj.GetObjectKind().SetGroupVersionKind(kinds[0])
		if _, err := converter.ObjectToTyped(obj); err != nil {
			t.Errorf("%s: %v", kinds[0], err)
		}
	}
}

// An update converts without validation what a first object of the kind has shown to be right: the fields found are the same.
func TestUnvalidatedFieldsAreTheSame(t *testing.T) {
	converter := TypeConverter()
	pod := func(image string) *corev1.Pod {
		p := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"app": "web"}}}
		p.Spec.Containers = []corev1.Container{{Name: "demo", Image: image, Ports: []corev1.ContainerPort{{ContainerPort: 80, Protocol: "TCP"}}}}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		return p
	}
	typedOf := func(obj runtime.Object, options ...typed.ValidationOptions) *typed.TypedValue {
		value, err := converter.ObjectToTyped(obj, options...)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for _, obj := range []runtime.Object{pod("a"), &appsv1.Deployment{TypeMeta: metav1.TypeMeta{Kind: "Deployment", APIVersion: "apps/v1"}, Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: pod("a").Spec}}}} {
		validated, unvalidated := typedOf(obj), typedOf(obj, typed.AllowDuplicates)
		want, err := validated.ToFieldSet()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := unvalidated.ToFieldSet(); err != nil || !got.Equals(want) {
			t.Errorf("%T has the fields %v (%v), want %v", obj, got, err, want)
		}
	}
	changes, err := typedOf(pod("a"), typed.AllowDuplicates).Compare(typedOf(pod("b"), typed.AllowDuplicates))
	if err != nil {
		t.Fatal(err)
	}
	if got := changes.Modified.String(); got != `.spec.containers[name="demo"].image` || !changes.Added.Empty() || !changes.Removed.Empty() {
		t.Errorf("changed: %s, added %v, removed %v", got, changes.Added, changes.Removed)
	}
}
