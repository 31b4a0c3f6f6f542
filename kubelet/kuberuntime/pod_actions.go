package kuberuntime

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	apipod "hyperkube/api/core/pod"
	kubecontainer "hyperkube/kubelet/container"
)

// podActions is what has to happen so that what runs becomes what the pod says.
// It is decided first (computePodActions), logged, and then performed (SyncPod).
type podActions struct {
	// KillPod stops all containers and the sandbox, before anything else.
	KillPod bool
	// CreateSandbox makes a new sandbox; KillPod is then set too, for the old one.
	CreateSandbox bool
	// SandboxID is the sandbox in use; empty when CreateSandbox.
	SandboxID string
	// Attempt counts the sandboxes of this pod.
	Attempt uint32
	// InitContainersToStart are indexes into spec.initContainers. Upstream had one
	// NextInitContainerToStart here until sidecars could need several.
	InitContainersToStart []int
	// ContainersToStart are indexes into spec.containers.
	ContainersToStart []int
	// ContainersToKill is what runs and must not. Keys are container IDs.
	ContainersToKill map[kubecontainer.ContainerID]containerToKillInfo
	// EphemeralContainersToStart are indexes into spec.ephemeralContainers.
	EphemeralContainersToStart []int
	// ContainersToUpdate run on, with other limits.
	ContainersToUpdate []containerToUpdateInfo
	// ContainersToReset end at once and are removed, in this order, so that the pod begins anew in its sandbox; who caused it
	// stands last: should the kubelet end halfway, the next one still sees why (KEP-5532).
	ContainersToReset []containerToRemoveInfo
}

// containerToRemoveInfo is one of all containers of a pod that starts anew.
type containerToRemoveInfo struct {
	id   kubecontainer.ContainerID
	name string
	kill bool // it runs, or may
}

// containerToKillInfo says why a container has to end.
type containerToKillInfo struct {
	container *v1.Container // its spec; nil when the pod no longer has it
	name      string
	message   string // for the event
	reason    containerKillReason
}

type containerKillReason string

const (
	reasonUnknown        containerKillReason = "Unknown"
	reasonStartupProbe   containerKillReason = "StartupProbe"
	reasonLivenessProbe  containerKillReason = "LivenessProbe"
	reasonDefinition     containerKillReason = "DefinitionChanged"
	reasonFailedPostHook containerKillReason = "FailedPostStartHook"
	reasonResize         containerKillReason = "Resize"
	reasonRestartAll     containerKillReason = "RestartAllContainers"
)

// String prints the actions as the log shows them (S4-06); names of containers
// to kill stand sorted, so that equal actions read equal.
func (p podActions) String() string {
	kill := make([]string, 0, len(p.ContainersToKill))
	for _, info := range p.ContainersToKill {
		kill = append(kill, info.name)
	}
	sort.Strings(kill)
	text := fmt.Sprintf("KillPod:%v CreateSandbox:%v SandboxID:%s Attempt:%d InitContainersToStart:%v ContainersToStart:%v ContainersToKill:[%s] EphemeralContainersToStart:%v",
		p.KillPod, p.CreateSandbox, p.SandboxID, p.Attempt, p.InitContainersToStart, p.ContainersToStart, strings.Join(kill, " "), p.EphemeralContainersToStart)
	for _, info := range p.ContainersToUpdate {
		text += " ContainerToUpdate:" + info.container.Name
	}
	for _, info := range p.ContainersToReset {
		text += " ContainerToReset:" + info.name
	}
	return text
}

