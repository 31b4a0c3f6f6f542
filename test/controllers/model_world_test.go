package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// modelLabel has the name of the workload that a pod is of.
const modelLabel = "model"

// world is what surrounds the controllers in the model test: a scheduler and kubelets that
// take a random time for everything, and an observer that holds the invariants against each
// change of a pod.
type world struct {
	t      *testing.T
	client kubernetes.Interface
	nodes  []string

	mu     sync.Mutex
	random *rand.Rand
	// pods are as last seen; busy are those for which something is under way.
	pods map[types.UID]*corev1.Pod
	busy map[types.UID]bool
	// closed are the nodes that take no pods now.
	closed map[string]bool
	// sets are the ReplicaSets as last seen; widest is the most replicas that each ever had in
	// its spec, peak the most active pods.
	sets         map[types.UID]*appsv1.ReplicaSet
	widest, peak map[types.UID]int
	// most is how many active pods a workload may have, or, of a Deployment, how many replicas
	// all its ReplicaSets together; atLeast how many ready pods, once it had them.
	most, atLeast map[string]int
	reached       map[string]bool
	orders        map[string]*order // of StatefulSets of policy OrderedReady
	jobsSeen      map[string]*completions
	violations    []string
	// seen counts events; moved is closed at the next.
	moved chan struct{}
}

// newWorld makes the nodes and runs the world until the test ends.
func newWorld(t *testing.T, client kubernetes.Interface, random *rand.Rand, nodes int) *world {
	w := &world{t: t, client: client, random: random, pods: map[types.UID]*corev1.Pod{}, busy: map[types.UID]bool{},
		sets: map[types.UID]*appsv1.ReplicaSet{}, widest: map[types.UID]int{}, peak: map[types.UID]int{}, closed: map[string]bool{},
		most: map[string]int{}, atLeast: map[string]int{}, reached: map[string]bool{}, orders: map[string]*order{}, jobsSeen: map[string]*completions{}, moved: make(chan struct{})}
	for i := range nodes {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node-", i)}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}}}
		created, err := client.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		created.Status = node.Status
		if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), created, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		// No kubelet registers these nodes: admission taints them, and nobody else would lift that.
		w.taint(node.Name, false)
		w.nodes = append(w.nodes, node.Name)
	}
	w.run()
	return w
}

// run watches pods and ReplicaSets until the test ends.
func (w *world) run() {
	t, client := w.t, w.client
	ctx, cancel := context.WithCancel(context.Background())
	sets, err := client.AppsV1().ReplicaSets("default").Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := client.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for event := range watcher.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok {
				w.observe(event.Type, pod)
				w.work(ctx, &running, pod.UID)
			}
		}
	})
	running.Go(func() {
		for event := range sets.ResultChan() {
			if rs, ok := event.Object.(*appsv1.ReplicaSet); ok {
				w.observeSet(event.Type, rs)
			}
		}
	})
	t.Cleanup(func() { cancel(); watcher.Stop(); sets.Stop(); running.Wait() })
}

// observeSet holds the bound of a Deployment against what it asks of its ReplicaSets. The pods
// themselves may be more for a moment, when one ReplicaSet has grown before another has shrunk.
func (w *world) observeSet(kind watch.EventType, rs *appsv1.ReplicaSet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sets, rs.UID)
	if kind != watch.Deleted && rs.DeletionTimestamp == nil {
		w.sets[rs.UID] = rs
	}
	w.widest[rs.UID] = max(w.widest[rs.UID], int(*rs.Spec.Replicas))
	name, sum := rs.Labels[modelLabel], 0
	for _, other := range w.sets {
		if other.Labels[modelLabel] == name {
			sum += int(*other.Spec.Replicas)
		}
	}
	if sum > w.most[name] {
		w.violations = append(w.violations, fmt.Sprintf("the replica sets of %s want %d pods at %s, may %d", name, sum, rs.ResourceVersion, w.most[name]))
	}
}

