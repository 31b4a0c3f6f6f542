package deployment

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"

	"hyperkube/client/informers"
	"hyperkube/controllers/podcontrol"
	"hyperkube/reconcile"
)

// controllerKind is the kind that owns the ReplicaSets.
var controllerKind = appsv1.SchemeGroupVersion.WithKind("Deployment")

// DeploymentController is the loop over Deployments.
type DeploymentController struct {
	*reconcile.Loop
	client        kubernetes.Interface
	eventRecorder record.EventRecorder
	clock         clock.PassiveClock
	dLister       appslisters.DeploymentLister
	rsLister      appslisters.ReplicaSetLister
	podLister     corelisters.PodLister
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *DeploymentController {
	options = options.WithDefaults()
	deployments, replicaSets, pods := factory.Apps().V1().Deployments(), factory.Apps().V1().ReplicaSets(), factory.Core().V1().Pods()
	dc := &DeploymentController{
		client: client, eventRecorder: recorder, clock: options.Clock,
		dLister: deployments.Lister(), rsLister: replicaSets.Lister(), podLister: pods.Lister(),
	}
	dc.Loop = reconcile.New("deployment", dc.syncDeployment, options)
	dc.Watch(deployments.Informer(), reconcile.Self)
	dc.Watch(replicaSets.Informer(), dc.replicaSetKeys)
	dc.Watch(pods.Informer(), dc.podKeys)
	return dc
}

// syncDeployment is one turn for one Deployment:
//
//  1. find its ReplicaSets, adopting and releasing,
//  2. if it is being deleted, only report,
//  3. note pausing and resuming in the progress condition,
//  4. if paused, or if its size was changed, scale without rolling out,
//  5. else roll out, by its strategy.
func (dc *DeploymentController) syncDeployment(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	cached, err := dc.dLister.Deployments(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil // its ReplicaSets are the garbage collector's
	}
	if err != nil {
		return reconcile.Done, err
	}
	d := cached.DeepCopy()
	if equality.Semantic.DeepEqual(d.Spec.Selector, &metav1.LabelSelector{}) {
		return reconcile.Done, dc.refuseEmptySelector(ctx, d)
	}

	// Step 1: find its ReplicaSets.
	rsList, err := dc.getReplicaSetsForDeployment(ctx, d)
	if err != nil {
		return reconcile.Done, err
	}
	// Step 2: if it is being deleted, only report.
	if d.DeletionTimestamp != nil {
		return reconcile.Done, dc.syncStatusOnly(ctx, d, rsList)
	}
	// Step 3: note pausing and resuming.
	if err := dc.checkPausedConditions(ctx, d); err != nil {
		return reconcile.Done, err
	}
	// Step 4: if paused, or if its size was changed, scale without rolling out.
	if d.Spec.Paused {
		return reconcile.Done, dc.sync(ctx, d, rsList)
	}
	if revision, asked := rollbackTo(d); asked {
		return reconcile.Done, dc.rollback(ctx, d, rsList, revision) // its write is the next turn
	}
	scalingEvent, err := dc.isScalingEvent(ctx, d, rsList)
	if err != nil {
		return reconcile.Done, err
	}
	if scalingEvent {
		return reconcile.Done, dc.sync(ctx, d, rsList)
	}
	// Step 5: roll out.
	switch d.Spec.Strategy.Type {
	case appsv1.RecreateDeploymentStrategyType:
		return dc.rolloutRecreate(ctx, d, rsList)
	case appsv1.RollingUpdateDeploymentStrategyType:
		return dc.rolloutRolling(ctx, d, rsList)
	}
	return reconcile.Done, fmt.Errorf("unexpected deployment strategy type: %s", d.Spec.Strategy.Type)
}

// refuseEmptySelector: a Deployment that selects everything would take over every
// ReplicaSet of its namespace.
func (dc *DeploymentController) refuseEmptySelector(ctx context.Context, d *appsv1.Deployment) error {
	dc.eventRecorder.Eventf(d, corev1.EventTypeWarning, "SelectingAll",
		"This deployment is selecting all pods. A non-empty selector is required.")
	if d.Status.ObservedGeneration >= d.Generation {
		return nil
	}
	d.Status.ObservedGeneration = d.Generation
	_, err := dc.client.AppsV1().Deployments(d.Namespace).UpdateStatus(ctx, d, metav1.UpdateOptions{})
	return err
}

// getReplicaSetsForDeployment claims the ReplicaSets that belong to d.
func (dc *DeploymentController) getReplicaSetsForDeployment(ctx context.Context, d *appsv1.Deployment) ([]*appsv1.ReplicaSet, error) {
	candidates, err := dc.rsLister.ReplicaSets(d.Namespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("deployment %s/%s has an invalid label selector: %w", d.Namespace, d.Name, err)
	}
	manager := podcontrol.ControllerRefManager[*appsv1.ReplicaSet]{
		Controller: d, Kind: controllerKind, Selector: selector,
		CanAdopt: podcontrol.RecheckDeletionTimestamp(d.UID, func(ctx context.Context) (metav1.Object, error) {
			return dc.client.AppsV1().Deployments(d.Namespace).Get(ctx, d.Name, metav1.GetOptions{})
		}),
		Patch: func(ctx context.Context, rs *appsv1.ReplicaSet, patch []byte) error {
			_, err := dc.client.AppsV1().ReplicaSets(rs.Namespace).Patch(ctx, rs.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		},
	}
	return manager.ClaimObjects(ctx, candidates)
}

// getPodMapForDeployment returns the pods of d's ReplicaSets, by ReplicaSet.
func (dc *DeploymentController) getPodMapForDeployment(d *appsv1.Deployment, rsList []*appsv1.ReplicaSet) (map[types.UID][]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, err
	}
	pods, err := dc.podLister.Pods(d.Namespace).List(selector)
	if err != nil {
		return nil, err
	}
	podMap := make(map[types.UID][]*corev1.Pod, len(rsList))
	for _, rs := range rsList {
		podMap[rs.UID] = nil
	}
	for _, pod := range pods {
		if ref := metav1.GetControllerOf(pod); ref != nil {
			if _, ours := podMap[ref.UID]; ours {
				podMap[ref.UID] = append(podMap[ref.UID], pod)
			}
		}
	}
	return podMap, nil
}

// replicaSetKeys: the Deployment that owns the ReplicaSet, or those that might
// adopt it.
func (dc *DeploymentController) replicaSetKeys(e reconcile.Event) []string {
	keys := reconcile.Owner(controllerKind)(e)
	rs := e.Object()
	if len(keys) > 0 || e.Deleted() || metav1.GetControllerOf(rs) != nil {
		return keys
	}
	if !e.Added() && labels.Equals(e.Old.GetLabels(), rs.GetLabels()) {
		return nil
	}
	all, err := dc.dLister.Deployments(rs.GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil
	}
	for _, d := range all {
		selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(rs.GetLabels())) {
			keys = append(keys, reconcile.KeyOf(d))
		}
	}
	return keys
}

// podKeys: a Deployment learns of its pods through its ReplicaSets' status, but
// for one thing: with strategy Recreate, the new ones wait until the last of the
// old has gone.
func (dc *DeploymentController) podKeys(e reconcile.Event) []string {
	if !e.Deleted() {
		return nil
	}
	ref := metav1.GetControllerOf(e.Old)
	if ref == nil || ref.Kind != "ReplicaSet" {
		return nil
	}
	rs, err := dc.rsLister.ReplicaSets(e.Old.GetNamespace()).Get(ref.Name)
	if err != nil || rs.UID != ref.UID {
		return nil
	}
	owner := metav1.GetControllerOf(rs)
	if owner == nil || owner.Kind != controllerKind.Kind {
		return nil
	}
	d, err := dc.dLister.Deployments(rs.Namespace).Get(owner.Name)
	if err != nil || d.UID != owner.UID || d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return nil
	}
	return []string{reconcile.KeyOf(d)}
}
