// Package queuesort orders the queue: higher priority first, then first come first served.
package queuesort

import (
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"

	"hyperkube/scheduler/framework"
)

// Name of the plugin.
const Name = "PrioritySort"

// PrioritySort is the QueueSort plugin.
type PrioritySort struct{}

// New returns the plugin.
func New() *PrioritySort { return &PrioritySort{} }

// Name returns the plugin's name.
func (*PrioritySort) Name() string { return Name }

// Less tells whether a goes before b.
func (*PrioritySort) Less(a, b *framework.QueuedPodInfo) bool {
	p1, p2 := corev1helpers.PodPriority(a.Pod), corev1helpers.PodPriority(b.Pod)
	return p1 > p2 || p1 == p2 && a.Timestamp.Before(b.Timestamp)
}