// overfull are the ReplicaSets that had more pods than they ever were to have.
func (w *world) overfull() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, peak := range w.peak {
		if widest := w.widest[uid]; peak > widest {
			all = append(all, fmt.Sprintf("replica set %s had %d active pods, never wanted more than %d", uid, peak, widest))
		}
	}
	return all
}

// taint closes or opens a node: nothing tolerates what a closed one has.
func (w *world) taint(node string, closed bool) {
	taints := "[]"
	if closed {
		taints = `[{"key":"lost","effect":"NoExecute"}]`
	}
	patch := fmt.Sprintf(`{"spec":{"unschedulable":null,"taints":%s}}`, taints)
	if _, err := w.client.CoreV1().Nodes().Patch(w.t.Context(), node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		w.t.Errorf("tainting %s: %v", node, err)
	}
	w.mu.Lock()
	w.closed[node] = closed
	w.mu.Unlock()
}

// active pods count against what a controller may have; pods that go or have ended do not.
func active(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func ready(pod *corev1.Pod) bool {
	return active(pod) && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// observe notes a change and checks what must hold at each moment.
func (w *world) observe(kind watch.EventType, pod *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, pod.UID)
	if kind != watch.Deleted {
		w.pods[pod.UID] = pod
	}
	w.observeOrder(kind, pod)
	w.observeCompletions(pod)
	w.observeDaemon(pod)
	name := pod.Labels[modelLabel]
	nActive, nReady := w.count(func(p *corev1.Pod) bool { return p.Labels[modelLabel] == name })
	if ref := metav1.GetControllerOf(pod); ref != nil && ref.Kind == "ReplicaSet" {
		n, _ := w.count(func(p *corev1.Pod) bool { return metav1.IsControlledBy(p, &metav1.ObjectMeta{UID: ref.UID}) })
		w.peak[ref.UID] = max(w.peak[ref.UID], n)
	} else if most, bounded := w.most[name]; bounded && nActive > most {
		w.violations = append(w.violations, fmt.Sprintf("%s has %d active pods at %s, may have %d", name, nActive, pod.ResourceVersion, most))
	}
	if least := w.atLeast[name]; least > 0 {
		w.reached[name] = w.reached[name] || nReady >= least
		if w.reached[name] && nReady < least {
			w.violations = append(w.violations, fmt.Sprintf("%s has %d ready pods at %s, must have %d", name, nReady, pod.ResourceVersion, least))
		}
	}
	close(w.moved)
	w.moved = make(chan struct{})
}

func (w *world) count(of func(*corev1.Pod) bool) (nActive, nReady int) {
	for _, pod := range w.pods {
		if of(pod) && active(pod) {
			nActive++
			if ready(pod) {
				nReady++
			}
		}
	}
	return nActive, nReady
}

// bound says how many pods a workload may have from now on, besides what it may have already.
func (w *world) bound(name string, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most[name] = max(w.most[name], most)
}

// settle says how many it may have now that all is calm.
func (w *world) settle(name string, most, least int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.most[name] = most
	w.atLeast[name], w.reached[name] = least, false
	// What its sets once wanted excuses nothing any more.
	for uid, rs := range w.sets {
		if rs.Labels[modelLabel] == name && w.peak[uid] <= w.widest[uid] {
			w.widest[uid] = int(*rs.Spec.Replicas)
			w.peak[uid], _ = w.count(func(p *corev1.Pod) bool { return metav1.IsControlledBy(p, rs) })
		}
	}
}

// letPass waits until n things have happened, or nothing does.
func (w *world) letPass(n int) {
	for range n {
		w.mu.Lock()
		moved := w.moved
		w.mu.Unlock()
		select {
		case <-moved:
		case <-time.After(30 * time.Millisecond):
			return
		}
	}
}

// pick is a random pod for which yes holds, or nil.
func (w *world) pick(yes func(*corev1.Pod) bool) *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*corev1.Pod
	for _, pod := range w.pods {
		if yes(pod) {
			all = append(all, pod)
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return all[w.random.IntN(len(all))]
}

// work lets a scheduler or kubelet do the next thing for a pod, after a random time.
func (w *world) work(ctx context.Context, running *sync.WaitGroup, uid types.UID) {
	w.mu.Lock()
	pod := w.pods[uid]
	if pod == nil || w.busy[uid] {
		w.mu.Unlock()
		return
	}
	do := w.next(pod)
	if do == nil {
		w.mu.Unlock()
		return
	}
	w.busy[uid] = true
	wait := time.Duration(w.random.IntN(20)) * time.Millisecond
	w.mu.Unlock()
	running.Go(func() {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		err := do(ctx)
		w.mu.Lock()
		delete(w.busy, uid)
		w.mu.Unlock()
		switch {
		case err == nil || ctx.Err() != nil || apierrors.IsNotFound(err):
		case apierrors.IsConflict(err):
			w.work(ctx, running, uid)
			return
		default:
			w.t.Errorf("pod %s: %v", pod.Name, err)
		}
		w.work(ctx, running, uid) // what came meanwhile
	})
}

// next is what is to be done for a pod; nil: nothing. It is called with the lock held.
func (w *world) next(pod *corev1.Pod) func(context.Context) error {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	switch {
	case pod.DeletionTimestamp != nil && !ended && pod.Spec.NodeName != "":
		return w.report(pod, corev1.PodFailed)
	case pod.DeletionTimestamp != nil && pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0:
		return nil // only a finalizer holds it
	case pod.DeletionTimestamp != nil:
		return func(ctx context.Context) error {
			return w.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
				GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &pod.UID}})
		}
	case ended:
		return nil
	case pod.Spec.NodeName == "":
		return w.bind(pod)
	case pod.Status.Phase == corev1.PodPending:
		return w.report(pod, corev1.PodRunning)
	case pod.Labels["job-name"] != "":
		if w.random.IntN(10) == 0 {
			return w.report(pod, corev1.PodFailed)
		}
		return w.report(pod, corev1.PodSucceeded)
	}
	return nil
}

