package status

import (
	"sort"
	"time"

	qos "hyperkube/api/core/pod"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	kubecontainer "hyperkube/kubelet/container"
	"hyperkube/kubelet/kuberuntime"
)

// Input is all that a pod's status is computed from.
type Input struct {
	Pod *v1.Pod
	// Old is the status the kubelet last decided on, or the API's after a restart.
	Old v1.PodStatus
	// Runtime is what runs.
	Runtime *kubecontainer.PodStatus
	// Reason tells why a container could not be started last time; nil error if it could.
	Reason func(container string) (reason error, message string)
	// Terminal is true when nothing runs any more and nothing will.
	Terminal bool
	HostIPs  []string
	// Resize are the conditions of a resize that waits or is under way.
	Resize []v1.PodCondition
	Now    metav1.Time
}

// GenerateAPIPodStatus computes a pod's status. It is pure. Ready and Started of
// containers are for the prober to fill in; SetConditions has to follow that.
func GenerateAPIPodStatus(in Input) v1.PodStatus {
	pod := in.Pod
	status := v1.PodStatus{
		ObservedGeneration: pod.Generation,
		QOSClass:           qos.GetPodQOS(pod),
		StartTime:          in.Old.StartTime,
		Message:            in.Old.Message,
		Reason:             in.Old.Reason,
		NominatedNodeName:  pod.Status.NominatedNodeName,
	}
	if status.StartTime == nil {
		status.StartTime = &in.Now
	}
	initialized := podInitialized(pod, in.Runtime)
	converter := converter{in: in, waiting: "ContainerCreating", restartingAll: restartingAll(pod, in.Old.Conditions, in.Runtime)}
	if !initialized && len(pod.Spec.InitContainers) > 0 {
		converter.waiting = "PodInitializing"
	}
	status.ContainerStatuses = converter.statuses(pod.Spec.Containers, in.Old.ContainerStatuses, false)
	sort.Slice(status.ContainerStatuses, func(i, j int) bool {
		return status.ContainerStatuses[i].Name < status.ContainerStatuses[j].Name
	})
	status.InitContainerStatuses = converter.statuses(pod.Spec.InitContainers, in.Old.InitContainerStatuses, true)
	status.EphemeralContainerStatuses = converter.statuses(ephemeralAsContainers(pod), in.Old.EphemeralContainerStatuses, false)
	status.Phase = phase(pod, in, &status)
	setIPs(&status, in)
	// Conditions of others are the API's business.
	for _, condition := range pod.Status.Conditions {
		if !kubeletConditions[condition.Type] {
			status.Conditions = append(status.Conditions, condition)
		}
	}
	for _, condition := range in.Old.Conditions {
		if kubeletConditions[condition.Type] && (!isResize(condition.Type) || FindCondition(in.Resize, condition.Type) != nil) {
			status.Conditions = append(status.Conditions, condition)
		}
	}
	// That the kubelet itself ended the pod was said once, in a status that may not have reached the API yet.
	if c := FindCondition(in.Old.Conditions, v1.DisruptionTarget); c != nil && FindCondition(status.Conditions, v1.DisruptionTarget) == nil {
		status.Conditions = append(status.Conditions, *c)
	}
	for _, condition := range in.Resize {
		status.Conditions = setCondition(status.Conditions, condition, in.Now)
	}
	if pod.Spec.Resources != nil {
		status.Resources, status.AllocatedResources = pod.Spec.Resources.DeepCopy(), pod.Spec.Resources.Requests.DeepCopy()
	}
	// It is here, whoever has placed it, also as it is now: that the kubelet has seen the newest generation is told by all its conditions.
	status.Conditions = setCondition(status.Conditions, v1.PodCondition{Type: v1.PodScheduled, Status: v1.ConditionTrue, ObservedGeneration: pod.Generation}, in.Now)
	return status
}

func isResize(kind v1.PodConditionType) bool {
	return kind == v1.PodResizePending || kind == v1.PodResizeInProgress
}

// SetConditions computes the kubelet's conditions from the rest of status.
func SetConditions(pod *v1.Pod, status *v1.PodStatus, runtime *kubecontainer.PodStatus, now metav1.Time) {
	for _, condition := range conditions(pod, status, runtime) {
		status.Conditions = setCondition(status.Conditions, condition, now)
	}
}

