package status

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	apipod "hyperkube/api/core/pod"
	kubecontainer "hyperkube/kubelet/container"
)

// Reasons of the pod conditions, as upstream spells them.
const (
	unknownContainerStatuses = "UnknownContainerStatuses"
	podCompleted             = "PodCompleted"
	podFailed                = "PodFailed"
	containersNotReady       = "ContainersNotReady"
	containersNotInitialized = "ContainersNotInitialized"
	readinessGatesNotReady   = "ReadinessGatesNotReady"
)

// kubeletConditions are those the kubelet owns; it never touches others.
var kubeletConditions = map[v1.PodConditionType]bool{
	v1.PodScheduled: true, v1.PodReady: true, v1.PodInitialized: true, v1.ContainersReady: true, v1.PodReadyToStartContainers: true,
	v1.PodResizePending: true, v1.PodResizeInProgress: true, v1.AllContainersRestarting: true,
}

// conditions computes all the kubelet's conditions from the container statuses
// that status already has.
func conditions(pod *v1.Pod, status *v1.PodStatus, podStatus *kubecontainer.PodStatus) []v1.PodCondition {
	generated := []v1.PodCondition{
		sandboxCondition(pod, podStatus),
		initializedCondition(pod, status),
		readyCondition(pod, status),
		containersReadyCondition(pod, status),
	}
	if apipod.AllContainersCouldRestart(&pod.Spec) {
		generated = append(generated, restartingCondition(pod, status, podStatus))
	}
	for i := range generated {
		generated[i].ObservedGeneration = pod.Generation
	}
	return generated
}

func sandboxCondition(pod *v1.Pod, podStatus *kubecontainer.PodStatus) v1.PodCondition {
	condition := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse, Reason: "PodSandboxNotReady"}
	if len(podStatus.SandboxStatuses) == 0 {
		condition.Message = "no pod sandbox exists"
		return condition
	}
	switch newest := podStatus.SandboxStatuses[0]; {
	case newest.State != runtimeapi.PodSandboxState_SANDBOX_READY:
		condition.Message = "pod sandbox is not ready"
	case !pod.Spec.HostNetwork && newest.GetNetwork().GetIp() == "":
		condition.Message = "pod sandbox has no IP address"
	default:
		return v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionTrue}
	}
	return condition
}

func initializedCondition(pod *v1.Pod, status *v1.PodStatus) v1.PodCondition {
	condition := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	if status.InitContainerStatuses == nil && len(pod.Spec.InitContainers) > 0 {
		condition.Status, condition.Reason = v1.ConditionFalse, unknownContainerStatuses
		return condition
	}
	var unknown, incomplete []string
	for i := range pod.Spec.InitContainers {
		container := &pod.Spec.InitContainers[i]
		s := findStatus(status.InitContainerStatuses, container.Name)
		switch {
		case s == nil:
			unknown = append(unknown, container.Name)
		case kubecontainer.IsRestartableInitContainer(container):
			if s.Started == nil || !*s.Started {
				incomplete = append(incomplete, container.Name)
			}
		case !s.Ready:
			incomplete = append(incomplete, container.Name)
		}
	}
	if status.Phase == v1.PodSucceeded && len(unknown) == 0 {
		condition.Reason = podCompleted
		return condition
	}
	// Once an ordinary container has run, the pod has been initialized, and stays so
	// while a sidecar restarts.
	if anyContainerStarted(status) && !failed(status) {
		return condition
	}
	if message := notReadyMessage(unknown, "incomplete", incomplete); message != "" {
		condition.Status, condition.Reason, condition.Message = v1.ConditionFalse, containersNotInitialized, message
	}
	return condition
}

func failed(status *v1.PodStatus) bool { return status.Phase == v1.PodFailed }

func anyContainerStarted(status *v1.PodStatus) bool {
	for _, s := range status.ContainerStatuses {
		if s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil {
			return true
		}
	}
	return false
}

func containersReadyCondition(pod *v1.Pod, status *v1.PodStatus) v1.PodCondition {
	condition := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionTrue}
	if status.ContainerStatuses == nil {
		condition.Status, condition.Reason = v1.ConditionFalse, unknownContainerStatuses
		return condition
	}
	var unknown, unready []string
	look := func(container *v1.Container, statuses []v1.ContainerStatus) {
		s := findStatus(statuses, container.Name)
		if s == nil {
			unknown = append(unknown, container.Name)
		} else if !s.Ready {
			unready = append(unready, container.Name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if kubecontainer.IsRestartableInitContainer(&pod.Spec.InitContainers[i]) {
			look(&pod.Spec.InitContainers[i], status.InitContainerStatuses)
		}
	}
	for i := range pod.Spec.Containers {
		look(&pod.Spec.Containers[i], status.ContainerStatuses)
	}
	switch message := notReadyMessage(unknown, "unready", unready); {
	case status.Phase == v1.PodSucceeded && len(unknown) == 0:
		condition.Status, condition.Reason = v1.ConditionFalse, podCompleted
	case failed(status):
		condition.Status, condition.Reason = v1.ConditionFalse, podFailed
	case message != "":
		condition.Status, condition.Reason, condition.Message = v1.ConditionFalse, containersNotReady, message
	}
	return condition
}

func notReadyMessage(unknown []string, word string, others []string) string {
	var parts []string
	if len(unknown) > 0 {
		parts = append(parts, fmt.Sprintf("containers with unknown status: %s", unknown))
	}
	if len(others) > 0 {
		parts = append(parts, fmt.Sprintf("containers with %s status: %s", word, others))
	}
	return strings.Join(parts, ", ")
}

// readyCondition is ContainersReady and all readiness gates, which others set.
func readyCondition(pod *v1.Pod, status *v1.PodStatus) v1.PodCondition {
	condition := containersReadyCondition(pod, status)
	condition.Type = v1.PodReady
	if condition.Status != v1.ConditionTrue {
		return condition
	}
	var missing []string
	for _, gate := range pod.Spec.ReadinessGates {
		if c := FindCondition(status.Conditions, gate.ConditionType); c == nil {
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(gate.ConditionType)))
		} else if c.Status != v1.ConditionTrue {
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(gate.ConditionType), c.Status))
		}
	}
	if len(missing) > 0 {
		condition.Status, condition.Reason, condition.Message = v1.ConditionFalse, readinessGatesNotReady, strings.Join(missing, ", ")
	}
	return condition
}

// FindCondition returns the condition of that type, or nil.
func FindCondition(list []v1.PodCondition, kind v1.PodConditionType) *v1.PodCondition {
	for i := range list {
		if list[i].Type == kind {
			return &list[i]
		}
	}
	return nil
}

// setCondition puts a condition in its place, keeping the time of the last
// transition when the status did not change.
func setCondition(list []v1.PodCondition, condition v1.PodCondition, now metav1.Time) []v1.PodCondition {
	if old := FindCondition(list, condition.Type); old != nil {
		condition.LastProbeTime, condition.LastTransitionTime = old.LastProbeTime, old.LastTransitionTime
		if old.Status != condition.Status || condition.LastTransitionTime.IsZero() {
			condition.LastTransitionTime = now
		}
		*old = condition
		return list
	}
	if condition.LastTransitionTime.IsZero() {
		condition.LastTransitionTime = now
	}
	return append(list, condition)
}

func findStatus(list []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}
