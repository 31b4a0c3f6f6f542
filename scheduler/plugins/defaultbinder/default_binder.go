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

// maxBindings is how many Bindings are on their way to the apiserver at once. Each pod has a binding cycle of its own, so without a
// limit hundreds go out together: more than the apiserver's fair queues hold for one user (300), which refuse the rest with 429 and
// "Retry-After: 1", and the last pods of a burst would be bound a second late. 64 keep any apiserver busy.
const maxBindings = 64

// DefaultBinder is a Bind plugin.
type DefaultBinder struct {
	handle framework.Handle
	turns  chan struct{} // one a Binding under way
}

// New returns the plugin.
func New(_ context.Context, h framework.Handle, _ framework.Args) (framework.Plugin, error) {
	return &DefaultBinder{handle: h, turns: make(chan struct{}, maxBindings)}, nil
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
	select {
	case b.turns <- struct{}{}:
		defer func() { <-b.turns }()
	case <-ctx.Done():
		return framework.AsStatus(ctx.Err())
	}
	err := b.handle.ClientSet().CoreV1().Pods(binding.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	return framework.AsStatus(err)
}
