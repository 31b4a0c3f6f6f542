package daemonset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
	"hyperkube/client/informers"
	"hyperkube/controllers/history"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

var controllerKind = appsv1.SchemeGroupVersion.WithKind("DaemonSet")

// burstReplicas is the most pods that one turn creates or deletes.
const burstReplicas = 250

// DaemonSetsController is the loop over DaemonSets.
type DaemonSetsController struct {
	*reconcile.Loop
	client        kubernetes.Interface
	eventRecorder record.EventRecorder
	dsLister      appslisters.DaemonSetLister
	nodeLister    corelisters.NodeLister
	podIndexer    cache.Indexer
	podControl    podcontrol.PodControl
	history       history.History
	expectations  *podcontrol.Expectations
	// failedPodsBackoff keeps a pod that fails at once from being replaced in a hot loop.
	failedPodsBackoff *flowcontrol.Backoff
	clock             clock.PassiveClock
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) (*DaemonSetsController, error) {
	options = options.WithDefaults()
	sets, revisions := factory.Apps().V1().DaemonSets(), factory.Apps().V1().ControllerRevisions()
	pods, nodes := factory.Core().V1().Pods(), factory.Core().V1().Nodes()
	if err := podcontrol.AddPodControllerIndexer(pods.Informer()); err != nil {
		return nil, err
	}
	dsc := &DaemonSetsController{
		client: client, eventRecorder: recorder, dsLister: sets.Lister(), nodeLister: nodes.Lister(),
		podIndexer: pods.Informer().GetIndexer(), podControl: podcontrol.PodControl{Client: client, Recorder: recorder},
		history:           history.History{Client: client, Lister: revisions.Lister(), Kind: controllerKind},
		expectations:      podcontrol.NewExpectations(options.Clock),
		failedPodsBackoff: flowcontrol.NewBackOffWithJitter(time.Second, 15*time.Minute, 0),
		clock:             options.Clock,
	}
	dsc.failedPodsBackoff.Clock = options.Clock
	dsc.Loop = reconcile.New("daemonset", dsc.syncDaemonSet, options)
	dsc.Watch(sets.Informer(), reconcile.Self)
	dsc.Watch(revisions.Informer(), reconcile.Owner(controllerKind))
	dsc.Watch(pods.Informer(), dsc.podKeys)
	dsc.Watch(nodes.Informer(), dsc.nodeKeys)
	return dsc, nil
}

// turn is what one turn knows.
type turn struct {
	key       string
	ds        *appsv1.DaemonSet
	hash      string
	nodes     []*corev1.Node
	podsOn    map[string][]*corev1.Pod // by node, oldest first
	now       metav1.Time
	after     time.Duration
	maxSurge  int
	available func(*corev1.Pod) bool
}

// syncDaemonSet is one turn for one DaemonSet:
//
//  1. find the revision of the template, and the pods by node,
//  2. create what is missing, delete what is too much,
//  3. go on with a rolling update,
//  4. delete old revisions, write the status.
func (dsc *DaemonSetsController) syncDaemonSet(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	cached, err := dsc.dsLister.DaemonSets(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		dsc.expectations.DeleteExpectations(key)
		return reconcile.Done, nil // its pods are the garbage collector's
	}
	if err != nil {
		return reconcile.Done, err
	}
	ds := cached.DeepCopy()
	if equality.Semantic.DeepEqual(ds.Spec.Selector, &metav1.LabelSelector{}) {
		dsc.eventRecorder.Eventf(ds, corev1.EventTypeWarning, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
		return reconcile.Done, nil
	}
	if ds.DeletionTimestamp != nil {
		return reconcile.Done, nil
	}
	mayAct := dsc.expectations.SatisfiedExpectations(key)

	// Step 1: find the revision of the template, and the pods by node.
	owner := dsc.ownerOf(ds)
	revisions, err := dsc.history.ControlledHistories(ctx, owner)
	if err != nil {
		return reconcile.Done, err
	}
	collisions := ptr.Deref(ds.Status.CollisionCount, 0)
	current, err := dsc.history.UpdateRevision(ctx, owner, revisions, &collisions)
	if err != nil {
		return reconcile.Done, fmt.Errorf("finding the revision of DaemonSet %s: %w", key, err)
	}
	if collisions > 0 {
		ds.Status.CollisionCount = &collisions
	}
	t, err := dsc.newTurn(ctx, key, ds, current.Labels[appsv1.ControllerRevisionHashLabelKey])
	if err != nil {
		return reconcile.Done, err
	}

	// Step 2: create what is missing, delete what is too much.
	var actErr error
	if mayAct {
		actErr = dsc.manage(ctx, t)
		// Step 3: go on with a rolling update, of what is there.
		if actErr == nil && dsc.expectations.SatisfiedExpectations(key) && ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
			actErr = dsc.rollingUpdate(ctx, t)
		}
	}

	// Step 4: delete old revisions, write the status.
	if actErr == nil {
		actErr = dsc.cleanupHistory(ctx, t, revisions, current)
	}
	if err := dsc.updateDaemonSetStatus(ctx, t, cached); err != nil {
		return reconcile.Done, errors.Join(actErr, err)
	}
	return reconcile.Result{After: t.after}, actErr
}