// brief says in a few words what is to be done, containers by their names.
func (p podActions) brief(pod *v1.Pod) string {
	var parts []string
	if p.KillPod && p.Attempt > 0 {
		parts = append(parts, "KillPod")
	}
	if p.CreateSandbox {
		parts = append(parts, fmt.Sprintf("CreateSandbox (attempt %d)", p.Attempt))
	}
	for _, info := range p.ContainersToKill {
		parts = append(parts, "kill "+info.name+" ("+info.message+")")
	}
	sort.Strings(parts)
	for _, info := range p.ContainersToUpdate {
		parts = append(parts, "resize "+info.container.Name)
	}
	for _, info := range p.ContainersToReset {
		parts = append(parts, "reset "+info.name)
	}
	for _, i := range p.EphemeralContainersToStart {
		parts = append(parts, "start ephemeral "+pod.Spec.EphemeralContainers[i].Name)
	}
	for _, i := range p.InitContainersToStart {
		parts = append(parts, "start init "+pod.Spec.InitContainers[i].Name)
	}
	for _, i := range p.ContainersToStart {
		parts = append(parts, "start "+pod.Spec.Containers[i].Name)
	}
	return strings.Join(parts, ", ")
}

// nothing is true when the pod is as it should be.
func (p podActions) nothing() bool {
	return !p.KillPod && !p.CreateSandbox && len(p.InitContainersToStart)+len(p.ContainersToStart)+len(p.ContainersToKill)+len(p.EphemeralContainersToStart)+len(p.ContainersToUpdate)+len(p.ContainersToReset) == 0
}

// ProbeResults answers what the probes last found. A container without a probe,
// or not probed yet, has failed nothing; it has started unless it has a startup
// probe that did not succeed yet.
type ProbeResults interface {
	LivenessFailed(id kubecontainer.ContainerID) bool
	StartupFailed(id kubecontainer.ContainerID) bool
	StartupSucceeded(id kubecontainer.ContainerID) bool
}

// computePodActions compares the pod with what runs; with restartAll, all of it has to begin anew. It is pure: what it returns
// depends on its arguments alone, and it changes nothing.
func computePodActions(pod *v1.Pod, podStatus *kubecontainer.PodStatus, probes ProbeResults, restartAll bool) podActions {
	changed, attempt, sandboxID := podSandboxChanged(pod, podStatus)
	actions := podActions{
		KillPod:          changed,
		CreateSandbox:    changed,
		SandboxID:        sandboxID,
		Attempt:          attempt,
		ContainersToKill: map[kubecontainer.ContainerID]containerToKillInfo{},
	}
	if restartAll {
		actions.KillPod, actions.CreateSandbox = false, false
		actions.ContainersToReset = containersToReset(pod, podStatus)
		return actions
	}
	if changed {
		computeNewSandboxActions(pod, podStatus, &actions)
		return actions
	}
	// A debugger may look at a pod whose init container hangs, so ephemeral
	// containers come first. They are never restarted.
	for i := range pod.Spec.EphemeralContainers {
		if podStatus.FindContainerStatusByName(pod.Spec.EphemeralContainers[i].Name) == nil {
			actions.EphemeralContainersToStart = append(actions.EphemeralContainersToStart, i)
		}
	}
	if initialized := computeInitContainerActions(pod, podStatus, probes, &actions); !initialized || actions.KillPod {
		return actions
	}
	computeContainerActions(pod, podStatus, probes, &actions)
	return actions
}

// podSandboxChanged decides whether the pod needs a new sandbox, as its number
// attempt. The newest sandbox counts.
func podSandboxChanged(pod *v1.Pod, podStatus *kubecontainer.PodStatus) (changed bool, attempt uint32, sandboxID string) {
	if len(podStatus.SandboxStatuses) == 0 {
		return true, 0, ""
	}
	ready := 0
	for _, sandbox := range podStatus.SandboxStatuses {
		if sandbox.State == runtimeapi.PodSandboxState_SANDBOX_READY {
			ready++
		}
	}
	newest := podStatus.SandboxStatuses[0]
	next := newest.GetMetadata().GetAttempt() + 1
	switch {
	case ready > 1: // two at once, after a crash in the middle of a change: neither can be trusted
		return true, next, newest.Id
	case newest.State != runtimeapi.PodSandboxState_SANDBOX_READY: // it died
		return true, next, newest.Id
	case newest.GetLinux().GetNamespaces().GetOptions().GetNetwork() != networkNamespaceForPod(pod):
		return true, next, ""
	case !pod.Spec.HostNetwork && newest.GetNetwork() != nil && newest.GetNetwork().GetIp() == "": // it lost its address
		return true, next, newest.Id
	}
	return false, newest.GetMetadata().GetAttempt(), newest.Id
}

