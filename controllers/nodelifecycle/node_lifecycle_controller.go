package nodelifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	podutil "hyperkube/api/core/pod"
	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/flow"
	"hyperkube/reconcile"
)

// Config holds the timers.
type Config struct {
	// NodeMonitorPeriod is the longest time between two looks at a node; default 5 s.
	NodeMonitorPeriod time.Duration
	// NodeMonitorGracePeriod is how long a node may be silent; default 50 s. It must
	// be several times the kubelet's lease renewal interval of 10 s.
	NodeMonitorGracePeriod time.Duration
	// NodeStartupGracePeriod is the same for a node that has never reported; default 60 s.
	NodeStartupGracePeriod time.Duration
}

func (c *Config) complete() {
	if c.NodeMonitorPeriod == 0 {
		c.NodeMonitorPeriod = 5 * time.Second
	}
	if c.NodeMonitorGracePeriod == 0 {
		c.NodeMonitorGracePeriod = 50 * time.Second
	}
	if c.NodeStartupGracePeriod == 0 {
		c.NodeStartupGracePeriod = time.Minute
	}
}

func (c *Config) validate() error {
	if c.NodeMonitorPeriod < 0 || c.NodeMonitorGracePeriod < c.NodeMonitorPeriod {
		return fmt.Errorf("node monitor grace period %v is shorter than the node monitor period %v", c.NodeMonitorGracePeriod, c.NodeMonitorPeriod)
	}
	return nil
}

// Controller is the loop over nodes.
type Controller struct {
	*reconcile.Loop
	config      Config
	client      kubernetes.Interface
	recorder    record.EventRecorder
	clock       clock.PassiveClock
	nodeLister  corelisters.NodeLister
	leaseLister coordinationlisters.LeaseLister
	podIndexer  cache.Indexer
	health      *healthMap
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, config Config, options reconcile.Options) (*Controller, error) {
	config.complete()
	if err := config.validate(); err != nil {
		return nil, err
	}
	options = options.WithDefaults()
	nodes, leases, pods := factory.Core().V1().Nodes(), factory.Coordination().V1().Leases(), factory.Core().V1().Pods()
	if err := podcontrol.AddPodNodeNameIndexer(pods.Informer()); err != nil {
		return nil, err
	}
	c := &Controller{
		config: config, client: client, recorder: recorder, clock: options.Clock,
		nodeLister: nodes.Lister(), leaseLister: leases.Lister(), podIndexer: pods.Informer().GetIndexer(),
		health: newHealthMap(config, options.Clock),
	}
	c.Loop = reconcile.New("nodelifecycle", c.syncNode, options)
	c.Watch(nodes.Informer(), c.nodeKeys)
	c.Watch(leases.Informer(), leaseKeys)
	// A pod that arrives on a node that is down already is marked at once.
	c.Watch(pods.Informer(), c.podKeys)
	return c, nil
}

func (c *Controller) nodeKeys(e reconcile.Event) []string {
	node := e.Object().(*corev1.Node)
	if e.Added() {
		c.recorder.Eventf(nodeReference(node), corev1.EventTypeNormal, "RegisteredNode", "Node %s event: Registered Node %s in Controller", node.Name, node.Name)
	} else if e.Deleted() {
		c.recorder.Eventf(nodeReference(node), corev1.EventTypeNormal, "RemovingNode", "Node %s event: Removing Node %s from Controller", node.Name, node.Name)
	}
	return []string{node.Name}
}

// leaseKeys: a node's lease carries its name.
func leaseKeys(e reconcile.Event) []string {
	if e.Object().GetNamespace() != corev1.NamespaceNodeLease {
		return nil
	}
	return []string{e.Object().GetName()}
}

func (c *Controller) podKeys(e reconcile.Event) []string {
	pod, ok := e.New.(*corev1.Pod)
	if !ok || pod.Spec.NodeName == "" || !podutil.IsPodReady(pod) {
		return nil
	}
	node, err := c.nodeLister.Get(pod.Spec.NodeName)
	if err != nil || nodeReady(node) == corev1.ConditionTrue {
		return nil
	}
	return []string{node.Name}
}

// syncNode is one turn for one node:
//
//  1. note signs of life,
//  2. if there were none for too long, set its conditions to Unknown,
//  3. make its taints follow its conditions,
//  4. if it is not ready, mark its pods not ready,
//  5. come back after NodeMonitorPeriod, as silence makes no event.
func (c *Controller) syncNode(ctx context.Context, name string) (reconcile.Result, error) {
	node, err := c.nodeLister.Get(name)
	if apierrors.IsNotFound(err) {
		c.health.forget(name)
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	// Step 1: note signs of life.
	lease, err := c.leaseLister.Leases(corev1.NamespaceNodeLease).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return reconcile.Done, err
	}
	silent := c.health.observe(node, lease)

	// Step 2: if there were none for too long, set its conditions to Unknown.
	if silent {
		if node, err = c.markUnknown(c.becauseOfSilence(ctx, node, lease), node); err != nil {
			return reconcile.Done, err
		}
		ctx = reconcile.Because(ctx, "MODIFIED", node)
	}
	// Step 3: make its taints follow its conditions.
	if err := c.syncTaints(ctx, node); err != nil {
		return reconcile.Done, err
	}
	// Step 4: if it is not ready, mark its pods not ready.
	if nodeReady(node) != corev1.ConditionTrue {
		if err := c.markPodsNotReady(ctx, node); err != nil {
			return reconcile.Done, err
		}
	}
	// Step 5: come back.
	return reconcile.Result{After: c.config.NodeMonitorPeriod}, nil
}

