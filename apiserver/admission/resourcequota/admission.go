// Package resourcequota charges what a write uses up to the quotas of its namespace, and refuses the write that a quota
// cannot pay for. It is the last of all plugins: what is charged here is going to be stored.
//
//	object ──► Evaluator.Usage ──► by how much does it grow? ──► each quota that matches: used + growth ≤ hard ?
//	                                                                │ compare and swap on its status
//	                                                                ▼
//	                                                    used is higher, then the object is stored
//
// The charge comes before the write and is made against etcd, so that of any number of writers, in any number of
// apiservers, none gets more than is left. What was charged for a write that failed after all, and what is freed by
// deletions, the controller resourcequota gives back: it recounts.
//
// In Kubernetes: k8s.io/apiserver/pkg/admission/plugin/resourcequota. There the requests of a namespace are gathered
// and charged together, to spare writes of the status; left out too are resources that a configuration file
// allows only where a quota covers them.
package resourcequota

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"hyperkube/api/core/resourcequota"
	"hyperkube/apiserver/admission/plugin"
	"hyperkube/apiserver/lister"
	"hyperkube/apiserver/request"
)

const pluginName = "ResourceQuota"

// ignored are the resources that no quota counts: they are written all the time, or are no objects.
var ignored = []schema.GroupResource{
	{Resource: "events"}, {Group: "events.k8s.io", Resource: "events"}, {Resource: "bindings"},
	{Group: "authorization.k8s.io", Resource: "localsubjectaccessreviews"},
}

// UpdateStatus changes the status of one quota by compare and swap: change sees the present one, and runs again when
// another write came between. Its error ends it.
type UpdateStatus func(ctx context.Context, namespace, name string, change func(*corev1.ResourceQuota) error) error

type quotaAdmission struct {
	quotas lister.Lister[*corev1.ResourceQuota]
	update UpdateStatus
	clock  clock.PassiveClock
	// charging holds one lock a namespace, so that the writers of one apiserver do not fight for the same status.
	charging sync.Map
}

// New makes the plugin.
func New(quotas lister.Lister[*corev1.ResourceQuota], update UpdateStatus, c clock.PassiveClock) plugin.Plugin {
	q := &quotaAdmission{quotas: quotas, update: update, clock: c}
	return plugin.Plugin{
		Name:       pluginName,
		Operations: []request.Operation{request.Create, request.Update},
		Validate:   q.validate,
	}
}

// charge is what one write costs one quota.
type charge struct {
	quota *corev1.ResourceQuota
	delta corev1.ResourceList
}

