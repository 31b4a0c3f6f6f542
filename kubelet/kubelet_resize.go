package kubelet

import (
	"context"
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/kuberuntime"
)

// allocatedPodsStateFile is where allocations outlive the kubelet.
const allocatedPodsStateFile = "allocated_pods_state"

// resizePod decides about a wish for other resources and returns the pod with what
// it is allocated, which is what the rest of a sync works with (KEP-1287).
func (kl *Kubelet) resizePod(ctx context.Context, pod *v1.Pod) (*v1.Pod, error) {
	decision, err := kl.allocation.Resize(pod, kl.othersOf(pod.UID), kl.node())
	if err != nil {
		return nil, err
	}
	ref := kubecontainer.GeneratePodRef(pod)
	switch {
	case decision.Allocated:
		kl.recorder.Event(ref, v1.EventTypeNormal, "ResizeStarted", resizeMessage(pod, "started", ""))
	case decision.News && decision.Reason == v1.PodReasonInfeasible:
		kl.recorder.Event(ref, v1.EventTypeWarning, "ResizeInfeasible", resizeMessage(pod, decision.Reason, decision.Message))
	case decision.News:
		kl.recorder.Event(ref, v1.EventTypeWarning, "ResizeDeferred", resizeMessage(pod, decision.Reason, decision.Message))
	}
	if decision.Freed {
		kl.retryDeferredResizes(ctx)
	}
	return kl.allocation.UpdatePodFromAllocation(pod), nil
}

// finishResize tells how carrying out an allocation went, and takes from the pod's
// cgroup what its containers no longer have: a parent must never have less than a child.
func (kl *Kubelet) finishResize(ctx context.Context, pod *v1.Pod, podStatus *kubecontainer.PodStatus, result kubecontainer.PodSyncResult) {
	ref := kubecontainer.GeneratePodRef(pod)
	if err := kuberuntime.ResizeError(result); err != nil {
		if kl.allocation.Progress(pod, false, err) {
			kl.recorder.Event(ref, v1.EventTypeWarning, "ResizeError", resizeMessage(pod, "error", err.Error()))
		}
		return
	}
	if kl.manager.ResizeInProgress(pod, podStatus) {
		return
	}
	if err := kl.cgroups.Shrink(pod); err != nil {
		klog.FromContext(ctx).V(1).Info("The pod's cgroup keeps its former limits", "pod", klog.KObj(pod), "cause", err.Error())
		if kl.allocation.Progress(pod, false, err) {
			kl.recorder.Event(ref, v1.EventTypeWarning, "ResizeError", resizeMessage(pod, "error", err.Error()))
		}
		return
	}
	if kl.allocation.Progress(pod, true, nil) {
		kl.recorder.Event(ref, v1.EventTypeNormal, "ResizeCompleted", resizeMessage(pod, "completed", ""))
	}
}

// retryDeferredResizes has those asked again who wait for room.
func (kl *Kubelet) retryDeferredResizes(ctx context.Context) {
	if deferred := kl.allocation.Deferred(); len(deferred) > 0 {
		kl.HandlePodSyncs(ctx, deferred)
	}
}

// othersOf are the other pods that use the node's room.
func (kl *Kubelet) othersOf(uid types.UID) []*v1.Pod {
	var others []*v1.Pod
	for _, pod := range kl.activePods() {
		if pod.UID != uid {
			others = append(others, pod)
		}
	}
	return others
}

// resizeMessage is upstream's: a word, then what was asked for as JSON.
func resizeMessage(pod *v1.Pod, word, failure string) string {
	type container struct {
		Name      string                  `json:"name"`
		Resources v1.ResourceRequirements `json:"resources"`
	}
	message := struct {
		Containers     []container `json:"containers,omitempty"`
		InitContainers []container `json:"initContainers,omitempty"`
		Generation     int64       `json:"generation"`
		Error          string      `json:"error,omitempty"`
	}{Generation: pod.Generation, Error: failure}
	for _, c := range pod.Spec.InitContainers {
		message.InitContainers = append(message.InitContainers, container{c.Name, c.Resources})
	}
	for _, c := range pod.Spec.Containers {
		message.Containers = append(message.Containers, container{c.Name, c.Resources})
	}
	data, err := json.Marshal(message)
	if err != nil {
		return "Pod resize " + word
	}
	return fmt.Sprintf("Pod resize %s: %s", word, data)
}
