// Package resourcequota is what is true of a ResourceQuota.
//
// In Kubernetes: ValidateResourceQuota*.
package resourcequota

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/core/pod"
	"hyperkube/api/rule"
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
	counts   = sets.New(v1.ResourcePods)
	computes = sets.New(v1.ResourcePods, v1.ResourceCPU, v1.ResourceMemory, v1.ResourceRequestsCPU, v1.ResourceRequestsMemory,
		v1.ResourceLimitsCPU, v1.ResourceLimitsMemory)
	claims = sets.New(v1.ResourceRequestsStorage, v1.ResourcePersistentVolumeClaims)
)

var scopes = map[v1.ResourceQuotaScope]sets.Set[v1.ResourceName]{
	v1.ResourceQuotaScopeTerminating: computes, v1.ResourceQuotaScopeNotTerminating: computes, v1.ResourceQuotaScopeNotBestEffort: computes,
	v1.ResourceQuotaScopePriorityClass: computes, v1.ResourceQuotaScopeCrossNamespacePodAffinity: computes,
	v1.ResourceQuotaScopeBestEffort: counts, v1.ResourceQuotaScopeVolumeAttributesClass: claims,
}

// checkScope: a scope must be known and choose among each of the resources; one with a domain of its own is not looked at.
func checkScope(q *v1.ResourceQuota, scope v1.ResourceQuotaScope, unknown, inapplicable *field.Error) field.ErrorList {
	resources, known := scopes[scope]
	if !known {
		return field.ErrorList{unknown}
	}
	var errs field.ErrorList
	for name := range q.Spec.Hard {
		if pod.IsStandardQuotaResource(name) && !resources.Has(name) {
			errs = append(errs, inapplicable)
		}
	}
	return errs
}

func validateScopes(q *v1.ResourceQuota, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, scope := range q.Spec.Scopes {
		errs = append(errs, checkScope(q, scope, field.Invalid(path, q.Spec.Scopes, "unsupported scope"),
			field.Invalid(path, q.Spec.Scopes, "unsupported scope applied to resource"))...)
	}
	return append(errs, validateConflict(q, sets.New(q.Spec.Scopes...), path)...)
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
		errs = append(errs, checkScope(q, r.ScopeName, field.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope"),
			field.Invalid(path, rule.Untagged(s), "unsupported scope applied to resource"))...)
		errs = append(errs, validateScopeRequirement(&r, path)...)
		seen.Insert(r.ScopeName)
	}
	return append(errs, validateConflict(q, seen, path)...)
}

func validateScopeRequirement(r *v1.ScopedResourceSelectorRequirement, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	// Of most scopes an object is or is not; only two have values.
	_, known := scopes[r.ScopeName]
	if valued := r.ScopeName == v1.ResourceQuotaScopePriorityClass || r.ScopeName == v1.ResourceQuotaScopeVolumeAttributesClass; known && !valued && r.Operator != v1.ScopeSelectorOpExists {
		errs = append(errs, field.Invalid(path.Child("operator"), r.Operator,
			"must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
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
	return errs
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

// Warnings tell of a request that is allowed to be larger than its limit.
func Warnings(q *v1.ResourceQuota) []string {
	var warnings []string
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceStorage, v1.ResourceEphemeralStorage} {
		requestName, limitName := v1.DefaultResourceRequestsPrefix+name, v1.ResourceName("limits."+name)
		request, requested := q.Spec.Hard[requestName]
		if !requested && (name == v1.ResourceCPU || name == v1.ResourceMemory) {
			// These two have a short name.
			requestName = name
			request, requested = q.Spec.Hard[name]
		}
		if limit, limited := q.Spec.Hard[limitName]; requested && limited && request.Cmp(limit) > 0 {
			warnings = append(warnings, fmt.Sprintf("ResourceQuota %s (%s) should be less than %s (%s)", requestName, request.String(), limitName, limit.String()))
		}
	}
	return warnings
}
