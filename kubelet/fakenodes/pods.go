package fakenodes

import (
	"context"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"hyperkube/kubelet/lifecycle"
	"hyperkube/kubelet/simulated"
	"hyperkube/reconcile"
)

// byNode is the index of pods by the node they are bound to.
const byNode = "node"

// informers are the two watches: of nodes of ours, and of pods that are bound.
func (n *Nodes) informers() (nodes, pods cache.SharedIndexInformer) {
	ours := labels.Set{Label: "true"}.String()
	nodeWatch := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = ours
			return n.Client.CoreV1().Nodes().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = ours
			return n.Client.CoreV1().Nodes().Watch(ctx, o)
		},
	}
	bound := fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	podWatch := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = bound
			return n.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = bound
			return n.Client.CoreV1().Pods(metav1.NamespaceAll).Watch(ctx, o)
		},
	}
	nodes = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(nodeWatch, n.Client), &v1.Node{}, 0, cache.Indexers{})
	pods = cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(podWatch, n.Client), &v1.Pod{}, 0, cache.Indexers{
		cache.NamespaceIndex: cache.MetaNamespaceIndexFunc,
		byNode:               func(object any) ([]string, error) { return []string{object.(*v1.Pod).Spec.NodeName}, nil },
	})
	return nodes, pods
}

// podKeys names pods on nodes of ours. One that is gone for good gives its address back.
func (n *Nodes) podKeys(e reconcile.Event) []string {
	pod := e.Object().(*v1.Pod)
	node := n.byName[pod.Spec.NodeName]
	if node == nil {
		return nil
	}
	if e.Deleted() || ended(pod) {
		n.free(node, pod.UID)
	}
	if e.Deleted() {
		return nil
	}
	return []string{reconcile.KeyOf(pod)}
}

// nodeKeys: a node that is back from the dead, or Ready again, looks after its pods.
func (n *Nodes) nodeKeys(e reconcile.Event) []string {
	was, isOld := e.Old.(*v1.Node)
	is, isNew := e.New.(*v1.Node)
	if !isOld || !isNew || stopped(is) || !stopped(was) && (ready(was) || !ready(is)) {
		return nil
	}
	var keys []string
	for _, pod := range n.podsOf(is.Name) {
		keys = append(keys, reconcile.KeyOf(pod))
	}
	return keys
}

func (n *Nodes) podsOf(node string) []*v1.Pod {
	objects, err := n.podInfo.GetIndexer().ByIndex(byNode, node)
	if err != nil {
		return nil // only if there were no such index
	}
	var pods []*v1.Pod
	for _, object := range objects {
		pods = append(pods, object.(*v1.Pod))
	}
	return pods
}

// sync does for one pod what its node's kubelet would.
func (n *Nodes) sync(ctx context.Context, key string) (reconcile.Result, error) {
	object, exists, err := n.podInfo.GetStore().GetByKey(key)
	if err != nil || !exists {
		return reconcile.Done, err
	}
	pod := object.(*v1.Pod)
	// Step 1: is it ours?
	node := n.byName[pod.Spec.NodeName]
	if node == nil {
		return reconcile.Done, nil
	}
	registered, err := n.lister.Get(node.name)
	if err != nil || stopped(registered) {
		return reconcile.Done, nil // nodeKeys names it again when the node is back
	}
	// Step 2: decide.
	now := n.Clock.Now()
	var refused *lifecycle.Rejection
	if pod.Status.StartTime == nil {
		refused = lifecycle.Admit(klog.FromContext(ctx), pod, registered, n.others(pod), nil)
	}
	d := decide(pod, refused, now)
	if status := readyAgain(pod, now); d.act == actNothing && status != nil && ready(registered) {
		// Not before the node is Ready: until then the node controller would contradict at once.
		d.act, d.status = actWrite, status
	}
	// Step 3: act.
	switch d.act {
	case actDelete:
		options := metav1.NewDeleteOptions(0)
		options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
		err = n.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
		return reconcile.Done, ignoreGone(err)
	case actWrite:
		if d.status.Phase == v1.PodRunning {
			if err := n.giveAddresses(node, pod, d.status); err != nil {
				return reconcile.Done, err
			}
		}
		updated := pod.DeepCopy()
		updated.Status = *d.status
		_, err = n.Client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			return reconcile.Result{Retry: true}, nil // the newer version is on its way
		}
		return reconcile.Result{After: d.after}, ignoreGone(err)
	}
	return reconcile.Result{After: d.after}, nil
}

// others are the pods that take room on the same node.
func (n *Nodes) others(pod *v1.Pod) []*v1.Pod {
	var others []*v1.Pod
	for _, other := range n.podsOf(pod.Spec.NodeName) {
		if other.UID != pod.UID && !ended(other) && other.Status.StartTime != nil {
			others = append(others, other)
		}
	}
	return others
}

