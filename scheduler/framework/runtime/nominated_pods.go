package runtime

import (
	"context"

	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"hyperkube/scheduler/framework"
)

// RunFilterPluginsWithNominatedPods asks the Filter plugins about a node to which other
// pods are nominated: it must take the pod both with them and without. With them, or
// their room would be given away; without, since they may never come, and a pod that
// only fits beside them (affinity) would then stand alone. Pods of lower priority
// do not count: they would have to make room again.
func (f *Framework) RunFilterPluginsWithNominatedPods(ctx context.Context, state *framework.CycleState, pod *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	if waiting := f.nominatedBefore(pod, node); len(waiting) > 0 {
		with, crowded := state.Clone(), node.Snapshot()
		for _, other := range waiting {
			crowded.AddPod(other)
			if status := f.RunPreFilterExtensionAddPod(ctx, with, pod, other, crowded); !status.IsSuccess() {
				return status
			}
		}
		if status := f.RunFilterPlugins(ctx, with, pod, crowded); !status.IsSuccess() {
			return status
		}
	}
	return f.RunFilterPlugins(ctx, state, pod, node)
}

// nominatedBefore are the other pods that wait for the node and come before pod.
func (f *Framework) nominatedBefore(pod *framework.PodInfo, node *framework.NodeInfo) []*framework.PodInfo {
	if f.Nominator == nil {
		return nil
	}
	nominated := f.Nominator.NominatedPodsForNode(node.Node().Name)
	if len(nominated) == 0 {
		return nil
	}
	var before []*framework.PodInfo
	for _, other := range nominated {
		if other.Pod.UID != pod.Pod.UID && corev1helpers.PodPriority(other.Pod) >= corev1helpers.PodPriority(pod.Pod) {
			before = append(before, other)
		}
	}
	return before
}

// RunPreFilterExtensionAddPod keeps the PreFilter states right after added was put onto node.
func (f *Framework) RunPreFilterExtensionAddPod(ctx context.Context, state *framework.CycleState, pod, added *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	return f.extendPreFilter(state, func(e framework.PreFilterExtensions) *framework.Status { return e.AddPod(ctx, state, pod, added, node) })
}

// RunPreFilterExtensionRemovePod keeps the PreFilter states right after removed was taken from node.
func (f *Framework) RunPreFilterExtensionRemovePod(ctx context.Context, state *framework.CycleState, pod, removed *framework.PodInfo, node *framework.NodeInfo) *framework.Status {
	return f.extendPreFilter(state, func(e framework.PreFilterExtensions) *framework.Status {
		return e.RemovePod(ctx, state, pod, removed, node)
	})
}

func (f *Framework) extendPreFilter(state *framework.CycleState, call func(framework.PreFilterExtensions) *framework.Status) *framework.Status {
	for _, p := range f.preFilter {
		extensions, ok := p.(framework.PreFilterExtensions)
		if !ok || state.SkipFilterPlugins.Has(p.Name()) {
			continue
		}
		if status := call(extensions); !status.IsSuccess() {
			return asStatus("PreFilterExtensions", p.Name(), status)
		}
	}
	return nil
}