// containersToReset are all that the runtime has of the pod's containers, former runs too, but for debuggers.
func containersToReset(pod *v1.Pod, podStatus *kubecontainer.PodStatus) []containerToRemoveInfo {
	var targets, sources []containerToRemoveInfo
	for _, list := range [][]v1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			for _, status := range podStatus.ContainerStatuses {
				if status.Name != list[i].Name {
					continue
				}
				info := containerToRemoveInfo{id: status.ID, name: status.Name, kill: status.State != kubecontainer.StateExited}
				if !info.kill && apipod.RestartsAllContainers(&list[i], int32(status.ExitCode)) {
					sources = append(sources, info)
				} else {
					targets = append(targets, info)
				}
			}
		}
	}
	return append(targets, sources...)
}

// computeNewSandboxActions fills in what starts in a new sandbox.
func computeNewSandboxActions(pod *v1.Pod, podStatus *kubecontainer.PodStatus, actions *podActions) {
	if !shouldRestartOnFailure(pod) && actions.Attempt != 0 && len(podStatus.ContainerStatuses) != 0 {
		// The pod has run, its sandbox died, and it asks not to be run again.
		actions.CreateSandbox = false
		return
	}
	var toStart []int
	for i := range pod.Spec.Containers {
		policy := string(pod.Spec.RestartPolicy)
		if own := pod.Spec.Containers[i].RestartPolicy; own != nil {
			policy = string(*own)
		}
		if policy == string(v1.RestartPolicyOnFailure) && containerSucceeded(&pod.Spec.Containers[i], podStatus) {
			continue
		}
		toStart = append(toStart, i)
	}
	if len(toStart) == 0 {
		// All have done their work: a new sandbox would have nothing in it.
		actions.CreateSandbox = false
		return
	}
	if len(pod.Spec.InitContainers) > 0 {
		actions.InitContainersToStart = []int{0}
		return
	}
	actions.ContainersToStart = toStart
}

// computeInitContainerActions decides about the init containers and returns whether the pod is initialized: each ordinary one has
// succeeded, each sidecar has started. It walks from the last to the first, because the runtime may have lost the earlier ones: what
// there is of a later one in this sandbox proves that those before it are done, and a container of spec.containers proves it of all.
func computeInitContainerActions(pod *v1.Pod, podStatus *kubecontainer.PodStatus, probes ProbeResults, actions *podActions) bool {
	last := len(pod.Spec.InitContainers) - 1
	initialized := last < 0 || anyContainerCreated(pod, podStatus, actions.SandboxID)
	passed := initialized
	for i := last; i >= 0; i-- {
		container := &pod.Spec.InitContainers[i]
		sidecar := kubecontainer.IsRestartableInitContainer(container)
		status := statusInSandbox(podStatus, container.Name, actions.SandboxID)
		if status == nil {
			if passed && sidecar { // it ran, and is lost
				actions.InitContainersToStart = append(actions.InitContainersToStart, i)
			}
			continue
		}
		if passed && !sidecar {
			continue
		}
		var verdict initVerdict
		if sidecar {
			verdict = judgeSidecar(pod, container, status, probes, actions)
		} else {
			verdict = judgeInitContainer(pod, container, status, actions)
		}
		switch {
		case verdict.podFailed:
			actions.KillPod = true
			actions.InitContainersToStart = nil
			return false
		case verdict.done && i == last:
			initialized = true
		case verdict.done && !passed:
			actions.InitContainersToStart = append(actions.InitContainersToStart, i+1)
		}
		if verdict.start {
			actions.InitContainersToStart = append(actions.InitContainersToStart, i)
		}
		passed = true
	}
	if !passed {
		actions.InitContainersToStart = []int{0}
	}
	slices.Reverse(actions.InitContainersToStart)
	return initialized
}

