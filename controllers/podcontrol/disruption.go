package podcontrol

import (
	"context"
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	podutil "hyperkube/api/core/pod"
)

// Disruption says why the control plane deletes a pod.
type Disruption struct {
	Reason, Message string
	// Phase, where not empty, becomes the pod's: for one whose kubelet will not say
	// any more how it ended.
	Phase corev1.PodPhase
}

// MarkDisruptionTarget notes in the pod's status that the control plane is about
// to delete it, and why (KEP-3329): a Job then does not count it as a failure of
// its own.
func MarkDisruptionTarget(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, why Disruption) error {
	status := pod.Status.DeepCopy()
	changed := podutil.UpdatePodCondition(status, &corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: why.Reason, Message: why.Message,
		ObservedGeneration: pod.Generation,
	})
	_, condition := podutil.GetPodCondition(status, corev1.DisruptionTarget)
	patched := map[string]any{"conditions": []corev1.PodCondition{*condition}}
	if why.Phase != "" && pod.Status.Phase != why.Phase {
		patched["phase"], changed = why.Phase, true
	}
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": patched})
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
