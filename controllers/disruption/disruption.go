// Package disruption keeps the status of PodDisruptionBudgets: how many of the pods
// that each selects are healthy, how many must be, and so how many may be evicted now.
//
//	PodDisruptionBudget ─┐
//	Pod ─────────────────┼─► key ─► sync ─► /status ◄── the eviction API pays from it
//	timer ───────────────┘
//
// The eviction API lowers status.disruptionsAllowed and notes the pod in
// status.disruptedPods before it deletes it. Until the cache shows the deletion, such a
// pod counts as not healthy here; a note that is two minutes old was of a deletion that
// failed.
//
// # In Kubernetes
//
// pkg/controller/disruption (DisruptionController.trySync). Left out: custom resources
// with a scale subresource as owners of the pods, and the removal of stale
// DisruptionTarget conditions. Without the notes, two evictions in the time that the
// cache lags would both be allowed where one is.
package disruption

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	pdbhelper "k8s.io/component-helpers/apps/poddisruptionbudget"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	podutil "hyperkube/api/core/pod"
	"hyperkube/client/informers"
	"hyperkube/reconcile"
)

// deletionTimeout is how long an eviction is believed in that no deletion follows.
const deletionTimeout = 2 * time.Minute

// DisruptionController is the loop over PodDisruptionBudgets.
type DisruptionController struct {
	*reconcile.Loop
	client    kubernetes.Interface
	recorder  record.EventRecorder
	pdbLister policylisters.PodDisruptionBudgetLister
	podLister corelisters.PodLister
	dLister   appslisters.DeploymentLister
	rsLister  appslisters.ReplicaSetLister
	ssLister  appslisters.StatefulSetLister
	rcLister  corelisters.ReplicationControllerLister
	clock     clock.PassiveClock
}

// New makes the controller.
func New(client kubernetes.Interface, factory informers.SharedInformerFactory, recorder record.EventRecorder, options reconcile.Options) *DisruptionController {
	options = options.WithDefaults()
	budgets, pods, apps := factory.Policy().V1().PodDisruptionBudgets(), factory.Core().V1().Pods(), factory.Apps().V1()
	dc := &DisruptionController{
		client: client, recorder: recorder, clock: options.Clock, pdbLister: budgets.Lister(), podLister: pods.Lister(),
		dLister: apps.Deployments().Lister(), rsLister: apps.ReplicaSets().Lister(), ssLister: apps.StatefulSets().Lister(),
		rcLister: factory.Core().V1().ReplicationControllers().Lister(),
	}
	dc.Loop = reconcile.New("disruption", dc.sync, options)
	dc.Watch(budgets.Informer(), reconcile.Self)
	dc.Watch(pods.Informer(), dc.podKeys)
	// The scale of owners is read, and their changes come with those of their pods.
	none := func(reconcile.Event) []string { return nil }
	dc.Watch(apps.Deployments().Informer(), none)
	dc.Watch(apps.ReplicaSets().Informer(), none)
	dc.Watch(apps.StatefulSets().Informer(), none)
	dc.Watch(factory.Core().V1().ReplicationControllers().Informer(), none)
	return dc
}

// podKeys are the budgets that select the pod, or did.
func (dc *DisruptionController) podKeys(e reconcile.Event) []string {
	budgets, err := dc.pdbLister.PodDisruptionBudgets(e.Object().GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil
	}
	var keys []string
	slices.SortFunc(budgets, func(a, b *policyv1.PodDisruptionBudget) int { return strings.Compare(a.Name, b.Name) })
	for _, pdb := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
		if err == nil && (e.Old != nil && selector.Matches(labels.Set(e.Old.GetLabels())) || e.New != nil && selector.Matches(labels.Set(e.New.GetLabels()))) {
			keys = append(keys, reconcile.KeyOf(pdb))
		}
	}
	if len(keys) > 1 {
		// The text is upstream's, which brings only that one up to date; here it is all of
		// them. The eviction of a pod with several is refused, here and there.
		_, chosen, _ := strings.Cut(keys[0], "/")
		pod := e.Object().(*corev1.Pod)
		dc.recorder.Eventf(pod, corev1.EventTypeWarning, "MultiplePodDisruptionBudgets",
			"Pod %q/%q matches multiple PodDisruptionBudgets.  Chose %q arbitrarily.", pod.Namespace, pod.Name, chosen)
	}
	return keys
}