// initVerdict says of an init container whether it has done its part, has to start (again), or has failed for good, and the pod with it.
type initVerdict struct{ done, start, podFailed bool }

// judgeInitContainer handles an init container that runs to completion.
func judgeInitContainer(pod *v1.Pod, container *v1.Container, status *kubecontainer.Status, actions *podActions) initVerdict {
	switch status.State {
	case kubecontainer.StateRunning:
		actions.update(pod, container, status)
		return initVerdict{}
	case kubecontainer.StateCreated: // it was not started: the kubelet ended in between, or the runtime could not
		return initVerdict{start: true}
	case kubecontainer.StateExited:
		if status.ExitCode == 0 {
			return initVerdict{done: true}
		}
		again := apipod.ContainerShouldRestart(container, &pod.Spec, int32(status.ExitCode))
		return initVerdict{start: again, podFailed: !again}
	}
	if !apipod.RestartsAfterKill(container, &pod.Spec) {
		return initVerdict{podFailed: true}
	}
	actions.killUnknown("Init container", container, status)
	return initVerdict{start: true}
}

// judgeSidecar handles an init container that runs beside the others;
// it is restarted whatever the pod's restart policy says (KEP-753).
func judgeSidecar(pod *v1.Pod, container *v1.Container, status *kubecontainer.Status, probes ProbeResults, actions *podActions) initVerdict {
	switch status.State {
	case kubecontainer.StateExited, kubecontainer.StateCreated:
		return initVerdict{start: true}
	case kubecontainer.StateRunning:
	default:
		actions.killUnknown("Init container", container, status)
		return initVerdict{start: true}
	}
	if container.StartupProbe != nil && !probes.StartupSucceeded(status.ID) { // until then no other probe counts
		if probes.StartupFailed(status.ID) {
			actions.ContainersToKill[status.ID] = failedStartup("Init container", container)
			return initVerdict{start: true}
		}
		return initVerdict{}
	}
	// It has started, and the next one may, also when this one has to end now.
	info, kill := shouldKill("Init container", pod, container, status, probes)
	if kill {
		actions.ContainersToKill[status.ID] = info
	} else {
		actions.update(pod, container, status)
	}
	return initVerdict{done: true, start: kill}
}

// killUnknown ends what may still run, before it is started anew: two of it would share its volumes.
func (p *podActions) killUnknown(what string, container *v1.Container, status *kubecontainer.Status) {
	message := fmt.Sprintf("%s is in %q state, try killing it before restart", what, status.State)
	p.ContainersToKill[status.ID] = containerToKillInfo{container, container.Name, message, reasonUnknown}
}

// computeContainerActions decides about spec.containers, once the pod is initialized.
func computeContainerActions(pod *v1.Pod, podStatus *kubecontainer.PodStatus, probes ProbeResults, actions *podActions) {
	keepCount := 0
	for i := range pod.Spec.Containers {
		container := &pod.Spec.Containers[i]
		status := podStatus.FindContainerStatusByName(container.Name)
		if status == nil || status.State != kubecontainer.StateRunning {
			if !ShouldContainerBeRestarted(container, pod, podStatus) {
				continue
			}
			actions.ContainersToStart = append(actions.ContainersToStart, i)
			if status != nil && status.State == kubecontainer.StateUnknown {
				actions.killUnknown("Container", container, status)
			}
			continue
		}
		info, kill := shouldKill("Container", pod, container, status, probes)
		if !kill {
			actions.update(pod, container, status)
			keepCount++
			continue
		}
		// A changed definition is a wish for the new one, whatever the restart policy; so is a resize.
		if info.reason == reasonDefinition || info.reason == reasonResize || apipod.RestartsAfterKill(container, &pod.Spec) {
			if info.reason != reasonResize {
				info.message += ", will be restarted"
			}
			actions.ContainersToStart = append(actions.ContainersToStart, i)
		}
		actions.ContainersToKill[status.ID] = info
	}
	if keepCount == 0 && len(actions.ContainersToStart) == 0 {
		// Nothing runs and nothing will: the sandbox goes too, and no sidecar comes back.
		actions.KillPod = true
		actions.InitContainersToStart = nil
	}
}

