package endpoints

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func TestDeprecation(t *testing.T) {
	for kind, test := range map[string]struct {
		obj  runtime.Object
		want string
	}{
		"Endpoints":       {&v1.Endpoints{}, "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"},
		"ComponentStatus": {&v1.ComponentStatus{}, "v1 ComponentStatus is deprecated in v1.19+"},
		"Pod":             {&v1.Pod{}, ""},
	} {
		if got := deprecation(test.obj, v1.SchemeGroupVersion.WithKind(kind)); got != test.want {
			t.Errorf("%s: %q, want %q", kind, got, test.want)
		}
	}
}
