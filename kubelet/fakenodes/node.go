package fakenodes

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// Group is nodes of one kind.
type Group struct {
	// Name begins the nodes' names: fake-1, fake-2 and so on. Default: fake.
	Name string `json:"name"`
	// Count is how many there are.
	Count int `json:"count"`
	// Zones are given to the nodes in turn, as topology.kubernetes.io/zone.
	Zones []string `json:"zones"`
	// CPU, Memory and Pods are each node's capacity. Default: 8, 32Gi, 110.
	CPU    string `json:"cpu"`
	Memory string `json:"memory"`
	Pods   int64  `json:"pods"`
	// Labels and Taints are each node's.
	Labels map[string]string `json:"labels"`
	Taints []v1.Taint        `json:"taints"`
}

// podRange is where pods' addresses are made up, a /24 a node: the range that carriers use, which is nobody's network here.
var podRange = netip.MustParsePrefix("100.64.0.0/10")

// maxNodes is how many /24 it has.
const maxNodes = 1 << 14

// node is one fake node. Its fields below lease are its heartbeat's alone, but for addresses, under mu of Nodes.
type node struct {
	name     string
	group    *Group
	zone     string
	capacity v1.ResourceList
	pods     netip.Prefix
	lease    *coordinationv1.Lease
	reported time.Time
	// addresses of pods, by pod; given the number of the next one to try.
	addresses map[types.UID]netip.Addr
	next      uint32
}

// add makes the nodes of a group.
func (n *Nodes) add(group Group) error {
	if group.Name == "" {
		group.Name = "fake"
	}
	capacity := v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse("100Gi"), v1.ResourcePods: *resource.NewQuantity(cmp.Or(group.Pods, 110), resource.DecimalSI)}
	for name, text := range map[v1.ResourceName]string{v1.ResourceCPU: cmp.Or(group.CPU, "8"), v1.ResourceMemory: cmp.Or(group.Memory, "32Gi")} {
		quantity, err := resource.ParseQuantity(text)
		if err != nil || quantity.Sign() <= 0 {
			return fmt.Errorf("fake nodes %q: %s %q: must be a quantity, such as 8 or 32Gi", group.Name, name, text)
		}
		capacity[name] = quantity
	}
	for i := range group.Count {
		if len(n.all) == maxNodes {
			return fmt.Errorf("more than %d fake nodes", maxNodes)
		}
		base := binary.BigEndian.Uint32(podRange.Addr().AsSlice()) + uint32(len(n.all))<<8
		address, _ := netip.AddrFromSlice(binary.BigEndian.AppendUint32(nil, base))
		one := &node{name: fmt.Sprintf("%s-%d", group.Name, i+1), group: &group, capacity: capacity, pods: netip.PrefixFrom(address, 24), addresses: map[types.UID]netip.Addr{}}
		if len(group.Zones) > 0 {
			one.zone = group.Zones[i%len(group.Zones)]
		}
		if n.byName[one.name] != nil {
			return fmt.Errorf("two groups of fake nodes are called %q", group.Name)
		}
		n.all, n.byName[one.name] = append(n.all, one), one
	}
	return nil
}

// object is the node as it registers.
func (n *Nodes) object(node *node) *v1.Node {
	object := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.name, Labels: map[string]string{
			Label: "true", v1.LabelHostname: node.name, v1.LabelOSStable: runtime.GOOS, v1.LabelArchStable: runtime.GOARCH,
		}},
		// Its own choice: the controller-manager's range has room for 256 nodes.
		Spec: v1.NodeSpec{PodCIDR: node.pods.String(), PodCIDRs: []string{node.pods.String()}, Taints: node.group.Taints},
	}
	if node.zone != "" {
		object.Labels[v1.LabelTopologyZone] = node.zone
	}
	for key, value := range node.group.Labels {
		object.Labels[key] = value
	}
	n.fill(node, &object.Status)
	return object
}