// becauseOfSilence is the context of what is done about a node that is silent. Nothing
// happened that could be the cause: it is that the last renewal of the node's lease was
// not followed by another.
func (c *Controller) becauseOfSilence(ctx context.Context, node *corev1.Node, lease *coordinationv1.Lease) context.Context {
	if lease == nil {
		return reconcile.Because(ctx, "MODIFIED", node)
	}
	return reconcile.Because(ctx, "MODIFIED", lease)
}

// reportSilence tells the record of the cluster that a node is taken for dead, and why.
func (c *Controller) reportSilence(ctx context.Context, node *corev1.Node) {
	silence, grace := c.health.silence(node.Name)
	flow.Report(ctx, flow.Effect{What: "node is silent", Kind: "Node", Name: node.Name, Depth: 1,
		Detail: fmt.Sprintf("no lease renewed since %s, for %s; the grace period is %s",
			c.clock.Now().Add(-silence).Format(time.TimeOnly), silence.Round(100*time.Millisecond), grace)})
}

// nodeReady is the status of the node's Ready condition; Unknown where it has none.
func nodeReady(node *corev1.Node) corev1.ConditionStatus {
	if condition := getNodeCondition(node, corev1.NodeReady); condition != nil {
		return condition.Status
	}
	return corev1.ConditionUnknown
}

func getNodeCondition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

// fromKubelet are the conditions that mean nothing without a kubelet behind them.
var fromKubelet = []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

// markUnknown sets the kubelet's conditions to Unknown and returns the node as it
// is then.
func (c *Controller) markUnknown(ctx context.Context, node *corev1.Node) (*corev1.Node, error) {
	now := metav1.NewTime(c.clock.Now())
	wasReady := nodeReady(node) == corev1.ConditionTrue
	updated := node.DeepCopy()
	for _, kind := range fromKubelet {
		condition := getNodeCondition(updated, kind)
		if condition == nil {
			updated.Status.Conditions = append(updated.Status.Conditions, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated",
				Message: "Kubelet never posted node status.", LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: now,
			})
		} else if condition.Status != corev1.ConditionUnknown {
			condition.Status, condition.LastTransitionTime = corev1.ConditionUnknown, now
			condition.Reason, condition.Message = "NodeStatusUnknown", "Kubelet stopped posting node status."
		}
	}
	if equality.Semantic.DeepEqual(node.Status, updated.Status) {
		return node, nil
	}
	c.reportSilence(ctx, node)
	klog.FromContext(ctx).Info("Node is silent, its conditions are unknown now", "node", node.Name, "gracePeriod", c.config.NodeMonitorGracePeriod)
	written, err := c.client.CoreV1().Nodes().UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if err != nil {
		return nil, err
	}
	if wasReady {
		c.recorder.Eventf(nodeReference(node), corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: %s", node.Name, "NodeNotReady")
	}
	return written, nil
}

// markPodsNotReady lets Services and controllers stop counting on the node's pods.
// The kubelet, when it is back, says what is true of them.
func (c *Controller) markPodsNotReady(ctx context.Context, node *corev1.Node) error {
	pods, err := podcontrol.PodsOnNode(c.podIndexer, node.Name)
	if err != nil {
		return err
	}
	var errs []error
	for _, pod := range pods {
		if !podutil.IsPodReady(pod) {
			continue
		}
		updated := pod.DeepCopy()
		condition := podutil.GetPodReadyCondition(updated.Status)
		condition = &corev1.PodCondition{
			Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: "NodeNotReady", Message: "Node is not ready",
			LastProbeTime: condition.LastProbeTime, ObservedGeneration: pod.Generation,
		}
		podutil.UpdatePodCondition(&updated.Status, condition)
		_, err := c.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs = append(errs, fmt.Errorf("marking pod %s/%s not ready: %w", pod.Namespace, pod.Name, err))
		default:
			c.recorder.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
		}
	}
	return errors.Join(errs...)
}

// allNodesDown reports whether none of several nodes is ready.
func (c *Controller) allNodesDown() (bool, error) {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return false, err
	}
	for _, node := range nodes {
		if nodeReady(node) == corev1.ConditionTrue {
			return false, nil
		}
	}
	return len(nodes) > 1, nil
}

// nodeReference names the node in events as kubectl describe looks for it.
func nodeReference(node *corev1.Node) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
}

// Timers are what this controller waits for, a line a node (S0-06): how long nothing was heard
// of it, and when that is too long.
func (c *Controller) Timers() []string {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return nil
	}
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	var lines []string
	for _, node := range nodes {
		silence, grace := c.health.silence(node.Name)
		heard := fmt.Sprintf("node %s: heard of %s ago", node.Name, silence.Round(100*time.Millisecond))
		if left := grace - silence; left > 0 {
			lines = append(lines, fmt.Sprintf("%s; Unknown and tainted in %s, unless it is heard of (grace period %s)", heard, left.Round(100*time.Millisecond), grace))
		} else {
			lines = append(lines, fmt.Sprintf("%s; Ready is %s, tainted: %s (grace period %s)", heard, nodeReady(node), taintKeys(node), grace))
		}
	}
	return lines
}

func taintKeys(node *corev1.Node) string {
	var keys []string
	for _, taint := range node.Spec.Taints {
		keys = append(keys, fmt.Sprintf("%s:%s", taint.Key, taint.Effect))
	}
	return strings.Join(keys, ", ")
}
