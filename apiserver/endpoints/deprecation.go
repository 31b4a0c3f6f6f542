package endpoints

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Deprecated says whether a kind is on its way out, and in which release ("1.40") it is gone, if that is known.
func Deprecated(obj runtime.Object, kind schema.GroupVersionKind) (removed string, deprecated bool) {
	if deprecation(obj, kind) == "" {
		return "", false
	}
	if major, minor := removal(obj); major != 0 || minor != 0 {
		removed = fmt.Sprintf("%d.%d", major, minor)
	}
	return removed, true
}

func removal(obj runtime.Object) (major, minor int) {
	if removed, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) }); ok {
		return removed.APILifecycleRemoved()
	}
	return 0, 0
}

// deprecation is what each answer about a kind on its way out warns of, whatever the verb; "" for all others. The
// types of k8s.io/api know of themselves since when, and what to use instead:
//
//	v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice
//
// In Kubernetes: WarningMessage of k8s.io/apiserver/pkg/endpoints/deprecation.
func deprecation(obj runtime.Object, kind schema.GroupVersionKind) string {
	deprecated, ok := obj.(interface{ APILifecycleDeprecated() (major, minor int) })
	if !ok {
		return ""
	}
	major, minor := deprecated.APILifecycleDeprecated()
	if major == 0 && minor == 0 {
		return ""
	}
	text := fmt.Sprintf("%s %s is deprecated in v%d.%d+", kind.GroupVersion(), kind.Kind, major, minor)
	if major, minor := removal(obj); major != 0 || minor != 0 {
		text += fmt.Sprintf(", unavailable in v%d.%d+", major, minor)
	}
	if replaced, ok := obj.(interface {
		APILifecycleReplacement() schema.GroupVersionKind
	}); ok {
		if by := replaced.APILifecycleReplacement(); !by.Empty() {
			text += fmt.Sprintf("; use %s %s", by.GroupVersion(), by.Kind)
		}
	}
	return text
}
