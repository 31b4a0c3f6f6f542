package kubelet

import (
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"

	"hyperkube/flow"
)

// reportContainers tells the record of the cluster what became of a pod's containers
// since the status that the status manager has: which ended, how, and whether they wait
// for their restart. A status names a container's end for long: it is told once.
func (kl *Kubelet) reportContainers(ctx context.Context, pod *v1.Pod, now *v1.PodStatus) {
	if flow.SinkFrom(ctx) == nil {
		return
	}
	before, _ := kl.status.GetPodStatus(pod.UID)
	known := map[string]v1.ContainerStatus{}
	ended := map[string]bool{}
	for _, s := range containerStatuses(&before) {
		known[s.Name] = s
		for _, t := range []*v1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
			if t != nil {
				ended[t.ContainerID] = true
			}
		}
	}
	for _, s := range containerStatuses(now) {
		for _, t := range []*v1.ContainerStateTerminated{s.LastTerminationState.Terminated, s.State.Terminated} {
			if t != nil && t.ContainerID != "" && !ended[t.ContainerID] {
				flow.Report(ctx, flow.Effect{What: "container ended", Depth: 1, Detail: endOf(s, t)})
			}
		}
		waits, waited := s.State.Waiting, known[s.Name].State.Waiting
		if waits != nil && waits.Reason == "CrashLoopBackOff" && (waited == nil || waited.Message != waits.Message) {
			decision, _, _ := strings.Cut(waits.Message, " pod=")
			flow.Report(ctx, flow.Effect{What: "CrashLoopBackOff", Depth: 1, Detail: decision})
		}
	}
}

func containerStatuses(s *v1.PodStatus) []v1.ContainerStatus {
	return append(append(append([]v1.ContainerStatus{}, s.InitContainerStatuses...), s.ContainerStatuses...), s.EphemeralContainerStatuses...)
}

func endOf(s v1.ContainerStatus, t *v1.ContainerStateTerminated) string {
	text := fmt.Sprintf("%s: exit code %d", s.Name, t.ExitCode)
	if t.Signal != 0 {
		text += fmt.Sprintf(", signal %d", t.Signal)
	}
	if t.Reason != "" {
		text += ", " + t.Reason
	}
	if s.RestartCount > 0 {
		text += fmt.Sprintf(", after %d restarts", s.RestartCount)
	}
	return text
}
