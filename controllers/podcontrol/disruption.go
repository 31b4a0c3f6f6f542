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

// MarkDisruptionTarget notes in the pod's status that the control plane is about
// to delete it, and why (KEP-3329): a Job then does not count it as a failure of
// its own. phase, where not empty, is set too: for a pod whose kubelet will not
// say any more how it ended.
func MarkDisruptionTarget(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, reason, message string, phase corev1.PodPhase) error {
	status := pod.Status.DeepCopy()
	changed := podutil.UpdatePodCondition(status, &corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: message,
		ObservedGeneration: pod.Generation,
	})
	_, condition := podutil.GetPodCondition(status, corev1.DisruptionTarget)
	patched := map[string]any{"conditions": []corev1.PodCondition{*condition}}
	if phase != "" && pod.Status.Phase != phase {
		patched["phase"], changed = phase, true
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
