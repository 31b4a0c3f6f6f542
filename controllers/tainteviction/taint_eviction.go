// Package tainteviction deletes pods from nodes with NoExecute taints, once the
// time that they tolerate them is over.
//
//	Pod ───────────────────────┐
//	Node's taints changed ─────┴─► pod ─► syncPod ─► evictionTime ─► wait | mark, delete
//
// Nothing is remembered: the time comes from the taint's timeAdded and the pod's
// tolerationSeconds, and each run computes it anew. A node that is back has no
// taint, and so no eviction is due: there is nothing to cancel.
//
// # In Kubernetes
//
// pkg/controller/tainteviction/taint_eviction.go (Controller, processPodOnNode,
// addConditionAndDeletePod). Upstream keeps timers per pod (timed_workers.go),
// which start anew when the controller restarts; left out with them is the event
// TaintManagerEviction that tells of a cancelled timer.
package tainteviction

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/flow"
	"hyperkube/reconcile"
)

// Controller is the loop over pods.
type Controller struct {
	*reconcile.Loop
	client     kubernetes.Interface
	recorder   record.EventRecorder
	clock      clock.PassiveClock
	podLister  corelisters.PodLister
	podIndexer cache.Indexer
	nodeLister corelisters.NodeLister

	mu sync.Mutex
	// waiting are the keys of pods whose eviction is to come.
	waiting map[string]bool
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) (*Controller, error) {
	options = options.WithDefaults()
	pods, nodes := factory.Core().V1().Pods(), factory.Core().V1().Nodes()
	if err := podcontrol.AddPodNodeNameIndexer(pods.Informer()); err != nil {
		return nil, err
	}
	c := &Controller{
		client: client, recorder: recorder, clock: options.Clock,
		podLister: pods.Lister(), podIndexer: pods.Informer().GetIndexer(), nodeLister: nodes.Lister(),
		waiting: map[string]bool{},
	}
	c.Loop = reconcile.New("tainteviction", c.syncPod, options)
	c.Watch(pods.Informer(), podKeys)
	c.Watch(nodes.Informer(), c.nodeKeys)
	return c, nil
}

// podKeys: a pod that came to a node, or tolerates other things than before.
func podKeys(e reconcile.Event) []string {
	if e.Deleted() {
		return nil
	}
	pod := e.New.(*corev1.Pod)
	if pod.Spec.NodeName == "" {
		return nil
	}
	if old, ok := e.Old.(*corev1.Pod); ok && old.Spec.NodeName == pod.Spec.NodeName && len(old.Spec.Tolerations) == len(pod.Spec.Tolerations) {
		return nil // tolerations are only ever added
	}
	return reconcile.Self(e)
}

// nodeKeys: all pods of a node whose NoExecute taints changed.
func (c *Controller) nodeKeys(e reconcile.Event) []string {
	if e.Deleted() {
		return nil // its pods are podgc's
	}
	node := e.New.(*corev1.Node)
	old, updated := e.Old.(*corev1.Node)
	if len(noExecute(node)) == 0 && !updated || updated && sameTaints(noExecute(old), noExecute(node)) {
		return nil
	}
	pods, err := podcontrol.PodsOnNode(c.podIndexer, node.Name)
	if err != nil {
		return nil
	}
	keys := make([]string, len(pods))
	for i, pod := range pods {
		keys[i] = reconcile.KeyOf(pod)
	}
	return keys
}

func sameTaints(a, b []corev1.Taint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].MatchTaint(&b[i]) || a[i].Value != b[i].Value || !a[i].TimeAdded.Equal(b[i].TimeAdded) {
			return false
		}
	}
	return true
}

func noExecute(node *corev1.Node) []corev1.Taint {
	var taints []corev1.Taint
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectNoExecute {
			taints = append(taints, taint)
		}
	}
	return taints
}

