package nodeipam

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
	// ClusterCIDR is the range of all pods, "10.244.0.0/16", or two of different
	// families with a comma between.
	ClusterCIDR string
	// NodeMaskSize is the prefix length of a node's share of the first range; default
	// 24 for IPv4, 64 for IPv6, as it always is for the second.
	NodeMaskSize int
}

// sets are the cluster's ranges, divided into shares.
func (c Config) sets() ([]*cidrSet, error) {
	var sets []*cidrSet
	for i, text := range strings.Split(c.ClusterCIDR, ",") {
		cluster, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("cluster CIDR %q: %w; give a range like 10.244.0.0/16", text, err)
		}
		size := c.NodeMaskSize
		if i > 0 || size == 0 {
			size = 24
			if cluster.Addr().Is6() {
				size = 64
			}
		}
		if size < cluster.Bits() || size > cluster.Addr().BitLen() || size-cluster.Bits() > maxShareBits {
			return nil, fmt.Errorf("node mask size %d does not divide cluster CIDR %s into 1 to %d shares", size, cluster, 1<<maxShareBits)
		}
		sets = append(sets, newCIDRSet(cluster.Masked(), size))
	}
	if len(sets) > 2 || len(sets) == 2 && sets[0].cluster.Addr().Is4() == sets[1].cluster.Addr().Is4() {
		return nil, fmt.Errorf("cluster CIDR %q: two ranges must be of IPv4 and of IPv6", c.ClusterCIDR)
	}
	return sets, nil
}

// RangeAllocator gives every node its share of the pods' addresses.
type RangeAllocator struct {
	*reconcile.Loop
	client   kubernetes.Interface
	lister   corelisters.NodeLister
	recorder record.EventRecorder

	mu sync.Mutex
	// sets know which shares are taken, one a family. They are built from the nodes, and
	// so complete only once the informer has listed them: Watch's first list fills
	// them before the first sync.
	sets []*cidrSet
	// owned is what each node holds, in the order of sets, to know what to release when it goes.
	owned map[string][]netip.Prefix
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, config Config, options reconcile.Options) (*RangeAllocator, error) {
	sets, err := config.sets()
	if err != nil {
		return nil, err
	}
	nodes := factory.Core().V1().Nodes()
	r := &RangeAllocator{
		client: client, lister: nodes.Lister(), recorder: recorder,
		sets: sets, owned: map[string][]netip.Prefix{},
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
	cidrs, err := r.allocate(name)
	if err != nil {
		r.recorder.Eventf(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
		return reconcile.Done, err // a node that leaves makes room; until then, again
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"podCIDR": cidrs[0], "podCIDRs": cidrs}})
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

// allocate gives a node a share of each range, or of none.
func (r *RangeAllocator) allocate(node string) ([]netip.Prefix, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cidrs, ok := r.owned[node]; ok {
		return cidrs, nil
	}
	var cidrs []netip.Prefix
	for _, set := range r.sets {
		cidr, err := set.allocateNext()
		if err != nil {
			r.free(cidrs)
			return nil, err
		}
		cidrs = append(cidrs, cidr)
	}
	r.owned[node] = cidrs
	return cidrs, nil
}

func (r *RangeAllocator) occupy(node *corev1.Node) {
	cidrs := slices.Clone(node.Spec.PodCIDRs)
	if len(cidrs) == 0 {
		cidrs = []string{node.Spec.PodCIDR}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var ours []netip.Prefix
	for _, text := range cidrs {
		cidr, err := netip.ParsePrefix(text)
		if err == nil && slices.ContainsFunc(r.sets, func(set *cidrSet) bool { return set.occupy(cidr) }) {
			ours = append(ours, cidr)
		}
	}
	if len(ours) > 0 {
		r.owned[node.Name] = ours
	}
}

func (r *RangeAllocator) release(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free(r.owned[node])
	delete(r.owned, node)
}

// free makes shares free again. The caller holds mu.
func (r *RangeAllocator) free(cidrs []netip.Prefix) {
	for _, cidr := range cidrs {
		for _, set := range r.sets {
			set.release(cidr)
		}
	}
}
