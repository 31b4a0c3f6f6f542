package fakenodes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/component"
	"hyperkube/reconcile"
)

const (
	// Label is on every node of ours.
	Label = "hyperkube.local/fake-node"
	// Stopped is the annotation of a node that is to be as silent as a dead one.
	Stopped = "hyperkube.local/stopped"
)

// Upstream's intervals: a kubelet renews its Lease every 10 s, and writes its status at least every 5 min.
const (
	leasePeriod  = 10 * time.Second
	statusPeriod = 5 * time.Minute
	leaseSeconds = 40
)

// writers is how many requests are on their way at once for nodes and leases.
const writers = 8

// Config of the fake nodes.
type Config struct {
	Client kubernetes.Interface
	Groups []Group
	// Address is what the nodes tell as theirs: where the server listens.
	Address string
	// CertFile and KeyFile are the server's.
	CertFile, KeyFile string
	// Version is reported as nodeInfo.kubeletVersion.
	Version string
	// Clock is for tests; default the real one.
	Clock clock.WithTicker
	// Gate holds keys; Metrics and Health may be nil.
	Gate    reconcile.Gate
	Metrics prometheus.Registerer
	Health  *component.Health
}

// Nodes are all the fake nodes.
type Nodes struct {
	*reconcile.Loop
	Config
	all      []*node
	byName   map[string]*node
	nodeInfo cache.SharedIndexInformer
	podInfo  cache.SharedIndexInformer
	lister   corelisters.NodeLister
	port     int

	mu         sync.Mutex
	registered bool
}

// New makes the nodes; Run registers them.
func New(config Config) (*Nodes, error) {
	if config.Client == nil || net.ParseIP(config.Address) == nil {
		return nil, errors.New("fake nodes need a client and an address")
	}
	if config.Clock == nil {
		config.Clock = clock.RealClock{}
	}
	n := &Nodes{Config: config, byName: map[string]*node{}}
	for _, group := range config.Groups {
		if err := n.add(group); err != nil {
			return nil, err
		}
	}
	n.nodeInfo, n.podInfo = n.informers()
	n.lister = corelisters.NewNodeLister(n.nodeInfo.GetIndexer())
	n.Loop = reconcile.New("fakenodes", n.sync, reconcile.Options{Workers: writers, Gate: config.Gate, Metrics: config.Metrics, Clock: config.Clock})
	n.Watch(n.podInfo, n.podKeys)
	n.Watch(n.nodeInfo, n.nodeKeys)
	config.Health.Add("registered", func(context.Context) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if !n.registered {
			return fmt.Errorf("registering %d nodes", len(n.all))
		}
		return nil
	})
	return n, nil
}

// Run keeps the nodes until ctx ends:
//
//  1. serve what kubectl logs and exec ask;
//  2. list the nodes and pods that there are;
//  3. register the nodes, or take over those of an earlier run;
//  4. run the pods' loop, and the nodes' heartbeat.
func (n *Nodes) Run(ctx context.Context) error {
	// Step 1: serve.
	stop, err := n.serve()
	if err != nil {
		return err
	}
	defer stop()
	// Step 2: list.
	var group sync.WaitGroup
	defer group.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group.Go(func() { n.nodeInfo.RunWithContext(ctx) })
	group.Go(func() { n.podInfo.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), n.nodeInfo.HasSynced, n.podInfo.HasSynced) {
		return nil // stopped while waiting
	}
	n.learnAddresses()
	// Step 3: register.
	n.each(ctx, n.all, n.register)
	if ctx.Err() != nil {
		return nil
	}
	n.mu.Lock()
	n.registered = true
	n.mu.Unlock()
	klog.FromContext(ctx).Info("Registered the fake nodes", "nodes", len(n.all))
	// Step 4: loop and beat.
	group.Go(func() { n.beat(ctx) })
	return n.Loop.Run(ctx)
}

// each does work for nodes, several at once, and logs what fails; it is tried again at the node's next turn.
func (n *Nodes) each(ctx context.Context, nodes []*node, work func(context.Context, *node) error) {
	queue := make(chan *node)
	var group sync.WaitGroup
	for range min(writers, len(nodes)) {
		group.Go(func() {
			for node := range queue {
				if err := work(ctx, node); err != nil && ctx.Err() == nil {
					klog.FromContext(ctx).Error(err, "Fake node", "node", node.name)
				}
			}
		})
	}
	for _, node := range nodes {
		queue <- node
	}
	close(queue)
	group.Wait()
}

// register creates the node, or brings the status of the one that is there up to date: the server's port may be another.
func (n *Nodes) register(ctx context.Context, node *node) error {
	wanted := n.object(node)
	created, err := n.Client.CoreV1().Nodes().Create(ctx, wanted, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		if created, err = n.Client.CoreV1().Nodes().Get(ctx, node.name, metav1.GetOptions{}); err == nil {
			if created.Labels[Label] == "" {
				return fmt.Errorf("a node of that name is there already, and none of ours: choose another name for the group")
			}
			if stopped(created) {
				return nil // it stays dead
			}
			err = n.writeStatus(ctx, node, created)
		}
	}
	if err != nil {
		return err
	}
	return n.renew(ctx, node, created)
}

// beat is every node's heartbeat. The nodes take turns: with 1,000 of them, one every 10 ms, so that the apiserver
// sees a stream and no flood every ten seconds.
func (n *Nodes) beat(ctx context.Context) {
	const ticks = 100 // of a lease period: how finely it is spread
	ticker := n.Clock.NewTicker(leasePeriod / ticks)
	defer ticker.Stop()
	for turn := 1; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		n.each(ctx, share(n.all, turn%ticks, ticks), n.heartbeat)
	}
}

// share is the part of nodes that has its turn at a tick.
func share(nodes []*node, tick, ticks int) []*node {
	return nodes[len(nodes)*tick/ticks : len(nodes)*(tick+1)/ticks]
}

func (n *Nodes) heartbeat(ctx context.Context, node *node) error {
	object, err := n.lister.Get(node.name)
	if apierrors.IsNotFound(err) || err == nil && stopped(object) {
		return nil // deleted, or dead
	}
	if err != nil {
		return err
	}
	if n.Clock.Since(node.reported) >= statusPeriod || !ready(object) {
		if err := n.writeStatus(ctx, node, object); err != nil {
			return err
		}
	}
	return n.renew(ctx, node, object)
}

func stopped(node *v1.Node) bool { return node.Annotations[Stopped] != "" }

// ready: what the node said last still stands; the node controller sets it to Unknown when the node was silent.
func ready(node *v1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}
