package queue

import (
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"hyperkube/scheduler/framework"
)

// Nominator knows the pods for which preemption has made, or is making, room on a node
// (status.nominatedNodeName). They are not there yet, since the victims take their time to
// go; until then, others of no higher priority must not take that room. The zero value is ready.
type Nominator struct {
	mu     sync.RWMutex
	byNode map[string][]*framework.PodInfo
	nodeOf map[types.UID]string
}

// AddNominatedPod notes a pod: nominating says where, or, if it says nothing, the pod's status.
func (n *Nominator) AddNominatedPod(pod *framework.PodInfo, nominating *framework.NominatingInfo) {
	node := pod.Pod.Status.NominatedNodeName
	if nominating != nil && nominating.Override {
		node = nominating.NominatedNodeName
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delete(pod.Pod.UID)
	if node == "" {
		return
	}
	if n.byNode == nil {
		n.byNode, n.nodeOf = map[string][]*framework.PodInfo{}, map[types.UID]string{}
	}
	n.nodeOf[pod.Pod.UID] = node
	n.byNode[node] = append(n.byNode[node], pod)
}

// UpdateNominatedPod takes a new version of a pod. A nomination that only we know of yet
// (its write is on the way) is kept.
func (n *Nominator) UpdateNominatedPod(old *v1.Pod, pod *framework.PodInfo) {
	var nominating *framework.NominatingInfo
	if old != nil && old.Status.NominatedNodeName == "" && pod.Pod.Status.NominatedNodeName == "" {
		n.mu.RLock()
		node, known := n.nodeOf[old.UID]
		n.mu.RUnlock()
		if known {
			nominating = &framework.NominatingInfo{NominatedNodeName: node, Override: true}
		}
	}
	n.AddNominatedPod(pod, nominating)
}

// DeleteNominatedPodIfExists forgets a pod: it is on its way to a node, or gone.
func (n *Nominator) DeleteNominatedPodIfExists(uid types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delete(uid)
}

func (n *Nominator) delete(uid types.UID) {
	node, ok := n.nodeOf[uid]
	if !ok {
		return
	}
	delete(n.nodeOf, uid)
	// A new slice: NominatedPodsForNode has handed the old one out.
	left := slices.DeleteFunc(slices.Clone(n.byNode[node]), func(p *framework.PodInfo) bool { return p.Pod.UID == uid })
	if n.byNode[node] = left; len(left) == 0 {
		delete(n.byNode, node)
	}
}

// NominatedPodsForNode returns the pods that wait for room on a node. They are shared: read only.
func (n *Nominator) NominatedPodsForNode(node string) []*framework.PodInfo {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Clip(n.byNode[node])
}
