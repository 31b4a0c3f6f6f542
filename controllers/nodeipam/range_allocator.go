package nodeipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// Config says which addresses pods get.
type Config struct {
	// ClusterCIDR is the range of all pods, "10.244.0.0/16".
	ClusterCIDR string
	// NodeMaskSize is the prefix length of a node's share; default 24 for IPv4, 64
	// for IPv6.
	NodeMaskSize int
}

func (c Config) validate() (netip.Prefix, int, error) {
	cluster, err := netip.ParsePrefix(c.ClusterCIDR)
	if err != nil {
		return netip.Prefix{}, 0, fmt.Errorf("cluster CIDR %q: %w; give a range like 10.244.0.0/16", c.ClusterCIDR, err)
	}
	size := c.NodeMaskSize
	if size == 0 {
		size = 24
		if cluster.Addr().Is6() {
			size = 64
		}
	}
	if size < cluster.Bits() || size > cluster.Addr().BitLen() || size-cluster.Bits() > maxShareBits {
		return netip.Prefix{}, 0, fmt.Errorf("node mask size %d does not divide cluster CIDR %s into 1 to %d shares", size, cluster, 1<<maxShareBits)
	}
	return cluster.Masked(), size, nil
}

// RangeAllocator gives every node its share of the pods' addresses.
type RangeAllocator struct {
	*reconcile.Loop
	client   kubernetes.Interface
	lister   corelisters.NodeLister
	recorder record.EventRecorder

	mu sync.Mutex
	// set knows which shares are taken. It is built from the nodes, and so complete
	// only once the informer has listed them: Watch's first list fills it before
	// the first sync.
	set *cidrSet
	// owned is what each node holds, to know what to release when it goes.
	owned map[string]netip.Prefix
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, config Config, options reconcile.Options) (*RangeAllocator, error) {
	cluster, size, err := config.validate()
	if err != nil {
		return nil, err
	}
	nodes := factory.Core().V1().Nodes()
	r := &RangeAllocator{
		client: client, lister: nodes.Lister(), recorder: recorder,
		set: newCIDRSet(cluster, size), owned: map[string]netip.Prefix{},
	}
	r.Loop = reconcile.New("nodeipam", r.syncNode, options)
	r.Watch(nodes.Informer(), r.nodeKeys)
	return r, nil
}

// nodeKeys notes what nodes hold, and names those that hold nothing.
func (r *RangeAllocator) nodeKeys(e reconcile.Event) []string {
	node := e.Object().(*corev1.Node)
	if e.Deleted() {
		r.release(node.Name)
		return nil
	}
	if len(node.Spec.PodCIDRs) > 0 || node.Spec.PodCIDR != "" {
		r.occupy(node)
		return nil
	}
	return []string{node.Name}
}

// syncNode gives the node a share, and keeps it taken unless the API refused.
func (r *RangeAllocator) syncNode(ctx context.Context, name string) (reconcile.Result, error) {
	node, err := r.lister.Get(name)
	if apierrors.IsNotFound(err) {
		r.release(name)
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if node.Spec.PodCIDR != "" || node.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}
	cidr, err := r.allocate(name)
	if err != nil {
		r.recorder.Eventf(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
		return reconcile.Done, err // a node that leaves makes room; until then, again
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"podCIDR": cidr.String(), "podCIDRs": []string{cidr.String()}}})
	if err != nil {
		return reconcile.Done, err
	}
	_, err = r.client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		r.release(name)
		return reconcile.Done, nil
	}
	if err != nil {
		r.recorder.Eventf(node, corev1.EventTypeNormal, "CIDRAssignmentFailed", "Node %s status is now: CIDRAssignmentFailed", name)
	}
	// On any other failure the share stays the node's: the write may have arrived.
	return reconcile.Done, err
}

func (r *RangeAllocator) allocate(node string) (netip.Prefix, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cidr, ok := r.owned[node]; ok {
		return cidr, nil
	}
	cidr, err := r.set.allocateNext()
	if err != nil {
		return cidr, err
	}
	r.owned[node] = cidr
	return cidr, nil
}

func (r *RangeAllocator) occupy(node *corev1.Node) {
	cidrs := slices.Clone(node.Spec.PodCIDRs)
	if len(cidrs) == 0 {
		cidrs = []string{node.Spec.PodCIDR}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range cidrs {
		if cidr, err := netip.ParsePrefix(text); err == nil && r.set.occupy(cidr) {
			r.owned[node.Name] = cidr
		}
	}
}

func (r *RangeAllocator) release(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cidr, ok := r.owned[node]; ok {
		r.set.release(cidr)
		delete(r.owned, node)
	}
}
