// Package defaulttolerationseconds lets a pod stay for 300 s on a node that is not ready or does not
// answer, unless the pod says otherwise. Without it the node lifecycle's NoExecute taints would
// evict at once.
//
// In Kubernetes: plugin/pkg/admission/defaulttolerationseconds.
package defaulttolerationseconds

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/request"
)

const seconds = int64(300)

// New makes the plugin.
func New() plugin.Plugin {
	return plugin.Plugin{
		Name:       "DefaultTolerationSeconds",
		Operations: []request.Operation{request.Create, request.Update},
		Admit:      admit,
		Sets:       map[schema.GroupResource][]string{plugin.Pods: {"spec.tolerations"}},
	}
}

func admit(_ context.Context, a *request.AdmissionAttributes) error {
	pod, ok := a.Object.(*corev1.Pod)
	if !ok || !plugin.Is(a, "", "pods") {
		return nil
	}
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		if !tolerates(pod.Spec.Tolerations, key) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(seconds),
			})
		}
	}
	return nil
}

// tolerates says whether the pod already has an opinion on key; an empty key or effect means all.
func tolerates(tolerations []corev1.Toleration, key string) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
		return (t.Key == key || t.Key == "") && (t.Effect == corev1.TaintEffectNoExecute || t.Effect == "")
	})
}
