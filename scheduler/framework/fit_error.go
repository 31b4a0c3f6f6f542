package framework

import (
	"fmt"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// NoNodeAvailableMsg begins every FitError.
const NoNodeAvailableMsg = "0/%v nodes are available"

// NodeToStatus says why each node was refused. Nodes that were never asked, since
// PreFilter already excluded them, share one status.
type NodeToStatus struct {
	nodes  map[string]*Status
	absent *Status
}

// NewNodeToStatus returns an empty map whose absent nodes are unresolvable.
func NewNodeToStatus() *NodeToStatus {
	return &NodeToStatus{nodes: map[string]*Status{}, absent: NewStatus(UnschedulableAndUnresolvable)}
}

// Get returns the status of a node.
func (m *NodeToStatus) Get(node string) *Status {
	if status, ok := m.nodes[node]; ok {
		return status
	}
	return m.absent
}

// Set gives one node a status.
func (m *NodeToStatus) Set(node string, status *Status) { m.nodes[node] = status }

// SetAbsentNodesStatus sets the status of all nodes without one of their own.
func (m *NodeToStatus) SetAbsentNodesStatus(status *Status) { m.absent = status }

// AbsentNodesStatus returns it.
func (m *NodeToStatus) AbsentNodesStatus() *Status { return m.absent }

// Len counts the nodes with a status of their own.
func (m *NodeToStatus) Len() int { return len(m.nodes) }

// ForEachExplicitNode visits the nodes with a status of their own.
func (m *NodeToStatus) ForEachExplicitNode(visit func(node string, status *Status)) {
	for node, status := range m.nodes {
		visit(node, status)
	}
}

// Diagnosis is what is known of a failed attempt.
type Diagnosis struct {
	NodeToStatus *NodeToStatus
	// UnschedulablePlugins and PendingPlugins rejected the pod on some node; only
	// events they registered can help it.
	UnschedulablePlugins sets.Set[string]
	PendingPlugins       sets.Set[string]
	// PreFilterMsg is set when PreFilter rejected the pod for all nodes at once.
	PreFilterMsg string
	// PostFilterMsg is what PostFilter (preemption) had to say.
	PostFilterMsg string
}

// AddPluginStatus notes the plugin behind a rejection.
func (d *Diagnosis) AddPluginStatus(status *Status) {
	if status.Plugin() == "" {
		return
	}
	target := &d.UnschedulablePlugins
	if status.Code() == Pending {
		target = &d.PendingPlugins
	} else if !status.IsRejected() {
		return
	}
	if *target == nil {
		*target = sets.New[string]()
	}
	target.Insert(status.Plugin())
}

// FitError says that no node can take the pod now.
type FitError struct {
	Pod         *v1.Pod
	NumAllNodes int
	Diagnosis   Diagnosis
}

// Error is the text of the FailedScheduling event and of the PodScheduled
// condition, in upstream's words and order:
//
//	0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.
//
// followed by what PostFilter said, if any did.
func (f *FitError) Error() string {
	msg := fmt.Sprintf(NoNodeAvailableMsg+":", f.NumAllNodes)
	if f.Diagnosis.PreFilterMsg != "" {
		msg += fmt.Sprintf(" %v.", f.Diagnosis.PreFilterMsg)
	} else if reasons := f.reasonsHistogram(); len(reasons) != 0 {
		msg += fmt.Sprintf(" %v.", strings.Join(reasons, ", "))
	}
	if f.Diagnosis.PostFilterMsg != "" {
		msg += " " + f.Diagnosis.PostFilterMsg
	}
	return msg
}

// reasonsHistogram counts equal reasons over all nodes. It sorts the finished
// strings, so that "10 x" stands before "2 y": so does upstream.
func (f *FitError) reasonsHistogram() []string {
	if f.Diagnosis.NodeToStatus == nil {
		return nil
	}
	counts := map[string]int{}
	f.Diagnosis.NodeToStatus.ForEachExplicitNode(func(_ string, status *Status) {
		for _, reason := range status.Reasons() {
			counts[reason]++
		}
	})
	if absent := f.NumAllNodes - f.Diagnosis.NodeToStatus.Len(); absent > 0 {
		for _, reason := range f.Diagnosis.NodeToStatus.AbsentNodesStatus().Reasons() {
			counts[reason] += absent
		}
	}
	lines := make([]string, 0, len(counts))
	for reason, count := range counts {
		lines = append(lines, fmt.Sprintf("%v %v", count, reason))
	}
	sort.Strings(lines)
	return lines
}