// fill writes what a node says of itself into a status; what others put there stays.
func (n *Nodes) fill(node *node, status *v1.NodeStatus) {
	status.Capacity, status.Allocatable = node.capacity.DeepCopy(), node.capacity.DeepCopy()
	status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: n.Address}, {Type: v1.NodeHostName, Address: node.name}}
	status.DaemonEndpoints.KubeletEndpoint.Port = int32(n.port)
	status.NodeInfo = v1.NodeSystemInfo{KubeletVersion: n.Version, ContainerRuntimeVersion: "fake://1.0", OSImage: "fake node", KernelVersion: "none",
		MachineID: node.name, SystemUUID: node.name, BootID: node.name, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH}
	now := metav1.NewTime(n.Clock.Now().Truncate(time.Second))
	for _, c := range []v1.NodeCondition{
		{Type: v1.NodeMemoryPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientMemory", Message: "kubelet has sufficient memory available"},
		{Type: v1.NodeDiskPressure, Status: v1.ConditionFalse, Reason: "KubeletHasNoDiskPressure", Message: "kubelet has no disk pressure"},
		{Type: v1.NodePIDPressure, Status: v1.ConditionFalse, Reason: "KubeletHasSufficientPID", Message: "kubelet has sufficient PID available"},
		{Type: v1.NodeReady, Status: v1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"},
	} {
		c.LastHeartbeatTime, c.LastTransitionTime = now, now
		setNodeCondition(status, c)
	}
}

func setNodeCondition(status *v1.NodeStatus, condition v1.NodeCondition) {
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type != condition.Type {
			continue
		}
		if old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
		*old = condition
		return
	}
	status.Conditions = append(status.Conditions, condition)
}

// writeStatus tells that the node is well.
func (n *Nodes) writeStatus(ctx context.Context, node *node, object *v1.Node) error {
	status := object.Status.DeepCopy()
	n.fill(node, status)
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = n.Client.CoreV1().Nodes().Patch(ctx, node.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		node.reported = n.Clock.Now()
	}
	return ignoreGone(err)
}

// renew renews the node's Lease, which says that it lives, at a fraction of the cost of a status.
func (n *Nodes) renew(ctx context.Context, node *node, object *v1.Node) error {
	if node.reported.IsZero() {
		node.reported = n.Clock.Now() // it was created with its status
	}
	leases := n.Client.CoordinationV1().Leases(v1.NamespaceNodeLease)
	now := metav1.NewMicroTime(n.Clock.Now())
	if node.lease != nil {
		node.lease.Spec.RenewTime = &now
		renewed, err := leases.Update(ctx, node.lease, metav1.UpdateOptions{})
		if err == nil {
			node.lease = renewed
			return nil
		}
		node.lease = nil // somebody changed or deleted it
		if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: node.name, Namespace: v1.NamespaceNodeLease,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: object.Name, UID: object.UID}}},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &node.name, LeaseDurationSeconds: ptr.To[int32](leaseSeconds), RenewTime: &now},
	}
	created, err := leases.Create(ctx, lease, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if created, err = leases.Get(ctx, node.name, metav1.GetOptions{}); err == nil {
			created.Spec.RenewTime, created.OwnerReferences = &now, lease.OwnerReferences
			created, err = leases.Update(ctx, created, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	node.lease = created
	return nil
}

// address gives a pod an address of its node's, always the same one.
func (n *Nodes) address(node *node, pod types.UID) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if have, ok := node.addresses[pod]; ok {
		return have, nil
	}
	used := map[netip.Addr]bool{}
	for _, a := range node.addresses {
		used[a] = true
	}
	base := binary.BigEndian.Uint32(node.pods.Addr().AsSlice())
	const first, last = 2, 254 // .1 is the gateway's, on real nodes
	for range last - first + 1 {
		candidate, _ := netip.AddrFromSlice(binary.BigEndian.AppendUint32(nil, base+first+node.next))
		node.next = (node.next + 1) % (last - first + 1)
		if !used[candidate] {
			node.addresses[pod] = candidate
			return candidate, nil
		}
	}
	return netip.Addr{}, errors.New("no address is free in " + node.pods.String())
}

func (n *Nodes) free(node *node, pod types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(node.addresses, pod)
}

// learnAddresses notes those that pods have from an earlier run.
func (n *Nodes) learnAddresses() {
	for _, object := range n.podInfo.GetStore().List() {
		pod := object.(*v1.Pod)
		node := n.byName[pod.Spec.NodeName]
		if address, err := netip.ParseAddr(pod.Status.PodIP); node != nil && err == nil && !ended(pod) && node.pods.Contains(address) {
			node.addresses[pod.UID] = address
		}
	}
}

// ignoreGone: who was deleted meanwhile needs nothing.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