// syncPod deletes the pod when its time is over, or comes back when it will be.
func (c *Controller) syncPod(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	pod, err := c.podLister.Pods(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		c.waits(key, false)
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	if pod.DeletionTimestamp != nil || pod.Spec.NodeName == "" {
		return reconcile.Done, nil
	}
	node, err := c.nodeLister.Get(pod.Spec.NodeName)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	now := c.clock.Now()
	due, evict := evictionTime(noExecute(node), pod.Spec.Tolerations, now)
	if !evict {
		if c.waits(key, false) {
			c.recorder.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Cancelling deletion of Pod %s", key)
		}
		return reconcile.Done, nil
	}
	if wait := due.Sub(now); wait > 0 {
		c.waits(key, true)
		flow.Report(ctx, flow.Effect{What: "eviction due", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
			Detail: fmt.Sprintf("in %s, for %s of node %s", wait.Round(100*time.Millisecond), taintNames(noExecute(node)), node.Name)})
		return reconcile.Result{After: wait}, nil
	}
	c.waits(key, false)
	ctx = reconcile.AlsoBecause(ctx, "MODIFIED", node)
	flow.Report(ctx, flow.Effect{What: "evict", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name,
		Detail: fmt.Sprintf("it tolerates no longer %s of node %s", taintNames(noExecute(node)), node.Name)})
	return reconcile.Done, c.addConditionAndDeletePod(ctx, pod)
}

// waits notes whether the pod's eviction is to come, and returns whether it was.
func (c *Controller) waits(key string, now bool) (before bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before = c.waiting[key]
	if now {
		c.waiting[key] = true
	} else {
		delete(c.waiting, key)
	}
	return before
}

// Timers are the evictions to come, a line a pod (S0-06).
func (c *Controller) Timers() []string {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return nil
	}
	now, lines := c.clock.Now(), []string(nil)
	for _, node := range nodes {
		taints := noExecute(node)
		pods, err := podcontrol.PodsOnNode(c.podIndexer, node.Name)
		if err != nil || len(taints) == 0 {
			continue
		}
		for _, pod := range pods {
			if due, evict := evictionTime(taints, pod.Spec.Tolerations, now); evict && pod.DeletionTimestamp == nil {
				lines = append(lines, fmt.Sprintf("pod %s/%s: deleted in %s, for %s of node %s",
					pod.Namespace, pod.Name, max(due.Sub(now), 0).Round(100*time.Millisecond), taintNames(taints), node.Name))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func taintNames(taints []corev1.Taint) string {
	names := make([]string, len(taints))
	for i := range taints {
		names[i] = taints[i].Key
	}
	return strings.Join(names, ", ")
}

// evictionTime is when the first of the taints is tolerated no longer; false when
// all are for ever.
func evictionTime(taints []corev1.Taint, tolerations []corev1.Toleration, now time.Time) (time.Time, bool) {
	var first time.Time
	evict := false
	for i := range taints {
		due, limited := toleratedUntil(&taints[i], tolerations, now)
		if limited && (!evict || due.Before(first)) {
			first, evict = due, true
		}
	}
	return first, evict
}

// toleratedUntil: of several matching tolerations the shortest counts; one
// without seconds sets no limit. A taint that none matches is due at once.
func toleratedUntil(taint *corev1.Taint, tolerations []corev1.Toleration, now time.Time) (due time.Time, limited bool) {
	since := now
	if taint.TimeAdded != nil {
		since = taint.TimeAdded.Time
	}
	matched := false
	for i := range tolerations {
		if !tolerations[i].ToleratesTaint(klog.Background(), taint, false) {
			continue
		}
		matched = true
		if tolerations[i].TolerationSeconds == nil {
			continue
		}
		until := since.Add(time.Duration(max(0, *tolerations[i].TolerationSeconds)) * time.Second)
		if !limited || until.Before(due) {
			due, limited = until, true
		}
	}
	if !matched {
		return now, true
	}
	return due, limited
}

func (c *Controller) addConditionAndDeletePod(ctx context.Context, pod *corev1.Pod) error {
	c.recorder.Eventf(pod, corev1.EventTypeNormal, "TaintManagerEviction", "Marking for deletion Pod %s/%s", pod.Namespace, pod.Name)
	err := podcontrol.MarkDisruptionTarget(ctx, c.client, pod,
		podcontrol.Disruption{Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint"})
	if err == nil {
		err = c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
