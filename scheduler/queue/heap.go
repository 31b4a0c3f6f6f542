package queue

import (
	"container/heap"

	"k8s.io/apimachinery/pkg/types"

	"hyperkube/scheduler/framework"
)

// podHeap is a priority queue of pods in which one can be found by UID.
type podHeap struct {
	items podItems
}

func newPodHeap(less framework.LessFunc) *podHeap {
	return &podHeap{items: podItems{less: less, index: map[types.UID]int{}}}
}

func (h *podHeap) len() int { return len(h.items.pods) }

// addOrUpdate enters the pod, or puts it in its right place after a change.
func (h *podHeap) addOrUpdate(p *framework.QueuedPodInfo) {
	if i, ok := h.items.index[p.Pod.UID]; ok {
		h.items.pods[i] = p
		heap.Fix(&h.items, i)
		return
	}
	heap.Push(&h.items, p)
}

func (h *podHeap) delete(uid types.UID) {
	if i, ok := h.items.index[uid]; ok {
		heap.Remove(&h.items, i)
	}
}

func (h *podHeap) get(uid types.UID) *framework.QueuedPodInfo {
	if i, ok := h.items.index[uid]; ok {
		return h.items.pods[i]
	}
	return nil
}

// peek returns the first pod, or nil.
func (h *podHeap) peek() *framework.QueuedPodInfo {
	if h.len() == 0 {
		return nil
	}
	return h.items.pods[0]
}

func (h *podHeap) pop() *framework.QueuedPodInfo {
	return heap.Pop(&h.items).(*framework.QueuedPodInfo)
}

// podItems implements heap.Interface.
type podItems struct {
	less  framework.LessFunc
	pods  []*framework.QueuedPodInfo
	index map[types.UID]int
}

func (s *podItems) Len() int           { return len(s.pods) }
func (s *podItems) Less(i, j int) bool { return s.less(s.pods[i], s.pods[j]) }
func (s *podItems) Swap(i, j int) {
	s.pods[i], s.pods[j] = s.pods[j], s.pods[i]
	s.index[s.pods[i].Pod.UID] = i
	s.index[s.pods[j].Pod.UID] = j
}

func (s *podItems) Push(x any) {
	p := x.(*framework.QueuedPodInfo)
	s.index[p.Pod.UID] = len(s.pods)
	s.pods = append(s.pods, p)
}

func (s *podItems) Pop() any {
	last := len(s.pods) - 1
	p := s.pods[last]
	s.pods[last] = nil
	s.pods = s.pods[:last]
	delete(s.index, p.Pod.UID)
	return p
}