func (dsc *DaemonSetsController) ownerOf(ds *appsv1.DaemonSet) history.Owner {
	return history.Owner{Object: ds, Selector: ds.Spec.Selector, Template: &ds.Spec.Template,
		Fresh: func(ctx context.Context) (metav1.Object, error) {
			return dsc.client.AppsV1().DaemonSets(ds.Namespace).Get(ctx, ds.Name, metav1.GetOptions{})
		}}
}

func (dsc *DaemonSetsController) newTurn(ctx context.Context, key string, ds *appsv1.DaemonSet, hash string) (*turn, error) {
	nodes, err := dsc.nodeLister.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(nodes, func(a, b *corev1.Node) int { return cmp.Compare(a.Name, b.Name) })
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil {
		return nil, err
	}
	candidates, err := podcontrol.FilterPodsByOwner(dsc.podIndexer, ds, true)
	if err != nil {
		return nil, err
	}
	manager := podcontrol.ControllerRefManager[*corev1.Pod]{
		Controller: ds, Kind: controllerKind, Selector: selector, Patch: dsc.podControl.PatchPod,
		CanAdopt: podcontrol.RecheckDeletionTimestamp(ds.UID, dsc.ownerOf(ds).Fresh),
	}
	pods, err := manager.ClaimObjects(ctx, candidates)
	if err != nil {
		return nil, err
	}
	t := &turn{key: key, ds: ds, hash: hash, nodes: nodes, podsOn: map[string][]*corev1.Pod{}, now: metav1.NewTime(dsc.clock.Now())}
	t.available = func(pod *corev1.Pod) bool { return podutil.IsPodAvailable(pod, ds.Spec.MinReadySeconds, t.now) }
	t.after = podcontrol.NextAvailability(pods, ds.Spec.MinReadySeconds, t.now.Time)
	for _, pod := range pods {
		node := getTargetNodeName(pod)
		t.podsOn[node] = append(t.podsOn[node], pod)
	}
	for _, onNode := range t.podsOn {
		slices.SortFunc(onNode, func(a, b *corev1.Pod) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	t.maxSurge, _ = t.updatedDesiredNodeCounts(klog.FromContext(ctx))
	return t, nil
}

// manage gives each node its pod and deletes those that should not be.
func (dsc *DaemonSetsController) manage(ctx context.Context, t *turn) error {
	var missing []string
	var surplus []*corev1.Pod
	exists := map[string]bool{}
	for _, node := range t.nodes {
		exists[node.Name] = true
		needs, remove := dsc.podsShouldBeOnNode(ctx, t, node)
		if needs {
			missing = append(missing, node.Name)
		}
		surplus = append(surplus, remove...)
	}
	for node, pods := range t.podsOn {
		// Made for a node that is gone: it would wait for it for ever. One that ran
		// there is the pod garbage collector's.
		for _, pod := range pods {
			if !exists[node] && pod.Spec.NodeName == "" {
				surplus = append(surplus, pod)
			}
		}
	}
	return dsc.syncNodes(ctx, t, surplus, missing)
}

// podsShouldBeOnNode compares what the node has with what it should have.
func (dsc *DaemonSetsController) podsShouldBeOnNode(ctx context.Context, t *turn, node *corev1.Node) (needs bool, remove []*corev1.Pod) {
	shouldRun, shouldContinueRunning := nodeShouldRunDaemonPod(klog.FromContext(ctx), node, t.ds)
	pods := t.podsOn[node.Name]
	if !shouldContinueRunning {
		return false, pods
	}
	if len(pods) == 0 {
		return shouldRun, nil
	}
	var running []*corev1.Pod
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil: // wait for its end
		case podutil.IsPodTerminal(pod):
			if dsc.inBackoff(t, node.Name) {
				continue
			}
			reason := string(pod.Status.Phase) + "DaemonPod"
			word := map[corev1.PodPhase]string{corev1.PodFailed: "failed", corev1.PodSucceeded: "succeeded"}[pod.Status.Phase]
			kind := corev1.EventTypeWarning
			if pod.Status.Phase == corev1.PodSucceeded {
				kind = corev1.EventTypeNormal
			}
			dsc.eventRecorder.Eventf(t.ds, kind, reason, "Found %s daemon pod %s/%s on node %s, will try to %s it",
				word, pod.Namespace, pod.Name, node.Name, map[bool]string{true: "kill", false: "delete"}[kind == corev1.EventTypeWarning])
			remove = append(remove, pod)
		default:
			running = append(running, pod)
		}
	}
	if t.maxSurge == 0 {
		if len(running) > 1 {
			remove = append(remove, running[1:]...) // the oldest stays
		}
		return false, remove
	}
	if len(running) == 0 {
		return shouldRun, remove // with surge, the next does not wait for the end of the last
	}
	// With surge, one of the newest revision may stand beside one older; the oldest of each
	// stays, and the older one only while it is ready: it serves until the newer one does.
	var oldPods, newPods []*corev1.Pod
	for _, pod := range running {
		if t.updated(pod) {
			newPods = append(newPods, pod)
		} else {
			oldPods = append(oldPods, pod)
		}
	}
	keep := min(1, len(oldPods))
	if len(newPods) > 0 && keep > 0 && !podutil.IsPodReady(oldPods[0]) {
		keep = 0
	}
	remove = append(remove, oldPods[keep:]...)
	remove = append(remove, newPods[min(1, len(newPods)):]...)
	return false, remove
}