func setIPs(status *v1.PodStatus, in Input) {
	for _, ip := range in.HostIPs {
		status.HostIPs = append(status.HostIPs, v1.HostIP{IP: ip})
	}
	if len(in.HostIPs) > 0 {
		status.HostIP = in.HostIPs[0]
	}
	ips := in.Runtime.IPs
	if in.Pod.Spec.HostNetwork {
		ips = in.HostIPs
	}
	if len(ips) == 0 {
		// A pod that ended keeps the address it had: logs are read by it.
		status.PodIP, status.PodIPs = in.Old.PodIP, in.Old.PodIPs
		return
	}
	status.PodIP = ips[0]
	for _, ip := range ips {
		status.PodIPs = append(status.PodIPs, v1.PodIP{IP: ip})
	}
}

func ephemeralAsContainers(pod *v1.Pod) []v1.Container {
	var containers []v1.Container
	for i := range pod.Spec.EphemeralContainers {
		containers = append(containers, v1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return containers
}

// podInitialized: each init container has succeeded, or each sidecar runs.
func podInitialized(pod *v1.Pod, runtime *kubecontainer.PodStatus) bool {
	for i := range pod.Spec.InitContainers {
		container := &pod.Spec.InitContainers[i]
		s := runtime.FindContainerStatusByName(container.Name)
		switch {
		case s == nil:
			return false
		case kubecontainer.IsRestartableInitContainer(container):
			if s.State != kubecontainer.StateRunning {
				return false
			}
		case s.State != kubecontainer.StateExited || s.ExitCode != 0:
			return false
		}
	}
	return true
}

// converter makes v1.ContainerStatuses.
type converter struct {
	in      Input
	waiting string // why a container waits that nothing is known of
	// restartingAll: containers that are gone were removed so that the pod begins anew.
	restartingAll bool
}

func (c converter) statuses(containers []v1.Container, old []v1.ContainerStatus, init bool) []v1.ContainerStatus {
	var result []v1.ContainerStatus
	for i := range containers {
		result = append(result, c.status(&containers[i], findStatus(old, containers[i].Name), init))
	}
	return result
}

func (c converter) status(container *v1.Container, old *v1.ContainerStatus, init bool) v1.ContainerStatus {
	var current, previous *kubecontainer.Status
	for _, s := range c.in.Runtime.ContainerStatuses {
		if s.Name != container.Name {
			continue
		}
		if current == nil {
			current = s
		} else if s.State == kubecontainer.StateExited {
			previous = s
			break
		}
	}
	reason, message := c.in.Reason(container.Name)
	if current == nil {
		return c.withoutRuntime(container, old, reason, message)
	}
	status := c.toAPI(container, current)
	if old != nil && qos.AllContainersCouldRestart(&c.in.Pod.Spec) {
		status.RestartCount = max(status.RestartCount, old.RestartCount) // the runtime's count went with what was removed
	}
	if previous != nil {
		status.LastTerminationState = terminatedState(previous)
	} else if old != nil && old.RestartCount+1 == status.RestartCount && old.State.Terminated != nil {
		status.LastTerminationState.Terminated = old.State.Terminated // the runtime has removed it
	} else if old != nil && old.RestartCount == status.RestartCount {
		status.LastTerminationState = old.LastTerminationState
	}
	ended := current.State == kubecontainer.StateExited || current.State == kubecontainer.StateCreated
	if reason != nil && ended && !c.in.Terminal && c.restarts(container, current, init) {
		if current.State == kubecontainer.StateExited {
			status.LastTerminationState = status.State
		}
		status.State = v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason.Error(), Message: message}}
	}
	return status
}

func (c converter) restarts(container *v1.Container, current *kubecontainer.Status, init bool) bool {
	switch {
	case init && kubecontainer.IsRestartableInitContainer(container):
		return true
	case init && current.State == kubecontainer.StateExited && current.ExitCode == 0:
		return false // it has done its part
	}
	return kuberuntime.ShouldContainerBeRestarted(container, c.in.Pod, c.in.Runtime)
}

