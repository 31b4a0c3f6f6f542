package framework

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"
)

// ActionType is a set of ways in which an object can change.
type ActionType int64

const (
	Add ActionType = 1 << iota
	Delete

	UpdateNodeAllocatable
	UpdateNodeLabel
	UpdateNodeTaint
	UpdateNodeCondition
	UpdateNodeAnnotation

	UpdatePodLabel
	UpdatePodScaleDown
	UpdatePodToleration
	UpdatePodSchedulingGatesEliminated

	// updateOther is a change none of the above describes.
	updateOther

	// Update is any change of an existing object.
	Update = UpdateNodeAllocatable | UpdateNodeLabel | UpdateNodeTaint | UpdateNodeCondition | UpdateNodeAnnotation |
		UpdatePodLabel | UpdatePodScaleDown | UpdatePodToleration | UpdatePodSchedulingGatesEliminated | updateOther
	// All is any event.
	All = Add | Delete | Update
)

// EventResource is the kind of object an event is about.
type EventResource string

const (
	// Pod stands for AssignedPod, UnscheduledPod and TargetPod together.
	Pod EventResource = "Pod"
	// AssignedPod is a pod that has a node.
	AssignedPod EventResource = "AssignedPod"
	// UnscheduledPod is a pod without a node, other than the one in question.
	UnscheduledPod EventResource = "UnscheduledPod"
	// TargetPod is the pod in question itself.
	TargetPod EventResource = "TargetPod"

	Node                  EventResource = "Node"
	PersistentVolume      EventResource = "PersistentVolume"
	PersistentVolumeClaim EventResource = "PersistentVolumeClaim"
	StorageClass          EventResource = "StorageClass"
	CSINode               EventResource = "CSINode"
	CSIDriver             EventResource = "CSIDriver"
	CSIStorageCapacity    EventResource = "CSIStorageCapacity"
	VolumeAttachment      EventResource = "VolumeAttachment"
	Namespace             EventResource = "Namespace"

	// WildCard matches every resource.
	WildCard EventResource = "*"
)

// ClusterEvent is a change in the cluster, or (in EventsToRegister) the pattern of one.
type ClusterEvent struct {
	Resource   EventResource
	ActionType ActionType
	// Label names the event in metrics and explanations.
	Label string
}

// The events the scheduler itself makes.
var (
	EventAssignedPodAdd       = ClusterEvent{AssignedPod, Add, "AssignedPodAdd"}
	EventAssignedPodUpdate    = ClusterEvent{AssignedPod, Update, "AssignedPodUpdate"}
	EventAssignedPodDelete    = ClusterEvent{AssignedPod, Delete, "AssignedPodDelete"}
	EventUnscheduledPodAdd    = ClusterEvent{UnscheduledPod, Add, "UnscheduledPodAdd"}
	EventUnscheduledPodDelete = ClusterEvent{UnscheduledPod, Delete, "UnscheduledPodDelete"}
	EventNodeAdd              = ClusterEvent{Node, Add, "NodeAdd"}
	EventNodeDelete           = ClusterEvent{Node, Delete, "NodeDelete"}
	// EventUnschedulableTimeout is the periodic flush: it asks no hint.
	EventUnschedulableTimeout = ClusterEvent{WildCard, All, "UnschedulableTimeout"}
)

// Match tells whether the event is one that the pattern describes: the same or a
// more special resource, and at least one common action.
func (pattern ClusterEvent) Match(event ClusterEvent) bool {
	if pattern.IsWildCard() {
		return true
	}
	if pattern.ActionType&event.ActionType == 0 {
		return false
	}
	switch pattern.Resource {
	case WildCard, event.Resource:
		return true
	case Pod:
		return event.Resource == AssignedPod || event.Resource == UnscheduledPod || event.Resource == TargetPod
	}
	return false
}

// IsWildCard tells whether the event concerns everything, whatever the hints say.
func (e ClusterEvent) IsWildCard() bool { return e.Resource == WildCard && e.ActionType == All }

// QueueingHint is a plugin's guess whether an event may have made a pod schedulable.
type QueueingHint int

const (
	// QueueSkip: this event does not help the pod.
	QueueSkip QueueingHint = iota
	// Queue: the pod may fit now; try it again.
	Queue
)

