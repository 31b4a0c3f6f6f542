package cache

import (
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"hyperkube/scheduler/framework"
)

// podState is a pod the cache counts.
type podState struct {
	info *framework.PodInfo
	// assumed: not yet seen from the apiserver with this node.
	assumed bool
	// bound: the binding has been written; gone: the informer has reported the pod's end
	// without ever having shown it bound. With both there is nothing left to wait for.
	bound, gone bool
}

// nodeInfoListItem is a node in the list ordered by generation.
type nodeInfoListItem struct {
	info       *framework.NodeInfo
	next, prev *nodeInfoListItem
}

// imageState is one image and where it is.
type imageState struct {
	size  int64
	nodes map[string]struct{}
}

// Cache is the scheduler's view. Safe for concurrent use.
type Cache struct {
	mu        sync.RWMutex
	podStates map[types.UID]*podState
	nodes     map[string]*nodeInfoListItem
	headNode  *nodeInfoListItem
	// nodeOrder is the zone by zone order of nodes; nil when it must be made anew.
	nodeOrder   []string
	imageStates map[string]*imageState
}

// New returns an empty cache.
func New() *Cache {
	return &Cache{
		podStates: map[types.UID]*podState{}, nodes: map[string]*nodeInfoListItem{}, imageStates: map[string]*imageState{},
	}
}

// UpdateSnapshot brings the snapshot up to date: nodes changed since the last call
// are copied, the rest stays. The lists are made anew only when a node came or
// went, or changed whether it holds pods with affinity.
func (c *Cache) UpdateSnapshot(snapshot *Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()

	updateAll, updateAffinity := c.nodeOrder == nil || snapshot.nodeInfoList == nil, false
	for item := c.headNode; item != nil && item.info.Generation > snapshot.generation; item = item.next {
		node := item.info.Node()
		if node == nil {
			continue
		}
		clone := item.info.Snapshot()
		existing, ok := snapshot.nodeInfoMap[node.Name]
		if !ok {
			updateAll = true
			snapshot.nodeInfoMap[node.Name] = clone
			continue
		}
		updateAffinity = updateAffinity || affinityChanged(existing, clone)
		// Overwriting in place keeps the pointers in the lists right.
		*existing = *clone
	}
	if c.headNode != nil {
		snapshot.generation = c.headNode.info.Generation
	}
	if len(snapshot.nodeInfoMap) > c.nodesWithObject() {
		c.removeDeletedNodes(snapshot)
		updateAll = true
	}
	if updateAll || updateAffinity {
		c.refreshLists(snapshot, updateAll)
	}
}

// affinityChanged tells whether a node must enter or leave one of the two lists.
func affinityChanged(a, b *framework.NodeInfo) bool {
	return (len(a.PodsWithAffinity) > 0) != (len(b.PodsWithAffinity) > 0) ||
		(len(a.PodsWithRequiredAntiAffinity) > 0) != (len(b.PodsWithRequiredAntiAffinity) > 0)
}

func (c *Cache) nodesWithObject() int {
	if c.nodeOrder == nil {
		c.nodeOrder = zoneByZone(c.nodes)
	}
	return len(c.nodeOrder)
}

func (c *Cache) removeDeletedNodes(snapshot *Snapshot) {
	for name := range snapshot.nodeInfoMap {
		if item, ok := c.nodes[name]; !ok || item.info.Node() == nil {
			delete(snapshot.nodeInfoMap, name)
		}
	}
}

func (c *Cache) refreshLists(snapshot *Snapshot, all bool) {
	if all {
		snapshot.nodeInfoList = make([]*framework.NodeInfo, 0, len(c.nodeOrder))
		for _, name := range c.nodeOrder {
			if info := snapshot.nodeInfoMap[name]; info != nil {
				snapshot.nodeInfoList = append(snapshot.nodeInfoList, info)
			}
		}
	}
	snapshot.havePodsWithAffinity, snapshot.havePodsWithRequiredAntiAffinity = nil, nil
	for _, info := range snapshot.nodeInfoList {
		if len(info.PodsWithAffinity) > 0 {
			snapshot.havePodsWithAffinity = append(snapshot.havePodsWithAffinity, info)
		}
		if len(info.PodsWithRequiredAntiAffinity) > 0 {
			snapshot.havePodsWithRequiredAntiAffinity = append(snapshot.havePodsWithRequiredAntiAffinity, info)
		}
	}
}