func (n *Nodes) giveAddresses(node *node, pod *v1.Pod, status *v1.PodStatus) error {
	status.HostIP, status.HostIPs = n.Address, []v1.HostIP{{IP: n.Address}}
	ip := n.Address
	if !pod.Spec.HostNetwork {
		address, err := n.address(node, pod.UID)
		if err != nil {
			return err
		}
		ip = address.String()
	}
	status.PodIP, status.PodIPs = ip, []v1.PodIP{{IP: ip}}
	return nil
}

func ended(pod *v1.Pod) bool {
	return pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
}

// What is to be done with a pod.
const (
	actNothing = iota
	actWrite
	actDelete
)

// decision is what becomes of a pod now, and when to look again.
type decision struct {
	act    int
	status *v1.PodStatus
	after  time.Duration
}

// decide is a pod's whole life, seen from its node:
//
//	refused           → Failed, with the reason
//	being deleted     → its containers end, then it goes
//	bound             → Running and Ready at once
//	Running           → ended, when its command would have, unless it is restarted always
//
// It is pure.
func decide(pod *v1.Pod, refused *lifecycle.Rejection, now time.Time) decision {
	switch {
	case pod.DeletionTimestamp != nil && (ended(pod) || pod.Status.StartTime == nil):
		return decision{act: actDelete}
	case pod.DeletionTimestamp != nil:
		return decision{act: actWrite, status: endedStatus(pod, 0, now)}
	case ended(pod):
		return decision{}
	case refused != nil:
		status := pod.Status.DeepCopy()
		status.Phase, status.Reason, status.Message = v1.PodFailed, refused.Reason, "Pod was rejected: "+refused.Message
		status.StartTime = &metav1.Time{Time: now}
		return decision{act: actWrite, status: status}
	case missingImage(pod) != "":
		if pod.Status.StartTime != nil {
			return decision{}
		}
		return decision{act: actWrite, status: waitingStatus(pod, now)}
	case pod.Status.Phase != v1.PodRunning:
		return decision{act: actWrite, status: runningStatus(pod, now), after: untilEnd(pod, now, now)}
	}
	started := now
	if pod.Status.StartTime != nil {
		started = pod.Status.StartTime.Time
	}
	switch left := untilEnd(pod, started, now); {
	case left == 0:
		return decision{} // it runs for ever
	case left > 0:
		return decision{after: left}
	}
	return decision{act: actWrite, status: endedStatus(pod, exitCode(pod), now)}
}

// untilEnd is how long the pod still runs: the longest of its containers; 0: for ever; negative: it should have ended.
func untilEnd(pod *v1.Pod, started, now time.Time) time.Duration {
	if pod.Spec.RestartPolicy == v1.RestartPolicyAlways {
		return 0
	}
	var longest time.Duration
	for i := range pod.Spec.Containers {
		duration, _, forever := simulated.Life(&pod.Spec.Containers[i], pod.Annotations)
		if forever {
			return 0
		}
		longest = max(longest, duration)
	}
	if left := started.Add(longest).Sub(now); left > 0 {
		return left
	}
	return -1
}

// exitCode is the first of its containers' that is not 0.
func exitCode(pod *v1.Pod) int32 {
	for i := range pod.Spec.Containers {
		if _, code, _ := simulated.Life(&pod.Spec.Containers[i], pod.Annotations); code != 0 {
			return code
		}
	}
	return 0
}

// missingImage is the first that cannot be pulled, as in package simulated.
func missingImage(pod *v1.Pod) string {
	for _, c := range pod.Spec.Containers {
		if strings.HasSuffix(c.Image, ":missing") {
			return c.Image
		}
	}
	return ""
}

// readyAgain is the status of a running pod that is not as ready as it says: its node was silent, and the node controller
// has marked it, or a readiness gate has changed. nil: all is well.
func readyAgain(pod *v1.Pod, now time.Time) *v1.PodStatus {
	if pod.Status.Phase != v1.PodRunning || pod.DeletionTimestamp != nil {
		return nil
	}
	wanted := readyWithGates(pod, v1.ConditionTrue)
	for _, c := range pod.Status.Conditions {
		if c.Type == v1.PodReady && c.Status == wanted {
			return nil
		}
	}
	status := pod.Status.DeepCopy()
	setConditions(pod, status, v1.ConditionTrue, "", metav1.NewTime(now.Truncate(time.Second)))
	return status
}

