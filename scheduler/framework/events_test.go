package framework

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestClusterEventMatch(t *testing.T) {
	for name, test := range map[string]struct {
		pattern, event ClusterEvent
		want           bool
	}{
		"same":                        {ClusterEvent{Resource: Node, ActionType: Add}, EventNodeAdd, true},
		"other action":                {ClusterEvent{Resource: Node, ActionType: Delete}, EventNodeAdd, false},
		"other resource":              {ClusterEvent{Resource: Node, ActionType: Add}, EventAssignedPodAdd, false},
		"pod stands for assigned pod": {ClusterEvent{Resource: Pod, ActionType: Delete}, EventAssignedPodDelete, true},
		"assigned is not unscheduled": {ClusterEvent{Resource: AssignedPod, ActionType: Add}, EventUnscheduledPodAdd, false},
		"update covers a special one": {ClusterEvent{Resource: Node, ActionType: Update}, ClusterEvent{Resource: Node, ActionType: UpdateNodeTaint}, true},
		"everything":                  {ClusterEvent{Resource: WildCard, ActionType: All}, EventNodeDelete, true},
	} {
		if got := test.pattern.Match(test.event); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// A heartbeat must wake no pod: it comes every ten seconds from each node.
func TestNodeSchedulingPropertiesChange(t *testing.T) {
	base := &v1.Node{Status: v1.NodeStatus{
		Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("1")},
		Conditions:  []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue}},
	}}
	for name, test := range map[string]struct {
		change func(*v1.Node)
		want   []ActionType
	}{
		"heartbeat":   {func(n *v1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }, nil},
		"allocatable": {func(n *v1.Node) { n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("2") }, []ActionType{UpdateNodeAllocatable}},
		"cordon":      {func(n *v1.Node) { n.Spec.Unschedulable = true }, []ActionType{UpdateNodeTaint}},
		"label":       {func(n *v1.Node) { n.Labels = map[string]string{"a": "b"} }, []ActionType{UpdateNodeLabel}},
		"condition":   {func(n *v1.Node) { n.Status.Conditions[0].Status = v1.ConditionFalse }, []ActionType{UpdateNodeCondition}},
	} {
		changed := base.DeepCopy()
		test.change(changed)
		var got []ActionType
		for _, e := range NodeSchedulingPropertiesChange(changed, base) {
			got = append(got, e.ActionType)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}
