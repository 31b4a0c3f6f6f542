package pod

import (
	"fmt"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"

	podutil "hyperkube/api/core/pod"
	"hyperkube/apiserver/registry"
	"hyperkube/apiserver/registry/column"
)

var table = &registry.Table{
	Columns: []metav1.TableColumnDefinition{
		column.Name(),
		column.Text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
		column.Text("Status", "The aggregate status of the containers in this pod."),
		column.Text("Restarts", "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted."),
		column.Age(),
		column.Wide(column.Text("IP", v1.PodStatus{}.SwaggerDoc()["podIP"])),
		column.Wide(column.Text("Node", v1.PodSpec{}.SwaggerDoc()["nodeName"])),
		column.Wide(column.Text("Nominated Node", v1.PodStatus{}.SwaggerDoc()["nominatedNodeName"])),
		column.Wide(column.Text("Readiness Gates", v1.PodSpec{}.SwaggerDoc()["readinessGates"])),
	},
	Cells: func(obj runtime.Object) []any { return cells(obj.(*v1.Pod)) },
}

func cells(pod *v1.Pod) []any {
	s := summarize(pod)
	ip := ""
	if len(pod.Status.PodIPs) > 0 {
		ip = pod.Status.PodIPs[0].IP
	}
	return []any{
		pod.Name,
		fmt.Sprintf("%d/%d", s.ready, s.total),
		s.reason,
		s.restartsCell(),
		column.Since(pod.CreationTimestamp),
		column.Or(ip, "<none>"),
		column.Or(pod.Spec.NodeName, "<none>"),
		column.Or(pod.Status.NominatedNodeName, "<none>"),
		readinessGates(pod),
	}
}

// summary is what READY, STATUS and RESTARTS say of a pod.
type summary struct {
	ready, total int
	reason       string
	restarts     int
	lastRestart  metav1.Time

	// Sidecars count on through the life of the pod; init containers only until it is initialized.
	sidecarRestarts    int
	lastSidecarRestart metav1.Time
}

func (s *summary) restartsCell() string {
	if s.restarts == 0 || s.lastRestart.IsZero() {
		return strconv.Itoa(s.restarts)
	}
	return fmt.Sprintf("%d (%s ago)", s.restarts, duration.HumanDuration(time.Since(s.lastRestart.Time)))
}

// summarize takes the phase, lets an unfinished init container and then the
// container states override it, and last the deletion.
func summarize(pod *v1.Pod) *summary {
	s := &summary{total: len(pod.Spec.Containers), reason: string(pod.Status.Phase)}
	if pod.Status.Reason != "" {
		s.reason = pod.Status.Reason
	}
	if _, c := podutil.GetPodCondition(&pod.Status, v1.PodScheduled); c != nil && c.Reason == v1.PodReasonSchedulingGated {
		s.reason = v1.PodReasonSchedulingGated
	}
	initializing := s.addInitContainers(pod)
	if !initializing || isInitialized(&pod.Status) {
		s.addContainers(pod)
	}
	if pod.DeletionTimestamp != nil {
		if pod.Status.Reason == "NodeLost" {
			s.reason = "Unknown"
		} else if !podutil.IsPodPhaseTerminal(pod.Status.Phase) {
			s.reason = "Terminating"
		}
	}
	return s
}

// addInitContainers reports whether an init container still stands in the way,
// which it then names in the reason.
func (s *summary) addInitContainers(pod *v1.Pod) (initializing bool) {
	specs := map[string]*v1.Container{}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		specs[c.Name] = c
		if podutil.IsRestartableInitContainer(c) {
			s.total++
		}
	}
	for i := range pod.Status.InitContainerStatuses {
		status := &pod.Status.InitContainerStatuses[i]
		sidecar := podutil.IsRestartableInitContainer(specs[status.Name])
		s.restarts += int(status.RestartCount)
		later(&s.lastRestart, status)
		if sidecar {
			s.sidecarRestarts += int(status.RestartCount)
			later(&s.lastSidecarRestart, status)
		}
		switch state := status.State; {
		case state.Terminated != nil && state.Terminated.ExitCode == 0:
			continue
		case sidecar && status.Started != nil && *status.Started:
			if status.Ready {
				s.ready++
			}
			continue
		case state.Terminated != nil:
			s.reason = "Init:" + terminatedReason(state.Terminated)
		case state.Waiting != nil && state.Waiting.Reason != "" && state.Waiting.Reason != "PodInitializing":
			s.reason = "Init:" + state.Waiting.Reason
		default:
			s.reason = fmt.Sprintf("Init:%d/%d", i, len(pod.Spec.InitContainers))
		}
		return true
	}
	return false
}

// addContainers lets the first main container that has something to say give the reason.
func (s *summary) addContainers(pod *v1.Pod) {
	s.restarts, s.lastRestart = s.sidecarRestarts, s.lastSidecarRestart
	running := false
	statuses := pod.Status.ContainerStatuses
	for i := len(statuses) - 1; i >= 0; i-- {
		status := &statuses[i]
		s.restarts += int(status.RestartCount)
		later(&s.lastRestart, status)
		switch state := status.State; {
		case state.Waiting != nil && state.Waiting.Reason != "":
			s.reason = state.Waiting.Reason
		case state.Terminated != nil:
			s.reason = terminatedReason(state.Terminated)
		case status.Ready && state.Running != nil:
			running = true
			s.ready++
		}
	}
	// One container has ended well while another still runs.
	if s.reason == "Completed" && running {
		s.reason = "NotReady"
		if podutil.IsPodReady(pod) {
			s.reason = "Running"
		}
	}
}

func terminatedReason(t *v1.ContainerStateTerminated) string {
	switch {
	case t.Reason != "":
		return t.Reason
	case t.Signal != 0:
		return fmt.Sprintf("Signal:%d", t.Signal)
	}
	return fmt.Sprintf("ExitCode:%d", t.ExitCode)
}

func later(t *metav1.Time, status *v1.ContainerStatus) {
	if last := status.LastTerminationState.Terminated; last != nil && t.Before(&last.FinishedAt) {
		*t = last.FinishedAt
	}
}

func isInitialized(status *v1.PodStatus) bool {
	_, c := podutil.GetPodCondition(status, v1.PodInitialized)
	return c != nil && c.Status == v1.ConditionTrue
}

func readinessGates(pod *v1.Pod) string {
	if len(pod.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	met := 0
	for _, gate := range pod.Spec.ReadinessGates {
		if _, c := podutil.GetPodCondition(&pod.Status, gate.ConditionType); c != nil && c.Status == v1.ConditionTrue {
			met++
		}
	}
	return fmt.Sprintf("%d/%d", met, len(pod.Spec.ReadinessGates))
}
