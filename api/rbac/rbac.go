// Package rbac is what is true of roles and bindings, whoever asks: defaults and validation.
//
// In Kubernetes: pkg/apis/rbac/v1/defaults.go and pkg/apis/rbac/validation.
package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"hyperkube/api/rule"
)

// SetDefaultsBinding fills the API groups of a binding's role and subjects.
func SetDefaultsBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		s := &subjects[i]
		if s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

// ValidateName allows what can stand in a URL: "system:node" is a role's name.
func ValidateName(name string, _ bool) []string { return path.IsValidPathSegmentName(name) }

// ValidateRole checks the rules of a Role.
func ValidateRole(role *rbacv1.Role) field.ErrorList { return validateRules(role.Rules, true) }

// ValidateClusterRole checks the rules and the aggregation rule of a ClusterRole.
func ValidateClusterRole(role *rbacv1.ClusterRole) field.ErrorList {
	errs := validateRules(role.Rules, false)
	if role.AggregationRule == nil {
		return errs
	}
	selectors := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(role.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, at := &role.AggregationRule.ClusterRoleSelectors[i], selectors.Index(i)
		errs = append(errs, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, at)...)
		if _, err := metav1.LabelSelectorAsSelector(selector); err != nil {
			errs = append(errs, field.Invalid(at, nil, "invalid label selector."))
		}
	}
	return errs
}

func validateRules(rules []rbacv1.PolicyRule, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i, r := range rules {
		errs = append(errs, validateRule(r, namespaced, field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validateRule(rule rbacv1.PolicyRule, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(rule.Verbs) == 0 {
		errs = append(errs, field.Required(at.Child("verbs"), "").MarkBeta())
	}
	if len(rule.NonResourceURLs) > 0 {
		if namespaced {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(rule.APIGroups) > 0 || len(rule.Resources) > 0 || len(rule.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), rule.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(rule.APIGroups) == 0 {
		errs = append(errs, field.Required(at.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(rule.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}

// ValidateRoleBinding checks a binding of a namespace; it may bind a ClusterRole too. old is nil at a create.
func ValidateRoleBinding(b, old *rbacv1.RoleBinding) field.ErrorList {
	if old == nil {
		return validateBinding(b.RoleRef, nil, b.Subjects, true)
	}
	return validateBinding(b.RoleRef, &old.RoleRef, b.Subjects, true)
}

// ValidateClusterRoleBinding checks a binding that holds everywhere. old is nil at a create.
func ValidateClusterRoleBinding(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
	if old == nil {
		return validateBinding(b.RoleRef, nil, b.Subjects, false)
	}
	return validateBinding(b.RoleRef, &old.RoleRef, b.Subjects, false)
}

// validateBinding: whom a binding binds may change, to what it binds them may not.
func validateBinding(ref rbacv1.RoleRef, old *rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	at := field.NewPath("roleRef")
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	kinds := []string{"ClusterRole"}
	if namespaced {
		kinds = []string{"Role", "ClusterRole"}
	}
	if ref.Kind != "ClusterRole" && !(namespaced && ref.Kind == "Role") {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	missing := field.Required(at.Child("name"), "")
	if ref.Name == "" && old != nil {
		errs = append(errs, missing)
	}
	errs = append(errs, rule.All(ValidateName(ref.Name, false), at.Child("name"), ref.Name)...)
	for i, s := range subjects {
		errs = append(errs, validateSubject(s, namespaced, field.NewPath("subjects").Index(i))...)
	}
	if old == nil && ref.Name == "" {
		// Declared; but not looked for in a reference that may not have changed.
		return append(errs, missing.MarkBeta())
	}
	if old != nil && ref != *old {
		errs = append(errs, field.Invalid(at, rule.Untagged(ref), apivalidation.FieldImmutableErrorMsg))
	}
	return errs
}

func validateSubject(s rbacv1.Subject, namespaced bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if s.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "").MarkBeta())
	}
	ofGroup := func(group string) field.ErrorList {
		if s.APIGroup == group {
			return nil
		}
		return field.ErrorList{field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{group})}
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			for _, msg := range apivalidation.ValidateServiceAccountName(s.Name, false) {
				errs = append(errs, field.Invalid(at.Child("name"), s.Name, msg))
			}
		}
		errs = append(errs, ofGroup("")...)
		if !namespaced && s.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), ""))
		}
		return errs
	case rbacv1.UserKind, rbacv1.GroupKind:
		return append(errs, ofGroup(rbacv1.GroupName)...)
	}
	return append(errs, field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
}