// bind chooses any open node, but the one that a DaemonSet has chosen.
func (w *world) bind(pod *corev1.Pod) func(context.Context) error {
	node := w.nodes[w.random.IntN(len(w.nodes))]
	for w.closed[node] {
		node = w.nodes[w.random.IntN(len(w.nodes))]
	}
	if a := pod.Spec.Affinity; a != nil && a.NodeAffinity != nil {
		node = daemonNode(pod)
	}
	return func(ctx context.Context) error {
		err := w.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, UID: pod.UID}, Target: corev1.ObjectReference{Kind: "Node", Name: node}}, metav1.CreateOptions{})
		if apierrors.IsConflict(err) {
			return nil // it goes already, and an event will say so
		}
		return err
	}
}

func (w *world) report(pod *corev1.Pod, phase corev1.PodPhase) func(context.Context) error {
	return func(ctx context.Context) error {
		now := metav1.Now()
		isReady := corev1.ConditionFalse
		if phase == corev1.PodRunning {
			isReady = corev1.ConditionTrue
		}
		// Only of the pod as it was seen: one that has failed must not run again.
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "resourceVersion": pod.ResourceVersion}, "status": map[string]any{
			"phase": phase, "startTime": now, "podIP": "10.244.0.2", "podIPs": []any{map[string]any{"ip": "10.244.0.2"}},
			"conditions": []any{map[string]any{"type": "Ready", "status": isReady, "lastTransitionTime": now}}}})
		if err != nil {
			return err
		}
		_, err = w.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		if apierrors.IsConflict(err) {
			return nil // it has changed, or another pod has the name; an event will say so
		}
		return err
	}
}