// sync is one turn for one budget: count the pods, compare with the spec, write the
// status. When it cannot count, no eviction is allowed.
func (dc *DisruptionController) sync(ctx context.Context, key string) (reconcile.Result, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return reconcile.Done, nil
	}
	pdb, err := dc.pdbLister.PodDisruptionBudgets(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return reconcile.Done, nil
	}
	if err != nil {
		return reconcile.Done, err
	}
	pods, err := dc.getPodsForPdb(pdb)
	if err != nil {
		dc.recorder.Eventf(pdb, corev1.EventTypeWarning, "NoPods", "Failed to get pods: %v", err)
		return reconcile.Done, dc.failSafe(ctx, pdb, err)
	}
	if len(pods) == 0 {
		dc.recorder.Eventf(pdb, corev1.EventTypeNormal, "NoPods", "No matching pods found")
	}
	expected, desired, err := dc.getExpectedPodCount(pdb, pods)
	if err != nil {
		dc.recorder.Eventf(pdb, corev1.EventTypeWarning, "CalculateExpectedPodCountFailed", "Failed to calculate the number of expected pods: %v", err)
		return reconcile.Done, dc.failSafe(ctx, pdb, err)
	}
	if byScale(pdb) && slices.ContainsFunc(pods, func(pod *corev1.Pod) bool { return metav1.GetControllerOf(pod) == nil }) {
		dc.recorder.Eventf(pdb, corev1.EventTypeWarning, "UnmanagedPods", "Pods selected by this PodDisruptionBudget (selector: %v) were found "+
			"to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. "+
			"To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value.", pdb.Spec.Selector)
	}
	disrupted, after := dc.buildDisruptedPodMap(pods, pdb)
	updated := pdb.DeepCopy()
	status := &updated.Status
	status.CurrentHealthy = countHealthyPods(pods, disrupted)
	status.DesiredHealthy, status.ExpectedPods = desired, expected
	status.DisruptedPods, status.ObservedGeneration = disrupted, pdb.Generation
	status.DisruptionsAllowed = max(0, status.CurrentHealthy-desired)
	if expected <= 0 {
		status.DisruptionsAllowed = 0
	}
	return reconcile.Result{After: after}, dc.updatePdbStatus(ctx, pdb, updated)
}

func (dc *DisruptionController) updatePdbStatus(ctx context.Context, pdb, updated *policyv1.PodDisruptionBudget) error {
	if !pdbhelper.ConditionsAreUpToDate(updated) || meta.FindStatusCondition(updated.Status.Conditions, policyv1.DisruptionAllowedCondition) == nil {
		pdbhelper.UpdateDisruptionAllowedCondition(updated)
	}
	if equality.Semantic.DeepEqual(pdb.Status, updated.Status) {
		return nil
	}
	_, err := dc.client.PolicyV1().PodDisruptionBudgets(pdb.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	return err
}

// failSafe allows nothing, and says why.
func (dc *DisruptionController) failSafe(ctx context.Context, pdb *policyv1.PodDisruptionBudget, cause error) error {
	updated := pdb.DeepCopy()
	updated.Status.DisruptionsAllowed = 0
	meta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason,
		Message: cause.Error(), ObservedGeneration: pdb.Status.ObservedGeneration,
	})
	if !equality.Semantic.DeepEqual(pdb.Status, updated.Status) {
		if _, err := dc.client.PolicyV1().PodDisruptionBudgets(pdb.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return cause
}

func (dc *DisruptionController) getPodsForPdb(pdb *policyv1.PodDisruptionBudget) ([]*corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil {
		return nil, err
	}
	return dc.podLister.Pods(pdb.Namespace).List(selector)
}

// getExpectedPodCount returns how many pods there should be, and how many of them must
// be healthy. A number of minAvailable is taken as it is, of the pods that there are;
// all else is a share of what the pods' owners should have.
func (dc *DisruptionController) getExpectedPodCount(pdb *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (expected, desired int32, err error) {
	switch spec := pdb.Spec; {
	case spec.MaxUnavailable != nil:
		if expected, err = dc.getExpectedScale(pods); err != nil {
			return 0, 0, err
		}
		most, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(expected), true)
		return expected, max(0, expected-int32(most)), err
	case spec.MinAvailable != nil && spec.MinAvailable.Type == intstr.Int:
		return int32(len(pods)), spec.MinAvailable.IntVal, nil
	case spec.MinAvailable != nil:
		if expected, err = dc.getExpectedScale(pods); err != nil {
			return 0, 0, err
		}
		least, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(expected), true)
		return expected, int32(least), err
	}
	return int32(len(pods)), 0, nil
}

