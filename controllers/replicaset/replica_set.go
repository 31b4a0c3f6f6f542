// Package replicaset keeps the number of a ReplicaSet's pods at spec.replicas.
//
//	ReplicaSet ─┐
//	Pod ────────┴─► key ─► syncReplicaSet: claim pods ─► manageReplicas ─► create | delete
//	                                          └────────► calculateStatus ─► /status
//
// One turn is `controllers/replicaset/replica_set.go:ReplicaSetController.syncReplicaSet`.
// The pods are counted in the cache, which lags behind our own writes; expectations
// (package podcontrol) keep a turn from acting on such a count. A ReplicaSet knows
// nothing of Deployments: it never looks at who owns it, but to find pods related
// to its own when it must choose which to delete.
//
// ReplicationController is the same thing under its first name, with a selector
// that can only be a map. `controllers/replicaset/replication_controller.go:NewReplicationManager`
// runs this controller on it.
//
// # In Kubernetes
//
// pkg/controller/replicaset/replica_set.go (ReplicaSetController), and
// pkg/controller/replication, which wraps it the same way. Left out: the metrics
// on sorting. Without the expectations, five pods too few could become fifteen
// created; without adoption, pods made by hand with the right labels would be
// counted by nobody and served by the Service.
package replicaset

import (
	"context"
	"fmt"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

// BurstReplicas is the most pods that one turn creates or deletes.
const BurstReplicas = 500

// ReplicaSetController is the loop over ReplicaSets, or over
// ReplicationControllers seen as ReplicaSets.
type ReplicaSetController struct {
	*reconcile.Loop
	kind       schema.GroupVersionKind
	store      replicaSets
	podIndexer cache.Indexer
	podControl podcontrol.PodControl
	clock      clock.PassiveClock
	// expectations holds what was asked for and is not in the cache yet.
	expectations *podcontrol.Expectations
}

// replicaSets is where the objects come from and their status goes: the seam that
// ReplicationController uses.
type replicaSets interface {
	informer() cache.SharedIndexInformer
	// original is the object that events are about.
	original(rs *appsv1.ReplicaSet) podcontrol.Owner
	get(namespace, name string) (*appsv1.ReplicaSet, error)
	list(namespace string) ([]*appsv1.ReplicaSet, error)
	// getFresh asks the API instead of the cache.
	getFresh(ctx context.Context, namespace, name string) (*appsv1.ReplicaSet, error)
	updateStatus(ctx context.Context, rs *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error)
}

// New makes the controller for ReplicaSets.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) (*ReplicaSetController, error) {
	store := &appsReplicaSets{client, factory.Apps().V1().ReplicaSets()}
	return newBaseController(flavor{"replicaset", appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), store},
		factory.Core().V1().Pods().Informer(), podcontrol.PodControl{Client: client, Recorder: recorder}, options)
}

// flavor tells the two kinds apart.
type flavor struct {
	name  string
	kind  schema.GroupVersionKind
	store replicaSets
}

func newBaseController(flavor flavor, pods cache.SharedIndexInformer, control podcontrol.PodControl, options reconcile.Options) (*ReplicaSetController, error) {
	if err := podcontrol.AddPodControllerIndexer(pods); err != nil {
		return nil, err
	}
	options = options.WithDefaults()
	rsc := &ReplicaSetController{
		kind: flavor.kind, store: flavor.store, podIndexer: pods.GetIndexer(), podControl: control,
		clock: options.Clock, expectations: podcontrol.NewExpectations(options.Clock),
	}
	rsc.Loop = reconcile.New(flavor.name, rsc.syncReplicaSet, options)
	rsc.Watch(flavor.store.informer(), rsc.replicaSetKeys)
	rsc.Watch(pods, rsc.podKeys)
	return rsc, nil
}

// syncReplicaSet is one turn for one ReplicaSet:
//
//  1. claim its pods, adopting and releasing,
//  2. create or delete, if what was asked for earlier has been seen,
//  3. write the status,
//  4. come back when the next pod becomes available by time alone.
func (rsc *ReplicaSetController) syncReplicaSet(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	rs, err := rsc.store.get(name.Namespace, name.Name)
	if apierrors.IsNotFound(err) {
		rsc.expectations.DeleteExpectations(key)
		return reconcile.Done, nil // its pods are the garbage collector's
	}
	if err != nil {
		return reconcile.Done, err
	}
	// Asked before the pods are read: an event in between can only make the count newer.
	mayAct := rsc.expectations.SatisfiedExpectations(key)

	// Step 1: claim its pods, adopting and releasing.
	pods, err := rsc.claimPods(ctx, rs)
	if err != nil {
		return reconcile.Done, err
	}
	active, terminating := splitPods(pods)

	// Step 2: create or delete.
	var manageErr error
	if mayAct && rs.DeletionTimestamp == nil {
		manageErr = rsc.manageReplicas(ctx, key, active, rs)
	}

	// Step 3: write the status, also when step 2 failed: it says so.
	now := rsc.clock.Now()
	newStatus := calculateStatus(rs, active, terminating, manageErr, metav1.NewTime(now))
	if err := rsc.updateReplicaSetStatus(ctx, rs, newStatus); err != nil {
		return reconcile.Done, err
	}
	if manageErr != nil {
		return reconcile.Done, manageErr
	}

	// Step 4: a pod becomes available without any event once it has been ready for
	// minReadySeconds.
	return reconcile.Result{After: podcontrol.NextAvailability(active, rs.Spec.MinReadySeconds, now)}, nil
}

