package framework

import (
	"fmt"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
)

// generation counts changes of all NodeInfos of all caches. It only ever grows and
// only its order matters, so that sharing it between schedulers does no harm.
var generation atomic.Int64

// NodeInfo is what is known of a node for scheduling: the object, the pods on it
// (assumed ones too), and their sums.
//
// Invariants: Requested and NonZeroRequested are the sums over Pods; each change
// takes a new Generation, larger than any before. That is what the incremental
// snapshot relies on.
type NodeInfo struct {
	node *v1.Node
	Pods []*PodInfo
	// PodsWithAffinity and PodsWithRequiredAntiAffinity are the subsets that
	// inter-pod affinity looks at.
	PodsWithAffinity             []*PodInfo
	PodsWithRequiredAntiAffinity []*PodInfo

	UsedPorts        HostPortInfo
	Requested        *Resource
	NonZeroRequested *Resource
	Allocatable      *Resource
	// ImageStates are the images on the node, by each of their names.
	ImageStates map[string]*ImageStateSummary
	Generation  int64
}

// ImageStateSummary is an image on a node, and how common it is.
type ImageStateSummary struct {
	Size     int64 // bytes
	NumNodes int   // nodes that have the image
}

// NewNodeInfo returns a NodeInfo without a node, holding the given pods.
func NewNodeInfo(pods ...*v1.Pod) *NodeInfo {
	n := &NodeInfo{
		Requested: &Resource{}, NonZeroRequested: &Resource{}, Allocatable: &Resource{},
		UsedPorts: HostPortInfo{}, Generation: generation.Add(1),
	}
	for _, pod := range pods {
		n.AddPod(NewPodInfo(pod))
	}
	return n
}

// Node returns the node object, or nil: pods may be known before their node.
func (n *NodeInfo) Node() *v1.Node {
	if n == nil {
		return nil
	}
	return n.node
}

// SetNode takes a new version of the node object.
func (n *NodeInfo) SetNode(node *v1.Node) {
	n.node = node
	n.Allocatable = NewResource(node.Status.Allocatable)
	n.Generation = generation.Add(1)
}

// RemoveNode forgets the object but keeps the pods: their deletions are still to come.
func (n *NodeInfo) RemoveNode() {
	n.node = nil
	n.Generation = generation.Add(1)
}

// Touch gives the node a new generation after a change made to a field directly.
func (n *NodeInfo) Touch() { n.Generation = generation.Add(1) }

// AddPod adds a pod and its sums.
func (n *NodeInfo) AddPod(pod *PodInfo) {
	n.Pods = append(n.Pods, pod)
	if pod.hasAffinity() {
		n.PodsWithAffinity = append(n.PodsWithAffinity, pod)
	}
	if pod.hasRequiredAntiAffinity() {
		n.PodsWithRequiredAntiAffinity = append(n.PodsWithRequiredAntiAffinity, pod)
	}
	n.update(pod, 1)
}

// RemovePod takes a pod away, by UID.
func (n *NodeInfo) RemovePod(pod *v1.Pod) error {
	var removed *PodInfo
	if n.Pods, removed = removeFromSlice(n.Pods, pod); removed == nil {
		return fmt.Errorf("pod %s/%s is not on node %q", pod.Namespace, pod.Name, n.name())
	}
	n.PodsWithAffinity, _ = removeFromSlice(n.PodsWithAffinity, pod)
	n.PodsWithRequiredAntiAffinity, _ = removeFromSlice(n.PodsWithRequiredAntiAffinity, pod)
	n.update(removed, -1)
	return nil
}

// removeFromSlice does not keep the order: nothing depends on it.
func removeFromSlice(pods []*PodInfo, pod *v1.Pod) ([]*PodInfo, *PodInfo) {
	for i, info := range pods {
		if info.Pod.UID == pod.UID {
			last := len(pods) - 1
			pods[i] = pods[last]
			pods[last] = nil
			return pods[:last], info
		}
	}
	return pods, nil
}

// update adds (sign 1) or subtracts (sign -1) a pod's sums.
func (n *NodeInfo) update(pod *PodInfo, sign int64) {
	n.Requested.add(pod.Requests, sign)
	n.NonZeroRequested.add(pod.NonZeroRequests, sign)
	for _, port := range pod.HostPorts {
		if sign > 0 {
			n.UsedPorts.Add(port.HostIP, port.Protocol, port.HostPort)
		} else {
			n.UsedPorts.Remove(port.HostIP, port.Protocol, port.HostPort)
		}
	}
	n.Generation = generation.Add(1)
}

// Snapshot copies what can change; PodInfos and the node object cannot, and
// ImageStates is replaced as a whole when it changes.
func (n *NodeInfo) Snapshot() *NodeInfo {
	clone := *n
	clone.Pods = append([]*PodInfo(nil), n.Pods...)
	clone.PodsWithAffinity = append([]*PodInfo(nil), n.PodsWithAffinity...)
	clone.PodsWithRequiredAntiAffinity = append([]*PodInfo(nil), n.PodsWithRequiredAntiAffinity...)
	clone.Requested = n.Requested.Clone()
	clone.NonZeroRequested = n.NonZeroRequested.Clone()
	clone.UsedPorts = n.UsedPorts.Clone()
	return &clone
}

func (n *NodeInfo) name() string {
	if n.node == nil {
		return ""
	}
	return n.node.Name
}

// ProtocolPort is a host port in use.
type ProtocolPort struct {
	Protocol v1.Protocol
	Port     int32
}

// HostPortInfo is the set of host ports in use, by host IP.
type HostPortInfo map[string]map[ProtocolPort]struct{}

// anyIP is the host IP of a port that is open on all addresses.
const anyIP = "0.0.0.0"

func normalizeHostPort(ip string, protocol v1.Protocol, port int32) (string, ProtocolPort) {
	if ip == "" {
		ip = anyIP
	}
	if protocol == "" {
		protocol = v1.ProtocolTCP
	}
	return ip, ProtocolPort{protocol, port}
}

// Add notes a port in use.
func (h HostPortInfo) Add(ip string, protocol v1.Protocol, port int32) {
	ip, key := normalizeHostPort(ip, protocol, port)
	if h[ip] == nil {
		h[ip] = map[ProtocolPort]struct{}{}
	}
	h[ip][key] = struct{}{}
}

// Remove forgets a port.
func (h HostPortInfo) Remove(ip string, protocol v1.Protocol, port int32) {
	ip, key := normalizeHostPort(ip, protocol, port)
	delete(h[ip], key)
	if len(h[ip]) == 0 {
		delete(h, ip)
	}
}

// CheckConflict tells whether the port is taken: 0.0.0.0 collides with every
// address, two different addresses do not collide.
func (h HostPortInfo) CheckConflict(ip string, protocol v1.Protocol, port int32) bool {
	if port <= 0 {
		return false
	}
	ip, key := normalizeHostPort(ip, protocol, port)
	if ip == anyIP {
		for _, ports := range h {
			if _, taken := ports[key]; taken {
				return true
			}
		}
		return false
	}
	for _, address := range []string{anyIP, ip} {
		if _, taken := h[address][key]; taken {
			return true
		}
	}
	return false
}

// Clone copies the set.
func (h HostPortInfo) Clone() HostPortInfo {
	clone := make(HostPortInfo, len(h))
	for ip, ports := range h {
		clone[ip] = make(map[ProtocolPort]struct{}, len(ports))
		for key := range ports {
			clone[ip][key] = struct{}{}
		}
	}
	return clone
}