// byScale: what there should be follows from the scales of the pods' owners.
func byScale(pdb *policyv1.PodDisruptionBudget) bool {
	return pdb.Spec.MaxUnavailable != nil || pdb.Spec.MinAvailable != nil && pdb.Spec.MinAvailable.Type == intstr.String
}

// getExpectedScale adds up the scales of the pods' owners, each once.
func (dc *DisruptionController) getExpectedScale(pods []*corev1.Pod) (int32, error) {
	scales := map[types.UID]int32{}
	for _, pod := range pods {
		ref := metav1.GetControllerOf(pod)
		if ref == nil {
			continue // not managed: it has no scale to be missed from
		}
		if _, known := scales[ref.UID]; known {
			continue
		}
		uid, scale, err := dc.scaleOf(pod.Namespace, ref)
		if err != nil {
			return 0, err
		}
		if uid != "" {
			scales[uid] = scale
		}
	}
	var sum int32
	for _, scale := range scales {
		sum += scale
	}
	return sum, nil
}

// scaleOf is the scale of the pods' controller; of a ReplicaSet of a Deployment, that
// of the Deployment. An owner that is gone has none.
func (dc *DisruptionController) scaleOf(namespace string, ref *metav1.OwnerReference) (types.UID, int32, error) {
	var object metav1.Object
	var replicas *int32
	var err error
	switch ref.Kind {
	case "ReplicaSet":
		rs, getErr := dc.rsLister.ReplicaSets(namespace).Get(ref.Name)
		if getErr == nil {
			if owner := metav1.GetControllerOf(rs); owner != nil && owner.Kind == "Deployment" {
				return dc.scaleOf(namespace, owner)
			}
			object, replicas = rs, rs.Spec.Replicas
		}
		err = getErr
	case "Deployment":
		d, getErr := dc.dLister.Deployments(namespace).Get(ref.Name)
		if err = getErr; err == nil {
			object, replicas = d, d.Spec.Replicas
		}
	case "StatefulSet":
		set, getErr := dc.ssLister.StatefulSets(namespace).Get(ref.Name)
		if err = getErr; err == nil {
			object, replicas = set, set.Spec.Replicas
		}
	case "ReplicationController":
		rc, getErr := dc.rcLister.ReplicationControllers(namespace).Get(ref.Name)
		if err = getErr; err == nil {
			object, replicas = rc, rc.Spec.Replicas
		}
	default:
		return "", 0, fmt.Errorf("%s %s/%s does not implement the scale subresource", ref.Kind, namespace, ref.Name)
	}
	if apierrors.IsNotFound(err) || err == nil && object.GetUID() != ref.UID {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	return ref.UID, ptr.Deref(replicas, 1), nil
}

// countHealthyPods counts the ready ones that are not about to be evicted.
func countHealthyPods(pods []*corev1.Pod, disrupted map[string]metav1.Time) int32 {
	var healthy int32
	for _, pod := range pods {
		if _, going := disrupted[pod.Name]; !going && pod.DeletionTimestamp == nil && podutil.IsPodReady(pod) {
			healthy++
		}
	}
	return healthy
}

// buildDisruptedPodMap keeps the notes of pods that are still there, not yet deleted,
// and were evicted not long ago, and says when the next note expires.
func (dc *DisruptionController) buildDisruptedPodMap(pods []*corev1.Pod, pdb *policyv1.PodDisruptionBudget) (map[string]metav1.Time, time.Duration) {
	var kept map[string]metav1.Time
	var after time.Duration
	now := dc.clock.Now()
	for _, pod := range pods {
		at, noted := pdb.Status.DisruptedPods[pod.Name]
		if !noted || pod.DeletionTimestamp != nil {
			continue
		}
		left := at.Add(deletionTimeout).Sub(now)
		if left <= 0 {
			dc.recorder.Eventf(pod, corev1.EventTypeWarning, "NotDeleted", "Pod was expected by PDB %s/%s to be deleted but it wasn't", pdb.Namespace, pdb.Name)
			continue
		}
		if kept == nil {
			kept = map[string]metav1.Time{}
		}
		kept[pod.Name] = at
		if after == 0 || left < after {
			after = left
		}
	}
	return kept, after
}
