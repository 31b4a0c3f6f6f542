package openapi

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
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
