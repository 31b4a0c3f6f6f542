package status

import (
	v1 "k8s.io/api/core/v1"

	apipod "hyperkube/api/core/pod"
	kubecontainer "hyperkube/kubelet/container"
)

// A pod whose container ended by a rule with the action RestartAllContainers begins anew in its sandbox (KEP-5532). It goes
// through two syncs, and its condition carries the intention from one to the other, over a restart of the kubelet too:
//
//	a container ended so     AllContainersRestarting=True    all containers are ended and removed
//	none is left             AllContainersRestarting=False   containers start as in a new pod

// restartingAllContainers is why a container waits, and how it ended, that was removed so that all can begin anew.
const restartingAllContainers = "RestartingAllContainers"

// AllContainersRestarting tells whether a pod's containers have to be removed so that it can begin anew.
func AllContainersRestarting(status *v1.PodStatus) bool {
	condition := FindCondition(status.Conditions, v1.AllContainersRestarting)
	return condition != nil && condition.Status == v1.ConditionTrue
}

// restartingAll tells whether a pod begins anew: that was decided, and is among its conditions, or a container has just ended so.
func restartingAll(pod *v1.Pod, conditions []v1.PodCondition, runtime *kubecontainer.PodStatus) bool {
	if pod.DeletionTimestamp != nil || !apipod.AllContainersCouldRestart(&pod.Spec) {
		return false
	}
	if AllContainersRestarting(&v1.PodStatus{Conditions: conditions}) {
		return true
	}
	return !apipod.VisitContainers(&pod.Spec, apipod.InitContainers|apipod.Containers, func(c *v1.Container, _ apipod.ContainerType) bool {
		s := runtime.FindContainerStatusByName(c.Name)
		return s == nil || s.State != kubecontainer.StateExited || !apipod.RestartsAllContainers(c, int32(s.ExitCode))
	})
}

// restartingCondition is the next state of the condition; status still has the last one.
func restartingCondition(pod *v1.Pod, status *v1.PodStatus, runtime *kubecontainer.PodStatus) v1.PodCondition {
	condition := v1.PodCondition{Type: v1.AllContainersRestarting, Status: v1.ConditionFalse}
	switch {
	case status.Phase == v1.PodSucceeded:
		condition.Reason = podCompleted
	case failed(status):
		condition.Reason = podFailed
	case restartingAll(pod, status.Conditions, runtime) && !cleanedUp(pod, runtime):
		condition.Status, condition.Reason, condition.Message = v1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return condition
}

// cleanedUp: the runtime has none of the pod's containers left.
func cleanedUp(pod *v1.Pod, runtime *kubecontainer.PodStatus) bool {
	return apipod.VisitContainers(&pod.Spec, apipod.InitContainers|apipod.Containers, func(c *v1.Container, _ apipod.ContainerType) bool {
		return runtime.FindContainerStatusByName(c.Name) == nil
	})
}

// removedToRestart is the state, and the last one, of a container that was removed.
func removedToRestart() (*v1.ContainerStateWaiting, *v1.ContainerStateTerminated) {
	const message = "The container is removed because RestartAllContainers in place"
	return &v1.ContainerStateWaiting{Reason: restartingAllContainers, Message: message},
		&v1.ContainerStateTerminated{Reason: restartingAllContainers, Message: message, ExitCode: 137}
}
