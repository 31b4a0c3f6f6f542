// Package resourcequota is what is true of a ResourceQuota.
//
// In Kubernetes: ValidateResourceQuota*.
package resourcequota

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
)

// Validate checks limits and scopes.
func Validate(q *v1.ResourceQuota) field.ErrorList {
	path := field.NewPath("spec")
	errs := validateList(q.Spec.Hard, path.Child("hard"))
	errs = append(errs, validateScopes(q, path.Child("scopes"))...)
	if s := q.Spec.ScopeSelector; s != nil {
		errs = append(errs, validateScopeSelector(q, s, path.Child("scopeSelector", "matchExpressions"))...)
	}
	return errs
}

// Of the objects that a scope chooses, only some resources can be told apart.
var (
	countsOnly = sets.New(v1.ResourcePods)
	computes   = sets.New(v1.ResourcePods, v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage, v1.ResourceRequestsCPU, v1.ResourceRequestsMemory,
		v1.ResourceRequestsEphemeralStorage, v1.ResourceLimitsCPU, v1.ResourceLimitsMemory, v1.ResourceLimitsEphemeralStorage)
	claims = sets.New(v1.ResourceRequestsStorage, v1.ResourcePersistentVolumeClaims)
)

func scopes() map[v1.ResourceQuotaScope]sets.Set[v1.ResourceName] {
	return map[v1.ResourceQuotaScope]sets.Set[v1.ResourceName]{
		v1.ResourceQuotaScopeTerminating: computes, v1.ResourceQuotaScopeNotTerminating: computes, v1.ResourceQuotaScopeNotBestEffort: computes,
		v1.ResourceQuotaScopePriorityClass: computes, v1.ResourceQuotaScopeCrossNamespacePodAffinity: computes,
		v1.ResourceQuotaScopeBestEffort: countsOnly, v1.ResourceQuotaScopeVolumeAttributesClass: claims,
	}
}

// applies: resources with a domain of their own are not looked at.
func applies(q *v1.ResourceQuota, resources sets.Set[v1.ResourceName]) bool {
	for name := range q.Spec.Hard {
		if len(pod.ValidateQuotaResourceName(name, nil)) == 0 && pod.IsNativeResource(name) && !resources.Has(name) {
			return false
		}
	}
	return true
}

func validateScopes(q *v1.ResourceQuota, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[v1.ResourceQuotaScope]()
	for _, scope := range q.Spec.Scopes {
		resources, known := scopes()[scope]
		if !known {
			errs = append(errs, field.Invalid(path, q.Spec.Scopes, "unsupported scope"))
		}
		if !applies(q, resources) {
			errs = append(errs, field.Invalid(path, q.Spec.Scopes, "unsupported scope applied to resource"))
		}
		seen.Insert(scope)
	}
	return append(errs, validateConflict(q, seen, path)...)
}

func validateConflict(q *v1.ResourceQuota, seen sets.Set[v1.ResourceQuotaScope], path *field.Path) field.ErrorList {
	if seen.HasAll(v1.ResourceQuotaScopeBestEffort, v1.ResourceQuotaScopeNotBestEffort) || seen.HasAll(v1.ResourceQuotaScopeTerminating, v1.ResourceQuotaScopeNotTerminating) {
		return field.ErrorList{field.Invalid(path, q.Spec.Scopes, "conflicting scopes")}
	}
	return nil
}

func validateScopeSelector(q *v1.ResourceQuota, s *v1.ScopeSelector, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := sets.New[v1.ResourceQuotaScope]()
	for _, r := range s.MatchExpressions {
		resources, known := scopes()[r.ScopeName]
		if !known {
			errs = append(errs, field.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope"))
		}
		if !applies(q, resources) {
			errs = append(errs, field.Invalid(path, s, "unsupported scope applied to resource"))
		}
		// Of most scopes an object is or is not; only two have values.
		if r.ScopeName != v1.ResourceQuotaScopePriorityClass && r.ScopeName != v1.ResourceQuotaScopeVolumeAttributesClass && known && r.Operator != v1.ScopeSelectorOpExists {
			errs = append(errs, field.Invalid(path.Child("operator"), r.Operator,
				"must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
		}
		switch r.Operator {
		case v1.ScopeSelectorOpIn, v1.ScopeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(path.Child("values"), "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case v1.ScopeSelectorOpExists, v1.ScopeSelectorOpDoesNotExist:
			if len(r.Values) != 0 {
				errs = append(errs, field.Invalid(path.Child("values"), r.Values, "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
		}
		seen.Insert(r.ScopeName)
	}
	return append(errs, validateConflict(q, seen, field.NewPath("spec", "scopeSelector", "matchExpressions"))...)
}

// ValidateUpdate: what a quota counts is chosen once.
func ValidateUpdate(q, old *v1.ResourceQuota) field.ErrorList {
	errs := Validate(q)
	if !sets.New(q.Spec.Scopes...).Equal(sets.New(old.Spec.Scopes...)) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return errs
}

// ValidateStatusUpdate checks the quantities a controller reports.
func ValidateStatusUpdate(q, old *v1.ResourceQuota) field.ErrorList {
	path := field.NewPath("status")
	return append(validateList(q.Status.Hard, path.Child("hard")), validateList(q.Status.Used, path.Child("used"))...)
}

func validateList(list v1.ResourceList, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for name, quantity := range list {
		errs = append(errs, pod.ValidateQuotaResourceName(name, path.Key(string(name)))...)
		errs = append(errs, pod.ValidateResourceQuantityValue(name, quantity, path.Key(string(name)))...)
	}
	return errs
}
