package framework

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"hyperkube/reconcile"
)

// PodInfo is a pod with what the scheduler asks of it again and again, computed
// once. It is never changed after NewPodInfo, so that copies may share it.
type PodInfo struct {
	Pod *v1.Pod
	// Requests is what Filter compares; NonZeroRequests, what Score does.
	Requests        *Resource
	NonZeroRequests *Resource
	// HostPorts are the ports the pod's containers claim on the node.
	HostPorts []v1.ContainerPort
	podAffinity
}

// NewPodInfo computes the sums of a pod.
func NewPodInfo(pod *v1.Pod) *PodInfo {
	return &PodInfo{
		Pod:             pod,
		Requests:        NewResource(podRequests(pod)),
		NonZeroRequests: NewResource(podNonZeroRequests(pod)),
		HostPorts:       hostPorts(pod),
		podAffinity:     parsePodAffinity(pod),
	}
}

// hostPorts collects host ports of containers and of restartable init containers
// (sidecars), the only ones that run beside others.
func hostPorts(pod *v1.Pod) []v1.ContainerPort {
	var ports []v1.ContainerPort
	collect := func(c *v1.Container) {
		for _, port := range c.Ports {
			if port.HostPort > 0 {
				ports = append(ports, port)
			}
		}
	}
	for i := range pod.Spec.InitContainers {
		if policy := pod.Spec.InitContainers[i].RestartPolicy; policy != nil && *policy == v1.ContainerRestartPolicyAlways {
			collect(&pod.Spec.InitContainers[i])
		}
	}
	for i := range pod.Spec.Containers {
		collect(&pod.Spec.Containers[i])
	}
	return ports
}

// hasRequiredAntiAffinity and hasAffinity feed the two lists of NodeInfo that make
// inter-pod affinity affordable: it looks at these pods only, not at all.
func (pi *PodInfo) hasAffinity() bool {
	affinity := pi.Pod.Spec.Affinity
	return affinity != nil && (affinity.PodAffinity != nil || affinity.PodAntiAffinity != nil)
}

func (pi *PodInfo) hasRequiredAntiAffinity() bool {
	affinity := pi.Pod.Spec.Affinity
	return affinity != nil && affinity.PodAntiAffinity != nil &&
		len(affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) != 0
}

// QueuedPodInfo is a pod in the scheduling queue. It belongs to the queue's lock
// while queued, and to the scheduling cycle between Pop and Done.
type QueuedPodInfo struct {
	*PodInfo
	// Timestamp is when the pod entered the part of the queue it is in.
	Timestamp time.Time
	// InitialAttemptTimestamp is when it was first popped; nil before.
	InitialAttemptTimestamp *time.Time
	// Attempts counts how often it was popped.
	Attempts int
	// UnschedulableCount counts rejections and ConsecutiveErrorsCount failures since
	// the last rejection; each drives its own backoff.
	UnschedulableCount     int
	ConsecutiveErrorsCount int
	// BackoffExpiration is when the pod may leave backoffQ.
	BackoffExpiration time.Time
	// UnschedulablePlugins rejected the pod in its last attempt; only events they
	// registered can bring it back. Empty after an error: then anything may.
	UnschedulablePlugins sets.Set[string]
	// PendingPlugins rejected it with Pending: their event retries it without backoff.
	PendingPlugins sets.Set[string]
	// GatingPlugin is the PreEnqueue plugin that keeps the pod out, or "".
	GatingPlugin string
	// MovedBy is the event that brought the pod back after its last refusal; empty if it
	// is new, or a timer did. It is what the next attempt is made for.
	MovedBy reconcile.Event
}

// Gated tells whether a PreEnqueue plugin keeps the pod out of the queue.
func (q *QueuedPodInfo) Gated() bool { return q.GatingPlugin != "" }

// RejectorPlugins are all plugins that refused the pod in its last attempt.
func (q *QueuedPodInfo) RejectorPlugins() sets.Set[string] {
	return q.UnschedulablePlugins.Union(q.PendingPlugins)
}

// DeepCopy copies the entry and its pod, so that the assumed pod can be given a
// node name while the informer's object stays as it is.
func (q *QueuedPodInfo) DeepCopy() *QueuedPodInfo {
	clone := *q
	info := *q.PodInfo
	info.Pod = q.Pod.DeepCopy()
	clone.PodInfo = &info
	clone.UnschedulablePlugins = q.UnschedulablePlugins.Clone()
	clone.PendingPlugins = q.PendingPlugins.Clone()
	return &clone
}