// manageReplicas creates or deletes so many pods as are missing or too many, and
// sets the expectations for them.
func (rsc *ReplicaSetController) manageReplicas(ctx context.Context, key string, active []*corev1.Pod, rs *appsv1.ReplicaSet) error {
	diff := len(active) - int(ptr.Deref(rs.Spec.Replicas, 1))
	if diff < 0 {
		return rsc.createPods(ctx, key, rs, min(-diff, BurstReplicas))
	}
	if diff > 0 {
		return rsc.deletePods(ctx, key, rs, rsc.getPodsToDelete(rs, active, min(diff, BurstReplicas)))
	}
	return nil
}

func (rsc *ReplicaSetController) createPods(ctx context.Context, key string, rs *appsv1.ReplicaSet, count int) error {
	klog.FromContext(ctx).V(2).Info("Too few replicas", "creating", count)
	// All creations are expected at once, before the first, so that the events of
	// the first cannot come too early to be counted.
	rsc.expectations.ExpectCreations(key, count)
	owner := rsc.store.original(rs)
	created, err := podcontrol.SlowStartBatch(count, podcontrol.SlowStartInitialBatchSize, func() error {
		err := rsc.podControl.CreatePods(ctx, owner, &rs.Spec.Template, metav1.NewControllerRef(rs, rsc.kind), "")
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // nothing can be created any more, and all is about to go; the expectation expires with it
		}
		return err
	})
	// No event will come for the calls that failed, nor for those that were not
	// made because others failed.
	rsc.expectations.CreationsSkipped(key, count-created)
	return err
}

func (rsc *ReplicaSetController) deletePods(ctx context.Context, key string, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	klog.FromContext(ctx).V(2).Info("Too many replicas", "deleting", len(pods))
	keys := make([]string, len(pods))
	for i, pod := range pods {
		keys[i] = podcontrol.PodKey(pod)
	}
	rsc.expectations.ExpectDeletions(key, keys)
	owner := rsc.store.original(rs)
	errs := make(chan error, len(pods))
	var all sync.WaitGroup
	for i, pod := range pods {
		all.Go(func() {
			if err := rsc.podControl.DeletePod(ctx, pod.Namespace, pod.Name, owner); err != nil {
				// Its event will not come.
				rsc.expectations.DeletionObserved(key, keys[i])
				if !apierrors.IsNotFound(err) {
					errs <- err
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// getPodsToDelete chooses n of the active pods.
func (rsc *ReplicaSetController) getPodsToDelete(rs *appsv1.ReplicaSet, active []*corev1.Pod, n int) []*corev1.Pod {
	if n >= len(active) {
		return active
	}
	perNode := map[string]int{}
	for _, pod := range rsc.getIndirectlyRelatedPods(rs) {
		if podutil.IsPodActive(pod) {
			perNode[pod.Spec.NodeName]++
		}
	}
	ranked := make([]podcontrol.RankedPod, len(active))
	for i, pod := range active {
		ranked[i] = podcontrol.RankedPod{Pod: pod, Rank: perNode[pod.Spec.NodeName]}
	}
	podcontrol.SortActivePodsWithRanks(ranked, rsc.clock.Now())
	chosen := make([]*corev1.Pod, n)
	for i := range chosen {
		chosen[i] = ranked[i].Pod
	}
	return chosen
}

// getIndirectlyRelatedPods returns the pods of all ReplicaSets of rs's owner: in
// a rollout, the old replicas crowd a node as much as the new.
func (rsc *ReplicaSetController) getIndirectlyRelatedPods(rs *appsv1.ReplicaSet) []*corev1.Pod {
	siblings := []*appsv1.ReplicaSet{rs}
	if owner := metav1.GetControllerOf(rs); owner != nil {
		all, err := rsc.store.list(rs.Namespace)
		if err == nil {
			siblings = nil
			for _, other := range all {
				if ref := metav1.GetControllerOf(other); ref != nil && ref.UID == owner.UID {
					siblings = append(siblings, other)
				}
			}
		}
	}
	var related []*corev1.Pod
	for _, sibling := range siblings {
		// The index exists, so there is no error; and a rank less does no harm.
		pods, _ := podcontrol.FilterPodsByOwner(rsc.podIndexer, sibling, false)
		related = append(related, pods...)
	}
	return related
}

// claimPods returns the ReplicaSet's pods that have not ended.
func (rsc *ReplicaSetController) claimPods(ctx context.Context, rs *appsv1.ReplicaSet) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("converting the selector of %s/%s: %w", rs.Namespace, rs.Name, err)
	}
	candidates, err := podcontrol.FilterPodsByOwner(rsc.podIndexer, rs, true)
	if err != nil {
		return nil, err
	}
	live := candidates[:0:0]
	for _, pod := range candidates {
		if !podutil.IsPodTerminal(pod) {
			live = append(live, pod)
		}
	}
	manager := podcontrol.ControllerRefManager[*corev1.Pod]{
		Controller: rs, Kind: rsc.kind, Selector: selector, Patch: rsc.podControl.PatchPod,
		CanAdopt: podcontrol.RecheckDeletionTimestamp(rs.UID, func(ctx context.Context) (metav1.Object, error) {
			return rsc.store.getFresh(ctx, rs.Namespace, rs.Name)
		}),
	}
	return manager.ClaimObjects(ctx, live)
}

// splitPods tells the pods that count as replicas from those on their way out.
func splitPods(pods []*corev1.Pod) (active []*corev1.Pod, terminating int32) {
	for _, pod := range pods {
		if podutil.IsPodActive(pod) {
			active = append(active, pod)
		} else if pod.DeletionTimestamp != nil {
			terminating++
		}
	}
	return active, terminating
}
