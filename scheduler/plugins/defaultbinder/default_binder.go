// Package defaultbinder writes the Binding. That is all the scheduler ever does to
// a pod it places: the apiserver sets spec.nodeName from it, and the kubelet of
// that node, watching for its name, starts the pod.
package defaultbinder

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "DefaultBinder"

// DefaultBinder is a Bind plugin.
type DefaultBinder struct {
	handle framework.Handle
}

// New returns the plugin.
func New(_ context.Context, h framework.Handle, _ framework.Args) (framework.Plugin, error) {
	return &DefaultBinder{handle: h}, nil
}

// Name returns the plugin's name.
func (*DefaultBinder) Name() string { return Name }

// Bind posts the Binding. The UID guards against a pod deleted and made anew
// under the same name while the decision was on its way.
func (b *DefaultBinder) Bind(ctx context.Context, _ *framework.CycleState, pod *v1.Pod, nodeName string) *framework.Status {
	klog.FromContext(ctx).V(3).Info("Attempting to bind pod to node", "pod", klog.KObj(pod), "node", nodeName)
	binding := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     v1.ObjectReference{Kind: "Node", Name: nodeName},
	}
	err := b.handle.ClientSet().CoreV1().Pods(binding.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	return framework.AsStatus(err)
}