// AssumePod counts a pod on the node named in its spec before the apiserver does.
func (c *Cache) AssumePod(pod *framework.PodInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.podStates[pod.Pod.UID]; ok {
		return fmt.Errorf("pod %s (%s) is in the cache, so can't be assumed", klog.KObj(pod.Pod), pod.Pod.UID)
	}
	c.addPod(pod, true)
	return nil
}

// FinishBinding says that the binding has been written. The informer will confirm it,
// however long that takes: to forget the pod after a while would give its place away
// twice when the watch is merely slow.
func (c *Cache) FinishBinding(pod *v1.Pod) { c.settle(pod, func(ps *podState) { ps.bound = true }) }

// UnboundPodGone takes the end of a pod that the informer has never shown bound. It was
// deleted right after its binding, and a relist has swallowed what was between.
func (c *Cache) UnboundPodGone(pod *v1.Pod) { c.settle(pod, func(ps *podState) { ps.gone = true }) }

func (c *Cache) settle(pod *v1.Pod, note func(*podState)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps, ok := c.podStates[pod.UID]
	if !ok || !ps.assumed {
		return
	}
	if note(ps); ps.bound && ps.gone {
		_ = c.removePod(pod.UID, ps) // fails only for a pod that is counted nowhere
	}
}

// ForgetPod takes an assumed pod back; a confirmed one is an error of the caller.
func (c *Cache) ForgetPod(pod *v1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps, ok := c.podStates[pod.UID]
	if !ok {
		return nil // deleted meanwhile
	}
	if !ps.assumed {
		return fmt.Errorf("pod %s (%s) wasn't assumed so cannot be forgotten", klog.KObj(pod), pod.UID)
	}
	return c.removePod(pod.UID, ps)
}

// IsAssumedPod tells whether the pod is decided but not confirmed.
func (c *Cache) IsAssumedPod(pod *v1.Pod) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ps, ok := c.podStates[pod.UID]
	return ok && ps.assumed
}

// AddPod takes a pod on a node from the informer, confirming it if assumed.
func (c *Cache) AddPod(logger klog.Logger, pod *v1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps, ok := c.podStates[pod.UID]
	if ok && ps.assumed && ps.info.Pod.Spec.NodeName != pod.Spec.NodeName {
		logger.Info("Pod was added to a different node than it was assumed", "pod", klog.KObj(pod),
			"assumedNode", ps.info.Pod.Spec.NodeName, "currentNode", pod.Spec.NodeName)
	}
	if ok {
		if err := c.removePod(pod.UID, ps); err != nil {
			return err
		}
	}
	c.addPod(framework.NewPodInfo(pod), false)
	return nil
}

// UpdatePod takes a new version of a pod on a node.
func (c *Cache) UpdatePod(logger klog.Logger, newPod *v1.Pod) error { return c.AddPod(logger, newPod) }

// RemovePod takes a deleted pod off its node.
func (c *Cache) RemovePod(pod *v1.Pod) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ps, ok := c.podStates[pod.UID]
	if !ok {
		return nil
	}
	return c.removePod(pod.UID, ps)
}

// GetPod returns the cached version of a pod, or nil.
func (c *Cache) GetPod(uid types.UID) *v1.Pod {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if ps, ok := c.podStates[uid]; ok {
		return ps.info.Pod
	}
	return nil
}

// NodeCount and PodCount are for metrics and tests.
func (c *Cache) NodeCount() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.nodes)
}

// PodCount counts assumed pods too.
func (c *Cache) PodCount() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.podStates)
}

// AddNode takes a node from the informer, or a new version of it.
func (c *Cache) AddNode(node *v1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	item := c.nodeItem(node.Name)
	old := item.info.Node()
	if old == nil || zoneOf(old) != zoneOf(node) {
		c.nodeOrder = nil
	}
	c.updateImages(node, old)
	item.info.SetNode(node)
	c.setImageStates(item.info, node)
	c.moveToHead(item)
}