func runningStatus(pod *v1.Pod, now time.Time) *v1.PodStatus {
	status := pod.Status.DeepCopy()
	at := metav1.NewTime(now.Truncate(time.Second))
	status.Phase, status.ObservedGeneration = v1.PodRunning, pod.Generation
	if status.StartTime == nil {
		status.StartTime = &at
	}
	running := v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: at}}
	status.ContainerStatuses = statuses(pod, pod.Spec.Containers, func(*v1.Container) v1.ContainerState { return running })
	status.InitContainerStatuses = statuses(pod, pod.Spec.InitContainers, func(c *v1.Container) v1.ContainerState {
		if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
			return running // a sidecar
		}
		return v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: "Completed", StartedAt: at, FinishedAt: at}}
	})
	setConditions(pod, status, v1.ConditionTrue, "", at)
	return status
}

func waitingStatus(pod *v1.Pod, now time.Time) *v1.PodStatus {
	status := runningStatus(pod, now)
	status.Phase = v1.PodPending
	message := fmt.Sprintf("failed to pull and unpack image %q: not found", missingImage(pod))
	status.ContainerStatuses = statuses(pod, pod.Spec.Containers, func(*v1.Container) v1.ContainerState {
		return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: "ErrImagePull", Message: message}}
	})
	setConditions(pod, status, v1.ConditionFalse, "ContainersNotReady", metav1.NewTime(now.Truncate(time.Second)))
	return status
}

// endedStatus: all containers have ended with a code.
func endedStatus(pod *v1.Pod, code int32, now time.Time) *v1.PodStatus {
	status := pod.Status.DeepCopy()
	at := metav1.NewTime(now.Truncate(time.Second))
	phase, reason, why := v1.PodSucceeded, "Completed", "PodCompleted"
	if code != 0 {
		phase, reason, why = v1.PodFailed, "Error", "PodFailed"
	}
	status.Phase, status.ObservedGeneration = phase, pod.Generation
	for _, list := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.State.Terminated == nil {
				began := at
				if c.State.Running != nil {
					began = c.State.Running.StartedAt
				}
				c.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: began, FinishedAt: at, ContainerID: c.ContainerID}}
			}
			c.Ready, c.Started = false, ptr.To(false)
		}
	}
	setConditions(pod, status, v1.ConditionFalse, why, at)
	return status
}

func statuses(pod *v1.Pod, containers []v1.Container, state func(*v1.Container) v1.ContainerState) []v1.ContainerStatus {
	var list []v1.ContainerStatus
	for i := range containers {
		c := &containers[i]
		s := v1.ContainerStatus{Name: c.Name, Image: c.Image, State: state(c)}
		s.Ready, s.Started = s.State.Running != nil || s.State.Terminated != nil, ptr.To(s.State.Running != nil)
		if s.State.Waiting == nil {
			s.ImageID, s.ContainerID = "fake://"+c.Image, fmt.Sprintf("fake://%s-%s", pod.UID, c.Name)
		}
		list = append(list, s)
	}
	return list
}

// setConditions sets those that a kubelet sets; ready says whether the containers are, and reason why not.
func setConditions(pod *v1.Pod, status *v1.PodStatus, ready v1.ConditionStatus, reason string, at metav1.Time) {
	sandbox := v1.ConditionTrue
	if ended := status.Phase == v1.PodSucceeded || status.Phase == v1.PodFailed; ended {
		sandbox = v1.ConditionFalse
	}
	for _, c := range []v1.PodCondition{
		{Type: v1.PodReadyToStartContainers, Status: sandbox}, {Type: v1.PodInitialized, Status: v1.ConditionTrue},
		{Type: v1.PodReady, Status: readyWithGates(pod, ready), Reason: reason}, {Type: v1.ContainersReady, Status: ready, Reason: reason},
	} {
		c.LastTransitionTime, c.ObservedGeneration = at, pod.Generation
		put(status, c)
	}
}

// readyWithGates: a readiness gate that nobody has opened keeps the pod from being Ready.
func readyWithGates(pod *v1.Pod, ready v1.ConditionStatus) v1.ConditionStatus {
	for _, gate := range pod.Spec.ReadinessGates {
		open := false
		for _, c := range pod.Status.Conditions {
			open = open || c.Type == gate.ConditionType && c.Status == v1.ConditionTrue
		}
		if !open {
			return v1.ConditionFalse
		}
	}
	return ready
}

func put(status *v1.PodStatus, condition v1.PodCondition) {
	for i := range status.Conditions {
		old := &status.Conditions[i]
		if old.Type == condition.Type {
			if old.Status == condition.Status {
				condition.LastTransitionTime = old.LastTransitionTime
			}
			*old = condition
			return
		}
	}
	status.Conditions = append(status.Conditions, condition)
}
