// Package podgc deletes pods that nobody else will: those whose node has gone,
// those that were deleted before they had a node, and the oldest of too many that
// have ended.
//
//	every 20 s ─► gc ─► gcTerminated, gcOrphaned, gcUnscheduledTerminating, gcTerminating ─► delete
//
// A pod with a node is deleted in two steps: the API marks it, the kubelet stops
// its containers and then confirms. Where there is no kubelet, the second step is
// made here, with a grace period of zero.
//
// # In Kubernetes
//
// pkg/controller/podgc/gc_controller.go (PodGCController). Nothing is left out but
// its metrics. Without the quarantine, a node that is deleted and registers again
// within seconds, as kubelets do, would lose its pods.
package podgc

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

const (
	gcCheckPeriod = 20 * time.Second
	// quarantineTime is how long a node must be gone before its pods are.
	quarantineTime = 40 * time.Second
	// DefaultTerminatedPodThreshold is how many ended pods may stay.
	DefaultTerminatedPodThreshold = 12500
	// wholeCluster is the loop's only key: there is one thing to look at.
	wholeCluster = "pods"
)

// PodGCController is the loop over all pods.
type PodGCController struct {
	*reconcile.Loop
	client     kubernetes.Interface
	clock      clock.PassiveClock
	podLister  corelisters.PodLister
	nodeLister corelisters.NodeLister
	// terminatedPodThreshold is how many ended pods may stay; 0: all.
	terminatedPodThreshold int
	// missingSince is when each node was first missed. Only the one worker uses it.
	missingSince map[string]time.Time
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, options reconcile.Options) *PodGCController {
	options = options.WithDefaults()
	options.Workers = 1
	pods, nodes := factory.Core().V1().Pods(), factory.Core().V1().Nodes()
	c := &PodGCController{
		client: client, clock: options.Clock, podLister: pods.Lister(), nodeLister: nodes.Lister(),
		terminatedPodThreshold: DefaultTerminatedPodThreshold, missingSince: map[string]time.Time{},
	}
	c.Loop = reconcile.New("podgc", c.gc, options)
	nothing := func(reconcile.Event) []string { return nil } // events would come too often
	c.Watch(pods.Informer(), nothing)
	c.Watch(nodes.Informer(), nothing)
	c.Enqueue(wholeCluster)
	return c
}

func (c *PodGCController) gc(ctx context.Context, _ string) (reconcile.Result, error) {
	pods, err := c.podLister.List(labels.Everything())
	if err != nil {
		return reconcile.Done, err
	}
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return reconcile.Done, err
	}
	err = errors.Join(
		c.gcTerminated(ctx, pods),
		c.gcTerminating(ctx, pods, nodes),
		c.gcOrphaned(ctx, pods, nodes),
		c.gcUnscheduledTerminating(ctx, pods))
	if err != nil {
		klog.FromContext(ctx).Error(err, "Some pods could not be collected, will retry", "after", gcCheckPeriod)
	}
	return reconcile.Result{After: gcCheckPeriod}, nil
}

// gcTerminated deletes the oldest of the ended pods beyond the threshold.
func (c *PodGCController) gcTerminated(ctx context.Context, pods []*corev1.Pod) error {
	if c.terminatedPodThreshold <= 0 {
		return nil
	}
	ended := filter(pods, podutil.IsPodTerminal)
	surplus := len(ended) - c.terminatedPodThreshold
	if surplus <= 0 {
		return nil
	}
	slices.SortFunc(ended, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var errs []error
	for _, pod := range ended[:surplus] {
		errs = append(errs, c.markFailedAndDeletePod(ctx, pod, ""))
	}
	return errors.Join(errs...)
}

// gcTerminating ends pods that are being deleted on nodes which an administrator
// has declared out of service.
func (c *PodGCController) gcTerminating(ctx context.Context, pods []*corev1.Pod, nodes []*corev1.Node) error {
	out := map[string]bool{}
	for _, node := range nodes {
		out[node.Name] = outOfService(node)
	}
	var errs []error
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil && out[pod.Spec.NodeName] {
			errs = append(errs, c.markFailedAndDeletePod(ctx, pod, ""))
		}
	}
	return errors.Join(errs...)
}

func outOfService(node *corev1.Node) bool {
	ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	return !ready && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// gcOrphaned deletes the pods of nodes that have been gone for quarantineTime.
func (c *PodGCController) gcOrphaned(ctx context.Context, pods []*corev1.Pod, nodes []*corev1.Node) error {
	exists := map[string]bool{}
	for _, node := range nodes {
		exists[node.Name] = true
	}
	missing := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		if name := pod.Spec.NodeName; name != "" && !exists[name] {
			missing[name] = append(missing[name], pod)
		}
	}
	for name := range c.missingSince {
		if missing[name] == nil {
			delete(c.missingSince, name)
		}
	}
	var errs []error
	for name, orphans := range missing {
		since, known := c.missingSince[name]
		if !known {
			c.missingSince[name] = c.clock.Now()
			continue
		}
		if c.clock.Since(since) < quarantineTime {
			continue
		}
		// The cache may be behind: the API has the last word.
		if _, err := c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		for _, pod := range orphans {
			errs = append(errs, c.markFailedAndDeletePod(ctx, pod, "PodGC: node no longer exists"))
		}
	}
	return errors.Join(errs...)
}

// gcUnscheduledTerminating ends pods that were deleted before they had a node.
func (c *PodGCController) gcUnscheduledTerminating(ctx context.Context, pods []*corev1.Pod) error {
	var errs []error
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil && pod.Spec.NodeName == "" {
			errs = append(errs, c.markFailedAndDeletePod(ctx, pod, ""))
		}
	}
	return errors.Join(errs...)
}

// markFailedAndDeletePod deletes the pod at once. Its phase is set first, so that
// who owns it sees how it ended; disruption, where not empty, says whose fault
// it was.
func (c *PodGCController) markFailedAndDeletePod(ctx context.Context, pod *corev1.Pod, disruption string) error {
	if disruption != "" && !podutil.IsPodTerminal(pod) {
		err := podcontrol.MarkDisruptionTarget(ctx, c.client, pod,
			podcontrol.Disruption{Reason: "DeletionByPodGC", Message: disruption, Phase: corev1.PodFailed})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	klog.FromContext(ctx).Info("Deleting pod", "pod", klog.KObj(pod), "node", pod.Spec.NodeName)
	err := c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func filter(pods []*corev1.Pod, keep func(*corev1.Pod) bool) []*corev1.Pod {
	var kept []*corev1.Pod
	for _, pod := range pods {
		if keep(pod) {
			kept = append(kept, pod)
		}
	}
	return kept
}