// withoutRuntime is the status of a container that the runtime does not know:
// not made yet, or removed.
func (c converter) withoutRuntime(container *v1.Container, old *v1.ContainerStatus, reason error, message string) v1.ContainerStatus {
	notStarted := false
	status := v1.ContainerStatus{Name: container.Name, Image: container.Image, Started: &notStarted}
	if old != nil && c.restartingAll && old.State.Waiting == nil {
		status.ImageID, status.RestartCount = old.ImageID, old.RestartCount+1
		status.State.Waiting, status.LastTerminationState.Terminated = removedToRestart()
		return status
	}
	if old != nil {
		if old.State.Terminated != nil {
			return *old // its result must not be lost with its remains
		}
		status.RestartCount, status.LastTerminationState = old.RestartCount, old.LastTerminationState
		status.ImageID = old.ImageID
		if old.State.Running != nil {
			status.ContainerID = old.ContainerID
			lost := &v1.ContainerStateTerminated{
				Reason: "ContainerStatusUnknown", ExitCode: 137, ContainerID: old.ContainerID,
				Message: "The container could not be located when the pod was deleted.  The container used to be Running",
			}
			if c.in.Pod.DeletionTimestamp == nil && !c.in.Terminal && c.in.Pod.Spec.RestartPolicy == v1.RestartPolicyAlways {
				lost.Message = "The container could not be located when the pod was terminated"
				status.RestartCount++
				status.LastTerminationState = v1.ContainerState{Terminated: lost}
			} else {
				status.State.Terminated = lost
				return status
			}
		}
	}
	// A container that had to wait for init containers to the end was never tried:
	// there is nothing to be unknown about.
	if c.in.Terminal && c.waiting != "PodInitializing" {
		status.State.Terminated = &v1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated", ExitCode: 137}
		return status
	}
	status.State.Waiting = &v1.ContainerStateWaiting{Reason: c.waiting}
	if reason != nil {
		status.State.Waiting = &v1.ContainerStateWaiting{Reason: reason.Error(), Message: message}
	}
	return status
}

func (c converter) toAPI(container *v1.Container, s *kubecontainer.Status) v1.ContainerStatus {
	status := v1.ContainerStatus{
		Name: s.Name, RestartCount: int32(s.RestartCount), Image: s.Image, ImageID: s.ImageRef, ContainerID: s.ID.String(),
		Resources: kuberuntime.StatusResources(c.in.Pod, container, s), AllocatedResources: container.Resources.Requests.DeepCopy(),
	}
	if user := s.User.GetLinux(); user != nil {
		status.User = &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: user.Uid, GID: user.Gid, SupplementalGroups: user.SupplementalGroups}}
	}
	for _, mount := range container.VolumeMounts {
		m := v1.VolumeMountStatus{Name: mount.Name, MountPath: mount.MountPath, ReadOnly: mount.ReadOnly}
		if mount.ReadOnly {
			disabled := v1.RecursiveReadOnlyDisabled
			if mount.RecursiveReadOnly != nil && *mount.RecursiveReadOnly != v1.RecursiveReadOnlyDisabled && recursiveReadOnly(s.Mounts, mount.MountPath) {
				disabled = v1.RecursiveReadOnlyEnabled
			}
			m.RecursiveReadOnly = &disabled
		}
		status.VolumeMounts = append(status.VolumeMounts, m)
	}
	switch s.State {
	case kubecontainer.StateRunning:
		status.State.Running = &v1.ContainerStateRunning{StartedAt: metav1.NewTime(s.StartedAt)}
	case kubecontainer.StateExited:
		status.State = terminatedState(s)
	case kubecontainer.StateCreated:
		status.State.Waiting = &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
	default:
		status.State.Waiting = &v1.ContainerStateWaiting{}
	}
	return status
}

func recursiveReadOnly(mounts []*runtimeapi.Mount, path string) bool {
	for _, m := range mounts {
		if m.ContainerPath == path {
			return m.RecursiveReadOnly
		}
	}
	return false
}