// inBackoff: a failed pod is replaced after 1 s, 2 s, and so on, up to 15 minutes.
func (dsc *DaemonSetsController) inBackoff(t *turn, node string) bool {
	id := fmt.Sprint(t.ds.UID, "/", t.ds.Generation, "/", node)
	if dsc.failedPodsBackoff.IsInBackOffSinceUpdate(id, t.now.Time) {
		wait := dsc.failedPodsBackoff.Get(id)
		if t.after == 0 || wait < t.after {
			t.after = wait
		}
		return true
	}
	dsc.failedPodsBackoff.Next(id, t.now.Time)
	return false
}

// syncNodes deletes the pods and creates one for each node.
func (dsc *DaemonSetsController) syncNodes(ctx context.Context, t *turn, remove []*corev1.Pod, nodes []string) error {
	remove, nodes = remove[:min(len(remove), burstReplicas)], nodes[:min(len(nodes), burstReplicas)]
	if len(remove) == 0 && len(nodes) == 0 {
		return nil
	}
	keys := make([]string, len(remove))
	for i, pod := range remove {
		keys[i] = podcontrol.PodKey(pod)
	}
	dsc.expectations.ExpectCreationsAndDeletions(t.key, len(nodes), keys)
	var next sync.Mutex
	left := nodes
	created, err := podcontrol.SlowStartBatch(len(nodes), podcontrol.SlowStartInitialBatchSize, func() error {
		next.Lock()
		node := left[0]
		left = left[1:]
		next.Unlock()
		err := dsc.podControl.CreatePod(ctx, t.ds, newPod(t.ds, node, t.hash))
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // all is about to go
		}
		return err
	})
	dsc.expectations.CreationsSkipped(t.key, len(nodes)-created)
	errs := []error{err}
	for i, pod := range remove {
		if err := dsc.podControl.DeletePod(ctx, pod.Namespace, pod.Name, t.ds); err != nil {
			dsc.expectations.DeletionObserved(t.key, keys[i])
			if !apierrors.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (t *turn) updated(pod *corev1.Pod) bool {
	return pod.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == t.hash
}

// updateDaemonSetStatus counts nodes, not pods.
func (dsc *DaemonSetsController) updateDaemonSetStatus(ctx context.Context, t *turn, cached *appsv1.DaemonSet) error {
	status := t.ds.Status.DeepCopy()
	*status = appsv1.DaemonSetStatus{CollisionCount: status.CollisionCount, Conditions: status.Conditions, ObservedGeneration: t.ds.Generation}
	for _, node := range t.nodes {
		shouldRun, _ := nodeShouldRunDaemonPod(klog.FromContext(ctx), node, t.ds)
		pods := t.podsOn[node.Name]
		if !shouldRun {
			if len(pods) > 0 {
				status.NumberMisscheduled++
			}
			continue
		}
		status.DesiredNumberScheduled++
		if len(pods) == 0 {
			continue
		}
		status.CurrentNumberScheduled++
		if slices.ContainsFunc(pods, podutil.IsPodReady) {
			status.NumberReady++
		}
		if slices.ContainsFunc(pods, t.available) {
			status.NumberAvailable++
		}
		if slices.ContainsFunc(pods, t.updated) {
			status.UpdatedNumberScheduled++
		}
	}
	status.NumberUnavailable = status.DesiredNumberScheduled - status.NumberAvailable
	if equality.Semantic.DeepEqual(cached.Status, *status) {
		return nil
	}
	updated := t.ds.DeepCopy()
	updated.Status = *status
	_, err := dsc.client.AppsV1().DaemonSets(updated.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	return err
}

// podKeys names the DaemonSet that a pod's event concerns.
func (dsc *DaemonSetsController) podKeys(e reconcile.Event) []string {
	pod := e.Object().(*corev1.Pod)
	keys := reconcile.Owner(controllerKind)(e)
	if ref := metav1.GetControllerOf(pod); ref == nil {
		return append(keys, dsc.matching(pod)...)
	}
	for _, key := range keys {
		switch {
		case e.Deleted() || pod.DeletionTimestamp != nil:
			dsc.expectations.DeletionObserved(key, podcontrol.PodKey(pod))
		case e.Added():
			dsc.expectations.CreationObserved(key)
		}
	}
	return keys
}

// matching are the DaemonSets that might adopt the orphan.
func (dsc *DaemonSetsController) matching(pod *corev1.Pod) []string {
	sets, err := dsc.dsLister.GetPodDaemonSets(pod)
	if err != nil {
		return nil // none selects it
	}
	var keys []string
	for _, ds := range sets {
		keys = append(keys, reconcile.KeyOf(ds))
	}
	return keys
}

// nodeKeys names the DaemonSets for which the node's change makes a difference: a
// node's heartbeat, every few seconds, is none.
func (dsc *DaemonSetsController) nodeKeys(e reconcile.Event) []string {
	all, err := dsc.dsLister.List(labels.Everything())
	if err != nil {
		return nil
	}
	logger := klog.Background()
	var keys []string
	for _, ds := range all {
		if !e.Added() && !e.Deleted() {
			runBefore, stayBefore := nodeShouldRunDaemonPod(logger, e.Old.(*corev1.Node), ds)
			run, stay := nodeShouldRunDaemonPod(logger, e.New.(*corev1.Node), ds)
			if run == runBefore && stay == stayBefore {
				continue
			}
		}
		keys = append(keys, reconcile.KeyOf(ds))
	}
	return keys
}