// UpdateNode is AddNode: a node may come back before its deletion was seen.
func (c *Cache) UpdateNode(node *v1.Node) { c.AddNode(node) }

// RemoveNode forgets a node; its pods stay counted until their own deletions come.
func (c *Cache) RemoveNode(node *v1.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	item, ok := c.nodes[node.Name]
	if !ok {
		return fmt.Errorf("node %v is not found", node.Name)
	}
	c.updateImages(nil, item.info.Node())
	item.info.RemoveNode()
	c.nodeOrder = nil
	if len(item.info.Pods) == 0 {
		c.removeItem(node.Name)
	} else {
		c.moveToHead(item)
	}
	return nil
}

// The functions below need c.mu.

func (c *Cache) addPod(pod *framework.PodInfo, assumed bool) {
	item := c.nodeItem(pod.Pod.Spec.NodeName)
	item.info.AddPod(pod)
	c.moveToHead(item)
	c.podStates[pod.Pod.UID] = &podState{info: pod, assumed: assumed}
}

func (c *Cache) removePod(uid types.UID, ps *podState) error {
	delete(c.podStates, uid)
	name := ps.info.Pod.Spec.NodeName
	item, ok := c.nodes[name]
	if !ok {
		return fmt.Errorf("pod %s is counted on node %q, which is not in the cache", klog.KObj(ps.info.Pod), name)
	}
	if err := item.info.RemovePod(ps.info.Pod); err != nil {
		return err
	}
	if len(item.info.Pods) == 0 && item.info.Node() == nil {
		c.removeItem(name)
	} else {
		c.moveToHead(item)
	}
	return nil
}

// nodeItem returns the node's item, making one without an object if needed.
func (c *Cache) nodeItem(name string) *nodeInfoListItem {
	item, ok := c.nodes[name]
	if !ok {
		item = &nodeInfoListItem{info: framework.NewNodeInfo()}
		c.nodes[name] = item
	}
	return item
}

func (c *Cache) moveToHead(item *nodeInfoListItem) {
	if c.headNode == item {
		return
	}
	c.unlink(item)
	item.next = c.headNode
	if c.headNode != nil {
		c.headNode.prev = item
	}
	item.prev = nil
	c.headNode = item
}

func (c *Cache) unlink(item *nodeInfoListItem) {
	if item.prev != nil {
		item.prev.next = item.next
	}
	if item.next != nil {
		item.next.prev = item.prev
	}
	if c.headNode == item {
		c.headNode = item.next
	}
	item.prev, item.next = nil, nil
}

func (c *Cache) removeItem(name string) {
	c.unlink(c.nodes[name])
	delete(c.nodes, name)
}

// updateImages keeps the count of nodes per image; either version may be nil.
func (c *Cache) updateImages(newNode, oldNode *v1.Node) {
	if oldNode != nil {
		for _, image := range oldNode.Status.Images {
			for _, name := range image.Names {
				if state, ok := c.imageStates[name]; ok {
					delete(state.nodes, oldNode.Name)
					if len(state.nodes) == 0 {
						delete(c.imageStates, name)
					}
				}
			}
		}
	}
	if newNode == nil {
		return
	}
	for _, image := range newNode.Status.Images {
		for _, name := range image.Names {
			if c.imageStates[name] == nil {
				c.imageStates[name] = &imageState{size: image.SizeBytes, nodes: map[string]struct{}{}}
			}
			c.imageStates[name].nodes[newNode.Name] = struct{}{}
		}
	}
}

// setImageStates gives the node its images with the counts as of now. Counts on
// other nodes lag until those nodes report again; the score is a preference only.
func (c *Cache) setImageStates(info *framework.NodeInfo, node *v1.Node) {
	states := make(map[string]*framework.ImageStateSummary, len(node.Status.Images))
	for _, image := range node.Status.Images {
		for _, name := range image.Names {
			states[name] = &framework.ImageStateSummary{Size: c.imageStates[name].size, NumNodes: len(c.imageStates[name].nodes)}
		}
	}
	info.ImageStates = states
}
