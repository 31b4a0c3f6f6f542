package framework

import "testing"

// The text is what users search the web for: it must be upstream's, to the letter.
func TestFitErrorText(t *testing.T) {
	reasons := func(perNode map[string][]string) *NodeToStatus {
		m := NewNodeToStatus()
		for node, r := range perNode {
			m.Set(node, NewStatus(Unschedulable, r...))
		}
		return m
	}
	absent := reasons(map[string][]string{"a": {"node(s) were unschedulable"}})
	absent.SetAbsentNodesStatus(NewStatus(UnschedulableAndUnresolvable, "node(s) didn't satisfy plugin(s) [NodeAffinity]"))
	for name, test := range map[string]struct {
		total     int
		diagnosis Diagnosis
		want      string
	}{
		"reasons are counted and sorted": {3, Diagnosis{NodeToStatus: reasons(map[string][]string{
			"a": {"Insufficient cpu"}, "b": {"Insufficient cpu"}, "c": {"node(s) had untolerated taint(s)"}})},
			"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu."},
		"several reasons of one node": {1, Diagnosis{NodeToStatus: reasons(map[string][]string{"a": {"Insufficient cpu", "Insufficient memory"}})},
			"0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory."},
		"prefilter speaks for all": {2, Diagnosis{NodeToStatus: NewNodeToStatus(), PreFilterMsg: "pod affinity terms conflict"},
			"0/2 nodes are available: pod affinity terms conflict."},
		"postfilter comes last": {1, Diagnosis{NodeToStatus: reasons(map[string][]string{"a": {"Insufficient cpu"}}),
			PostFilterMsg: "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
			"0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		"nodes that were not asked": {3, Diagnosis{NodeToStatus: absent},
			"0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."},
	} {
		if got := (&FitError{NumAllNodes: test.total, Diagnosis: test.diagnosis}).Error(); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}