func (q *quotaAdmission) validate(ctx context.Context, a *request.AdmissionAttributes) error {
	gr := a.Resource.GroupResource()
	if a.Namespace == "" || a.Object == nil || gr == (schema.GroupResource{Resource: "namespaces"}) || slices.Contains(ignored, gr) {
		return nil
	}
	evaluator := resourcequota.EvaluatorFor(gr)
	if !handles(evaluator, a) {
		return nil
	}
	quotas, err := q.quotas.List(a.Namespace)
	if err != nil || len(quotas) == 0 {
		return err
	}
	charges, err := q.checkRequest(evaluator, quotas, a)
	if err != nil || len(charges) == 0 || a.DryRun {
		return err
	}
	lock, _ := q.charging.LoadOrStore(a.Namespace, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	paid := paidFor(a)
	for _, c := range charges {
		delta := resourcequota.Increase(c.delta, paid[c.quota.Name])
		if len(delta) == 0 {
			continue
		}
		err := q.update(ctx, a.Namespace, c.quota.Name, func(current *corev1.ResourceQuota) error { return pay(a, current, delta) })
		if err != nil && !apierrors.IsNotFound(err) { // a quota that was deleted meanwhile limits nothing
			return err
		}
		paid[c.quota.Name] = resourcequota.Add(paid[c.quota.Name], delta)
	}
	return nil
}

// paidFor is what this write has paid each quota already. It asks again after a conflict, and is to be charged once.
func paidFor(a *request.AdmissionAttributes) map[string]corev1.ResourceList {
	paid, ok := a.Spent[pluginName].(map[string]corev1.ResourceList)
	if !ok {
		paid = map[string]corev1.ResourceList{}
		if a.Spent != nil {
			a.Spent[pluginName] = paid
		}
	}
	return paid
}

// handles says whether a write can change what is used up, or which quota it is used from: creates do; of updates, those of
// what can grow or come under another scope.
func handles(evaluator *resourcequota.Evaluator, a *request.AdmissionAttributes) bool {
	if a.Operation == request.Create {
		return a.Subresource == ""
	}
	switch a.Resource.Resource + "/" + a.Subresource {
	case "services/", "persistentvolumeclaims/", "pods/resize":
		return a.Resource.Group == ""
	case "pods/", "persistentvolumeclaims/status":
		return evaluator.ScopeChanged != nil && evaluator.ScopeChanged(a.OldObject, a.Object)
	}
	return false
}

// checkRequest finds the quotas that must pay and what, and refuses what they cannot pay as far as the cache knows.
func (q *quotaAdmission) checkRequest(evaluator *resourcequota.Evaluator, quotas []*corev1.ResourceQuota, a *request.AdmissionAttributes) ([]charge, error) {
	usage := evaluator.Usage(a.Object, q.clock.Now())
	if negative := resourcequota.Negative(usage); len(negative) > 0 {
		return nil, plugin.Forbidden(a, fmt.Errorf("quota usage is negative for resource(s): %s", joinNames(negative)))
	}
	var charges []charge
	for _, quota := range quotas {
		hard := quota.Status.Hard
		if !evaluator.Matches(quota, hard, a.Object) {
			continue
		}
		restricted := evaluator.MatchingResources(resourcequota.ResourceNames(hard))
		if evaluator.Constraints != nil {
			if err := evaluator.Constraints(restricted, a.Object); err != nil {
				return nil, plugin.Forbidden(a, fmt.Errorf("failed quota: %s: %w", quota.Name, err))
			}
		}
		if !hasUsageStats(quota, restricted) {
			return nil, plugin.Forbidden(a, fmt.Errorf("status unknown for quota: %s, resources: %s", quota.Name, joinNames(restricted)))
		}
		delta := resourcequota.Increase(usage, nil)
		// An object that fell under the quota before has paid already for what it had.
		if a.Operation == request.Update && stored(a) && evaluator.Matches(quota, hard, a.OldObject) {
			delta = resourcequota.Increase(usage, evaluator.Usage(a.OldObject, q.clock.Now()))
		}
		delta = resourcequota.Mask(delta, resourcequota.ResourceNames(hard))
		if len(delta) == 0 {
			continue
		}
		if a.DryRun {
			if err := pay(a, quota.DeepCopy(), delta); err != nil {
				return nil, err
			}
		}
		charges = append(charges, charge{quota, delta})
	}
	return charges, nil
}

// stored: a PUT that creates has an old object that was never stored, and pays in full.
func stored(a *request.AdmissionAttributes) bool {
	accessor, err := meta.Accessor(a.OldObject)
	return err == nil && accessor.GetResourceVersion() != ""
}

func hasUsageStats(quota *corev1.ResourceQuota, names []corev1.ResourceName) bool {
	return !slices.ContainsFunc(names, func(name corev1.ResourceName) bool {
		_, known := quota.Status.Used[name]
		return !known
	})
}

// pay adds delta to what is used, or says what would be exceeded.
func pay(a *request.AdmissionAttributes, quota *corev1.ResourceQuota, delta corev1.ResourceList) error {
	used := resourcequota.Add(quota.Status.Used, delta)
	wanted := resourcequota.Mask(used, resourcequota.ResourceNames(delta))
	// A status tells what is already so: it is charged, and never refused.
	if exceeded := resourcequota.Exceeded(wanted, quota.Status.Hard); len(exceeded) > 0 && a.Subresource != "status" {
		return plugin.Forbidden(a, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", quota.Name,
			joinList(resourcequota.Mask(delta, exceeded)), joinList(resourcequota.Mask(quota.Status.Used, exceeded)), joinList(resourcequota.Mask(quota.Status.Hard, exceeded))))
	}
	quota.Status.Used = used
	return nil
}

func joinNames(names []corev1.ResourceName) string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = string(name)
	}
	return strings.Join(texts, ",")
}

func joinList(list corev1.ResourceList) string {
	var texts []string
	for _, name := range resourcequota.ResourceNames(list) {
		quantity := list[name]
		texts = append(texts, string(name)+"="+quantity.String())
	}
	return strings.Join(texts, ",")
}
