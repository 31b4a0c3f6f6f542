// Package ttl tells each kubelet how long it may keep a Secret or ConfigMap before asking for
// it again: the more nodes there are, the longer, so that the asking does not grow with them.
//
//	Node added, deleted ─► number of nodes ─► boundary ─► annotation node.alpha.kubernetes.io/ttl on each node
//
// The boundaries overlap: a cluster that grows and shrinks by a node at 100 does not have all
// its nodes written each time. The annotation is no more than a hint; a kubelet that watches
// what its pods use, as ours does, has no need of it.
//
// # In Kubernetes
//
// pkg/controller/ttl/ttl_controller.go (Controller.updateNodeIfNeeded). Nothing is left out.
package ttl

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// boundary is a size of the cluster, and the seconds that go with it.
type boundary struct {
	// sizeMin and sizeMax are where the size is left, downwards and upwards. Each begins before
	// the one below ends.
	sizeMin, sizeMax int
	seconds          int
}

var boundaries = []boundary{
	{0, 100, 0},
	{90, 500, 15},
	{450, 1000, 30},
	{900, 2000, 60},
	{1800, math.MaxInt, 300},
}

// Controller is the loop over Nodes.
type Controller struct {
	*reconcile.Loop
	client     kubernetes.Interface
	nodeLister corelisters.NodeLister

	mu sync.Mutex
	// step is the index of the boundary that holds now.
	step int
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *Controller {
	nodes := factory.Core().V1().Nodes()
	c := &Controller{client: client, nodeLister: nodes.Lister()}
	c.Loop = reconcile.New("ttl", c.updateNodeIfNeeded, options)
	c.Watch(nodes.Informer(), reconcile.Self)
	return c
}

// updateNodeIfNeeded writes the annotation of one node. When the size has left its boundary,
// all others are enqueued.
func (c *Controller) updateNodeIfNeeded(ctx context.Context, name string) (reconcile.Result, error) {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return reconcile.Done, err
	}
	seconds, moved := c.desiredTTL(len(nodes))
	if moved {
		for _, node := range nodes {
			c.Enqueue(node.Name)
		}
	}
	node, err := c.nodeLister.Get(name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if present, err := strconv.Atoi(node.Annotations[corev1.ObjectTTLAnnotationKey]); err == nil && present == seconds {
		return reconcile.Done, nil
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%d"}}}`, corev1.ObjectTTLAnnotationKey, seconds)
	_, err = c.client.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	return reconcile.Done, err
}

// desiredTTL is the ttl for so many nodes, and whether that is another one than before.
func (c *Controller) desiredTTL(nodes int) (seconds int, moved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.step
	for c.step > 0 && nodes < boundaries[c.step].sizeMin {
		c.step--
	}
	for nodes > boundaries[c.step].sizeMax {
		c.step++
	}
	return boundaries[c.step].seconds, c.step != before
}