// QueueingHintFn looks at one event for one pod that this plugin rejected. oldObj
// is nil for an addition, newObj for a deletion. An error counts as Queue: a
// needless attempt is cheap, a pod that waits for nothing is not.
type QueueingHintFn func(logger klog.Logger, pod *v1.Pod, oldObj, newObj any) (QueueingHint, error)

// ClusterEventWithHint registers interest in an event; without a function each
// matching event requeues the pod.
type ClusterEventWithHint struct {
	Event          ClusterEvent
	QueueingHintFn QueueingHintFn
}

// NodeSchedulingPropertiesChange lists what changed between two versions of a node
// that plugins could care about; a heartbeat changes nothing here, so that it
// wakes no pod.
func NodeSchedulingPropertiesChange(newNode, oldNode *v1.Node) []ClusterEvent {
	var events []ClusterEvent
	add := func(changed bool, action ActionType, label string) {
		if changed {
			events = append(events, ClusterEvent{Node, action, label})
		}
	}
	add(!equality.Semantic.DeepEqual(oldNode.Status.Allocatable, newNode.Status.Allocatable), UpdateNodeAllocatable, "NodeAllocatableChange")
	add(!equality.Semantic.DeepEqual(oldNode.Labels, newNode.Labels), UpdateNodeLabel, "NodeLabelChange")
	add(newNode.Spec.Unschedulable != oldNode.Spec.Unschedulable ||
		!equality.Semantic.DeepEqual(oldNode.Spec.Taints, newNode.Spec.Taints), UpdateNodeTaint, "NodeTaintChange")
	add(nodeConditionsChanged(newNode, oldNode), UpdateNodeCondition, "NodeConditionChange")
	add(!equality.Semantic.DeepEqual(oldNode.Annotations, newNode.Annotations), UpdateNodeAnnotation, "NodeAnnotationChange")
	return events
}

// nodeConditionsChanged compares types and statuses only: the heartbeat times
// change every few seconds.
func nodeConditionsChanged(newNode, oldNode *v1.Node) bool {
	if len(newNode.Status.Conditions) != len(oldNode.Status.Conditions) {
		return true
	}
	old := make(map[v1.NodeConditionType]v1.ConditionStatus, len(oldNode.Status.Conditions))
	for _, c := range oldNode.Status.Conditions {
		old[c.Type] = c.Status
	}
	for _, c := range newNode.Status.Conditions {
		if status, ok := old[c.Type]; !ok || status != c.Status {
			return true
		}
	}
	return false
}

// PodSchedulingPropertiesChange lists what changed between two versions of a pod
// that plugins could care about. The resource tells who looks: TargetPod for an
// unscheduled pod's own update, AssignedPod for a pod on a node.
func PodSchedulingPropertiesChange(newPod, oldPod *v1.Pod) []ClusterEvent {
	resource := UnscheduledPod
	if newPod.Spec.NodeName != "" {
		resource = AssignedPod
	} else if oldPod.UID == newPod.UID {
		resource = TargetPod
	}
	var events []ClusterEvent
	add := func(changed bool, action ActionType, label string) {
		if changed {
			events = append(events, ClusterEvent{resource, action, label})
		}
	}
	add(!equality.Semantic.DeepEqual(oldPod.Labels, newPod.Labels), UpdatePodLabel, "PodLabelChange")
	add(podScaledDown(newPod, oldPod), UpdatePodScaleDown, "PodRequestScaledDown")
	add(!equality.Semantic.DeepEqual(oldPod.Spec.Tolerations, newPod.Spec.Tolerations), UpdatePodToleration, "PodTolerationChange")
	add(len(newPod.Spec.SchedulingGates) == 0 && len(oldPod.Spec.SchedulingGates) != 0,
		UpdatePodSchedulingGatesEliminated, "PodSchedulingGateEliminated")
	if len(events) == 0 {
		events = append(events, ClusterEvent{resource, updateOther, string(resource) + "Update"})
	}
	return events
}

func podScaledDown(newPod, oldPod *v1.Pod) bool {
	oldRequests, newRequests := podRequests(oldPod), podRequests(newPod)
	for name, old := range oldRequests {
		if now, ok := newRequests[name]; !ok || now.Cmp(old) < 0 {
			return true
		}
	}
	return false
}
