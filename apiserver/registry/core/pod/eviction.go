package pod

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	podutil "hyperkube/api/core/pod"
	"hyperkube/apiserver/registry"
)

var budgets = schema.GroupResource{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}

// maxDisruptedPods bounds the map in a budget's status: more means that its controller has stopped.
const maxDisruptedPods = 2000

func evictionSubresource(env *registry.Env) registry.Subresource {
	return registry.Subresource{
		Kind: policyv1.SchemeGroupVersion.WithKind("Eviction"),
		New:  func() runtime.Object { return &policyv1.Eviction{} },
		// Programs of before v1.22 drain nodes with it.
		Accepts: schema.GroupVersion{Group: policyv1.GroupName, Version: "v1beta1"},
		Create: func(ctx context.Context, namespace, name string, obj runtime.Object, opts *metav1.CreateOptions) (runtime.Object, error) {
			eviction := obj.(*policyv1.Eviction)
			if eviction.Name != name {
				return nil, errors.NewBadRequest("name in URL does not match name in Eviction object")
			}
			options, err := deleteOptions(eviction, opts)
			if err != nil {
				return nil, err
			}
			e := evictor{env: env, namespace: namespace, name: name, options: options}
			if err := e.evict(ctx); err != nil {
				return nil, err
			}
			return &metav1.Status{Status: metav1.StatusSuccess, Code: 201}, nil
		},
	}
}

// deleteOptions are those of the eviction's body; a dry run may be asked for there or in the URL.
func deleteOptions(eviction *policyv1.Eviction, opts *metav1.CreateOptions) (*metav1.DeleteOptions, error) {
	if eviction.DeleteOptions == nil {
		return &metav1.DeleteOptions{DryRun: opts.DryRun}, nil
	}
	options := eviction.DeleteOptions.DeepCopy()
	if unsafe := options.IgnoreStoreReadErrorWithClusterBreakingPotential; unsafe != nil && *unsafe {
		at := field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential")
		return nil, errors.NewInvalid(schema.GroupKind{Group: policyv1.GroupName, Kind: "Eviction"}, eviction.Name,
			field.ErrorList{field.Invalid(at, true, "can not be set for pod eviction, try after removing the option")})
	}
	switch {
	case len(options.DryRun) == 0:
		options.DryRun = opts.DryRun
	case len(opts.DryRun) > 0 && !slices.Equal(options.DryRun, opts.DryRun):
		return nil, unclassified(fmt.Sprintf("Non-matching dry-run options in request and content: %v and %v", opts.DryRun, options.DryRun))
	}
	return options, nil
}

// evictor deletes one pod if the disruption budgets allow it.
type evictor struct {
	env             *registry.Env
	namespace, name string
	options         *metav1.DeleteOptions
}

// maxEvictTries bounds how often a pod is looked at anew that changes all the time.
const maxEvictTries = 10

// evict looks at the pod, and again if it was something else by the time it was to go.
func (e *evictor) evict(ctx context.Context) error {
	for range maxEvictTries - 1 {
		if changed, err := e.evictAsSeen(ctx); !changed {
			return err
		}
	}
	_, err := e.evictAsSeen(ctx)
	return err
}

// evictAsSeen asks the budget and deletes:
//
//	Step 1: a pod that does not serve (or has a deletion on its way) costs nobody anything.
//	Step 2: find the budget; no budget, no objection.
//	Step 3: the budget pays for one pod, or refuses (429; the client tries again).
//	Step 4: the pod is told why, and deleted, as the one that was looked at.
//
// A pod that costs nothing because it is not ready yet is deleted in the version that was
// looked at only: changed says that there is another. Otherwise one that becomes ready in this
// moment would go, and nobody would have paid for it.
func (e *evictor) evictAsSeen(ctx context.Context) (changed bool, err error) {
	obj, err := e.env.Store(pods).GetObject(ctx, e.namespace, e.name)
	if err != nil {
		return false, err
	}
	pod := obj.(*v1.Pod)
	// Step 1
	if pod.DeletionTimestamp != nil || podutil.IsPodTerminal(pod) {
		return false, e.delete(ctx, pod, "")
	}
	if pod.Status.Phase == v1.PodPending {
		return e.deleteVersion(ctx, pod)
	}
	// Step 2
	budget, err := e.findBudget(ctx, pod)
	if err != nil {
		return false, err
	}
	// Step 3
	if budget != nil && unhealthyMayGo(pod, budget) {
		return e.deleteVersion(ctx, pod)
	}
	if budget != nil {
		if err := e.pay(ctx, budget); err != nil {
			return false, err
		}
	}
	// Step 4
	return false, e.delete(ctx, pod, "")
}

