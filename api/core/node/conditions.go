package node

import v1 "k8s.io/api/core/v1"

// GetNodeCondition finds a condition by type: its index and a pointer into the
// status, or -1 and nil.
func GetNodeCondition(status *v1.NodeStatus, conditionType v1.NodeConditionType) (int, *v1.NodeCondition) {
	if status != nil {
		for i := range status.Conditions {
			if status.Conditions[i].Type == conditionType {
				return i, &status.Conditions[i]
			}
		}
	}
	return -1, nil
}

// IsNodeReady reports whether the Ready condition is True.
func IsNodeReady(node *v1.Node) bool {
	_, c := GetNodeCondition(&node.Status, v1.NodeReady)
	return c != nil && c.Status == v1.ConditionTrue
}
