// Package nodetaint gives each new Node the taint node.kubernetes.io/not-ready, so that no pod is
// placed on it between its registration and its first ready status.
//
// In Kubernetes: plugin/pkg/admission/nodetaint (the plugin TaintNodesByCondition).
package nodetaint

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/request"
)

// New makes the plugin.
func New() plugin.Plugin {
	return plugin.Plugin{
		Name:       "TaintNodesByCondition",
		Operations: []request.Operation{request.Create},
		Admit:      admit,
		Sets:       map[schema.GroupResource][]string{{Resource: "nodes"}: {"spec.taints"}},
	}
}

func admit(_ context.Context, a *request.AdmissionAttributes) error {
	node, ok := a.Object.(*corev1.Node)
	if !ok || !plugin.Is(a, "", "nodes") {
		return nil
	}
	notReady := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	if !slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&notReady) }) {
		node.Spec.Taints = append(node.Spec.Taints, notReady)
	}
	return nil
}