// shouldKill tells whether a running container must end, and why; what is its kind, for the message.
func shouldKill(what string, pod *v1.Pod, container *v1.Container, status *kubecontainer.Status, probes ProbeResults) (info containerToKillInfo, kill bool) {
	if kubecontainer.HashContainer(container) != status.Hash {
		return containerToKillInfo{container, container.Name, fmt.Sprintf("%s %s definition changed", what, container.Name), reasonDefinition}, true
	}
	if probes.LivenessFailed(status.ID) {
		return containerToKillInfo{container, container.Name, fmt.Sprintf("%s %s failed liveness probe", what, container.Name), reasonLivenessProbe}, true
	}
	if probes.StartupFailed(status.ID) {
		return failedStartup(what, container), true
	}
	if _, way := computeContainerResize(pod, container, status); way == resizeByRestart {
		return containerToKillInfo{container, container.Name, fmt.Sprintf("Container %s resize requires restart", container.Name), reasonResize}, true
	}
	return info, false
}

func failedStartup(what string, container *v1.Container) containerToKillInfo {
	return containerToKillInfo{container, container.Name, fmt.Sprintf("%s %s failed startup probe", what, container.Name), reasonStartupProbe}
}

// update notes that a container that goes on running needs other limits.
func (p *podActions) update(pod *v1.Pod, container *v1.Container, status *kubecontainer.Status) {
	if info, way := computeContainerResize(pod, container, status); way == resizeInPlace {
		p.ContainersToUpdate = append(p.ContainersToUpdate, info)
	}
}

// ShouldContainerBeRestarted applies the restart policy to a container that
// does not run.
func ShouldContainerBeRestarted(container *v1.Container, pod *v1.Pod, podStatus *kubecontainer.PodStatus) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	status := podStatus.FindContainerStatusByName(container.Name)
	switch {
	case status == nil:
		return true
	case status.State == kubecontainer.StateRunning:
		return false
	case status.State == kubecontainer.StateUnknown || status.State == kubecontainer.StateCreated:
		// Created but never started: the kubelet ended in between.
		return true
	}
	return apipod.ContainerShouldRestart(container, &pod.Spec, int32(status.ExitCode))
}

func shouldRestartOnFailure(pod *v1.Pod) bool { return pod.Spec.RestartPolicy != v1.RestartPolicyNever }

func containerSucceeded(container *v1.Container, podStatus *kubecontainer.PodStatus) bool {
	status := podStatus.FindContainerStatusByName(container.Name)
	return status != nil && status.State == kubecontainer.StateExited && status.ExitCode == 0
}

// statusInSandbox is FindContainerStatusByName within one sandbox: init
// containers of a dead sandbox have initialized nothing in the new one.
func statusInSandbox(podStatus *kubecontainer.PodStatus, name, sandboxID string) *kubecontainer.Status {
	for _, status := range podStatus.ContainerStatuses {
		if status.Name == name && status.PodSandboxID == sandboxID {
			return status
		}
	}
	return nil
}

// anyContainerCreated tells whether the sandbox has one of spec.containers.
func anyContainerCreated(pod *v1.Pod, podStatus *kubecontainer.PodStatus, sandboxID string) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c v1.Container) bool { return statusInSandbox(podStatus, c.Name, sandboxID) != nil })
}