// deleteVersion deletes the pod in this version only, unless the client has named one itself.
func (e *evictor) deleteVersion(ctx context.Context, pod *v1.Pod) (changed bool, err error) {
	if p := e.options.Preconditions; p != nil && p.ResourceVersion != nil {
		return false, e.delete(ctx, pod, "")
	}
	err = e.delete(ctx, pod, pod.ResourceVersion)
	return errors.IsConflict(err), err
}

func (e *evictor) findBudget(ctx context.Context, pod *v1.Pod) (*policyv1.PodDisruptionBudget, error) {
	store := e.env.Store(budgets)
	if store == nil {
		return nil, nil
	}
	objects, err := store.ListCached(ctx, e.namespace, labels.Everything())
	if err != nil {
		return nil, err
	}
	var found []*policyv1.PodDisruptionBudget
	for _, obj := range objects {
		budget := obj.(*policyv1.PodDisruptionBudget)
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, budget)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, errors.NewInternalError(fmt.Errorf("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."))
}

// unhealthyMayGo: a pod that is not ready adds nothing to what the budget protects.
func unhealthyMayGo(pod *v1.Pod, budget *policyv1.PodDisruptionBudget) bool {
	if podutil.IsPodReady(pod) {
		return false
	}
	if p := budget.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return budget.Status.CurrentHealthy >= budget.Status.DesiredHealthy && budget.Status.DesiredHealthy > 0
}

// pay takes one disruption from the budget and enters the pod there, until the
// budget's controller has seen it go.
func (e *evictor) pay(ctx context.Context, budget *policyv1.PodDisruptionBudget) error {
	dryRun := len(e.options.DryRun) > 0
	_, err := e.env.Store(budgets).GuaranteedUpdate(ctx, e.namespace, budget.Name, dryRun, func(current runtime.Object) (runtime.Object, error) {
		pdb := current.(*policyv1.PodDisruptionBudget)
		status := &pdb.Status
		switch {
		case status.ObservedGeneration < pdb.Generation:
			return nil, tooManyRequests(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", pdb.Name))
		case status.DisruptionsAllowed < 0:
			return nil, errors.NewForbidden(budgets, pdb.Name, fmt.Errorf("pdb disruptions allowed is negative"))
		case len(status.DisruptedPods) > maxDisruptedPods:
			return nil, errors.NewForbidden(budgets, pdb.Name, fmt.Errorf("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
		case status.DisruptionsAllowed == 0:
			return nil, tooManyRequests(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", pdb.Name, status.DesiredHealthy, status.CurrentHealthy))
		}
		status.DisruptionsAllowed--
		if status.DisruptionsAllowed == 0 {
			meta.SetStatusCondition(&status.Conditions, metav1.Condition{
				Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse,
				Reason: policyv1.InsufficientPodsReason, ObservedGeneration: status.ObservedGeneration,
			})
		}
		if status.DisruptedPods == nil {
			status.DisruptedPods = map[string]metav1.Time{}
		}
		status.DisruptedPods[e.name] = metav1.Time{Time: e.env.Clock.Now()}
		return pdb, nil
	})
	return err
}

func tooManyRequests(retryAfterSeconds int, why string) error {
	err := errors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", retryAfterSeconds)
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: why})
	return err
}

// delete marks the pod as a target of disruption, then deletes exactly it; only in the given
// version, if that is not empty.
func (e *evictor) delete(ctx context.Context, pod *v1.Pod, version string) error {
	dryRun := len(e.options.DryRun) > 0
	options := e.options.DeepCopy()
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	if pod.DeletionTimestamp == nil && !podutil.IsPodTerminal(pod) {
		marked, err := e.env.Store(pods).GuaranteedUpdate(ctx, e.namespace, e.name, dryRun, func(current runtime.Object) (runtime.Object, error) {
			now := current.(*v1.Pod)
			if version != "" && now.ResourceVersion != version {
				return nil, errors.NewConflict(pods, e.name, fmt.Errorf("it is at %s, and was looked at as of %s", now.ResourceVersion, version))
			}
			if now.UID == pod.UID {
				podutil.UpdatePodCondition(&now.Status, &v1.PodCondition{
					Type: v1.DisruptionTarget, Status: v1.ConditionTrue, ObservedGeneration: now.Generation,
					Reason: "EvictionByEvictionAPI", Message: "Eviction API: evicting",
				})
			}
			return now, nil
		})
		if err != nil {
			return err
		}
		if version != "" && !dryRun {
			// What may go is what the mark has made of the pod.
			options.Preconditions.ResourceVersion = &marked.(*v1.Pod).ResourceVersion
		}
	}
	if options.Preconditions.UID == nil {
		options.Preconditions.UID = &pod.UID
	}
	return e.env.Store(pods).DeleteUnadmitted(ctx, e.namespace, e.name, options)
}
