package statefulset

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"hyperkube/client/informers"
	"hyperkube/controllers/history"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

var controllerKind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

// StatefulSetController is the loop over StatefulSets.
type StatefulSetController struct {
	*reconcile.Loop
	client     kubernetes.Interface
	recorder   record.EventRecorder
	setLister  appslisters.StatefulSetLister
	podIndexer cache.Indexer
	history    history.History
	clock      clock.PassiveClock
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) (*StatefulSetController, error) {
	options = options.WithDefaults()
	sets, revisions, pods := factory.Apps().V1().StatefulSets(), factory.Apps().V1().ControllerRevisions(), factory.Core().V1().Pods()
	if err := podcontrol.AddPodControllerIndexer(pods.Informer()); err != nil {
		return nil, err
	}
	ssc := &StatefulSetController{
		client: client, recorder: recorder, setLister: sets.Lister(), podIndexer: pods.Informer().GetIndexer(),
		history: history.History{Client: client, Lister: revisions.Lister(), Kind: controllerKind}, clock: options.Clock,
	}
	ssc.Loop = reconcile.New("statefulset", ssc.sync, options)
	ssc.Watch(sets.Informer(), reconcile.Self)
	ssc.Watch(revisions.Informer(), reconcile.Owner(controllerKind))
	ssc.Watch(pods.Informer(), ssc.podKeys)
	return ssc, nil
}

// podKeys names the StatefulSet of a pod; of an orphan, those that might adopt it.
func (ssc *StatefulSetController) podKeys(e reconcile.Event) []string {
	pod := e.Object().(*corev1.Pod)
	keys := reconcile.Owner(controllerKind)(e)
	if metav1.GetControllerOf(pod) != nil || e.Deleted() {
		return keys
	}
	sets, err := ssc.setLister.GetPodStatefulSets(pod)
	if err != nil {
		return keys // none selects it
	}
	for _, set := range sets {
		keys = append(keys, reconcile.KeyOf(set))
	}
	return keys
}

// sync is one turn for one StatefulSet:
//
//  1. claim its pods, find the current and the update revision,
//  2. create, delete and update pods, as far as their order allows,
//  3. delete old revisions, write the status,
//  4. come back when the next pod becomes available by time alone.
func (ssc *StatefulSetController) sync(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	cached, err := ssc.setLister.StatefulSets(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil // its pods are the garbage collector's
	}
	if err != nil {
		return reconcile.Done, err
	}
	set := cached.DeepCopy()

	// Step 1: claim its pods, find the current and the update revision.
	pods, err := ssc.getPodsForStatefulSet(ctx, set)
	if err != nil {
		return reconcile.Done, err
	}
	t, revisions, err := ssc.newTurn(ctx, set, pods)
	if err != nil {
		return reconcile.Done, err
	}

	// Step 2: create, delete and update pods.
	updateErr := ssc.updateStatefulSet(ctx, t)

	// Step 3: delete old revisions, write the status, also when step 2 failed.
	t.completeRollingUpdate()
	err = errors.Join(
		ssc.truncateHistory(ctx, t, revisions),
		ssc.updateStatefulSetStatus(ctx, cached, t.status),
	)
	if apierrors.IsAlreadyExists(updateErr) {
		return reconcile.Result{Retry: true}, err // the pod is there and the cache is behind
	}
	if err := errors.Join(updateErr, err); err != nil {
		return reconcile.Done, err
	}

	// Step 4: come back when the next pod becomes available by time alone.
	return reconcile.Result{After: podcontrol.NextAvailability(pods, set.Spec.MinReadySeconds, t.now.Time)}, nil
}

// getPodsForStatefulSet claims the pods that are selected and named as the set's.
func (ssc *StatefulSetController) getPodsForStatefulSet(ctx context.Context, set *appsv1.StatefulSet) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("converting the selector of %s/%s: %w", set.Namespace, set.Name, err)
	}
	candidates, err := podcontrol.FilterPodsByOwner(ssc.podIndexer, set, true)
	if err != nil {
		return nil, err
	}
	manager := podcontrol.ControllerRefManager[*corev1.Pod]{
		Controller: set, Kind: controllerKind, Selector: selector,
		CanAdopt: podcontrol.RecheckDeletionTimestamp(set.UID, ssc.fresh(set)),
		Patch:    podcontrol.PodControl{Client: ssc.client}.PatchPod,
	}
	return manager.ClaimObjects(ctx, candidates, func(pod *corev1.Pod) bool { return isMemberOf(set, pod) })
}

func (ssc *StatefulSetController) fresh(set *appsv1.StatefulSet) func(ctx context.Context) (metav1.Object, error) {
	return func(ctx context.Context) (metav1.Object, error) {
		return ssc.client.AppsV1().StatefulSets(set.Namespace).Get(ctx, set.Name, metav1.GetOptions{})
	}
}

// newTurn finds the revisions and counts the pods.
func (ssc *StatefulSetController) newTurn(ctx context.Context, set *appsv1.StatefulSet, pods []*corev1.Pod) (*turn, []*appsv1.ControllerRevision, error) {
	owner := history.Owner{Object: set, Selector: set.Spec.Selector, Template: &set.Spec.Template, Fresh: ssc.fresh(set)}
	revisions, err := ssc.history.ControlledHistories(ctx, owner)
	if err != nil {
		return nil, nil, err
	}
	collisions := ptr.Deref(set.Status.CollisionCount, 0)
	update, err := ssc.history.UpdateRevision(ctx, owner, revisions, &collisions)
	if err != nil {
		return nil, nil, err
	}
	current := update
	for _, r := range revisions {
		if r.Name == set.Status.CurrentRevision {
			current = r
		}
	}
	t := &turn{set: set, current: current.Name, update: update.Name, now: metav1.NewTime(ssc.clock.Now())}
	if t.currentTemplate, err = history.TemplateOf(current); err != nil {
		return nil, nil, err
	}
	t.arrange(pods)
	t.status = t.countStatus(pods)
	t.status.CollisionCount = &collisions
	return t, revisions, nil
}

// truncateHistory deletes revisions beyond the limit that nothing is of.
func (ssc *StatefulSetController) truncateHistory(ctx context.Context, t *turn, revisions []*appsv1.ControllerRevision) error {
	live := map[string]bool{t.current: true, t.update: true}
	for _, pod := range t.pods {
		live[getPodRevision(pod)] = true
	}
	return ssc.history.Truncate(ctx, revisions, int(ptr.Deref(t.set.Spec.RevisionHistoryLimit, 10)), func(r *appsv1.ControllerRevision) bool {
		return live[r.Name]
	})
}

func (ssc *StatefulSetController) updateStatefulSetStatus(ctx context.Context, cached *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	if equality.Semantic.DeepEqual(cached.Status, status) {
		return nil
	}
	updated := cached.DeepCopy()
	updated.Status = status
	_, err := ssc.client.AppsV1().StatefulSets(updated.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