func terminatedState(s *kubecontainer.Status) v1.ContainerState {
	terminated := &v1.ContainerStateTerminated{
		ExitCode: int32(s.ExitCode), Reason: s.Reason, Message: s.Message, ContainerID: s.ID.String(),
		StartedAt: metav1.NewTime(s.StartedAt), FinishedAt: metav1.NewTime(s.FinishedAt),
	}
	if terminated.Reason == "" {
		terminated.Reason = "Error"
		if s.ExitCode == 0 {
			terminated.Reason = "Completed"
		}
	}
	if s.StartedAt.Equal(time.Unix(0, 0)) {
		terminated.StartedAt = metav1.NewTime(s.CreatedAt)
	}
	return v1.ContainerState{Terminated: terminated}
}

// phase sums the containers up in one word. A phase once Failed or Succeeded stays.
func phase(pod *v1.Pod, in Input, status *v1.PodStatus) v1.PodPhase {
	if in.Old.Phase == v1.PodFailed || in.Old.Phase == v1.PodSucceeded {
		return in.Old.Phase
	}
	summed := sumUp(countInit(pod, status), countMain(pod, status), in.Terminal)
	if in.Terminal && summed != v1.PodSucceeded {
		return v1.PodFailed // also when it ended before its containers did
	}
	return summed
}

func sumUp(init initCounts, main mainCounts, terminal bool) v1.PodPhase {
	initialized := main.running+main.ended > 0
	switch {
	case init.failed:
		return v1.PodFailed
	case init.pending, init.sidecarStarting && !initialized, main.waiting+init.waiting > 0:
		return v1.PodPending
	case main.running+init.running > 0:
		return v1.PodRunning
	case main.stopped == 0:
		return v1.PodPending
	case main.restarting > 0 && !terminal:
		return v1.PodRunning
	case main.stopped == main.succeeded:
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

// mainCounts are the pod's containers by their state.
type mainCounts struct{ running, waiting, ended, stopped, restarting, succeeded int }

// countMain counts as stopped what has ended, and what waits for its next run.
func countMain(pod *v1.Pod, status *v1.PodStatus) (n mainCounts) {
	for _, s := range status.ContainerStatuses {
		end := s.State.Terminated
		switch {
		case s.State.Running != nil:
			n.running++
			continue
		case end != nil:
			n.ended++
			if end.ExitCode == 0 {
				n.succeeded++
			}
		case s.LastTerminationState.Terminated != nil:
			end = s.LastTerminationState.Terminated
		default:
			n.waiting++
			continue
		}
		n.stopped++
		if restartsFrom(pod, s.Name, end) {
			n.restarting++
		}
	}
	return n
}

// restartsFrom tells whether a container of that name runs again after such an end.
func restartsFrom(pod *v1.Pod, name string, end *v1.ContainerStateTerminated) bool {
	container := kubecontainer.GetContainerSpec(pod, name)
	return container != nil && (end.Reason == restartingAllContainers || qos.ContainerShouldRestart(container, &pod.Spec, end.ExitCode))
}

// initCounts are the init containers: whether one of them has yet to run to its end (pending), or never will (failed); and of the
// sidecars, how many wait for their first run, how many run, and whether one has not started.
type initCounts struct {
	pending, failed, sidecarStarting bool
	waiting, running                 int
}

func countInit(pod *v1.Pod, status *v1.PodStatus) (n initCounts) {
	for i := range pod.Spec.InitContainers {
		container := &pod.Spec.InitContainers[i]
		sidecar := kubecontainer.IsRestartableInitContainer(container)
		s := findStatus(status.InitContainerStatuses, container.Name)
		var end *v1.ContainerStateTerminated
		if s != nil {
			if end = s.State.Terminated; end == nil && s.State.Running == nil {
				end = s.LastTerminationState.Terminated // it waits for its next run
			}
		}
		switch {
		case s == nil:
			n.pending = n.pending || !sidecar
			n.sidecarStarting = n.sidecarStarting || sidecar
		case sidecar && s.State.Running != nil:
			n.running++
			n.sidecarStarting = n.sidecarStarting || s.Started == nil || !*s.Started
		case sidecar && end == nil:
			n.waiting++
			n.sidecarStarting = true
		case sidecar: // a sidecar that has ended says nothing of the pod
		case end == nil:
			n.pending = true
		case end.ExitCode != 0:
			n.failed = n.failed || !restartsFrom(pod, container.Name, end)
		}
	}
	return n
}
